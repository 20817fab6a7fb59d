package staking_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
)

// TestUnbonding follows stake out of a validator: it is held until its weight
// has left the committee and the unbonding period is over, to the millisecond.
func TestUnbonding(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000)
	before := w.balance(9)
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(500)})
	w.refused(9, chain.Undelegate{Validator: id(0), Amount: chain.Nano(500*hyper + 1)}, "may take 500 HYPER out of validator")
	w.refused(9, chain.Undelegate{Validator: id(1), Amount: chain.Hyper(1)}, "has no stake at validator")
	w.refused(9, chain.Undelegate{Validator: id(7)}, "is not bonded")
	w.must(9, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(200)}) // two entries of one
	w.must(9, chain.Undelegate{Validator: id(0), Amount: chain.Hyper(200)}) // epoch are one
	wantAmount(t, "held", staking.UnbondingOf(w.kv, id(0), 1).Stake, chain.Hyper(400))
	w.audit()
	w.epochs(2) // the weight of epoch 1's stake serves in epoch 2, whose end is here
	until := w.now + chain.TimeMs(w.params.UnbondingMs())
	for w.now < until-chain.TimeMs(w.params.EpochMs) {
		w.epochs(1)
	}
	w.block(uint64(until-w.now) - 1)
	wantAmount(t, "a millisecond before", w.balance(9), sub(before, chain.Hyper(500)))
	w.block(1)
	wantAmount(t, "after", w.balance(9), sub(before, chain.Hyper(100)))
	w.audit()
	w.must(9, chain.Undelegate{Validator: id(0)})
	if _, ok := staking.DelegationOf(w.kv, account(9), id(0)); ok {
		t.Error("an empty delegation is kept")
	}
	w.audit()
}

func sub(a, b chain.Amount) chain.Amount { return chain.Nano(a.Nano() - b.Nano()) }

// TestUnbondingOutlastsTheWindow: whatever the delay, stake waits longer than
// two epochs and the evidence window.
func TestUnbondingOutlastsTheWindow(t *testing.T) {
	p := quick()
	p.UnbondDelayMs = 0
	w := newWorld(t, p, 1_000)
	left := w.now
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(5)})
	w.must(9, chain.Undelegate{Validator: id(0)})
	before := w.balance(9)
	for w.balance(9) == before {
		w.block(second)
	}
	if waited := uint64(w.now - left); waited <= 2*p.EpochMs+p.EvidenceWindowMs {
		t.Errorf("stake was liable for %d ms", waited)
	}
}

// TestReleaseIsBounded: no more than the caller's bound of the queue leaves in a
// block, in order; the rest in the next.
func TestReleaseIsBounded(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000)
	for n := 10; n < 20; n++ {
		w.must(n, chain.Delegate{Validator: id(n % 2), Amount: chain.Hyper(10)})
		w.must(n, chain.Undelegate{Validator: id(n % 2)})
	}
	w.epochs(2)
	w.now += chain.TimeMs(w.params.UnbondingMs())
	for _, want := range []int{4, 4, 2, 0} {
		if events := staking.Release(w.kv, w.env(), 4); len(events) != want {
			t.Fatalf("%d entries left the queue, want %d", len(events), want)
		}
		w.audit()
	}
	for n := 10; n < 20; n++ {
		wantAmount(t, "balance", w.balance(n), chain.Hyper(1_000_000))
	}
}

// TestRedelegation: stake moves at once, hops once while it is liable, and is
// plain stake afterwards.
func TestRedelegation(t *testing.T) {
	w := newWorld(t, quick(), 1_000, 1_000, 1_000)
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(300)})
	w.refused(9, chain.Redelegate{From: id(0), To: id(0)}, "redelegation within validator")
	w.refused(9, chain.Redelegate{From: id(0), To: id(5)}, "is not bonded")
	w.refused(9, chain.Redelegate{From: id(0), To: id(1), Amount: chain.Nano(1)}, "the least is 1 HYPER")
	w.must(9, chain.Redelegate{From: id(0), To: id(1), Amount: chain.Hyper(300)})
	wantAmount(t, "where it came from", w.validator(0).Stake, chain.Hyper(1_000))
	wantAmount(t, "where it went", w.validator(1).Stake, chain.Hyper(1_300))
	wantAmount(t, "worth", staking.HopsWorth(w.kv, account(9), id(1)), chain.Hyper(300))
	for _, m := range []chain.Msg{chain.Redelegate{From: id(1), To: id(2)}, chain.Undelegate{Validator: id(1)}} {
		w.refused(9, m, "has no stake at validator")
	}
	w.audit()
	// Its rewards come as any stake's do.
	w.epochs(3)
	w.must(9, chain.WithdrawRewards{Validator: id(1)})
	w.audit()
	for !staking.FreeNow(w.kv, w.env(), 1) {
		w.refused(9, chain.Redelegate{From: id(1), To: id(2)}, "has no stake at validator")
		w.epochs(1)
	}
	w.must(9, chain.Redelegate{From: id(1), To: id(2), Amount: chain.Hyper(100)})
	d, _ := staking.DelegationOf(w.kv, account(9), id(1))
	if d.Shares != 200*hyper {
		t.Errorf("%d shares are plain, want 200 HYPER's", d.Shares)
	}
	w.audit()
}

