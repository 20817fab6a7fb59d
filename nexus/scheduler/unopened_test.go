package scheduler_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const bidsLast = 120_000 // ms, as an agent's do

// renter is a consumer who orders leases of 16 nodes, and what of the nodes' processors is held for those that are not open.
type renter struct {
	*world
	t       *testing.T
	total   uint64
	ordered uint64
	given   map[crypto.Digest]chain.TimeMs // awards that are not open, and until when a node is bound by each
	height  chain.Height
}

func newRenter(t *testing.T) *renter {
	r := &renter{world: newWorld(), t: t, given: map[crypto.Digest]chain.TimeMs{}}
	for n := 1; n <= 16; n++ {
		r.up(t, n, n)
		r.total += hello(n).Total.Millicores
	}
	return r
}

// order orders a lease of so many millicores.
func (r *renter) order(millicores uint64) crypto.Digest {
	r.t.Helper()
	r.ordered++
	s := leased(r.ordered)
	s.Spec.Resources.Millicores, s.Spec.Resources.MemoryMiB = millicores, 8
	s.Spec.Limits.MemoryBytes = 8 << 20
	s.Order.Spec, s.Order.Term.Resources = s.Spec.Digest(), job.Kept(&s.Spec)
	s.Order.Deadline, s.Escrow, s.TimeMs, s.Height = r.now+4*3_600_000, chain.Hyper(1_000_000), r.now, r.height
	r.must(r.t, s)
	r.bid()
	return s.Order.ID()
}

// bid has each node that is asked bid.
func (r *renter) bid() {
	r.t.Helper()
	for len(r.effects) > 0 {
		var opened []scheduler.OpenAuction
		for _, e := range r.effects {
			if o, ok := e.(scheduler.OpenAuction); ok {
				opened = append(opened, o)
			}
		}
		if len(opened) == 0 {
			return
		}
		var more []scheduler.Effect
		for _, o := range opened {
			closing := scheduler.CloseAuction{Order: o.Order, Auction: o.Auction}
			for n := 1; n <= 16; n++ {
				if key(n).Public() == o.Candidates[0] {
					b := bid(o.Order, n, 50)
					b.Bid.Expiry = r.now + bidsLast
					closing.Bids = append(closing.Bids, b)
				}
			}
			r.must(r.t, closing)
			if j, _ := r.state.Job(o.Order); j.Award() != nil {
				r.given[o.Order] = j.OpenUntil()
			}
			more = append(more, r.effects...)
		}
		r.effects = more
	}
}

// pass lets time go by. What nobody opened in time the chain says to be too late.
func (r *renter) pass(ms chain.TimeMs) {
	r.t.Helper()
	r.now += ms
	r.must(r.t, scheduler.Tick{})
	r.bid()
	for id, until := range r.given { // order-free: each for itself
		if until >= r.now {
			continue
		}
		delete(r.given, id)
		if j, _ := r.state.Job(id); j.Award() != nil {
			r.must(r.t, scheduler.LeaseSeen{Order: id, Node: j.Award().Node, Height: r.height, Late: true})
			r.bid()
		}
	}
}

// open opens all that is given.
func (r *renter) open() (opened int) {
	r.t.Helper()
	for id := range r.given { // order-free: each for itself
		delete(r.given, id)
		j, _ := r.state.Job(id)
		r.height++
		r.must(r.t, scheduler.LeaseSeen{Order: id, Node: j.Award().Node, Height: r.height, Live: true, Opened: true})
		r.bid()
		opened++
	}
	return opened
}

// held is what nodes hold of their processors for leases that are not open.
func (r *renter) held() (sum uint64) {
	for id := range r.given { // order-free: a sum
		j, _ := r.state.Job(id)
		sum += j.Spec.Resources.Millicores
	}
	return sum
}

