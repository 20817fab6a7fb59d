package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// checkPlaces demands that replicas are assigned with their index in the chain's list, or before there is one as
// the first, and that the list has lost nobody.
func (w *world) checkPlaces(c scheduler.Command, before []crypto.PublicKey) {
	for _, e := range w.effects {
		as, ok := e.(scheduler.SendAssign)
		if _, replicated := as.Assignment.Order.Policy.Policy.(chain.PolicyReplicate); !ok || !replicated {
			continue
		}
		at := slices.Index(w.listed(as.Assignment.Order.ID()), as.Node)
		if j, _ := w.state.Job(as.Assignment.Order.ID()); !j.OnChain.Begun {
			at = 0
		}
		if at != int(as.Assignment.Place) {
			panic(fmt.Sprintf("%T: a replica is assigned with place %d, the chain has it at %d", c, as.Assignment.Place, at))
		}
	}
	if o, ok := c.(scheduler.Observed); ok {
		if after := w.listed(o.Order); len(after) < len(before) || !slices.Equal(after[:len(before)], before) {
			panic(fmt.Sprintf("the chain asked %v, and then %v", before, after))
		}
	}
}

// listed is who is in the chain's list of an order's replicas.
func (w *world) listed(order crypto.Digest) (nodes []crypto.PublicKey) {
	if j, ok := w.state.Job(order); ok {
		for _, r := range j.OnChain.Replicas {
			nodes = append(nodes, r.Node)
		}
	}
	return nodes
}

// TestReplicasHaveTheChainsPlaces: what a node of the chain says that is behind changes nothing, and a node that
// the chain's list lacks is given no assignment.
func TestReplicasHaveTheChainsPlaces(t *testing.T) {
	w := newWorld()
	for n := 1; n <= 3; n++ {
		w.up(t, n, n)
	}
	s := submit(1, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
	id := s.Order.ID()
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 90), bid(id, 2, 80), bid(id, 3, 70)}})
	w.must(t, pledge(id, 3, 0, 7))
	says := func(nodes ...int) scheduler.Observed {
		o := scheduler.Observed{Order: id, OnChain: scheduler.Replication{Begun: true}}
		for _, n := range nodes {
			o.OnChain.Replicas = append(o.OnChain.Replicas, scheduler.Replica{Node: key(n).Public(), State: scheduler.ReplicaAsked})
		}
		return o
	}
	w.must(t, says(3, 1))
	if as := w.effects[0].(scheduler.SendAssign); as.Node != key(1).Public() || as.Assignment.Place != 1 {
		t.Errorf("assigned %s with place %d", as.Node.Short(), as.Assignment.Place)
	}
	for _, behind := range []scheduler.Observed{says(3), says(), says(3, 2), {Order: id}} {
		w.must(t, behind)
		w.expect(t, "")
	}
	w.up(t, 1, 1) // it did not hear of it
	if as := w.effects[0].(scheduler.SendAssign); as.Assignment.Place != 1 {
		t.Errorf("assigned again with place %d", as.Assignment.Place)
	}
	w.must(t, says(3, 1, 2))
	if as := w.effects[0].(scheduler.SendAssign); as.Assignment.Place != 2 {
		t.Errorf("the next has place %d", as.Assignment.Place)
	}
}

// TestBegunRunsEndByTheChainsWord: who is bound to a receipt is asked for it however long after the claim window the others
// are; of runs that the chain never had nobody is.
func TestBegunRunsEndByTheChainsWord(t *testing.T) {
	for _, begun := range []bool{false, true} {
		w := newWorld()
		for n := 1; n <= 2; n++ {
			w.up(t, n, n)
		}
		s := submit(1, chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000})
		id := s.Order.ID()
		w.must(t, s)
		w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 50), bid(id, 2, 60)}})
		w.must(t, pledge(id, 1, 0, 7))
		seen := scheduler.Observed{Order: id, OnChain: scheduler.Replication{Begun: true, Replicas: []scheduler.Replica{
			{Node: key(1).Public(), State: scheduler.ReplicaCommitted}, {Node: key(2).Public(), State: scheduler.ReplicaMissed},
		}}}
		if begun {
			w.must(t, seen)
		}
		w.now = s.Order.Deadline + chain.TimeMs(config().ClaimWindowMs+config().RetentionMs) + 1
		w.must(t, scheduler.Tick{})
		if !begun {
			if got := w.trace(); !strings.Contains(got, "nobody asked for the receipt") {
				t.Errorf("never begun, the effects are %q", got)
			}
			w.status(t, id, job.Failed)
			continue
		}
		w.expect(t, "")
		w.restored(t)
		w.now += 365 * 24 * 3_600_000
		w.must(t, scheduler.Tick{})
		seen.OnChain.Revealing = true
		w.must(t, seen)
		if j := w.status(t, id, job.Settling); !slices.Equal(j.ToShow(), []crypto.PublicKey{key(1).Public()}) {
			t.Errorf("asked %v for receipts", j.ToShow())
		}
		w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9}})
		w.status(t, id, job.Settled)
		w.state.Audit()
	}
}
