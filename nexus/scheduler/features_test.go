package scheduler_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// with returns a submission of a job that is changed.
func with(nonce uint64, change func(*job.Spec)) scheduler.Submit {
	s := submit(nonce, chain.PolicyNone{})
	change(&s.Spec)
	s.Order.Spec = s.Spec.Digest()
	return s
}

// big fills a node of hello alone.
func big(s *job.Spec) { s.Resources.Millicores = 2_000 }

// win closes a job's open auction with one node's bid.
func (w *world) win(t *testing.T, id crypto.Digest, n int) {
	t.Helper()
	j := w.status(t, id, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, n, 50)}})
}

func (w *world) submit(t *testing.T, s scheduler.Submit) crypto.Digest {
	t.Helper()
	s.TimeMs = w.now
	w.must(t, s)
	return s.Order.ID()
}

// A class is a delay: an urgent job goes before those that came a little earlier,
// and after one of any class that has waited long enough.
func TestClassesAge(t *testing.T) {
	w := newWorld()
	c := config()
	w.up(t, 1, 1)
	class := func(class job.Class) func(*job.Spec) {
		return func(s *job.Spec) { big(s); s.Scheduling.Class = class }
	}
	first := w.submit(t, with(1, big))
	w.win(t, first, 1)
	old := w.submit(t, with(2, class(job.Spare)))
	w.now += chain.TimeMs(c.SpareMs-c.StandardMs) - 1
	standard := w.submit(t, with(3, class(job.Standard)))
	w.now += 2
	late := w.submit(t, with(4, class(job.Standard)))
	urgent := w.submit(t, with(5, class(job.Urgent)))
	w.expect(t, "")
	for _, next := range []struct {
		ended, begins crypto.Digest
	}{{first, urgent}, {urgent, standard}, {standard, old}, {old, late}} {
		w.must(t, done(next.ended, 1, 1))
		if got := w.trace(); !strings.Contains(got, "among n1") {
			t.Fatalf("effects are %q", got)
		}
		w.win(t, next.begins, 1)
		w.expect(t, "assign n1")
	}
}

// Members of a gang begin together or not at all: none while there is room for
// some of them only, and what was kept for them is not kept.
func TestGangsBeginTogether(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	member := func(s *job.Spec) { big(s); s.Scheduling.Gang = job.Gang{ID: crypto.Digest{7}, Size: 2} }
	a := w.submit(t, with(1, member))
	w.expect(t, "")
	if j := w.status(t, a, job.Queued); j.Reason != "1 of the 2 orders of its gang are ready" {
		t.Errorf("reason is %q", j.Reason)
	}
	b := w.submit(t, with(2, member))
	w.expect(t, "")
	w.refused(t, "gang", with(3, member))
	w.refused(t, "gang", with(3, func(s *job.Spec) { s.Scheduling.Gang = job.Gang{ID: crypto.Digest{7}, Size: 3} }))
	alone := w.submit(t, with(4, big))
	w.expect(t, "auction 1 among n1")
	w.win(t, alone, 1)
	w.up(t, 2, 2)
	w.expect(t, "")
	w.must(t, done(alone, 1, 1))
	if got := w.trace(); !strings.HasPrefix(got, "ack n1; post 1; auction 2 among n") || !strings.Contains(got, "; auction 3 among n") {
		t.Fatalf("effects are %q", got)
	}
	nodes := map[crypto.Digest]int{a: 1, b: 2}
	if j := w.status(t, a, job.Bidding); j.Places[0].Node == key(2).Public() {
		nodes = map[crypto.Digest]int{a: 2, b: 1}
	}
	w.win(t, a, nodes[a])
	w.expect(t, "") // it has won, and waits for the other
	w.status(t, a, job.Bidding)
	w.must(t, scheduler.CloseAuction{Order: b, Auction: 3})
	w.expect(t, "") // nobody wants the other: nothing is kept
	for _, n := range w.state.Nodes() {
		if n.Used.Millicores != 0 {
			t.Errorf("%s is still kept", w.names[n.ID])
		}
	}
	w.now += chain.TimeMs(config().RetryMs)
	w.must(t, scheduler.Tick{})
	if j := w.status(t, a, job.Bidding); j.Places[0].Node == key(2).Public() {
		nodes = map[crypto.Digest]int{a: 2, b: 1}
	} else {
		nodes = map[crypto.Digest]int{a: 1, b: 2}
	}
	w.win(t, a, nodes[a])
	w.win(t, b, nodes[b])
	if got := w.trace(); strings.Count(got, "assign") != 2 {
		t.Errorf("effects are %q", got)
	}
	// Once begun each is on its own.
	w.must(t, scheduler.Refused{Order: b, Node: key(nodes[b]).Public(), Reason: "busy"})
	w.status(t, a, job.Running)
	w.status(t, b, job.Queued)
}

func TestGangEndsWithAMemberThatNeverBegan(t *testing.T) {
	w := newWorld()
	member := func(s *job.Spec) { s.Scheduling.Gang = job.Gang{ID: crypto.Digest{7}, Size: 3} }
	a, b := w.submit(t, with(1, member)), w.submit(t, with(2, member))
	w.must(t, scheduler.CancelJob{Order: a})
	if j := w.status(t, b, job.Failed); j.Reason != "an order of its gang ended before it began" {
		t.Errorf("reason is %q", j.Reason)
	}
}

