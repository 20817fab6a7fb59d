package scheduler_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

func (w *world) refused(t *testing.T, rule string, c scheduler.Command) {
	t.Helper()
	var r *scheduler.Rejection
	if err := w.apply(c); !errors.As(err, &r) || r.Rule != rule {
		t.Errorf("got %v, want a rejection by rule %s", err, rule)
	}
}

// What the cluster lets pass, it attests to and the chain pays: so nothing may
// pass that the work cannot have used, or that the chain would refuse.
func TestEndsThatAreNotPaid(t *testing.T) {
	for want, change := range map[string]func(d *job.Done){
		"not that of the output":       func(d *job.Done) { d.Output[0]++ },
		"usage of CPU":                 func(d *job.Done) { d.Receipt.Usage[0].DurationMs++ },
		"usage of Memory":              func(d *job.Done) { d.Receipt.Usage[1].Amount = 257 },
		"usage of Network":             func(d *job.Done) { d.Receipt.Usage[2].Amount = 3 },
		"Storage is not what":          func(d *job.Done) { d.Receipt.Usage[2].Resource = chain.Storage },
		"ascending":                    func(d *job.Done) { d.Receipt.Usage[1].Resource = chain.CPU },
		"after the bid expired":        func(d *job.Done) { d.Receipt.Started, d.Receipt.Ended = 900_001, 900_002 },
		"after the deadline":           func(d *job.Done) { d.Receipt.Ended = 1_000_001 },
		"a proof of 1 bytes for work":  func(d *job.Done) { d.Proof = []byte{1} },
		"receipt is for chain other":   func(d *job.Done) { d.Receipt.ChainID = "other" },
		"the node cancelled the work":  func(d *job.Done) { d.Receipt.Exit = chain.ExitCancelled },
		"exit status 0 is unknown":     func(d *job.Done) { d.Receipt.Exit = 0 },
		"for chain test-1, sequence 2": func(d *job.Done) { d.Receipt.Sequence = 2 },
		"its start at 3001":            func(d *job.Done) { d.Receipt.Started = 3_001 },
	} {
		w := newWorld()
		id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
		f := done(id, 1, 7)
		change(&f.Done)
		w.must(t, f)
		if got := w.trace(); !strings.HasPrefix(got, "ack n1 ") || !strings.Contains(got, want) {
			t.Errorf("effects are %q, want a refusal with %q", got, want)
		}
		if j := w.status(t, id, job.Queued); j.Runs[0].Stage != scheduler.Lost {
			t.Errorf("%s: the run is %s", want, j.Runs[0].Stage)
		}
	}
}

// Work that is billed by the clock took no longer than since it was assigned.
func TestTheClockOfANodeIsNotBelieved(t *testing.T) {
	s := submit(1, chain.PolicyNone{})
	s.Spec.Work = job.WorkField{Work: job.Wasm{Module: crypto.Digest{1}}}
	s.Order.Spec = s.Spec.Digest()
	for _, c := range []struct {
		billed uint64
		paid   bool
	}{{12_000, true}, {12_001, false}} { // 2 s and the slack
		w := newWorld()
		id := w.assign(t, s, 1)
		f := done(id, 1, 7)
		f.Done.Receipt.Usage[0].DurationMs = c.billed
		w.now += 2_000
		w.must(t, f)
		if got := w.trace(); (got == "ack n1; post 1") != c.paid {
			t.Errorf("%d ms billed after 2 s: %q", c.billed, got)
		}
	}
}

