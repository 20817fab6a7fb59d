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

// Stake is what an account has at a validator, without redelegations that are
// still liable elsewhere.
type Stake struct {
	Worth chain.Amount
	Fresh []FreshStake // of it, by ascending epoch: what joined last
}

// FreshStake is stake that earns nothing before the end of an epoch.
type FreshStake struct {
	Worth     chain.Amount `json:"amount_nhyper"`
	EarnsFrom uint64       `json:"earns_from_epoch"`
}

func stakeOf(v *staking.Validator, d staking.Delegation) Stake {
	s := Stake{Worth: v.WorthOf(d)}
	for _, f := range d.Fresh {
		part := v.WorthOf(staking.Delegation{Shares: f.Shares})
		s.Fresh = append(s.Fresh, FreshStake{Worth: part, EarnsFrom: uint64(f.EarnsFrom())})
	}
	return s
}

// VerifiedStake returns a validator, and an account's stake there, as one
// finalized state has both. Errors are those of VerifiedValidator.
func (c *Client) VerifiedStake(ctx context.Context, delegator chain.Address, id staking.ID) (VerifiedValidator, Stake, error) {
	for range stakeReads {
		v, err := c.VerifiedValidator(ctx, id)
		if err != nil {
			return v, Stake{}, err
		}
		value, err := c.VerifiedState(ctx, staking.DelegationKey(delegator, id))
		if err != nil {
			return v, Stake{}, err
		}
		if value.Height() != v.Height() {
			continue
		}
		raw, ok := value.Get()
		if !ok {
			return v, Stake{}, nil
		}
		d, err := staking.DecodeDelegation(raw)
		if err != nil {
			return v, Stake{}, fmt.Errorf("sdk: delegation of %s: %w: %w", delegator.Short(), light.ErrRefused, err)
		}
		return v, stakeOf(&v.record, d), nil
	}
	return VerifiedValidator{}, Stake{}, fmt.Errorf("sdk: validator %s: %d reads found no two records of one state", id.Short(), stakeReads)
}
