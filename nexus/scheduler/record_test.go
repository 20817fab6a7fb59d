package scheduler_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestACutNodeKeepsItsWorkAndGetsNoMore: the lesser of what a node offers and of what the chain has
// of it counts; what runs beyond that ends as it would.
func TestACutNodeKeepsItsWorkAndGetsNoMore(t *testing.T) {
	w := newWorld()
	first := w.assign(t, submit(1, chain.PolicyNone{}), 1) // of 2,000 millicores
	second := submit(2, chain.PolicyNone{})
	w.must(t, second)
	w.status(t, second.Order.ID(), job.Bidding) // for which room is kept
	cut := scheduler.NodeLoad{Node: key(1).Public(), Accepting: true, Record: &scheduler.Capacity{Millicores: 500, MemoryMiB: 1_024}}
	w.must(t, cut)
	w.restored(t)
	w.status(t, first, job.Running)
	j := w.status(t, second.Order.ID(), job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: j.ID(), Auction: j.Auction, Bids: []scheduler.SignedBid{bid(j.ID(), 1, 50)}})
	for range 2 {
		if why := w.state.Reason(j); !strings.Contains(why, "1 less hardware on the chain than it offers") {
			t.Errorf("it waits because %q", why)
		}
		if f := w.state.Forecast(&j.Spec, 0, 1); f.At != 0 {
			t.Errorf("room for it is foreseen at %d", f.At)
		}
		if j.Status == job.Queued {
			w.must(t, done(first, 1, 7)) // and there is room by what the node offers
		}
	}
	w.status(t, j.ID(), job.Queued)
	cut.Record = &scheduler.Capacity{Millicores: 1_000, MemoryMiB: 1_024}
	w.must(t, cut)
	w.status(t, j.ID(), job.Bidding)
	w.restored(t)
}

// TestARecordIsNoRoom: a node that offers less than the chain has of it has no more than it offers.
func TestARecordIsNoRoom(t *testing.T) {
	w := newWorld()
	h := hello(1)
	h.Total.Millicores = 500
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h, Record: &scheduler.Capacity{Millicores: 9_000, MemoryMiB: 9_000}})
	s := submit(1, chain.PolicyNone{})
	w.must(t, s)
	if why := w.state.Reason(w.status(t, s.Order.ID(), job.Queued)); !strings.Contains(why, "not enough free cpu") {
		t.Errorf("it waits because %q", why)
	}
}
