package staking_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// TestSmallFaultShieldsNothing: whoever moves its stake away after a fault, and
// lets itself be convicted of a later one that little stands behind, loses of
// what it moved as well once the first fault is known: in either order the same.
func TestSmallFaultShieldsNothing(t *testing.T) {
	final := func(first, second consensus.Epoch) [4]chain.Amount {
		w := newWorld(t, quick(), 100_000, 5_000_000, 5_000_000, 5_000_000)
		w.must(0, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(90_000)})
		w.must(0, chain.Delegate{Validator: id(1), Amount: chain.Hyper(5)})
		w.epochs(2)
		for _, e := range []consensus.Epoch{first, second} {
			w.report(20, w.double(id(0), consensus.Round{Epoch: e, View: 7}))
			w.audit()
		}
		fault, _ := staking.FaultOf(w.kv, id(0))
		if fault.Epoch != 1 || fault.Weight != 100_000 {
			t.Errorf("the record is %+v", fault)
		}
		return [4]chain.Amount{w.validator(0).Stake, staking.UnbondingOf(w.kv, id(0), 1).Stake, w.validator(1).Stake}
	}
	want := final(1, 3)
	if want[1] != chain.Hyper(90_000*95/100) {
		t.Errorf("left is %s", want[1])
	}
	if got := final(3, 1); got != want {
		t.Errorf("with the small fault first: %v, want %v", got, want)
	}
}

// TestOldSmallFaultShieldsNothing: who is convicted of a fault from when it was
// small counts in the company with its full weight once that is known to be at
// fault.
func TestOldSmallFaultShieldsNothing(t *testing.T) {
	final := func(epochs ...consensus.Epoch) [2]chain.Amount {
		w := newWorld(t, quick(), 100, 200_000, 200_000, 200_000)
		w.must(0, chain.Delegate{Validator: id(0), Amount: chain.Hyper(200_000)})
		w.epochs(2)
		for _, e := range epochs {
			w.report(20, w.double(id(0), consensus.Round{Epoch: e, View: 7}))
			w.audit()
		}
		w.report(20, w.double(id(1), consensus.Round{Epoch: 3, View: 7}))
		w.audit()
		return [2]chain.Amount{w.validator(0).Stake, w.validator(1).Stake}
	}
	want := final(3)
	if want != [2]chain.Amount{chain.Nano(1), chain.Nano(1)} {
		t.Errorf("half of the weight at fault: %v is left", want)
	}
	for _, order := range [][]consensus.Epoch{{1, 3}, {3, 1}} {
		if got := final(order...); got != want {
			t.Errorf("order %v: %v, want %v", order, got, want)
		}
	}
}

// TestNobodyGainsByItsOwnConviction: the reporter's share of what delegators
// lose is not worth a validator's own loss.
func TestNobodyGainsByItsOwnConviction(t *testing.T) {
	p := quick()
	p.ReporterBps = 5_000
	w := newWorld(t, p, 100, 5_000_000, 5_000_000, 5_000_000)
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(900_000)})
	w.epochs(2)
	before, balance := w.validator(0), w.balance(20)
	if why := w.report(20, w.double(id(0), consensus.Round{Epoch: 3, View: 7})); why != "" {
		t.Fatal(why)
	}
	after := w.validator(0)
	lost, won := sub(before.SelfBond(), after.SelfBond()), sub(w.balance(20), balance)
	if won.IsZero() || lost.Less(won) {
		t.Errorf("the owner loses %s, the reporter gets %s", lost, won)
	}
	w.audit()
}
