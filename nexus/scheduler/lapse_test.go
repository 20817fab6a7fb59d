package scheduler_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestACapThatLapsedWantsANewerEscrow: what time lets go, the chain may have spent until the end of that time: what the escrow held then covers
// nothing, be it of a millisecond before, also over a snapshot, and when the account is forgotten.
func TestACapThatLapsedWantsANewerEscrow(t *testing.T) {
	window := chain.TimeMs(config().ClaimWindowMs)
	for name, x := range map[string]struct {
		first func() scheduler.Submit
		until func(o *chain.Order) chain.TimeMs
		wait  bool // until its time is over, rather than cancel it
		done  bool // and its claims are posted, and nobody hears of them
	}{
		"proof":          {func() scheduler.Submit { return submit(1, proven) }, func(o *chain.Order) chain.TimeMs { return o.Deadline + window }, false, false},
		"countersigned":  {countersignable, func(o *chain.Order) chain.TimeMs { return o.Deadline + window }, false, false},
		"lease":          {func() scheduler.Submit { return leased(1) }, func(*chain.Order) chain.TimeMs { return 900_000 }, false, false},
		"lease, unknown": {func() scheduler.Submit { return leased(1) }, func(*chain.Order) chain.TimeMs { return 900_000 }, true, false},
		"settling":       {func() scheduler.Submit { return submit(1, chain.PolicyNone{}) }, func(o *chain.Order) chain.TimeMs { return o.Deadline + window }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := config()
			c.RetentionMs = 60_000
			w := worldWith(c)
			s := x.first()
			s.Escrow = s.Order.MaxCost
			id := w.assign(t, s, 1)
			until := x.until(&s.Order)
			if x.done {
				w.must(t, done(id, 1, 7))
				w.status(t, id, job.Settling)
			}
			if x.wait {
				w.now = s.Order.Deadline + window + chain.TimeMs(c.RetentionMs) + 1
			} else {
				w.must(t, scheduler.CancelJob{Order: id})
				w.now = until
			}
			next := func(at chain.TimeMs) scheduler.Submit {
				n := submit(2, chain.PolicyNone{})
				n.Escrow, n.TimeMs, n.Order.Deadline = s.Escrow, at, w.now+1
				return n
			}
			if !x.wait {
				w.must(t, scheduler.Tick{})
				w.refused(t, "escrow", next(until+1)) // it is outstanding still
				w.now++
			}
			w.must(t, scheduler.Tick{})
			if got := w.state.Outstanding(s.Order.ConsumerAddress()); !got.IsZero() {
				t.Fatalf("%s is outstanding after %d", got, until)
			}
			again := func(when string) {
				t.Helper()
				if _, since := w.state.EscrowFrom(s.Order.ConsumerAddress()); since != until+1 {
					t.Errorf("%s: an escrow counts since %d, want %d", when, since, until+1)
				}
				w.refused(t, "stale", next(until-8_000))
				w.refused(t, "stale", next(until))
			}
			again("at once")
			w.restored(t)
			again("restored")
			w.now = max(w.now, s.Order.Deadline) + chain.TimeMs(c.RetentionMs) + 1
			w.must(t, scheduler.Tick{})
			if _, kept := w.state.Job(id); kept {
				t.Fatal("the job is kept")
			}
			again("forgotten")
			w.restored(t)
			again("forgotten and restored")
			w.must(t, next(until+1))
		})
	}
}

func countersignable() scheduler.Submit {
	s := submit(1, chain.PolicyNone{})
	s.Order.Countersignable = true
	return s
}

// TestTooLateForOneNodeIsNotForAnother: a lease that the chain opens no more by the last node's bid, it may open by that of a node that was given it
// before, and that stands for longer.
func TestTooLateForOneNodeIsNotForAnother(t *testing.T) {
	w := newWorld()
	s := leased(1)
	id := w.assign(t, s, 1)
	w.up(t, 2, 2)
	w.must(t, scheduler.Refused{Order: id, Node: key(1).Public(), Reason: "no room"})
	j := w.status(t, id, job.Bidding)
	shorter := bid(id, 2, 50)
	shorter.Bid.Expiry = 800_000
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{shorter}})
	w.now = 800_001
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(2).Public(), Height: 7, Late: true})
	outstanding := func(want chain.Amount) {
		t.Helper()
		if got := w.state.Outstanding(s.Order.ConsumerAddress()); got != want {
			t.Errorf("at %d %s is outstanding, want %s", w.now, got, want)
		}
	}
	w.status(t, id, job.Failed)
	outstanding(s.Order.MaxCost)
	w.restored(t)
	w.now = 900_000
	w.must(t, scheduler.Tick{})
	outstanding(s.Order.MaxCost)
	w.now++
	w.must(t, scheduler.Tick{})
	outstanding(chain.Amount{})
}

// TestWhatTheChainOpensNoMoreNeedsNoNewerEscrow: that a lease was not opened, and is not, the chain has said.
func TestWhatTheChainOpensNoMoreNeedsNoNewerEscrow(t *testing.T) {
	w := newWorld()
	s := leased(1)
	id := w.assign(t, s, 1)
	w.now = 900_001
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 7, Late: true})
	next := submit(2, chain.PolicyNone{})
	next.Escrow = next.Order.MaxCost
	w.must(t, next)
	if height, since := w.state.EscrowFrom(next.Order.ConsumerAddress()); height != 0 || since != 0 {
		t.Errorf("an escrow counts from block %d and %d on", height, since)
	}
}
