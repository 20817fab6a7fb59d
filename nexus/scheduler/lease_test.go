package scheduler_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// leased is an order for a lease of what the specification asks for.
func leased(nonce uint64) scheduler.Submit {
	s := submit(nonce, chain.PolicyNone{})
	s.Spec.Work = job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}}}
	s.Order.Spec = s.Spec.Digest()
	s.Order.Term = &chain.Term{Resources: job.Kept(&s.Spec), NoticeMs: 60_000}
	return s
}

// restored is the world after its state has been written and read.
func (w *world) restored(t *testing.T) {
	t.Helper()
	state, err := scheduler.Restore(config(), w.state.Encode())
	if err != nil {
		t.Fatal(err)
	}
	w.state = state
}

// TestLeaseIsItsNodes: once the chain has it, it stays with its node whatever that says or
// where it is, its money is no longer promised, and the chain alone ends it.
func TestLeaseIsItsNodes(t *testing.T) {
	w := newWorld()
	s := leased(1)
	id := w.assign(t, s, 1)
	consumer := s.Order.ConsumerAddress()
	node := key(1).Public()
	if got := w.state.Outstanding(consumer); got != chain.Hyper(1) {
		t.Fatalf("%s is promised before it is open", got)
	}
	seen := scheduler.LeaseSeen{Order: id, Node: node, Height: 5, Live: true, Opened: true}
	w.must(t, seen)
	w.must(t, seen)
	if got := w.state.Outstanding(consumer); !got.IsZero() {
		t.Fatalf("%s is promised though the money has left the escrow", got)
	}
	w.refused(t, "late", scheduler.CancelJob{Order: id})
	w.must(t, scheduler.NodeDown{Node: node})
	w.must(t, scheduler.Refused{Order: id, Node: node, Reason: "the machine burns"})
	w.now = s.Order.Deadline * 1_000
	w.must(t, scheduler.Tick{})
	w.restored(t)
	w.up(t, 1, 1)
	w.expect(t, "assign n1") // it came back without it
	if j := w.status(t, id, job.Running); !j.Leased || j.Award() == nil || j.Award().Node != node {
		t.Fatalf("the lease is %+v", j)
	}
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 4, Opened: true}) // a state from before
	w.status(t, id, job.Running)
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 9, Opened: true})
	w.expect(t, "cancel n1")
	w.status(t, id, job.Settled)
	if got := w.state.Outstanding(consumer); !got.IsZero() {
		t.Fatalf("%s is promised after its end", got)
	}
}

// TestLeaseThatNobodyOpens is given up when the chain says that it is too late, or when the
// chain could not be asked for long.
func TestLeaseThatNobodyOpens(t *testing.T) {
	for name, end := range map[string]func(w *world, s scheduler.Submit, id crypto.Digest) scheduler.Command{
		"the chain says so": func(_ *world, _ scheduler.Submit, id crypto.Digest) scheduler.Command {
			return scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 7, Late: true}
		},
		"nobody says anything": func(w *world, s scheduler.Submit, _ crypto.Digest) scheduler.Command {
			w.now = s.Order.Deadline + chain.TimeMs(chain.DefaultParams().ClaimWindowMs) + 1
			return scheduler.Tick{}
		},
	} {
		w := newWorld()
		s := leased(1)
		id := w.assign(t, s, 1)
		w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 6})
		w.now = s.Order.Deadline + 1
		w.must(t, scheduler.Tick{})
		w.status(t, id, job.Running)
		w.must(t, end(w, s, id))
		w.expect(t, "cancel n1")
		w.status(t, id, job.Failed)
		if got := w.state.Outstanding(s.Order.ConsumerAddress()); !got.IsZero() {
			t.Fatalf("%s: %s stays promised", name, got)
		}
	}
}

// TestOpenUntil: a deal is worth nothing after its bid, so that a node is not held until the
// order's deadline by who does not open it.
func TestOpenUntil(t *testing.T) {
	w := newWorld()
	s := leased(1)
	s.Order.Deadline = 950_000
	id := w.assign(t, s, 1)
	j := w.status(t, id, job.Running)
	if expiry := j.Award().Bid.Expiry; j.OpenUntil() != expiry || expiry >= s.Order.Deadline {
		t.Fatalf("open until %d, the bid expires at %d and the order at %d", j.OpenUntil(), expiry, s.Order.Deadline)
	}
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 7, Late: true})
	if got := w.status(t, id, job.Failed).OpenUntil(); got != 0 {
		t.Fatalf("open until %d after its end", got)
	}
}

