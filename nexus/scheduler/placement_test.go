package scheduler_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// seller is a node as the exhaustive scheduler sees it.
type seller struct {
	id      crypto.PublicKey
	hello   job.Hello
	price   uint64
	cpu     uint64
	memory  uint64
	devices []uint64
}

// fits is written without the scheduler's.
func (s *seller) fits(spec *job.Spec) bool {
	r := &spec.Resources
	if s.cpu < r.Millicores || s.memory < r.MemoryMiB || spec.Region != "" && spec.Region != s.hello.Region {
		return false
	}
	if r.GPUs > 0 && spec.Scheduling.GPUKind != "" && spec.Scheduling.GPUKind != s.hello.GPUKind {
		return false
	}
	enough := uint64(0)
	for _, share := range s.devices {
		if share >= r.GPUMilli {
			enough++
		}
	}
	return enough >= r.GPUs
}

func (s *seller) take(spec *job.Spec, devices []byte, sign int64) {
	s.cpu -= uint64(sign) * spec.Resources.Millicores
	s.memory -= uint64(sign) * spec.Resources.MemoryMiB
	for _, d := range devices {
		s.devices[d] -= uint64(sign) * spec.Resources.GPUMilli
	}
}

// bazaar closes every auction at once with the bids of all that are asked, and
// holds what the scheduler does against a search of every node.
type bazaar struct {
	*world
	t       rapid.TB
	rand    *sim.Rand
	sellers []*seller
	live    map[crypto.Digest]scheduler.SendAssign
	specs   map[crypto.Digest]job.Spec
	worst   float64 // score of what was chosen over the best there was
	sum     float64
	placed  int
}

func newBazaar(t rapid.TB, c scheduler.Config, nodes int, seed uint64) *bazaar {
	b := &bazaar{world: worldWith(c), t: t, rand: sim.NewRand(seed), live: map[crypto.Digest]scheduler.SendAssign{}, specs: map[crypto.Digest]job.Spec{}}
	for n := range nodes {
		h := hello(n)
		h.Region = []string{"eu", "us"}[b.rand.Below(2)]
		h.GPUKind = []string{"T4", "A10"}[b.rand.Below(2)]
		h.Total = job.Resources{
			Millicores: uint64(1_000 * (1 + b.rand.Below(8))), MemoryMiB: uint64(1_024 * (1 + b.rand.Below(8))), GPUs: uint64(b.rand.Below(4)),
		}
		s := &seller{id: b.node(n, n), hello: h, price: uint64(50 + b.rand.Below(50)), cpu: h.Total.Millicores, memory: h.Total.MemoryMiB}
		for range h.Total.GPUs {
			s.devices = append(s.devices, job.GPUWhole)
		}
		b.sellers = append(b.sellers, s)
		b.run(scheduler.NodeUp{Node: s.id, Hello: h})
	}
	return b
}

func (b *bazaar) submission(nonce int) scheduler.Submit {
	s := submit(uint64(nonce), chain.PolicyNone{})
	s.Escrow = chain.Hyper(1_000_000)
	r := &s.Spec.Resources
	r.Millicores, r.MemoryMiB = uint64(250*(1+b.rand.Below(12))), uint64(256*(1+b.rand.Below(12)))
	switch b.rand.Below(3) {
	case 0:
		r.GPUs, r.GPUMilli = 1, uint64(100*(1+b.rand.Below(10)))
	case 1:
		if b.rand.Below(3) == 0 {
			r.GPUs, r.GPUMilli = 2, job.GPUWhole
		}
	}
	s.Spec.Region = []string{"", "", "eu", "us", "mars"}[b.rand.Below(5)]
	s.Spec.Scheduling.GPUKind = []string{"", "", "T4"}[b.rand.Below(3)]
	s.Order.Caps = append(s.Order.Caps[:3:3], chain.UnitPrice{Resource: chain.GPU, Price: 1})
	s.Order.Spec = s.Spec.Digest()
	b.specs[s.Order.ID()] = s.Spec
	return s
}