func TestBidsThatTheChainWouldNotPay(t *testing.T) {
	for name, change := range map[string]func(b *chain.Bid){
		"fixed price for metered work": func(b *chain.Bid) { b.Fixed = chain.Nano(1) },
		"prices out of order":          func(b *chain.Bid) { b.Prices[0], b.Prices[1] = b.Prices[1], b.Prices[0] },
		"no price for memory":          func(b *chain.Bid) { b.Prices = slices.Delete(b.Prices, 1, 2) },
		"a price without cap":          func(b *chain.Bid) { b.Prices = append(b.Prices, chain.UnitPrice{Resource: chain.GPU}) },
		"above the cap":                func(b *chain.Bid) { b.Prices[0].Price = prices[0].Price + 1 },
		"expired":                      func(b *chain.Bid) { b.Expiry = 1_000 },
		"another order":                func(b *chain.Bid) { b.Order[0]++ },
	} {
		w := newWorld()
		w.up(t, 1, 1)
		s := submit(1, chain.PolicyNone{})
		w.must(t, s)
		b := bid(s.Order.ID(), 1, 50)
		change(&b.Bid)
		w.must(t, scheduler.CloseAuction{Order: s.Order.ID(), Auction: 1, Bids: []scheduler.SignedBid{b}})
		if got := w.trace(); got != "" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Money that a node may still claim with a proof covers no other order.
func TestCancelledProofKeepsItsCover(t *testing.T) {
	w := newWorld()
	id := w.assign(t, submit(1, proven), 1)
	all := func(nonce uint64) scheduler.Submit {
		s := submit(nonce, chain.PolicyNone{})
		s.Order.MaxCost = chain.Hyper(10)
		s.TimeMs = w.now
		s.Order.Deadline = w.now + 1_000
		return s
	}
	w.must(t, scheduler.CancelJob{Order: id})
	w.expect(t, "cancel n1")
	j := w.status(t, id, job.Cancelled)
	w.refused(t, "escrow", all(2))
	w.now = j.Order.Deadline + chain.TimeMs(config().ClaimWindowMs)
	w.must(t, scheduler.Tick{})
	w.refused(t, "escrow", all(2))
	w.now++
	if !w.state.Due(w.now) {
		t.Error("no tick is due when the claim window is over")
	}
	w.must(t, scheduler.Tick{})
	w.must(t, all(2))
	unassigned := submit(3, proven)
	unassigned.Order.Deadline, unassigned.TimeMs, unassigned.Escrow = w.now+1_000, w.now, chain.Hyper(11)
	w.must(t, unassigned)
	w.must(t, scheduler.CancelJob{Order: unassigned.Order.ID()})
	if got := w.state.Outstanding(unassigned.Order.ConsumerAddress()); got != chain.Hyper(10) {
		t.Errorf("%v is outstanding: an order that nobody was given needs no cover", got)
	}
}

// The escrow that a leader read may be older than a settlement that it knows.
func TestEscrowReadBeforeASettlementIsStale(t *testing.T) {
	w := newWorld()
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.must(t, done(id, 1, 7))
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Hyper(1)}})
	s := submit(2, chain.PolicyNone{})
	s.Height = 8
	w.refused(t, "stale", s)
	s.Height = 9
	w.must(t, s)
}

// The escrow is liable for the withdrawal delay: later claims could go unpaid.
func TestDeadlineBeyondTheEscrowsLiability(t *testing.T) {
	w := newWorld()
	s := submit(1, chain.PolicyNone{})
	c := config()
	s.TimeMs = 50
	s.Order.Deadline = chain.TimeMs(50 + c.WithdrawalDelayMs - c.ClaimWindowMs + 1)
	w.refused(t, "deadline", s)
	s.Order.Deadline = 1<<64 - 1
	w.refused(t, "deadline", s)
	s.Order.Deadline = chain.TimeMs(50 + c.WithdrawalDelayMs - c.ClaimWindowMs)
	w.must(t, s)
}

// An order that is forgotten could be submitted again, by anyone who has seen
// it, and be paid for again: so it is kept until its deadline has passed. Then
// its account goes as well, but its sequence is never used again.
func TestForgettingOpensNoReplay(t *testing.T) {
	c := config()
	c.RetentionMs = 10
	w := worldWith(c)
	s := submit(1, chain.PolicyNone{})
	w.must(t, s)
	w.must(t, submit(2, chain.PolicyNone{}))
	last := w.status(t, s.Order.ID(), job.Queued).Acceptance.Sequence
	w.must(t, scheduler.CancelJob{Order: s.Order.ID()})
	w.now = s.Order.Deadline
	w.must(t, scheduler.Tick{})
	w.status(t, s.Order.ID(), job.Cancelled)
	w.now++
	w.must(t, scheduler.Tick{})
	if _, ok := w.state.Job(s.Order.ID()); ok {
		t.Error("the job is still kept")
	}
	w.refused(t, "deadline", s)
	w.now += 10
	w.must(t, scheduler.Tick{})
	next := submit(3, chain.PolicyNone{})
	next.Order.Deadline += 100_000
	w.must(t, next)
	if j := w.status(t, next.Order.ID(), job.Queued); j.Acceptance.Sequence <= last {
		t.Errorf("acceptance %d of a consumer who had %d", j.Acceptance.Sequence, last)
	}
}

