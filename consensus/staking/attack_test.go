package staking_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
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

// TestItemsAreCounted: a block that carries more than it may is refused before
// anything in it is verified, and a leader that is offered more makes a block
// that decodes.
func TestItemsAreCounted(t *testing.T) {
	stakes := []uint64{1_000_000}
	for range 39 {
		stakes = append(stakes, 1_000)
	}
	w := newWorld(t, quick(), stakes...)
	heavy, _, _ := w.signer(1, id(0))
	w.view = 40
	var late []consensus.Vote
	for _, v := range []consensus.View{37, 38} {
		if err := w.begin(1, staking.Extras{Finalization: w.finalization(v, int(heavy))}); err != nil {
			t.Fatal(err)
		}
		for s := range 40 {
			if s != int(heavy) {
				late = append(late, w.lateVote(v, s, byte(v)))
			}
		}
	}
	_, members, _ := staking.CommitteeOf(w.kv, 1)
	kept, _, err := staking.TakeExtras(w.kv, &staking.Block{Env: *w.env(), View: 42, Members: members}, staking.Extras{LateVotes: late})
	if err == nil || !strings.Contains(err.Error(), "late votes: 78, limit 64") || len(kept.LateVotes) != staking.MaxLateVotes {
		t.Errorf("kept %d of 78: %v", len(kept.LateVotes), err)
	}
	var body chain.Body
	kept.Put(&body)
	block := chain.Block{Body: body}
	block.Header.TxRoot, block.Header.ExtraRoot = chain.ListRoot(crypto.DomainTxRoot, nil), body.ExtraRoot()
	if _, err := chain.DecodeBlock(block.Encode(), nil); err != nil {
		t.Errorf("the leader's block: %v", err)
	}
	many := chain.Body{Evidence: make([][]byte, staking.MaxEvidence+1)}
	if _, err := staking.DecodeExtras(&many); err == nil || !strings.Contains(err.Error(), "5 pieces of evidence") {
		t.Errorf("five pieces: %v", err)
	}
}
