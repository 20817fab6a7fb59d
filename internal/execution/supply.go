package execution

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/tokens"
)

// ErrSupply says that value appeared or vanished: a fault.
var ErrSupply = errors.New("execution: supply is not conserved")

// ErrPins says that what is counted as pinned of contracts' code is not what is: a fault.
var ErrPins = errors.New("execution: the pins of code do not add up")

// Supply is where all value is. Total is the sum of the holdings and equals
// Minted − Burned.
type Supply struct {
	Minted    chain.Amount `json:"minted_nhyper"`
	Burned    chain.Amount `json:"burned_nhyper"`
	Balances  chain.Amount `json:"balances_nhyper"`
	Escrow    chain.Amount `json:"escrow_nhyper"`
	Bonds     chain.Amount `json:"bonds_nhyper"`
	Stakes    chain.Amount `json:"stakes_nhyper"`
	Unbonding chain.Amount `json:"unbonding_nhyper"`
	Rewards   chain.Amount `json:"rewards_nhyper"`
	Maturing  chain.Amount `json:"maturing_nhyper"`
	Deposits  chain.Amount `json:"deposits_nhyper"`
	Total     chain.Amount `json:"total_nhyper"`
}

// valueOf says what a record holds, whichever module it is of.
func valueOf(key, value []byte) (tokens.Class, chain.Amount) {
	switch key[0] {
	case tokens.Prefix:
		return tokens.ValueOf(key, value)
	case staking.Prefix:
		return staking.ValueOf(key, value)
	case settlement.Prefix:
		return settlement.ValueOf(key, value)
	case contract.Prefix:
		return contract.ValueOf(key, value)
	}
	return tokens.HoldsNothing, chain.Amount{}
}

// Recompute sums up a whole state. It is ErrSupply, together with the figures,
// if they do not agree, ErrLocks if what is locked of bonds is not what locks it, and ErrPins if what is said to be
// pinned of contracts' code is not what is.
func Recompute(r state.Reader) (s Supply, err error) {
	defer recoverFault(&err)
	supply := tokens.SupplyOf(r)
	s.Minted, s.Burned = supply.Minted, supply.Burned
	locked, pins := locksIn(r), contract.PinsOfState()
	for key, value := range state.Scan(r, []byte{0}, nil) {
		class, amount := valueOf(key, value)
		if !s.add(class, amount) {
			return s, fmt.Errorf("%w: the holdings exceed every amount at key %x", ErrSupply, key)
		}
		locked.add(key, value)
		if key[0] == contract.Prefix {
			pins.Add(key, value)
		}
	}
	want, ok := s.Minted.Sub(s.Burned)
	if !ok || s.Total != want {
		return s, fmt.Errorf("%w: the holdings are %s, minted less burned is %s − %s", ErrSupply, s.Total, s.Minted, s.Burned)
	}
	if err := pins.Differs(); err != nil {
		return s, fmt.Errorf("%w: %w", ErrPins, err)
	}
	return s, locked.whole()
}

func (s *Supply) add(class tokens.Class, amount chain.Amount) bool {
	// Each part is at most the total, so that only the total can overflow.
	total, ok := s.Total.Add(amount)
	if !ok {
		return false
	}
	s.Total = total
	switch class {
	case tokens.HoldsNothing:
	case tokens.HoldsBalance:
		s.Balances, ok = s.Balances.Add(amount)
	case tokens.HoldsEscrow:
		s.Escrow, ok = s.Escrow.Add(amount)
	case tokens.HoldsBond:
		s.Bonds, ok = s.Bonds.Add(amount)
	case tokens.HoldsStake:
		s.Stakes, ok = s.Stakes.Add(amount)
	case tokens.HoldsUnbonding:
		s.Unbonding, ok = s.Unbonding.Add(amount)
	case tokens.HoldsRewards:
		s.Rewards, ok = s.Rewards.Add(amount)
	case tokens.HoldsMaturing:
		s.Maturing, ok = s.Maturing.Add(amount)
	case tokens.HoldsDeposit:
		s.Deposits, ok = s.Deposits.Add(amount)
	}
	return ok
}

// checkConserved compares, over everything that a block changed, what the
// records hold with what they held: Σnew − Σold must be Δminted − Δburned. held says what
// the parent has of the key of a change.
func checkConserved(parent state.Reader, changes []state.Change, held func(change int) ([]byte, bool)) error {
	var before, after chain.Amount
	fits := true
	add := func(sum *chain.Amount, key, value []byte) {
		_, amount := valueOf(key, value)
		more, ok := sum.Add(amount)
		*sum, fits = more, fits && ok
	}
	was, is := tokens.SupplyOf(parent), tokens.SupplyOf(parent)
	for i, c := range changes {
		if old, ok := held(i); ok {
			add(&before, c.Key, old)
		}
		if c.Deleted {
			continue
		}
		add(&after, c.Key, c.Value)
		if string(c.Key) == string(tokens.SupplyKey()) {
			is = state.Decode[tokens.Supply](c.Key, c.Value)
		}
	}
	// Σnew + burned now + minted then = Σold + burned then + minted now.
	left, ok1 := sumOf(after, is.Burned, was.Minted)
	right, ok2 := sumOf(before, was.Burned, is.Minted)
	if !fits || !ok1 || !ok2 || left != right {
		return fmt.Errorf("%w: the changed records held %s and hold %s; minted was %s, is %s; burned was %s, is %s",
			ErrSupply, before, after, was.Minted, is.Minted, was.Burned, is.Burned)
	}
	return nil
}

func sumOf(list ...chain.Amount) (sum chain.Amount, ok bool) {
	for _, a := range list {
		if sum, ok = sum.Add(a); !ok {
			return sum, false
		}
	}
	return sum, true
}