func TestOneConsumerDoesNotFillTheCluster(t *testing.T) {
	c := config()
	c.MaxPerConsumer = 2
	size := spec()
	c.MaxSpecBytes = 3 * len(size.Encode())
	w := worldWith(c)
	first := submit(1, chain.PolicyNone{})
	w.must(t, first)
	w.must(t, submit(2, chain.PolicyNone{}))
	w.refused(t, "quota", submit(3, chain.PolicyNone{}))
	other := submit(3, chain.PolicyNone{})
	other.Order.Consumer = crypto.AccountKeyOf(key(3_001).Public())
	w.must(t, other)
	other.Order.Nonce++
	w.refused(t, "full", other)
}

// TestEndedJobsMakeRoom has jobs with nothing due give way to new ones, the oldest
// first, and their orders refused until their deadlines, over a snapshot.
func TestEndedJobsMakeRoom(t *testing.T) {
	c := config()
	c.MaxPerConsumer, c.MaxPast = 3, 4
	w := worldWith(c)
	next := uint64(0)
	send := func() scheduler.Submit {
		next++
		s := submit(next, chain.PolicyNone{})
		w.must(t, s)
		return s
	}
	kept := send()
	var ended []scheduler.Submit
	for range 2 {
		s := send()
		w.must(t, scheduler.CancelJob{Order: s.Order.ID()})
		ended = append(ended, s)
	}
	for i := range 4 {
		s := send()
		w.must(t, scheduler.CancelJob{Order: s.Order.ID()})
		ended = append(ended, s)
		if _, ok := w.state.Job(ended[i].Order.ID()); ok {
			t.Fatalf("job %d did not give way", i)
		}
		if _, ok := w.state.Job(ended[i+1].Order.ID()); !ok {
			t.Fatalf("job %d gave way before its time", i+1)
		}
		w.refused(t, "late", ended[i])
	}
	w.status(t, kept.Order.ID(), job.Queued)
	w.refused(t, "quota", submit(next+1, chain.PolicyNone{})) // as many orders as may be are remembered
	restored, err := scheduler.Restore(c, w.state.Encode())
	if err != nil {
		t.Fatal(err)
	}
	w.state = restored
	w.refused(t, "late", ended[0])
	w.now = ended[0].Order.Deadline + 1
	w.must(t, scheduler.Tick{})
	w.refused(t, "deadline", ended[0])
	later := submit(next+1, chain.PolicyNone{})
	later.Order.Deadline += 1_000_000
	w.must(t, later) // what was remembered is over: there is room again
}

// TestFullClusterForgetsTheOldest has no room for jobs, and then for the bytes of
// their specifications.
func TestFullClusterForgetsTheOldest(t *testing.T) {
	size := spec()
	for name, change := range map[string]func(*scheduler.Config){
		"jobs":  func(c *scheduler.Config) { c.MaxJobs = 2 },
		"bytes": func(c *scheduler.Config) { c.MaxSpecBytes = 2 * len(size.Encode()) },
	} {
		c := config()
		change(&c)
		w := worldWith(c)
		first, second := submit(1, chain.PolicyNone{}), submit(2, chain.PolicyNone{})
		w.must(t, first)
		w.must(t, second)
		w.refused(t, "full", submit(3, chain.PolicyNone{}))
		w.must(t, scheduler.CancelJob{Order: second.Order.ID()})
		w.must(t, submit(3, chain.PolicyNone{}))
		if _, ok := w.state.Job(second.Order.ID()); ok {
			t.Errorf("%s: the cancelled job is still there", name)
		}
		w.status(t, first.Order.ID(), job.Queued)
		w.refused(t, "full", submit(4, chain.PolicyNone{}))
		w.refused(t, "late", second)
		w.state.Audit()
	}
}

func TestNodesThatAreGoneMakeRoom(t *testing.T) {
	c := config()
	c.MaxNodes = 2
	w := worldWith(c)
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.must(t, done(id, 1, 7))
	w.up(t, 2, 2)
	w.refused(t, "full", scheduler.NodeUp{Node: w.node(3, 3), Hello: hello(3)})
	for _, n := range []int{1, 2} {
		w.must(t, scheduler.NodeDown{Node: key(n).Public()})
	}
	w.up(t, 3, 3)
	for _, n := range w.state.Nodes() {
		if n.ID == key(2).Public() {
			t.Error("the node that worked went, the one that never did stayed")
		}
	}
}

