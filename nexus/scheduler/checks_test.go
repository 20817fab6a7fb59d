package scheduler_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestWhoMayOnlyCheck: those who may check a job and not begin it are listed as bidders if it lacks others, after those who may; they never
// begin it, however little they ask, and nothing begins with them alone.
func TestWhoMayOnlyCheck(t *testing.T) {
	type list = []scheduler.SignedBid
	for name, c := range map[string]struct {
		policy       chain.Policy
		bids, checks func(id crypto.Digest) list
		primary      int   // 0: none
		slate        []int // behind it
	}{
		"one lacks":         {chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}, func(id crypto.Digest) list { return list{bid(id, 1, 90)} }, func(id crypto.Digest) list { return list{bid(id, 2, 50), bid(id, 3, 60)} }, 1, []int{2, 3}},
		"none lacks":        {chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}, func(id crypto.Digest) list { return list{bid(id, 1, 90), bid(id, 2, 80)} }, func(id crypto.Digest) list { return list{bid(id, 3, 50)} }, 2, []int{1}},
		"too few with them": {chain.PolicyReplicate{K: 3, N: 3, WindowMs: 60_000}, func(id crypto.Digest) list { return list{bid(id, 1, 90)} }, func(id crypto.Digest) list { return list{bid(id, 2, 50)} }, 0, nil},
		"they alone":        {chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}, func(crypto.Digest) list { return nil }, func(id crypto.Digest) list { return list{bid(id, 2, 50), bid(id, 3, 60)} }, 0, nil},
		"the same node":     {chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}, func(id crypto.Digest) list { return list{bid(id, 1, 90)} }, func(id crypto.Digest) list { return list{bid(id, 1, 50)} }, 0, nil},
		"nothing to check":  {chain.PolicyNone{}, func(crypto.Digest) list { return nil }, func(id crypto.Digest) list { return list{bid(id, 2, 50)} }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for n := 1; n <= 3; n++ {
				w.up(t, n, n)
			}
			s := submit(1, c.policy)
			id := s.Order.ID()
			w.must(t, s)
			w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: c.bids(id), Checks: c.checks(id)})
			j, _ := w.state.Job(id)
			if len(j.Runs) == 0 || c.primary == 0 {
				if len(j.Runs) > 0 || c.primary != 0 {
					t.Fatalf("%d runs, the primary is to be %d", len(j.Runs), c.primary)
				}
				return
			}
			want := append([]int{c.primary}, c.slate...)
			if j.Runs[0].Node != key(c.primary).Public() || len(j.Slate) != len(want) {
				t.Fatalf("%s begins, of %d bidders", j.Runs[0].Node.Short(), len(j.Slate))
			}
			for i, n := range want {
				if j.Slate[i].Bid.Node != key(n).Public() {
					t.Errorf("the slate has %s in place %d", j.Slate[i].Bid.Node.Short(), i)
				}
			}
		})
	}
}

// TestWhatHasBegunIsNotOutstanding: what an order under replicate may cost is not in the escrow once it has begun: from then on it takes nothing from
// others, and what the escrow was before does not count for them.
func TestWhatHasBegunIsNotOutstanding(t *testing.T) {
	w := newWorld()
	for n := 1; n <= 2; n++ {
		w.up(t, n, n)
	}
	s := submit(1, chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000})
	id := s.Order.ID()
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 50), bid(id, 2, 60)}})
	w.must(t, pledge(id, 1, 0, 7))
	next := submit(2, chain.PolicyNone{})
	next.Escrow, next.Height = s.Order.MaxCost, 8 // the other half is held
	w.refused(t, "escrow", next)
	begun := scheduler.Observed{Order: id, OnChain: scheduler.Replication{Begun: true, Height: 9, Replicas: []scheduler.Replica{
		{Node: key(1).Public(), State: scheduler.ReplicaCommitted},
	}}}
	w.must(t, begun)
	w.must(t, begun)
	w.refused(t, "stale", next)
	next.Height = 9
	w.must(t, next)
	if j, _ := w.state.Job(next.Order.ID()); j.Acceptance.Outstanding != next.Order.MaxCost {
		t.Errorf("the acceptance promises %s beside what is held, the order may cost %s", j.Acceptance.Outstanding, next.Order.MaxCost)
	}
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 12}})
	if left := w.state.Outstanding(next.Order.ConsumerAddress()); left != next.Order.MaxCost {
		t.Errorf("%s is outstanding when the first order is settled", left)
	}
	w.state.Audit()
}