// TestBidsForLeases compares them by their rate, and takes none that the cap does not pay for
// the least time of a lease.
func TestBidsForLeases(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	w.up(t, 2, 2)
	s := leased(1)
	s.Order.MaxCost = chain.Nano(3_100_000) // 50 seconds at 60 nHYPER a millicore, 60 at 50
	w.must(t, s)
	id := s.Order.ID()
	j := w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 1, 60), bid(id, 2, 50)}})
	if j = w.status(t, id, job.Running); j.Award().Node != key(2).Public() {
		t.Fatalf("given to %s, want the one that it can pay", w.names[j.Award().Node])
	}
}

// TestOrdersThatAreNoLease are refused by name.
func TestOrdersThatAreNoLease(t *testing.T) {
	w := newWorld()
	for rule, change := range map[string]func(s *scheduler.Submit){
		"spec":   func(s *scheduler.Submit) { s.Order.Term.Resources[0].Amount++ },
		"resize": func(s *scheduler.Submit) { s.Order.Term.Resizes = crypto.Digest{1} },
	} {
		s := leased(1)
		change(&s)
		w.refused(t, rule, s)
	}
	s := leased(1)
	s.Spec.Scheduling.Preemptible = true
	s.Order.Spec = s.Spec.Digest()
	w.refused(t, "spec", s)
}

// TestMissesAreInTheOutbox until the chain has judged them, also when the lease is over, and once each.
func TestMissesAreInTheOutbox(t *testing.T) {
	w := newWorld()
	id := w.assign(t, leased(1), 1)
	node := key(1).Public()
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 5, Live: true, Opened: true})
	miss := func(epoch uint64, by crypto.PublicKey) scheduler.FoundMiss {
		return scheduler.FoundMiss{Report: chain.ReportMiss{
			Epoch: chain.ServiceEpoch{Lease: chain.LeaseID{Node: by, Order: id}, Terms: id, Epoch: epoch}, Reports: make(chain.ServiceReports, 3),
		}}
	}
	epochs := func() (list []uint64) {
		for _, item := range w.state.Outbox(0, 10) {
			if m, ok := item.Runs[0].(chain.ReportMiss); ok && item.Order == id {
				list = append(list, m.Epoch.Epoch)
			}
		}
		return list
	}
	w.must(t, miss(7, node))
	w.must(t, miss(7, node))
	w.must(t, miss(3, node))
	w.must(t, miss(4, key(2).Public())) // whose lease it is not
	w.restored(t)
	if got := epochs(); !slices.Equal(got, []uint64{7, 3}) {
		t.Fatalf("epochs %v are to be posted", got)
	}
	first := w.state.Outbox(0, 1)
	if later := w.state.Outbox(first[0].Cursor, 10); len(later) != 1 || later[0].Cursor <= first[0].Cursor {
		t.Fatalf("after %d there is %+v", first[0].Cursor, later)
	}
	w.must(t, scheduler.ClosedMiss{Order: id, Terms: id, Epoch: 7})
	if got := epochs(); !slices.Equal(got, []uint64{3}) {
		t.Fatalf("epochs %v are to be posted after one was judged", got)
	}
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 9, Opened: true})
	w.must(t, miss(8, node))
	w.restored(t)
	if got := epochs(); !slices.Equal(got, []uint64{3, 8}) {
		t.Fatalf("epochs %v of a lease that is over are to be posted", got)
	}
	if got := w.state.EndedTerms(0); len(got) != 0 { // nothing is promised of it
		t.Fatalf("leases %v with service terms are over", got)
	}
	w.must(t, scheduler.ClosedMiss{Order: id, Terms: id, Epoch: 3})
	w.must(t, scheduler.ClosedMiss{Order: id, Terms: id, Epoch: 8})
	if got := epochs(); len(got) > 0 {
		t.Fatalf("epochs %v that were judged are to be posted", got)
	}
}