// A node that takes an assignment and never ends it holds the job no longer than
// its limits explain.
func TestRunThatNeverEndsIsLost(t *testing.T) {
	w := newWorld()
	s := submit(1, chain.PolicyNone{})
	s.Order.Deadline = 10_000_000
	id := w.assign(t, s, 1)
	w.up(t, 2, 2)
	w.now += 1_100_000
	if !w.state.Due(w.now) {
		t.Error("no tick is due")
	}
	w.must(t, scheduler.Tick{})
	w.expect(t, "cancel n1; auction 2 among n2")
	w.must(t, done(id, 1, 7))
	w.expect(t, "ack n1 the assignment was given to others")
}

func TestReturningNodeIsToldWhatItNeedNotRun(t *testing.T) {
	w := newWorld()
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.must(t, scheduler.NodeDown{Node: key(1).Public()})
	h := hello(1)
	h.Running = []crypto.Digest{id, {9}}
	w.must(t, scheduler.NodeUp{Node: key(1).Public(), Hello: h})
	w.expect(t, "cancel n1; cancel n1")
}

// An assignment that arrives after its bid expired would not be paid.
func TestExpiredAssignmentIsNotSentAgain(t *testing.T) {
	w := newWorld()
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.now = 900_001
	w.up(t, 1, 1)
	w.expect(t, "")
	if j := w.status(t, id, job.Queued); j.Runs[0].Stage != scheduler.Lost {
		t.Errorf("the run is %s", j.Runs[0].Stage)
	}
}

// An agent that says the same again, or that it takes no work, makes no work for
// the cluster.
func TestLoadThatChangesNothingOpensNoAuction(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	s := submit(1, chain.PolicyNone{})
	w.must(t, s)
	w.must(t, scheduler.CloseAuction{Order: s.Order.ID(), Auction: 1})
	for _, c := range []struct {
		accepting bool
		want      string
	}{{true, ""}, {false, ""}, {false, ""}, {true, "auction 2 among n1"}} {
		w.must(t, scheduler.NodeLoad{Node: key(1).Public(), Accepting: c.accepting})
		w.expect(t, c.want)
	}
}

// An owner who fails a job again and again is asked for it ever more rarely.
func TestRepeatedFailuresCountLonger(t *testing.T) {
	c := config()
	w := worldWith(c)
	s := submit(1, chain.PolicyNone{})
	id := w.assign(t, s, 1)
	for failures := range 3 {
		w.must(t, scheduler.Refused{Order: id, Node: key(1).Public(), Reason: "no"})
		w.now += chain.TimeMs(c.FailureMs<<failures) - 1
		w.must(t, scheduler.Tick{})
		w.expect(t, "")
		w.now += chain.TimeMs(c.RetryMs)
		w.must(t, scheduler.Tick{})
		j := w.status(t, id, job.Bidding)
		w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 1, 50)}})
		w.expect(t, "assign n1")
	}
}

// A job whose verdict never comes frees its cover once no claim can be paid.
func TestSettlingEnds(t *testing.T) {
	w := newWorld()
	c := config()
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.must(t, done(id, 1, 7))
	w.now = 1_000_000 + chain.TimeMs(c.ClaimWindowMs+c.RetentionMs)
	w.must(t, scheduler.Tick{})
	w.status(t, id, job.Settling)
	w.now++
	w.must(t, scheduler.Tick{})
	w.status(t, id, job.Failed)
}

// An auction whose node went away is one that a new leader holds: nothing else
// would ever end it.
func TestANewLeaderHoldsAuctionsThatLostTheirPlaces(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	s := submit(1, chain.PolicyNone{})
	w.must(t, s)
	w.must(t, scheduler.NodeDown{Node: key(1).Public()})
	w.status(t, s.Order.ID(), job.Bidding)
	w.effects = w.state.Pending()
	w.expect(t, "auction 1 among")
	w.must(t, scheduler.CloseAuction{Order: s.Order.ID(), Auction: 1})
	w.status(t, s.Order.ID(), job.Queued)
	w.up(t, 2, 2)
	w.expect(t, "auction 2 among n2")
}

