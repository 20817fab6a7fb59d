package scheduler_test

import (
	"math"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// referee holds what the scheduler does on a small cluster against a search of
// every way to do it: gangs, preemption, orders after others, and quotas. It has
// books of its own, and closes every auction at once with the bids of all who are
// asked.
type referee struct {
	*bazaar
	c       scheduler.Config
	order   []crypto.Digest // as they came
	jobs    map[crypto.Digest]*played
	seen    map[string]int
	maxCost float64
	depth   int // of auctions, each of which followed at once from the end of the one before
}

// maxFollowing is beyond what a gang of three may have.
const maxFollowing = 100

type played struct {
	id       crypto.Digest
	spec     job.Spec
	consumer chain.Address
	node     crypto.PublicKey // zero: it does not run
	devices  []byte
	begun    bool
	ended    bool
}

func newReferee(t rapid.TB, c scheduler.Config, nodes int, seed uint64) *referee {
	return &referee{bazaar: newBazaar(t, c, nodes, seed), c: c, jobs: map[crypto.Digest]*played{}, seen: map[string]int{}}
}

// do carries out a command and all that follows.
func (r *referee) do(c scheduler.Command) {
	if err := r.apply(c); err != nil {
		mustBeRuled(r.t, err)
		return
	}
	effects := r.effects
	for _, e := range effects {
		r.follow(e)
	}
	for _, e := range effects {
		if open, ok := e.(scheduler.OpenAuction); ok {
			r.close(open)
		}
	}
}

func (r *referee) follow(e scheduler.Effect) {
	switch e := e.(type) {
	case scheduler.SendCancel:
		p := r.jobs[e.Order]
		r.seller(p.node).take(&p.spec, p.devices, -1)
		p.node = crypto.PublicKey{}
		if len(e.Reason) > 9 && e.Reason[:9] == "preempted" {
			if r.seen["preempted"]++; !p.spec.Scheduling.Preemptible {
				r.t.Fatalf("job %s is preempted, and was not bought as preemptible", p.id.Short())
			}
		}
	case scheduler.SendAssign:
		p := r.jobs[e.Assignment.Order.ID()]
		s := r.seller(e.Node)
		if !s.fits(&p.spec) || !p.node.IsZero() {
			r.t.Fatalf("job %s is given to %s, which has no room for it, or twice", p.id.Short(), r.names[e.Node])
		}
		for _, before := range p.spec.Scheduling.After {
			if !r.jobs[before].ended {
				r.t.Fatalf("job %s begins before %s has ended", p.id.Short(), before.Short())
			}
			r.seen["after"]++
		}
		s.take(&p.spec, e.Assignment.Devices, 1)
		p.node, p.devices, p.begun = e.Node, e.Assignment.Devices, true
	}
}

// close has all who are asked bid, and holds the winner's price against the best
// of all nodes that could have taken the job.
func (r *referee) close(e scheduler.OpenAuction) {
	if r.depth++; r.depth > maxFollowing {
		r.t.Fatalf("more than %d auctions follow one another at once", maxFollowing)
	}
	defer func() { r.depth-- }()
	p := r.jobs[e.Order]
	closing := scheduler.CloseAuction{Order: e.Order, Auction: e.Auction}
	best := uint64(math.MaxUint64)
	for _, s := range r.sellers {
		if s.fits(&p.spec) {
			best = min(best, s.price)
		}
		if slices.Contains(e.Candidates, s.id) {
			offer := append(slices.Clone(prices), chain.UnitPrice{Resource: chain.GPU})
			offer[0].Price = s.price * 1_000_000
			closing.Bids = append(closing.Bids, scheduler.SignedBid{Bid: chain.Bid{ChainID: testChain, Order: e.Order, Node: s.id, Prices: offer, Expiry: 900_000}})
		}
	}
	r.do(closing)
	if alone := p.spec.Scheduling.Gang.Size == 0; alone && best < math.MaxUint64 && !p.node.IsZero() {
		r.maxCost = max(r.maxCost, float64(r.seller(p.node).price)/float64(best))
	}
}

// come submits a job of any kind, or a whole gang.
func (r *referee) come(nonce int) {
	consumer := crypto.AccountKeyOf(key(3_000 + r.rand.Below(2)).Public())
	gang := job.Gang{}
	if r.rand.Below(3) == 0 {
		gang = job.Gang{ID: crypto.Digest{byte(nonce), 1}, Size: 2 + uint64(r.rand.Below(2))}
	}
	earlier := len(r.order)
	for i := range int(max(1, gang.Size)) {
		s := r.submission(4*nonce + i)
		s.Order.Consumer, s.Spec.Scheduling.Gang = consumer, gang
		if s.Spec.Region == "mars" {
			s.Spec.Region = ""
		}
		s.Spec.Scheduling.Preemptible, s.Spec.Scheduling.Class = r.rand.Below(3) == 0, job.Class(r.rand.Below(3))
		if earlier > 0 && r.rand.Below(4) == 0 {
			s.Spec.Scheduling.After = []crypto.Digest{r.order[r.rand.Below(earlier)]}
		}
		s.Order.Spec = s.Spec.Digest()
		p := &played{id: s.Order.ID(), spec: s.Spec, consumer: s.Order.ConsumerAddress()}
		r.jobs[p.id] = p
		r.do(s)
		if _, taken := r.state.Job(p.id); taken {
			r.order = append(r.order, p.id)
		} else {
			delete(r.jobs, p.id)
		}
	}
}

// endOne ends a run that is drawn.
func (r *referee) endOne() {
	for range 2 * len(r.order) {
		p := r.jobs[r.order[r.rand.Below(len(r.order))]]
		if p.node.IsZero() {
			continue
		}
		j, _ := r.state.Job(p.id)
		var run *scheduler.Run
		for i := range j.Runs {
			if j.Runs[i].Stage == scheduler.Live {
				run = &j.Runs[i]
			}
		}
		r.seller(p.node).take(&p.spec, p.devices, -1)
		p.node, p.ended = crypto.PublicKey{}, true
		as := job.Assignment{Order: j.Order, OrderSig: j.OrderSig, Acceptance: j.Acceptance, Bid: run.Bid, BidSig: run.BidSig, Spec: j.Spec, Sequence: 1, Devices: run.Devices}
		outcome := job.Outcome{Exit: chain.ExitOK}
		r.do(scheduler.Finished{Done: job.Done{Receipt: as.Receipt(&outcome, r.now, r.now)}})
		return
	}
}

// reach is a seller as it would be without what may be preempted.
func (r *referee) reach(s *seller) *seller {
	out := *s
	out.devices = slices.Clone(s.devices)
	for _, p := range r.jobs {
		if p.node == s.id && p.spec.Scheduling.Preemptible {
			out.take(&p.spec, p.devices, -1)
		}
	}
	return &out
}

// hosts reports whether a seller could take a job, by preemption if it may.
func (r *referee) hosts(s *seller, p *played) bool {
	return s.fits(&p.spec) || !p.spec.Scheduling.Preemptible && r.reach(s).fits(&p.spec)
}

// seats reports whether all members of a gang have room at once: every way is
// tried, without preemption.
func (r *referee) seats(members []*played) bool {
	if len(members) == 0 {
		return true
	}
	p := members[0]
	for _, s := range r.sellers {
		if !s.fits(&p.spec) {
			continue
		}
		for _, devices := range deviceSets(s.devices, p.spec.Resources.GPUs, p.spec.Resources.GPUMilli) {
			s.take(&p.spec, devices, 1)
			ok := r.seats(members[1:])
			s.take(&p.spec, devices, -1)
			if ok {
				return true
			}
		}
	}
	return false
}

// deviceSets are the ways to take so many devices with that share free.
func deviceSets(free []uint64, count, share uint64) (out [][]byte) {
	for set := range 1 << len(free) {
		var list []byte
		for d := range free {
			if set>>d&1 == 1 && free[d] >= share {
				list = append(list, byte(d))
			}
		}
		if uint64(len(list)) == count && bits.OnesCount(uint(set)) == len(list) {
			out = append(out, list)
		}
	}
	return out
}

// check fails if a job waits that could begin, or one began that may not.
func (r *referee) check() {
	active := map[chain.Address]int{}
	for _, p := range r.jobs {
		if !p.node.IsZero() {
			active[p.consumer]++
		}
	}
	for consumer, n := range active {
		if n > r.c.MaxActive {
			r.t.Fatalf("consumer %s has %d active jobs, limit %d", consumer, n, r.c.MaxActive)
		}
	}
	gangs := map[crypto.Digest][]*played{}
	for _, id := range r.order {
		p := r.jobs[id]
		j, ok := r.state.Job(id)
		if !ok || j.Status.Final() {
			continue
		}
		gang := p.spec.Scheduling.Gang
		ready := true
		for _, before := range p.spec.Scheduling.After {
			ready = ready && r.jobs[before].ended
		}
		switch {
		case j.Status != job.Queued || !ready:
		case j.Parked:
			r.seen["parked"]++
			if need := int(max(1, gang.Size)); active[p.consumer]+need <= r.c.MaxActive && !p.begun {
				r.t.Fatalf("job %s waits for its consumer's quota, which has %d active of %d", id.Short(), active[p.consumer], r.c.MaxActive)
			}
		case gang.Size > 0 && !p.begun:
			key := gang.ID
			key[31] = p.consumer[0]
			gangs[key] = append(gangs[key], p)
		case !j.Backoff:
			r.seen["queued"]++
			for n, s := range r.sellers {
				if r.hosts(s, p) {
					r.t.Fatalf("job %s waits, and node n%d could take it", id.Short(), n)
				}
			}
		}
	}
	for id, members := range gangs {
		if uint64(len(members)) < members[0].spec.Scheduling.Gang.Size || waitsOtherwise(r.state, members) {
			continue
		}
		if r.seen["gang"]++; r.seats(members) {
			r.t.Fatalf("gang %s waits, and there is a way to seat its %d orders", id.Short(), len(members))
		}
	}
	for _, id := range r.order { // a gang begins as one
		p := r.jobs[id]
		for _, other := range r.order {
			if q := r.jobs[other]; p.spec.Scheduling.Gang.Size > 0 && q.consumer == p.consumer && q.spec.Scheduling.Gang == p.spec.Scheduling.Gang && p.begun != q.begun {
				r.t.Fatalf("order %s of a gang has begun, and %s has not", id.Short(), other.Short())
			}
		}
		if p.begun && p.spec.Scheduling.Gang.Size > 0 {
			r.seen["gang begun"]++
		}
	}
}

// waitsOtherwise reports whether a gang waits for its consumer's quota, or until
// one of its members that found no bids is auctioned again.
func waitsOtherwise(s *scheduler.State, members []*played) bool {
	return slices.ContainsFunc(members, func(p *played) bool {
		j, _ := s.Job(p.id)
		return j.Parked || j.Backoff
	})
}

// TestSchedulerAgainstEveryWay: on small clusters with gangs, preemption, orders
// after others, classes and quotas nothing is placed where it does not fit or
// before it may, nothing waits that could begin in any way, and no job is given to
// a node that is dearer than the best with room by more than what fit and
// gravity may count for (match.MaxPremium).
func TestSchedulerAgainstEveryWay(t *testing.T) {
	seen := map[string]int{}
	untilSeen(t, seen, []string{"gang", "gang begun", "preempted", "after", "queued", "parked"}, func(t *rapid.T) {
		quota, nodes := rapid.IntRange(3, 8).Draw(t, "quota"), rapid.IntRange(1, 4).Draw(t, "nodes")
		play(t, seen, game{quota, nodes, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 40).Draw(t, "jobs")})
	})
	t.Logf("%v", seen)
}