// TestEndedTermsAreKnown for as long as their last epochs may be reported, by the node that had them.
func TestEndedTermsAreKnown(t *testing.T) {
	w := newWorld()
	s := leased(1)
	s.Order.Term.Service = &chain.ServiceTerms{EpochMs: 60_000, AvailabilityBps: 9_000, RebateBps: 1}
	id, node := w.assign(t, s, 1), key(1).Public()
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 5, Live: true, Opened: true})
	if got := w.state.EndedTerms(0); len(got) != 0 {
		t.Fatalf("leases %v are over", got)
	}
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 9, Opened: true})
	w.restored(t)
	if got := w.state.EndedTerms(0); !slices.Equal(got, []chain.LeaseID{{Node: node, Order: id}}) {
		t.Fatalf("leases %v are over", got)
	}
	if got := w.state.EndedTerms(1 << 62); len(got) != 0 {
		t.Fatalf("leases %v are over since the end of time", got)
	}
}

// TestTermsBeforeAResizeAreKnown by the lease's name, also when nothing is promised of it any more: those that it was
// opened with, and those of an order that resized it before another did.
func TestTermsBeforeAResizeAreKnown(t *testing.T) {
	service := &chain.ServiceTerms{EpochMs: 60_000, AvailabilityBps: 9_000, RebateBps: 1}
	for _, terms := range [][]*chain.ServiceTerms{{service, nil}, {nil, service, nil}, {service, service}} {
		w := newWorld()
		s := leased(1)
		s.Order.Term.Service = terms[0]
		id, node := w.assign(t, s, 1), key(1).Public()
		w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 5, Live: true, Opened: true})
		for i, now := range terms[1:] {
			if got := w.state.EndedTerms(0); len(got) != 0 {
				t.Fatalf("terms of %v are over", got)
			}
			r := resizing(uint64(2+i), s, 500, 128)
			r.Order.Term.Service, r.Height = now, chain.Height(6+i)
			w.must(t, r)
			order := r.Order.ID()
			j := w.status(t, order, job.Bidding)
			w.must(t, scheduler.CloseAuction{Order: order, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(order, 1, 50)}})
			w.must(t, scheduler.LeaseSeen{Order: order, Node: node, Height: chain.Height(6 + i), Live: true, Opened: true})
			w.restored(t)
		}
		if got := w.state.EndedTerms(0); !slices.Equal(got, []chain.LeaseID{{Node: node, Order: id}}) {
			t.Fatalf("after a resize terms of %v are over", got)
		}
	}
}

// resizing is an order of the same consumer that resizes a lease to so many cores and so much
// memory.
func resizing(nonce uint64, lease scheduler.Submit, millicores, memoryMiB uint64) scheduler.Submit {
	s := leased(nonce)
	s.Spec = lease.Spec
	s.Spec.Resources.Millicores, s.Spec.Resources.MemoryMiB, s.Spec.Limits.MemoryBytes = millicores, memoryMiB, memoryMiB<<20
	s.Order.Spec = s.Spec.Digest()
	s.Order.Term = &chain.Term{Resources: job.Kept(&s.Spec), NoticeMs: 60_000, Resizes: lease.Order.ID()}
	s.Height = 6
	return s
}

// used demands what node 1 has used.
func (w *world) used(t *testing.T, millicores, memoryMiB uint64) {
	t.Helper()
	n, _ := w.state.Node(key(1).Public())
	if n.Used.Millicores != millicores || n.Used.MemoryMiB != memoryMiB {
		t.Fatalf("%d millicores and %d MiB are used, want %d and %d", n.Used.Millicores, n.Used.MemoryMiB, millicores, memoryMiB)
	}
}

// TestResizedLeaseKeepsItsGPUs: a node that is told of the new terms is told the devices that
// the lease has.
func TestResizedLeaseKeepsItsGPUs(t *testing.T) {
	w := newWorld()
	h := hello(1)
	h.Total.GPUs, h.GPUKind = 2, "T4"
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h})
	s := leased(1)
	s.Spec.Resources.GPUs, s.Spec.Resources.GPUMilli = 1, 1_000
	price := chain.UnitPrice{Resource: chain.GPU, Price: 5}
	devices := func(s scheduler.Submit) []byte {
		t.Helper()
		s.Order.Spec, s.Order.Term.Resources = s.Spec.Digest(), job.Kept(&s.Spec)
		s.Order.Caps = append(s.Order.Caps[:3:3], price)
		id := w.submit(t, s)
		j := w.status(t, id, job.Bidding)
		b := bid(id, 1, 50)
		b.Bid.Prices = append(b.Bid.Prices, price)
		w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{b}})
		w.expect(t, "assign n1")
		given := w.effects[0].(scheduler.SendAssign).Assignment.Devices
		w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: s.Height + 1, Live: true, Opened: true})
		return given
	}
	had := devices(s)
	s.Order.Spec, s.Order.Term.Resources = s.Spec.Digest(), job.Kept(&s.Spec)
	s.Order.Caps = append(s.Order.Caps[:3:3], price)
	if got := devices(resizing(2, s, 500, 128)); len(had) != 1 || !bytes.Equal(got, had) {
		t.Errorf("the lease had devices %v, and resized it has %v", had, got)
	}
}