// A container is billed for the processor time of all its cores, which is at
// most the time since it was assigned on each.
func TestProcessorTimeOfContainersIsBounded(t *testing.T) {
	s := submit(1, chain.PolicyNone{})
	s.Spec.Work = job.WorkField{Work: job.Container{Image: crypto.Digest{1}, Processes: job.MinProcesses}}
	s.Order.Spec = s.Spec.Digest()
	most := 12_000 * s.Spec.Resources.Millicores / 1_000
	for billed, paid := range map[uint64]bool{0: true, most: true, most + 1: false} {
		w := newWorld()
		id := w.assign(t, s, 1)
		f := done(id, 1, 7)
		f.Done.Receipt.Usage[0].DurationMs = billed
		w.now += 2_000
		w.must(t, f)
		if got := w.trace(); (got == "ack n1; post 1") != paid {
			t.Errorf("%d ms billed after 2 s: %q", billed, got)
		}
	}
}

// TestForgottenSettlementsStillCount has a consumer's settled job make room for
// another's. What the consumer had in escrow before that settlement does not
// count, although nothing of the consumer is kept, over a snapshot too.
func TestForgottenSettlementsStillCount(t *testing.T) {
	c := config()
	c.MaxJobs = 1
	w := worldWith(c)
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.must(t, done(id, 1, 7))
	w.must(t, scheduler.Confirmed{Order: id, Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Hyper(1)}})
	w.status(t, id, job.Settled)
	other := submit(2, chain.PolicyNone{})
	other.Order.Consumer, other.Height = crypto.AccountKeyOf(key(3_001).Public()), 9
	w.must(t, other)
	if _, ok := w.state.Job(id); ok {
		t.Fatal("the settled job did not make room")
	}
	w.must(t, scheduler.CancelJob{Order: other.Order.ID()})
	restored, err := scheduler.Restore(c, w.state.Encode())
	if err != nil {
		t.Fatal(err)
	}
	w.state = restored
	again := submit(3, chain.PolicyNone{})
	if at, _ := w.state.EscrowFrom(again.Order.ConsumerAddress()); at != 9 {
		t.Errorf("the newest settlement is said to be at %d", at)
	}
	again.Height = 8
	w.refused(t, "stale", again)
	again.Height = 9
	w.must(t, again)
}

// TestWhatAnOrderComesAfterMakesRoom has the only room of a consumer taken by the
// ended order that the next one comes after.
func TestWhatAnOrderComesAfterMakesRoom(t *testing.T) {
	c := config()
	c.MaxPerConsumer = 1
	w := worldWith(c)
	first := submit(1, chain.PolicyNone{})
	w.must(t, first)
	w.must(t, scheduler.CancelJob{Order: first.Order.ID()})
	next := with(2, func(s *job.Spec) { s.Scheduling.After = []crypto.Digest{first.Order.ID()} })
	w.refused(t, "after", next)
	w.must(t, submit(3, chain.PolicyNone{}))
}

// TestALostStateRepeatsNoSequence: a cluster that begins anew without what it knew gives no
// sequence that it gave before, also if its clock was set back: two acceptances with one
// sequence would cost it its bond.
func TestALostStateRepeatsNoSequence(t *testing.T) {
	given := map[uint64]crypto.Digest{}
	life := func(now, chainMs chain.TimeMs, first uint64) {
		w := newWorld()
		w.now = now
		for n := range uint64(40) {
			s := submit(first+n, chain.PolicyNone{})
			s.TimeMs, s.Order.Deadline, s.Order.MaxCost, s.Escrow = chainMs, now+1_000_000, chain.Nano(1), chain.Hyper(1)
			w.must(t, s)
			j, _ := w.state.Job(s.Order.ID())
			if before, twice := given[j.Acceptance.Sequence]; twice {
				t.Fatalf("sequence %d was given to %s and to %s", j.Acceptance.Sequence, before.Short(), s.Order.ID().Short())
			}
			given[j.Acceptance.Sequence] = s.Order.ID()
		}
	}
	life(1_790_000_000_000, 1_790_000_000_000, 0)
	life(1_790_000_000_001, 1_790_000_000_000, 100)   // a millisecond later
	life(1_000, 1_790_000_005_000, 200)               // the clock is wrong, the chain went on
	life(1_790_000_009_000, 1_790_000_005_000, 1_000) // the chain has stood since
}
