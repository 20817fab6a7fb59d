package sdk

import (
	"context"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// ErrNoValidator says that the chain's state proves a validator absent.
var ErrNoValidator = errors.New("sdk: there is no such validator")

// VerifiedValidator is a validator that a finalized state has.
type VerifiedValidator struct {
	record staking.Validator
	value  light.Value
}

// VerifiedValidator returns the validator of that name as a finalized state has
// it. It is an error that matches ErrNoValidator if the state proves that there is
// none.
func (c *Client) VerifiedValidator(ctx context.Context, id staking.ID) (VerifiedValidator, error) {
	value, err := c.VerifiedState(ctx, staking.ValidatorKey(id))
	if err != nil {
		return VerifiedValidator{}, err
	}
	raw, ok := value.Get()
	if !ok {
		return VerifiedValidator{}, fmt.Errorf("%w: validator %s, after block %d", ErrNoValidator, id.Short(), value.Height())
	}
	v := VerifiedValidator{value: value}
	if v.record, err = staking.DecodeValidator(raw); err != nil {
		return VerifiedValidator{}, fmt.Errorf("sdk: validator %s: %w: %w", id.Short(), light.ErrRefused, err)
	}
	return v, nil
}

// Record returns the validator's record.
func (v VerifiedValidator) Record() staking.Validator { return v.record }

// Height returns the height after which the validator is so.
func (v VerifiedValidator) Height() chain.Height { return v.value.Height() }

// stakeReads is how often a validator and a delegation are read for a pair of
// one state.
const stakeReads = 8

// VerifiedStake returns a validator, and what an account's stake there is worth,
// as one finalized state has both. Errors are those of VerifiedValidator.
func (c *Client) VerifiedStake(ctx context.Context, delegator chain.Address, id staking.ID) (VerifiedValidator, chain.Amount, error) {
	for range stakeReads {
		v, err := c.VerifiedValidator(ctx, id)
		if err != nil {
			return v, chain.Amount{}, err
		}
		value, err := c.VerifiedState(ctx, staking.DelegationKey(delegator, id))
		if err != nil {
			return v, chain.Amount{}, err
		}
		if value.Height() != v.Height() {
			continue
		}
		raw, ok := value.Get()
		if !ok {
			return v, chain.Amount{}, nil
		}
		d, err := staking.DecodeDelegation(raw)
		if err != nil {
			return v, chain.Amount{}, fmt.Errorf("sdk: delegation of %s: %w: %w", delegator.Short(), light.ErrRefused, err)
		}
		return v, v.record.WorthOf(d), nil
	}
	return VerifiedValidator{}, chain.Amount{}, fmt.Errorf("sdk: validator %s: %d reads found no two records of one state", id.Short(), stakeReads)
}