// TestAConsumerThatOpensNothingHoldsLittle: a consumer who goes on ordering leases that it does not open, or cancels each once a node
// is bound to it, holds a quarter of the cluster at most, for a sixteenth of the time and what is free at first.
func TestAConsumerThatOpensNothingHoldsLittle(t *testing.T) {
	const lasts, step, waiting = chain.TimeMs(8 * 3_600_000), chain.TimeMs(20_000), 12
	for name, cancels := range map[string]bool{"lets them lapse": false, "cancels": true} {
		t.Run(name, func(t *testing.T) {
			r := newRenter(t)
			most, some, until, begun := uint64(0), chain.TimeMs(0), chain.TimeMs(0), r.now
			for r.now < begun+lasts {
				for r.state.OpenCount()-len(r.given) < waiting {
					r.order(1_000)
				}
				for id := range r.given { // order-free: each for itself
					if j, _ := r.state.Job(id); cancels && j.Award() != nil {
						r.must(t, scheduler.CancelJob{Order: id})
						r.bid()
					}
				}
				most = max(most, r.held())
				for last := range maps.Values(r.given) { // order-free: the greatest
					until = max(until, last)
				}
				some += min(step, max(until, r.now)-r.now)
				r.pass(step)
				r.restoredSometimes()
			}
			if most == 0 || most > r.total/4 {
				t.Errorf("%d millicores of %d were held", most, r.total)
			}
			if limit := (lasts+3_600_000)/16 + bidsLast; some == 0 || some > limit {
				t.Errorf("something was held for %d ms of %d, want at most %d", some, lasts, limit)
			}
			t.Logf("at most %d of %d millicores, for %d s of %d", most, r.total, some/1_000, lasts/1_000)
		})
	}
}

// restoredSometimes writes and reads the state now and then: what lapsed outlives it.
func (r *renter) restoredSometimes() {
	if r.now%600_000 < 20_000 {
		r.restored(r.t)
	}
}

// TestWhoOpensWhatItIsGivenWaitsForNothing: a consumer who opens its leases within seconds has as many as it wants, one quarter of the
// cluster after the other; one that lapses now and then changes nothing.
func TestWhoOpensWhatItIsGivenWaitsForNothing(t *testing.T) {
	r := newRenter(t)
	id := r.order(1_000)
	r.pass(bidsLast + 1)
	r.pass(1)
	if j, _ := r.state.Job(id); j.Status != job.Failed {
		t.Fatalf("nobody opened the lease in time, and it is %s", j.Status)
	}
	for range 120 {
		r.order(200)
	}
	rounds, opened := 0, 0
	for opened < 120 && rounds < 100 {
		r.pass(5_000)
		opened += r.open()
		rounds++
	}
	if rounds > 4 {
		t.Errorf("120 leases of %d millicores, opened within 5 s, took %d turns", 200, rounds)
	}
	one := r.order(500)
	if r.given[one] == 0 {
		t.Error("a lease was not given out at once, though all before are open")
	}
}

// TestAFirstLeaseHasRoom: one lease a consumer is given however small the cluster is; a second waits, says why, and goes on when the first is open.
func TestAFirstLeaseHasRoom(t *testing.T) {
	r := newRenter(t)
	for n := 2; n <= 16; n++ {
		r.must(t, scheduler.NodeDown{Node: key(n).Public()})
	}
	first, second := r.order(1_500), r.order(500)
	if r.given[first] == 0 || r.given[second] != 0 {
		t.Fatalf("given: %v", r.given)
	}
	j, _ := r.state.Job(second)
	if why := r.state.Reason(j); !strings.Contains(why, "not open yet hold 1500 millicores, and would with this one hold more than a quarter of the cluster's 2000") {
		t.Errorf("it waits because %q", why)
	}
	r.open()
	if r.given[second] == 0 {
		t.Error("the second was not given out when the first was open")
	}
}

// TestWhoLetsLeasesLapseWaits, says why, and until when; and goes on then.
func TestWhoLetsLeasesLapseWaits(t *testing.T) {
	r := newRenter(t)
	for range 2 {
		if id := r.order(1_000); r.given[id] == 0 {
			t.Fatal("a lease was not given out though little lapsed")
		}
		r.pass(bidsLast + 1)
		r.pass(1)
	}
	id := r.order(1_000)
	j, _ := r.state.Job(id)
	why := r.state.Reason(j)
	if r.given[id] != 0 || !strings.Contains(why, "did not open held room for nothing: it is given no other before") {
		t.Fatalf("given %v, %q", r.given, why)
	}
	other := leased(1)
	other.Order.Consumer = crypto.AccountKeyOf(key(3_001).Public())
	other.Order.Deadline, other.TimeMs = r.now+3_600_000, r.now
	r.must(t, other)
	if r.bid(); r.given[other.Order.ID()] == 0 {
		t.Error("another consumer waits for it")
	}
	r.restored(t)
	r.pass(j.RetryAt - r.now)
	if r.given[id] == 0 {
		t.Errorf("it was not given out at %d", r.now)
	}
}
