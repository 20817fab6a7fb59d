package scheduler_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// prioritize gives an order a priority fee, and caps under which the same may be bid as without.
func prioritize(o *chain.Order, fee chain.PriorityFee) {
	caps := make([]chain.UnitPrice, len(o.Caps))
	for i, limit := range o.Caps {
		caps[i] = chain.UnitPrice{Resource: limit.Resource, Price: fee.Above(limit.Price)}
	}
	o.Caps, o.PriorityBps, o.FixedCap = caps, fee, chain.Nano(fee.Above(o.FixedCap.Nano()))
}

// paying returns a submission of a job that is changed, under an order with a priority fee.
func paying(nonce uint64, fee chain.PriorityFee, change func(*job.Spec)) scheduler.Submit {
	s := with(nonce, change)
	prioritize(&s.Order, fee)
	s.Escrow = chain.Hyper(1_000)
	return s
}

// TestNoPriorityFeeStarvesAJob has one node, whose every place somebody waits for who came later and pays the most, in any class: a job
// without a fee is begun before all that came more than its class's delay and priority_ms after it, and before all
// of its class that came more than priority_ms after it.
func TestNoPriorityFeeStarvesAJob(t *testing.T) {
	classes := []job.Class{job.Urgent, job.Standard, job.Spare}
	overtaken := 0
	rapid.Check(t, func(rt *rapid.T) {
		w, c := newWorld(), config()
		w.up(t, 1, 1)
		running := w.submit(t, with(1, big))
		w.win(t, running, 1)
		of := func(class job.Class) func(*job.Spec) {
			return func(s *job.Spec) { big(s); s.Scheduling.Class = class }
		}
		mine := rapid.SampledFrom(classes).Draw(rt, "class")
		victim := w.submit(t, with(2, of(mine)))
		came := w.now
		delay := map[job.Class]uint64{job.Urgent: 0, job.Standard: c.StandardMs, job.Spare: c.SpareMs}[mine]
		waiting := []crypto.Digest{victim}
		for nonce := uint64(3); running != victim; nonce++ {
			w.now += chain.TimeMs(rapid.Uint64Range(15_000, 25_000).Draw(rt, "until the next"))
			next := paying(nonce, chain.MaxPriorityFee, of(rapid.SampledFrom(classes).Draw(rt, "its class")))
			waiting = append(waiting, w.submit(t, next))
			w.must(t, done(running, 1, 1))
			running = crypto.Digest{}
			for _, id := range waiting {
				if j, _ := w.state.Job(id); j.Status == job.Bidding {
					w.win(t, id, 1)
					running = id
				}
			}
			j, ok := w.state.Job(running)
			if !ok {
				rt.Fatal("the node is given nothing, and jobs wait")
			}
			late := uint64(j.Submitted - came)
			if late > 0 {
				overtaken++
			}
			if late > delay+c.PriorityMs || j.Spec.Scheduling.Class == mine && late > c.PriorityMs {
				rt.Fatalf("a %s job that came %d ms later goes before one of class %s", j.Spec.Scheduling.Class, late, mine)
			}
		}
	})
	if overtaken == 0 {
		t.Error("no fee bought a place")
	}
}

// TestHeadStarts holds the head start of each class to its bound: never before the class above, whatever the settings are.
func TestHeadStarts(t *testing.T) {
	w := newWorld()
	settings, _ := w.state.Settings()
	for version, test := range []struct {
		standard, spare, priority uint64
		want                      [3]uint64 // of the most, by class
	}{{60_000, 600_000, 60_000, [3]uint64{60_000, 60_000, 60_000}}, {30_000, 40_000, 60_000, [3]uint64{60_000, 30_000, 10_000}}, {0, 0, 60_000, [3]uint64{60_000, 0, 0}}, {60_000, 600_000, 0, [3]uint64{}}} {
		settings.StandardMs, settings.SpareMs, settings.PriorityMs = test.standard, test.spare, test.priority
		w.must(t, scheduler.SetSettings{Version: uint64(version), Settings: settings})
		for i, class := range []job.Class{job.Urgent, job.Standard, job.Spare} {
			for fee, want := range map[chain.PriorityFee]uint64{0: 0, 2_500: test.want[i] / 4, chain.MaxPriorityFee: test.want[i]} {
				if got := w.state.HeadStartMs(class, fee); got != want {
					t.Errorf("%+v: a %s job with %d bps has a head start of %d ms, want %d", test, class, fee, got, want)
				}
			}
		}
	}
}

// TestForecastsWithAFee counts who goes before a job that pays.
func TestForecastsWithAFee(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	w.win(t, w.submit(t, with(1, big)), 1)
	w.submit(t, with(2, big))
	w.now += 10_000
	w.submit(t, paying(3, chain.MaxPriorityFee, big))
	asked := with(4, big).Spec
	for fee, want := range map[chain.PriorityFee]int{0: 2, 1_000: 2, 2_500: 1, chain.MaxPriorityFee: 1} {
		if f := w.state.Forecast(&asked, fee, 1); f.Ahead != want {
			t.Errorf("with %d bps %d go first, want %d", fee, f.Ahead, want)
		}
	}
}

// TestBidsAreHeldToWhatTheFeeLeaves: a bid counts if what it comes to with the order's fee is within the caps and the max cost.
func TestBidsAreHeldToWhatTheFeeLeaves(t *testing.T) {
	for name, test := range map[string]struct {
		change func(o *chain.Order)
		counts bool
	}{
		"under caps with room for the fee": {func(*chain.Order) {}, true},
		"under caps without":               {func(o *chain.Order) { o.Caps = prices }, false},
		"above the max cost with it":       {func(o *chain.Order) { o.MaxCost = chain.Nano(2 * worstOf(t)) }, true},
		"above it by one":                  {func(o *chain.Order) { o.MaxCost = chain.Nano(2*worstOf(t) - 1) }, false},
	} {
		w := newWorld()
		w.up(t, 1, 1)
		s := paying(1, chain.MaxPriorityFee, func(*job.Spec) {})
		test.change(&s.Order)
		id := w.submit(t, s)
		j := w.status(t, id, job.Bidding)
		w.must(t, scheduler.CloseAuction{Order: id, Auction: j.Auction, Bids: []scheduler.SignedBid{bid(id, 1, 100)}})
		if is, _ := w.state.Job(id); (is.Status == job.Running) != test.counts {
			t.Errorf("%s: it is %s", name, is.Status)
		}
	}
}

// worstOf is what the work may cost at the prices of bid(…, 100).
func worstOf(t *testing.T) uint64 {
	work := spec()
	worst, err := job.WorstCost(&work, prices)
	if err != nil {
		t.Fatal(err)
	}
	return worst.Nano()
}

// TestAResizeHasItsLeasesFee: the chain would refuse another.
func TestAResizeHasItsLeasesFee(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	opened := leased(1)
	prioritize(&opened.Order, 2_500)
	id := w.submit(t, opened)
	w.win(t, id, 1)
	w.must(t, scheduler.LeaseSeen{Order: id, Node: key(1).Public(), Height: 5, Live: true})
	for fee, refused := range map[chain.PriorityFee]bool{0: true, 2_500: false} {
		s := leased(2 + uint64(fee))
		term := *s.Order.Term
		term.Resizes = id
		s.Order.Term = &term
		prioritize(&s.Order, fee)
		s.TimeMs = w.now
		if refused {
			w.refused(t, "resize", s)
		} else {
			w.must(t, s)
		}
	}
}
