package scheduler_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// history drives random commands of every kind: jobs of all classes, with GPUs,
// gangs, dependencies and preemption, from two consumers, on nodes that come,
// change and go; and commands that make no sense.
type history struct {
	*world
	t      *rapid.T
	ids    []crypto.Digest
	open   map[crypto.Digest]uint64
	height chain.Height // of the newest state of the chain
	leased bool         // mostly leases and what resizes them

	disputed bool // mostly optimistic jobs, whose claims are refuted now and then
}

func historyConfig() scheduler.Config {
	c := config()
	c.MaxActive, c.MaxPerConsumer, c.MaxJobs, c.MaxRequests, c.MaxRequestsOf, c.MaxNodes, c.RetentionMs = 4, 12, 20, 6, 4, 5, 1_000_000
	c.MaxPast = 30
	return c
}

func (h *history) number(lo, hi int, label string) int {
	return rapid.IntRange(lo, hi).Draw(h.t, label)
}

func (h *history) submission() scheduler.Submit {
	policy := rapid.SampledFrom([]chain.Policy{chain.PolicyNone{}, chain.PolicyNone{}, chain.PolicyNone{}, proven, disputable, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}}).Draw(h.t, "policy")
	s := submit(uint64(len(h.ids)), policy)
	s.Order.Consumer = crypto.AccountKeyOf(key(3_000 + h.number(0, 1, "consumer")).Public())
	s.Order.Deadline = h.now + chain.TimeMs(100_000*h.number(1, 40, "patience"))
	s.TimeMs, s.Height = h.now, h.height
	if h.number(0, 2, "in a hurry") == 0 {
		prioritize(&s.Order, rapid.SampledFrom([]chain.PriorityFee{1, 2_500, chain.MaxPriorityFee}).Draw(h.t, "priority fee"))
	}
	if h.disputed && h.number(0, 3, "disputable") > 0 {
		s.Order.Policy = chain.PolicyField{Policy: disputable}
		s.Spec.Resources.Millicores = uint64(500 * h.number(1, 2, "cpu"))
		s.Order.Spec = s.Spec.Digest()
		h.ids = append(h.ids, s.Order.ID())
		return s
	}
	if h.leased && h.number(0, 3, "work") > 0 || h.number(0, 3, "lease") == 0 {
		return h.lease(s)
	}
	spec := &s.Spec
	spec.Resources.Millicores = uint64(500 * h.number(1, 5, "cpu"))
	spec.Resources.MemoryMiB = uint64(256 * h.number(1, 4, "memory"))
	switch h.number(0, 3, "gpu") {
	case 0:
		spec.Resources.GPUs, spec.Resources.GPUMilli = 1, uint64(100*h.number(1, 10, "share"))
	case 1:
		spec.Resources.GPUs, spec.Resources.GPUMilli = 2, job.GPUWhole
	}
	spec.Scheduling.Class = job.Class(h.number(0, 2, "class"))
	spec.Scheduling.Preemptible = h.number(0, 2, "preemptible") == 0
	spec.Scheduling.GPUKind = rapid.SampledFrom([]string{"", "", "T4"}).Draw(h.t, "kind")
	switch _, none := policy.(chain.PolicyNone); {
	case none && h.number(0, 3, "gang") == 0:
		n := 2
		spec.Scheduling.Gang = job.Gang{ID: crypto.Digest{byte(h.number(1, 2, "id"))}, Size: uint64(n)}
		if len(h.ids) > 0 && h.number(0, 2, "gang after") == 0 {
			spec.Scheduling.After = []crypto.Digest{rapid.SampledFrom(h.ids).Draw(h.t, "before")}
		}
	case len(h.ids) > 0 && h.number(0, 2, "after") == 0:
		before := rapid.SampledFrom(h.ids).Draw(h.t, "before")
		spec.Scheduling.After = []crypto.Digest{before}
		if w, ok := spec.Work.Work.(job.Wasm); ok && h.number(0, 1, "input") == 0 && w.Input.IsZero() {
			spec.Scheduling.InputOf = before
			spec.InputBytes = uint64(h.number(1, 2, "MiB")) << 19
		}
	}
	s.Order.Spec = spec.Digest()
	h.ids = append(h.ids, s.Order.ID())
	return s
}

func (h *history) hello(n int) scheduler.NodeUp {
	hello := hello((n + 1) / 2)
	hello.Total.Millicores = uint64(1_000 * h.number(1, 4, "node cpu"))
	hello.Total.MemoryMiB = uint64(512 * h.number(1, 4, "node memory"))
	hello.Total.GPUs = uint64(h.number(0, 2, "devices"))
	hello.GPUKind = rapid.SampledFrom([]string{"T4", "A10"}).Draw(h.t, "node kind")
	hello.Accepting = h.number(0, 5, "accepting") > 0
	return scheduler.NodeUp{Node: h.node(n, n), Hello: hello, Record: h.record()}
}