// TestWhatResizedALeaseEndsWithIt: word that an order resized a lease that is over already
// changes nothing, and the lease's own end gives back what it has.
func TestWhatResizedALeaseEndsWithIt(t *testing.T) {
	w := newWorld()
	s := leased(1)
	id := w.assign(t, s, 1)
	node := key(1).Public()
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 5, Live: true, Opened: true})
	r := resizing(2, s, 500, 128)
	w.must(t, r)
	order := r.Order.ID()
	j := w.status(t, order, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: order, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(order, 1, 50)}})
	w.must(t, scheduler.LeaseSeen{Order: order, Node: node, Height: 7, Live: true, Opened: true})
	w.must(t, scheduler.LeaseSeen{Order: order, Node: node, Height: 8, Opened: true})
	w.used(t, 500, 128)
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: 9, Opened: true})
	w.used(t, 0, 0)
}

// TestResizedLease asks the lease's node alone, holds the difference until the chain has
// resized the lease and what that asks for from then on, and is restored as it was at each step.
func TestResizedLease(t *testing.T) {
	w := newWorld()
	s := leased(1)
	id := w.assign(t, s, 1)
	node := key(1).Public()
	seen := func(order crypto.Digest, height chain.Height) {
		t.Helper()
		w.must(t, scheduler.LeaseSeen{Order: order, Node: node, Height: height, Live: true, Opened: true})
		w.restored(t)
	}
	seen(id, 5)
	w.up(t, 2, 2) // which could take it
	height, last := chain.Height(6), crypto.Digest{}
	for i, size := range [][2]uint64{{1_500, 512}, {500, 128}, {700, 128}} {
		had, _ := w.state.Node(node)
		before := had.Used
		r := resizing(uint64(2+i), s, size[0], size[1])
		r.Height = height
		w.must(t, r)
		order := r.Order.ID()
		w.restored(t)
		w.used(t, max(before.Millicores, size[0]), max(before.MemoryMiB, size[1]))
		again := resizing(9, s, 100, 128)
		again.Height = height
		w.refused(t, "resize", again)
		j := w.status(t, order, job.Bidding)
		if len(j.Places) != 1 || j.Places[0].Node != node {
			t.Fatalf("room is kept at %+v", j.Places)
		}
		w.must(t, scheduler.CloseAuction{Order: order, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(order, 1, 50)}})
		w.used(t, max(before.Millicores, size[0]), max(before.MemoryMiB, size[1]))
		if at := w.status(t, order, job.Running).LeaseID(); at != (chain.LeaseID{Node: node, Order: id}) {
			t.Fatalf("it resizes %+v", at)
		}
		height++
		seen(order, height)
		w.used(t, size[0], size[1])
		if got := w.state.Outstanding(s.Order.ConsumerAddress()); !got.IsZero() {
			t.Fatalf("%s stays promised", got)
		}
		w.status(t, id, job.Running)
		if last != (crypto.Digest{}) {
			w.status(t, last, job.Settled) // its terms hold no more
		}
		last = order
	}
	w.must(t, scheduler.LeaseSeen{Order: id, Node: node, Height: height + 1, Opened: true})
	w.status(t, id, job.Settled)
	w.status(t, last, job.Settled)
	w.used(t, 0, 0)
	w.restored(t)
	over := resizing(20, s, 100, 128)
	over.Height = height + 1
	w.refused(t, "resize", over)
}