// run carries out a command and all that follows.
func (b *bazaar) run(c scheduler.Command) {
	if err := b.apply(c); err != nil {
		b.t.Fatal(err)
	}
	for _, e := range b.effects {
		switch e := e.(type) {
		case scheduler.OpenAuction:
			closing := scheduler.CloseAuction{Order: e.Order, Auction: e.Auction}
			best := uint64(math.MaxUint64)
			spec := b.specs[e.Order]
			for _, s := range b.sellers {
				if s.fits(&spec) {
					best = min(best, s.price)
				}
				for _, asked := range e.Candidates {
					if asked == s.id {
						offer := append(slices.Clone(prices), chain.UnitPrice{Resource: chain.GPU})
						offer[0].Price = s.price * 1_000_000
						closing.Bids = append(closing.Bids, scheduler.SignedBid{Bid: chain.Bid{ChainID: testChain, Order: e.Order, Node: s.id, Prices: offer, Expiry: 900_000}})
					}
				}
			}
			b.run(closing)
			got := b.seller(b.live[e.Order].Node).price
			ratio := float64(got) / float64(best)
			b.worst, b.sum, b.placed = max(b.worst, ratio), b.sum+ratio, b.placed+1
		case scheduler.SendAssign:
			spec := e.Assignment.Spec
			s := b.seller(e.Node)
			if !s.fits(&spec) {
				b.t.Fatalf("a job is given to %s, which has no room for it", b.names[e.Node])
			}
			s.take(&spec, e.Assignment.Devices, 1)
			b.live[e.Assignment.Order.ID()] = e
		}
	}
}

func (b *bazaar) seller(node crypto.PublicKey) *seller {
	for _, s := range b.sellers {
		if s.id == node {
			return s
		}
	}
	b.t.Fatal("a node that nobody knows")
	return nil
}

// end ends a run that is drawn.
func (b *bazaar) end() {
	for _, j := range b.state.Open() {
		e, running := b.live[j.ID()]
		if !running || b.rand.Below(3) > 0 {
			continue
		}
		delete(b.live, j.ID())
		spec := e.Assignment.Spec
		b.seller(e.Node).take(&spec, e.Assignment.Devices, -1)
		outcome := job.Outcome{Exit: chain.ExitOK}
		b.run(scheduler.Finished{Done: job.Done{Receipt: e.Assignment.Receipt(&outcome, b.now, b.now)}})
		return
	}
}

// missed fails if a job waits that some node has room for.
func (b *bazaar) missed() {
	for _, j := range b.state.Open() {
		if j.Status != job.Queued {
			continue
		}
		for n, s := range b.sellers {
			if s.fits(&j.Spec) {
				b.t.Fatalf("job %s waits, and node n%d has room for it", j.ID().Short(), n)
			}
		}
	}
}

func (b *bazaar) trade(jobs int) {
	for i := range jobs {
		b.now++
		b.run(b.submission(i))
		b.missed()
		if b.rand.Below(3) > 0 {
			b.end()
			b.missed()
		}
	}
}

// TestPlacementAgainstEveryNode: on small clusters no job is placed where it does
// not fit, none waits that fits somewhere, and none is given to a node that is
// dearer than the best by more than what fit and reputation may count for, 1.3
// in all (match.Standing).
func TestPlacementAgainstEveryNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBazaar(t, config(), rapid.IntRange(1, 14).Draw(t, "nodes"), rapid.Uint64().Draw(t, "seed"))
		b.trade(rapid.IntRange(1, 40).Draw(t, "jobs"))
		if b.worst > 1.3 {
			t.Fatalf("a job was given to a node %.2f times as dear as the best", b.worst)
		}
	})
}

// TestSampledPlacement: of many nodes only some are looked at and asked; still no
// job that fits waits, and what is paid is within a quarter of the best price on
// average, and, as prices go from 50 to 99, within twice of it at worst.
func TestSampledPlacement(t *testing.T) {
	c := config()
	c.Sample, c.Candidates = 8, 4
	b := newBazaar(t, c, 120, 5)
	b.trade(400)
	mean := b.sum / float64(b.placed)
	t.Logf("%d placed; %.3f times the best price on average, %.2f at worst", b.placed, mean, b.worst)
	if b.placed < 200 || mean > 1.25 || b.worst > 2 || b.worst == 1 {
		t.Errorf("%d placed, %.3f on average, %.2f at worst", b.placed, mean, b.worst)
	}
}