// What was bought as preemptible gives way to what was not, and only that; it
// waits again, and neither it nor its node is blamed.
func TestPreemption(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	cheap := func(s *job.Spec) { s.Scheduling.Preemptible = true }
	var spare []crypto.Digest
	for nonce := range uint64(2) {
		spare = append(spare, w.submit(t, with(nonce, cheap)))
		w.win(t, spare[nonce], 1)
		w.now++
	}
	other := w.submit(t, with(5, cheap))
	w.expect(t, "") // nobody is preempted by what can be preempted
	firm := w.submit(t, with(6, func(*job.Spec) {}))
	w.expect(t, "auction 3 among n1")
	w.status(t, spare[1], job.Running)
	w.win(t, firm, 1)
	w.expect(t, "cancel n1; assign n1")
	if j := w.status(t, spare[1], job.Queued); !j.Runs[0].Blameless || !strings.HasPrefix(j.Runs[0].Reason, "preempted") {
		t.Errorf("the run is %+v", j.Runs[0])
	}
	w.status(t, spare[0], job.Running)
	more := w.submit(t, with(7, big))
	w.expect(t, "") // the other half is not preemptible
	w.status(t, more, job.Queued)
	w.must(t, done(firm, 1, 1))
	w.expect(t, "ack n1; post 1; auction 4 among n1")
	w.win(t, spare[1], 1)
	w.expect(t, "assign n1; auction 5 among n1") // both halves can be had now
	w.win(t, more, 1)
	w.expect(t, "cancel n1; cancel n1; assign n1")
	w.must(t, done(more, 1, 1))
	w.expect(t, "ack n1; post 2; auction 6 among n1; auction 7 among n1")
	w.status(t, spare[0], job.Bidding)
	w.status(t, spare[1], job.Bidding)
	w.status(t, other, job.Queued)
}

// Orders wait for those before them, and take their outputs as input, by digest.
func TestOutputsFeedInputs(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	first := w.submit(t, with(1, func(*job.Spec) {}))
	after := func(id crypto.Digest, bytes uint64) func(*job.Spec) {
		return func(s *job.Spec) {
			s.Scheduling.After, s.Scheduling.InputOf, s.InputBytes = []crypto.Digest{id}, id, bytes
		}
	}
	second := w.submit(t, with(2, after(first, 1<<20)))
	small := w.submit(t, with(3, after(first, 1<<19)))
	w.expect(t, "")
	if j := w.status(t, second, job.Queued); j.Reason != "it waits for 1 orders before it" {
		t.Errorf("reason is %q", j.Reason)
	}
	third := w.submit(t, with(4, func(s *job.Spec) { s.Scheduling.After = []crypto.Digest{second} }))
	w.win(t, first, 1)
	w.must(t, done(first, 1, 9))
	w.expect(t, "ack n1; post 1; auction 2 among n1")
	if j := w.status(t, small, job.Failed); !strings.Contains(j.Reason, "an output of 1048576 bytes, and input_bytes is 524288") {
		t.Errorf("reason is %q", j.Reason)
	}
	w.win(t, second, 1)
	assigned := w.effects[0].(scheduler.SendAssign).Assignment
	if want := (crypto.Digest{9}); assigned.Input != want || assigned.Work().Work.Work.(job.Wasm).Input != want {
		t.Errorf("the input is %s", assigned.Input.Short())
	}
	w.must(t, scheduler.CancelJob{Order: second})
	if j := w.status(t, third, job.Failed); !strings.Contains(j.Reason, "is cancelled") {
		t.Errorf("reason is %q", j.Reason)
	}
	w.refused(t, "after", with(5, after(crypto.Digest{8}, 1)))
	stranger := with(6, after(first, 1<<20))
	stranger.Order.Consumer = crypto.AccountKeyOf(key(3_001).Public())
	w.refused(t, "after", stranger)
}

// A consumer's jobs beyond its quota of active ones wait for these, and nobody
// else's do.
func TestQuotaOfActiveJobs(t *testing.T) {
	c := config()
	c.MaxActive = 1
	w := worldWith(c)
	w.up(t, 1, 1)
	first, second := w.submit(t, with(1, func(*job.Spec) {})), w.submit(t, with(2, func(*job.Spec) {}))
	w.expect(t, "")
	if j := w.status(t, second, job.Queued); j.Reason != "the consumer has 1 jobs in auctions or running, its limit" {
		t.Errorf("reason is %q", j.Reason)
	}
	other := with(3, func(*job.Spec) {})
	other.Order.Consumer = crypto.AccountKeyOf(key(3_001).Public())
	w.submit(t, other)
	w.expect(t, "auction 2 among n1")
	w.win(t, first, 1)
	w.expect(t, "assign n1")
	w.must(t, done(first, 1, 1))
	w.expect(t, "ack n1; post 1; auction 3 among n1")
}