// TestResizeThatCannotBe is refused by name, or fails and says why, and the lease holds what
// it held.
func TestResizeThatCannotBe(t *testing.T) {
	w := newWorld()
	s := leased(1)
	id := w.assign(t, s, 1)
	w.refused(t, "resize", resizing(2, s, 500, 128)) // not open yet
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 5, Live: true, Opened: true})
	none := resizing(3, s, 500, 128)
	none.Order.Term.Resizes = crypto.Digest{1}
	w.refused(t, "resize", none)
	stranger := resizing(4, s, 500, 128)
	stranger.Order.Consumer = crypto.AccountKeyOf(key(3_001).Public())
	w.refused(t, "resize", stranger)
	other := resizing(5, s, 500, 128)
	other.Spec.Limits.OutputBytes++
	other.Order.Spec = other.Spec.Digest()
	w.refused(t, "resize", other)
	for nonce, end := range map[uint64]func(scheduler.Submit){
		6: func(large scheduler.Submit) { w.contains(t, large, "no room") },
		7: func(r scheduler.Submit) { // the node does not want it
			j := w.status(t, r.Order.ID(), job.Bidding)
			w.must(t, scheduler.CloseAuction{Order: r.Order.ID(), Auction: j.Auction})
			w.contains(t, r, "made no bid")
		},
		8: func(r scheduler.Submit) { // nobody posts the deal
			j := w.status(t, r.Order.ID(), job.Bidding)
			w.must(t, scheduler.CloseAuction{Order: r.Order.ID(), Auction: j.Auction, Bids: []scheduler.SignedBid{bid(r.Order.ID(), 1, 50)}})
			w.must(t, scheduler.LeaseSeen{Order: r.Order.ID(), Node: key(1).Public(), Height: 7, Late: true})
			w.contains(t, r, "nobody posted")
		},
	} {
		millicores := uint64(1_200)
		if nonce == 6 {
			millicores = 1 << 20
		}
		r := resizing(nonce, s, millicores, 300)
		r.Height = 7
		w.must(t, r)
		end(r)
		w.used(t, 1_000, 256)
	}
	waiting := resizing(10, s, 1_200, 300)
	waiting.Height = 7
	w.must(t, waiting)
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 9, Opened: true})
	w.contains(t, waiting, "the lease is over")
	w.used(t, 0, 0)
}

// contains demands that an order failed for a reason with those words.
func (w *world) contains(t *testing.T, s scheduler.Submit, words string) {
	t.Helper()
	if j := w.status(t, s.Order.ID(), job.Failed); !strings.Contains(j.Reason, words) {
		t.Fatalf("it failed because %q, want %q", j.Reason, words)
	}
}

// TestADealOutlivesItsOrder: who cancels a lease, or has its node refuse it, has the deal still, and may open the lease with it until the bid
// expires: so long its cap is promised to nobody else, and then it is free. What no node was given nobody can open.
func TestADealOutlivesItsOrder(t *testing.T) {
	for name, x := range map[string]struct {
		end   func(order crypto.Digest) scheduler.Command
		given bool
	}{
		"cancelled":        {func(order crypto.Digest) scheduler.Command { return scheduler.CancelJob{Order: order} }, true},
		"cancelled before": {func(order crypto.Digest) scheduler.Command { return scheduler.CancelJob{Order: order} }, false},
		"refused by its node": {func(order crypto.Digest) scheduler.Command {
			return scheduler.Refused{Order: order, Node: key(1).Public(), Reason: "no room"}
		}, true},
	} {
		w := newWorld()
		lease := w.opened(t, 500)
		r := resizing(2, lease, 1_000, 256)
		w.must(t, r)
		order, consumer := r.Order.ID(), r.Order.ConsumerAddress()
		expiry := chain.TimeMs(0)
		if x.given {
			w.must(t, scheduler.CloseAuction{Order: order, Auction: 2, Bids: []scheduler.SignedBid{bid(order, 1, 50)}})
			expiry = w.status(t, order, job.Running).OpenUntil()
		}
		w.must(t, x.end(order))
		if j, _ := w.state.Job(order); !j.Status.Final() {
			w.must(t, scheduler.CancelJob{Order: order}) // it was offered again
		}
		outstanding := func(want chain.Amount, when string) {
			t.Helper()
			if got := w.state.Outstanding(consumer); got != want {
				t.Errorf("%s, %s: %s is promised, want %s", name, when, got, want)
			}
		}
		if !x.given {
			outstanding(chain.Amount{}, "at once")
			continue
		}
		outstanding(r.Order.MaxCost, "at once")
		w.restored(t)
		w.now = expiry
		w.must(t, scheduler.Tick{})
		outstanding(r.Order.MaxCost, "when the bid expires")
		w.now = expiry + 10*60_000
		w.must(t, scheduler.Tick{})
		outstanding(chain.Amount{}, "later")
	}
}