// record is what the chain has of a node, if others measure it.
func (h *history) record() *scheduler.Capacity {
	if h.number(0, 5, "measured") > 0 {
		return nil
	}
	return &scheduler.Capacity{Millicores: uint64(500 * h.number(0, 12, "record cpu")), MemoryMiB: uint64(256 * h.number(0, 12, "record memory"))}
}

func (h *history) bids(id crypto.Digest) scheduler.CloseAuction {
	c := scheduler.CloseAuction{Order: id, Auction: h.open[id]}
	if h.number(0, 9, "stale") == 0 {
		c.Auction++
	}
	for n := 1; n <= 6; n++ {
		if h.number(0, 3, "bids") > 0 {
			b := bid(id, n, uint64(h.number(50, 110, "price")))
			b.Bid.Prices = append(b.Bid.Prices, chain.UnitPrice{Resource: chain.GPU, Price: 1})
			b.Bid.Expiry = h.now + 100_000
			c.Bids = append(c.Bids, bid(id, n, 60), b, fixedBid(id, n))
			c.Bids[len(c.Bids)-1].Bid.Expiry, c.Bids[len(c.Bids)-3].Bid.Expiry = h.now+100_000, h.now+100_000
			if h.number(0, 3, "may only check") == 0 {
				c.Bids, c.Checks = c.Bids[:len(c.Bids)-3], append(c.Checks, c.Bids[len(c.Bids)-3:]...)
			}
		}
	}
	return c
}

// ended is the end of a run as the node would report it, now and then wrong.
func (h *history) ended(id crypto.Digest) scheduler.Command {
	n := h.number(1, 6, "node")
	j, ok := h.state.Job(id)
	if !ok || h.number(0, 9, "wrong") == 0 {
		return done(id, n, 1)
	}
	for i := range j.Runs {
		if j.Runs[i].Stage == scheduler.Live {
			for n = 1; key(n).Public() != j.Runs[i].Node; {
				n++
			}
		}
	}
	f := done(id, n, byte(h.number(1, 2, "result")))
	if _, replicated := j.Order.Policy.Policy.(chain.PolicyReplicate); replicated { // as it was pledged, mostly
		return shown(id, n, f.Done.Output[0])
	}
	if _, judged := j.Order.Policy.Policy.(chain.PolicyOptimistic); judged {
		f = traced(id, n, f.Done.Output[0])
	}
	if _, zk := j.Order.Policy.Policy.(chain.PolicyZK); zk {
		f = proof(id, n)
	}
	if j.Spec.Resources.GPUs > 0 {
		f.Done.Receipt.Usage = append(f.Done.Receipt.Usage, chain.Usage{Resource: chain.GPU, Amount: 1})
	}
	f.Done.Receipt.Started, f.Done.Receipt.Ended = h.now, h.now
	return f
}

// one draws a job of a status, or returns the other.
func (h *history) one(status job.Status, other crypto.Digest) crypto.Digest {
	var list []crypto.Digest
	for _, j := range h.state.Open() {
		if j.Status == status {
			list = append(list, j.ID())
		}
	}
	if len(list) == 0 || h.number(0, 9, "any") == 0 {
		return other
	}
	return rapid.SampledFrom(list).Draw(h.t, "of "+status.String())
}

func (h *history) command() scheduler.Command {
	if len(h.ids) == 0 {
		return h.submission()
	}
	n := h.number(1, 6, "node")
	id := rapid.SampledFrom(h.ids).Draw(h.t, "job")
	if h.leased && h.number(0, 1, "of a lease") == 0 {
		if next := h.nextOfLease(); next != nil {
			return next
		}
	}
	if h.disputed && h.number(0, 3, "of a dispute") > 0 {
		if next := h.nextOfDispute(); next != nil {
			return next
		}
	}
	switch h.number(0, 21, "kind") {
	case 0, 1, 2:
		return h.submission()
	case 3, 4:
		return h.hello(n)
	case 5:
		return scheduler.NodeDown{Node: h.node(n, n)}
	case 6, 7, 8, 9:
		return h.bids(h.one(job.Bidding, id))
	case 10, 11, 17, 18, 19:
		return h.ended(h.one(job.Running, id))
	case 12, 13, 14:
		return h.leaseSeen(id)
	case 15:
		return h.reported(id)
	case 16:
		return h.refuted(id)
	}
	settings, version := h.state.Settings()
	settings.MaxActive, settings.MaxOutboxOf, settings.MaxPastOf = h.number(1, 5, "active"), h.number(2, 8, "outbox"), h.number(0, 30, "past")
	settings.MaxOutbox = h.number(1, 10, "outbox of all")
	settings.StandardMs, settings.SpareMs = uint64(h.number(0, 2, "standard"))*30_000, uint64(h.number(2, 4, "spare"))*30_000
	settings.PriorityMs = uint64(h.number(0, 3, "priority")) * 20_000
	settings.RetentionMs, settings.Strikes, settings.Returns = uint64(h.number(1, 9, "retention"))*200_000, h.number(1, 4, "strikes"), h.number(0, 4, "returns")
	return rapid.SampledFrom([]scheduler.Command{
		scheduler.SetSettings{Version: version, Settings: settings},
		scheduler.Tick{}, scheduler.Tick{}, scheduler.CancelJob{Order: id}, scheduler.Refused{Order: id, Node: h.node(n, n), Reason: "busy"},
		scheduler.Confirmed{Order: id}, scheduler.NodeLoad{Node: h.node(n, n), Record: h.record()}, scheduler.NodeLoad{Node: h.node(n, n), Accepting: true, Record: h.record()},
	}).Draw(h.t, "other")
}