// BenchmarkPlacement is the whole way of a job through the state machine:
// submission, auction with sixteen bids, assignment, end and settlement, while
// every node runs two jobs. Clusters of three sizes take turns, each alone in memory: the
// collector would charge one with what the others hold. What is reported is processor
// time, and the ratio of the largest to the smallest.
func BenchmarkPlacement(b *testing.B) {
	sizes := []int{100, 1_000, 10_000}
	const turn = 10_000
	spent := make([]time.Duration, len(sizes))
	turns := 0
	for b.Loop() {
		turns++
		for i, nodes := range sizes {
			c := newCrowd(b, nodes)
			for range max(2*nodes, keptJobs) {
				c.step()
			}
			runtime.GC()
			before := processorTime(b)
			for range turn {
				c.step()
			}
			spent[i] += processorTime(b) - before
		}
	}
	for i, nodes := range sizes {
		b.ReportMetric(float64(spent[i].Microseconds())/float64(turns*turn), fmt.Sprintf("µs/placement-%d", nodes))
	}
	b.ReportMetric(float64(spent[len(sizes)-1])/float64(spent[0]), "ratio")
	b.ReportMetric(0, "ns/op")
}

// keptJobs is how many jobs a crowd's state holds, most of them settled.
const keptJobs = 25_000

// crowd is a cluster in which a new job comes for each that ends.
type crowd struct {
	b     *testing.B
	state *scheduler.State
	now   chain.TimeMs
	nodes int
	ring  []scheduler.SendAssign
	nonce uint64
}

func newCrowd(b *testing.B, nodes int) *crowd {
	c := config()
	c.MaxNodes, c.MaxJobs, c.MaxPerConsumer, c.MaxActive, c.MaxOutbox = nodes, math.MaxInt, math.MaxInt, math.MaxInt, math.MaxInt
	c.MaxSpecBytes, c.MaxSpecBytesOf, c.MaxOutboxOf, c.RetentionMs = math.MaxInt, math.MaxInt, math.MaxInt, 0
	k := &crowd{b: b, state: scheduler.New(c), now: 1_000, nodes: nodes}
	rand := sim.NewRand(uint64(nodes))
	for n := range nodes {
		h := hello(0)
		h.Owner[0], h.Owner[1] = byte(n), byte(n>>8)
		h.Total = job.Resources{Millicores: uint64(1_000 * (4 + rand.Below(13))), MemoryMiB: uint64(1_024 * (4 + rand.Below(13)))}
		k.apply(scheduler.NodeUp{Node: crypto.PublicKey{byte(n), byte(n >> 8), 1}, Hello: h})
	}
	return k
}

func (k *crowd) apply(c scheduler.Command) []scheduler.Effect {
	effects, errs := k.state.Apply(scheduler.Entry{TimeMs: k.now, Commands: []scheduler.Command{c}})
	if errs[0] != nil {
		k.b.Fatal(errs[0])
	}
	return effects
}

func (k *crowd) step() {
	k.now++
	k.nonce++
	s := submit(k.nonce, chain.PolicyNone{})
	s.Escrow, s.Order.Deadline, s.TimeMs = chain.Hyper(1_000_000_000), k.now+keptJobs, k.now
	open := k.apply(s)[0].(scheduler.OpenAuction)
	closing := scheduler.CloseAuction{Order: open.Order, Auction: open.Auction}
	for _, node := range open.Candidates {
		offer := scheduler.SignedBid{Bid: chain.Bid{ChainID: testChain, Order: open.Order, Node: node, Prices: prices, Expiry: k.now + keptJobs}}
		closing.Bids = append(closing.Bids, offer)
	}
	k.ring = append(k.ring, k.apply(closing)[0].(scheduler.SendAssign))
	if len(k.ring) <= 2*k.nodes {
		return
	}
	e := k.ring[0]
	k.ring = k.ring[1:]
	outcome := job.Outcome{Exit: chain.ExitOK}
	receipt := e.Assignment.Receipt(&outcome, k.now, k.now)
	k.apply(scheduler.Finished{Done: job.Done{Receipt: receipt}})
	k.apply(scheduler.Confirmed{Order: receipt.Order})
	k.apply(scheduler.Tick{})
}