// TestAGangThatIsCrowdedOutWaits plays a case in which the members of a gang win
// places beside one another that they cannot have together, at each auction
// anew: it is not auctioned at once for ever.
func TestAGangThatIsCrowdedOutWaits(t *testing.T) {
	play(t, map[string]int{}, game{3, 3, 0x1d76, 31})
}

// game is what jobs come to.
type game struct {
	quota, nodes int
	seed         uint64
	jobs         int
}

// play has jobs come and go, and notes what it has seen.
func play(t rapid.TB, seen map[string]int, g game) {
	c := config()
	c.MaxActive = g.quota
	r := newReferee(t, c, g.nodes, g.seed)
	for i := range g.jobs {
		r.now++
		r.come(i)
		r.check()
		for r.rand.Below(2) == 0 && len(r.order) > 0 {
			r.endOne()
			r.check()
			if r.rand.Below(3) == 0 {
				break
			}
		}
	}
	if r.maxCost > float64(match.MaxPremium)/match.One {
		t.Fatalf("a job was given to a node %.2f times as dear as the best", r.maxCost)
	}
	for what, n := range r.seen {
		seen[what] += n
	}
}

// untilSeen checks a property until all that it is about has come up, which a
// few draws may miss.
func untilSeen(t *testing.T, seen map[string]int, all []string, property func(*rapid.T)) {
	t.Helper()
	missing := func(what string) bool { return seen[what] == 0 }
	for range 20 {
		if rapid.Check(t, property); t.Failed() || !slices.ContainsFunc(all, missing) {
			return
		}
	}
	t.Errorf("not all of %q has come up: %v", all, seen)
}