// TestNoCommandsBreakAnInvariant audits the whole state after every command, and
// holds a replica that was restored half-way and takes the commands in batches
// to the same bytes.
func TestNoCommandsBreakAnInvariant(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{world: worldWith(historyConfig()), t: t, open: map[crypto.Digest]uint64{}}
		h.leased = h.number(0, 2, "leases") == 0
		h.disputed = !h.leased && h.number(0, 1, "disputes") == 0
		for n := 1; n <= 3; n++ {
			h.mustRule(h.hello(n))
		}
		steps := rapid.IntRange(10, 120).Draw(t, "steps")
		var snapshot []byte
		var batches []scheduler.Entry
		for i := range steps {
			if i == steps/2 {
				snapshot, batches = h.state.Encode(), nil
			}
			if h.number(0, 14, "restart") == 0 {
				h.restart()
			}
			h.now += chain.TimeMs(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 1_000, 1_000, 30_000, 400_000}).Draw(t, "ms"))
			c := h.command()
			h.mustRule(c)
			if n := len(batches); n > 0 && batches[n-1].TimeMs == h.now {
				batches[n-1].Commands = append(batches[n-1].Commands, c)
			} else {
				batches = append(batches, scheduler.Entry{TimeMs: h.now, Commands: []scheduler.Command{c}})
			}
			h.note(seen)
		}
		replica, err := scheduler.Restore(historyConfig(), snapshot)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batches {
			again, err := scheduler.DecodeEntry(e.Encode())
			if err != nil {
				t.Fatal(err)
			}
			replica.Apply(again)
			replica.Pending()
		}
		if !bytes.Equal(replica.Encode(), h.state.Encode()) {
			t.Fatal("a replica restored half-way is in another state")
		}
		for _, id := range h.ids {
			checkOwners(t, h.world, id)
		}
	})
	for _, what := range []string{"scheduler.OpenAuction", "scheduler.SendAssign", "scheduler.SendAck"} { // the rest is rare: transcripts have it
		if seen[what] == 0 {
			t.Errorf("no history came to %q", what)
		}
	}
	t.Logf("what the histories came to: %v", seen)
}

func (h *history) mustRule(c scheduler.Command) { mustBeRuled(h.t, h.apply(c)) }

// restart has a server read the state that another wrote.
func (h *history) restart() {
	restored, err := scheduler.Restore(historyConfig(), h.state.Encode())
	if err != nil {
		h.t.Fatal(err)
	}
	h.state = restored
}

// note counts what the last command came to.
func (h *history) note(seen map[string]int) {
	for _, e := range h.effects {
		seen[fmt.Sprintf("%T", e)]++
		if a, ok := e.(scheduler.OpenAuction); ok {
			h.open[a.Order] = a.Auction
		}
		if c, ok := e.(scheduler.SendCancel); ok && strings.HasPrefix(c.Reason, "pree") {
			seen["preempted"]++
		}
	}
	for _, j := range h.state.Open() {
		for what, is := range map[string]bool{
			"gang": j.Spec.Scheduling.Gang.Size > 0 && j.Started, "input": !j.Input.IsZero(), "parked": j.Parked,
			"claimed again": len(j.Runs) > 1 && slices.ContainsFunc(j.Runs[:len(j.Runs)-1], func(r scheduler.Run) bool { return r.Stage == scheduler.Refuted }),
			"resized":       j.Leased && !j.Order.Term.Resizes.IsZero(),
		} {
			if is {
				seen[what]++
			}
		}
	}
}