// TestLimits takes everything that is bounded over its bound.
func TestLimits(t *testing.T) {
	p := quick()
	p.MinSelfBond = chain.Hyper(1)
	stakes := make([]uint64, 50)
	for i := range stakes {
		stakes[i] = 10
	}
	w := newWorld(t, p, stakes...)
	w.refused(9, chain.Delegate{Validator: id(0), Amount: chain.Nano(hyper - 1)}, "the least is 1 HYPER")
	w.refused(9, chain.Delegate{Validator: id(0), Amount: chain.Hyper(2_000_000)}, "can spend")
	w.refused(9, chain.Delegate{Validator: id(60), Amount: chain.Hyper(1)}, "is not bonded")
	for n := 1; n <= staking.MaxTargets; n++ {
		w.must(49, chain.Delegate{Validator: id(0), Amount: chain.Hyper(1)})
		w.must(49, chain.Redelegate{From: id(0), To: id(n)})
	}
	w.must(48, chain.Delegate{Validator: id(0), Amount: chain.Hyper(4)})
	w.refused(48, chain.Redelegate{From: id(0), To: id(40)}, "moved from validator "+id(0).Short()+" to 32 others in epoch 1, the limit")
	w.must(48, chain.Redelegate{From: id(0), To: id(7), Amount: chain.Hyper(1)})
	for n := range 32 { // 33 with its own bond
		w.must(49, chain.Delegate{Validator: id(n + 1), Amount: chain.Hyper(1)})
		if n == 30 {
			w.refused(49, chain.Delegate{Validator: id(45), Amount: chain.Hyper(1)}, "has 64 delegations and redelegations, the limit")
			break
		}
	}
	w.audit()
}

// TestShares: a slash changes what a share is worth, for everybody alike, and
// new stake buys shares at their price.
func TestShares(t *testing.T) {
	p := quick()
	p.ReporterBps = 0
	w := newWorld(t, p, 1_000, 10_000)
	w.must(8, chain.Delegate{Validator: id(0), Amount: chain.Hyper(1_000)})
	w.must(9, chain.Delegate{Validator: id(0), Amount: chain.Nano(1_000*hyper + 1)})
	for range 200 { // jailed for silence again and again: many small slashes
		slashed := w.validator(0)
		w.do(func() (chain.Events, *chain.Rejection) { return staking.SlashForTest(w.kv, id(0), 1, 10, 10_000), nil })
		if after := w.validator(0); after.Shares != slashed.Shares || !after.Stake.Less(slashed.Stake) {
			t.Fatalf("from %+v to %+v", slashed, after)
		}
	}
	price := w.validator(0)
	w.must(10, chain.Delegate{Validator: id(0), Amount: chain.Hyper(100)})
	d, _ := staking.DelegationOf(w.kv, account(10), id(0))
	if want, _ := checked.MulDivFloor(100*hyper, price.Shares, price.Stake.Nano()); d.Shares != want || want <= 100*hyper {
		t.Errorf("100 HYPER bought %d shares at %s / %d", d.Shares, price.Stake, price.Shares)
	}
	before := w.validator(0).Stake
	w.must(10, chain.Undelegate{Validator: id(0)})
	left := sub(before, w.validator(0).Stake)
	if chain.Hyper(100).Less(left) || left.Nano() < 100*hyper-1 {
		t.Errorf("100 HYPER went in, %s came out", left)
	}
	w.audit()
}