// Shares of a GPU are given where they leave whole ones, and an assignment names
// its devices.
func TestSharesOfGPUs(t *testing.T) {
	w := newWorld()
	h := hello(1)
	h.Total.GPUs, h.GPUKind = 2, "T4"
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h})
	gpu := func(nonce uint64, count, milli uint64, kind string) crypto.Digest {
		s := with(nonce, func(s *job.Spec) {
			s.Resources.Millicores, s.Resources.MemoryMiB = 100, 256
			s.Resources.GPUs, s.Resources.GPUMilli, s.Scheduling.GPUKind = count, milli, kind
		})
		s.Order.Caps = append(s.Order.Caps[:3:3], chain.UnitPrice{Resource: chain.GPU, Price: 5})
		return w.submit(t, s)
	}
	take := func(id crypto.Digest) []byte {
		t.Helper()
		j := w.status(t, id, job.Bidding)
		b := bid(id, 1, 50)
		b.Bid.Prices = append(b.Bid.Prices, chain.UnitPrice{Resource: chain.GPU, Price: 5})
		w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 1, 50), b}})
		w.expect(t, "assign n1")
		return w.effects[0].(scheduler.SendAssign).Assignment.Devices
	}
	a := take(gpu(1, 1, 300, ""))
	if b := take(gpu(2, 1, 600, "T4")); !bytes.Equal(a, b) {
		t.Errorf("two shares are of devices %v and %v, though one has room for both", a, b)
	}
	for name, id := range map[string]crypto.Digest{"2 gpus": gpu(3, 2, 1_000, ""), "another kind": gpu(4, 1, 100, "A10")} {
		if j := w.status(t, id, job.Queued); !strings.Contains(w.state.Reason(j), "gpu") {
			t.Errorf("%s: %s", name, w.state.Reason(j))
		}
	}
	if whole := take(gpu(5, 1, 1_000, "")); bytes.Equal(whole, a) {
		t.Error("a whole device is given of which a part was taken")
	}
}

// One entry carries many commands; one that is refused does not keep the others.
func TestEntriesCarryManyCommands(t *testing.T) {
	s := scheduler.New(config())
	good, bad := submit(1, chain.PolicyNone{}), submit(2, chain.PolicyNone{})
	bad.Escrow = chain.Amount{}
	entry := scheduler.Entry{TimeMs: 1_000, Commands: []scheduler.Command{scheduler.NodeUp{Node: key(1).Public(), Hello: hello(1)}, good, bad, scheduler.Tick{}}}
	effects, errs := s.Apply(entry)
	if len(effects) != 1 || len(errs) != 4 || errs[0] != nil || errs[1] != nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("effects %+v, errors %v", effects, errs)
	}
	for _, n := range []int{0, scheduler.MaxCommands + 1} {
		entry.Commands = make([]scheduler.Command, n)
		for i := range entry.Commands {
			entry.Commands[i] = scheduler.Tick{}
		}
		if _, err := scheduler.DecodeEntry(entry.Encode()); err == nil {
			t.Errorf("an entry of %d commands is taken", n)
		}
	}
}

// What is out of bounds is refused by name, and changes nothing.
func TestHostileCommandsAreRefusedByName(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	id := w.submit(t, submit(1, chain.PolicyNone{}))
	gpus := hello(1)
	gpus.Total.GPUs = job.MaxGPUs + 1
	gang := with(2, func(s *job.Spec) { s.Scheduling.Gang = job.Gang{ID: crypto.Digest{1}, Size: job.MaxGang + 1} })
	before := w.state.Encode()
	w.refused(t, "size", scheduler.CloseAuction{Order: id, Auction: 1, Bids: make([]scheduler.SignedBid, scheduler.MaxBids+1)})
	w.refused(t, "size", scheduler.CloseAuction{Order: id, Auction: 1, Bids: make([]scheduler.SignedBid, scheduler.MaxBids), Checks: make([]scheduler.SignedBid, 1)})
	w.refused(t, "capacity", scheduler.NodeUp{Node: w.node(2, 2), Hello: gpus})
	w.refused(t, "capacity", scheduler.NodeUp{Node: w.node(1, 1), Hello: gpus})
	w.refused(t, "spec", gang)
	if !bytes.Equal(before, w.state.Encode()) {
		t.Error("a refused command changed the state")
	}
	c := config()
	c.MaxRequests = 1
	w = worldWith(c)
	w.submit(t, submit(1, chain.PolicyNone{}))
	w.refused(t, "full", with(2, big))
}

// Who bid and lost its room to another auction meanwhile did not decline: the job
// is auctioned again at once, and does not back off.
func TestBidsThatLostTheirRoomAreNoRefusal(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	w.up(t, 2, 2)
	a, b := w.submit(t, with(1, big)), w.submit(t, with(2, big))
	kept, other := 1, 2
	if w.status(t, a, job.Bidding).Places[0].Node != key(1).Public() {
		kept, other = 2, 1
	}
	w.win(t, b, other)
	w.win(t, a, other)
	w.expect(t, "auction 3 among n"+string(rune('0'+kept)))
	w.win(t, a, kept)
	w.expect(t, "assign n"+string(rune('0'+kept)))
}
