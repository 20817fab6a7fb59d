package scheduler_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// opened is a lease of node 1 that the chain has, with so many cores.
func (w *world) opened(t *testing.T, millicores uint64) scheduler.Submit {
	t.Helper()
	s := leased(1)
	s.Spec.Resources.Millicores = millicores
	s.Order.Spec, s.Order.Term.Resources = s.Spec.Digest(), job.Kept(&s.Spec)
	id := w.assign(t, s, 1)
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 5, Live: true, Opened: true})
	return s
}

// resized has node 1 resize a lease, and the chain say so.
func (w *world) resized(t *testing.T, lease scheduler.Submit, millicores uint64) {
	t.Helper()
	r := resizing(50, lease, millicores, 256)
	w.must(t, r)
	order := r.Order.ID()
	j := w.status(t, order, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: order, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(order, 1, 50)}})
	w.must(t, scheduler.LeaseSeen{Order: order, Node: key(1).Public(), Height: 7, Live: true, Opened: true})
}

// TestRestoredLeaseHoldsWhatItWasResizedTo: what it held before, others may hold since, or the
// node may offer no more. A server that starts again, or is sent the state, is not to stumble
// over that.
func TestRestoredLeaseHoldsWhatItWasResizedTo(t *testing.T) {
	for name, since := range map[string]func(w *world){
		"others hold the rest": func(w *world) {
			s := submit(2, chain.PolicyNone{})
			s.Spec.Resources.Millicores = 1_500
			s.Order.Spec, s.Height = s.Spec.Digest(), 7
			w.must(t, s)
			j := w.status(t, s.Order.ID(), job.Bidding)
			w.must(t, scheduler.CloseAuction{Order: s.Order.ID(), Auction: j.Auction, Bids: []scheduler.SignedBid{bid(s.Order.ID(), 1, 50)}})
			w.used(t, 2_000, 512)
		},
		"the node offers less": func(w *world) {
			h := hello(1)
			h.Total.Millicores = 500
			w.must(t, scheduler.NodeUp{Node: key(1).Public(), Hello: h})
			w.used(t, 500, 256)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			s := w.opened(t, 1_500)
			w.resized(t, s, 500)
			since(w)
			w.restored(t)
			w.must(t, scheduler.LeaseSeen{Order: s.Order.ID(), Node: key(1).Public(), Height: 9, Opened: true})
		})
	}
}

// TestNodeWithALeaseIsNotForgotten: the lease is its node's though that is away, and the cluster
// has no room for another node.
func TestNodeWithALeaseIsNotForgotten(t *testing.T) {
	c := config()
	c.MaxNodes = 1
	w := worldWith(c)
	s := w.opened(t, 1_000)
	w.must(t, scheduler.NodeDown{Node: key(1).Public()})
	w.refused(t, "full", scheduler.NodeUp{Node: w.node(2, 2), Hello: hello(2)})
	w.must(t, scheduler.LeaseSeen{Order: s.Order.ID(), Node: key(1).Public(), Height: 9, Opened: true})
	w.status(t, s.Order.ID(), job.Settled)
	w.up(t, 2, 2)
}

// TestTheLastTimesOfAJobMayMeet: the time until which the cap of a cancelled proof stays
// outstanding, and that for which the job is kept, may end in one millisecond.
func TestTheLastTimesOfAJobMayMeet(t *testing.T) {
	c := config()
	w := worldWith(c)
	id := w.assign(t, submit(1, proven), 1)
	w.must(t, scheduler.CancelJob{Order: id})
	over := w.status(t, id, job.Cancelled).Held + 1
	c.RetentionMs = uint64(over - w.now)
	w.must(t, scheduler.SetSettings{Settings: c.Settings})
	w.now = over
	w.must(t, scheduler.Tick{})
	if _, kept := w.state.Job(id); kept {
		t.Error("the job is kept though all its times are over")
	}
}

// TestTheLeasesNodeAloneBidsToResizeIt: a new leader asks nobody else, and what others bid does
// not count, however cheap.
func TestTheLeasesNodeAloneBidsToResizeIt(t *testing.T) {
	w := newWorld()
	s := w.opened(t, 500)
	w.up(t, 2, 2)
	r := resizing(2, s, 1_000, 256)
	w.must(t, r)
	w.expect(t, "auction 2 among n1")
	order := r.Order.ID()
	w.effects = w.state.Pending()
	w.expect(t, "assign n1; auction 2 among n1")
	w.must(t, scheduler.CloseAuction{Order: order, Auction: 2, Bids: []scheduler.SignedBid{bid(order, 2, 1), bid(order, 1, 50)}})
	w.expect(t, "assign n1")
	w.must(t, scheduler.LeaseSeen{Order: order, Node: key(1).Public(), Height: 7, Live: true, Opened: true})
	w.used(t, 1_000, 256)
}

// TestReceiptOfAForgottenNode: who pledged is bound to a receipt, and may be forgotten before it
// shows another.
func TestReceiptOfAForgottenNode(t *testing.T) {
	c := config()
	c.MaxNodes = 3
	w := worldWith(c)
	for n := 1; n <= 3; n++ {
		w.up(t, n, n)
	}
	s := submit(1, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
	id := s.Order.ID()
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: 1, Bids: []scheduler.SignedBid{bid(id, 1, 90), bid(id, 2, 80), bid(id, 3, 70)}})
	w.expect(t, "assign n3")
	w.must(t, pledge(id, 3, 0, 7))
	w.must(t, scheduler.NodeDown{Node: key(3).Public()})
	w.up(t, 4, 4)
	if _, known := w.state.Node(key(3).Public()); known {
		t.Fatal("the node is not forgotten: the test shows nothing")
	}
	w.must(t, shown(id, 3, 8))
	if j := w.status(t, id, job.Settling); j.Runs[0].Stage != scheduler.Lost {
		t.Errorf("the run is %s", j.Runs[0].Stage)
	}
}

// TestForecastOfANodeWithoutBounds: how much a node says that it has does not decide how long a
// forecast takes.
func TestForecastOfANodeWithoutBounds(t *testing.T) {
	w := newWorld()
	h := hello(1)
	h.Total = job.Resources{Millicores: 1 << 63, MemoryMiB: 1 << 63}
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h})
	size := spec()
	if f := w.state.Forecast(&size, 0, 1); f.At != w.now || f.Ahead != 0 {
		t.Errorf("it could begin at %d after %d others, it is %d", f.At, f.Ahead, w.now)
	}
}
