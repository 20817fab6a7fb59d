package scheduler_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// Settings are changed by the log: what waits is sorted by the new ones, and a
// replica that is restored has them, whatever it was started with.
func TestSettingsAreChangedByTheLog(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	first := w.submit(t, with(1, big))
	w.win(t, first, 1)
	spare := w.submit(t, with(2, func(s *job.Spec) { big(s); s.Scheduling.Class = job.Spare }))
	w.now += 1_000
	standard := w.submit(t, with(3, big))
	if settings, version := w.state.Settings(); version != 0 || settings != job.DefaultSettings() && settings.MaxAttempts != 4 {
		t.Errorf("version %d: %+v", version, settings)
	}
	change, _ := w.state.Settings()
	change.SpareMs, change.RetentionMs = change.StandardMs, 5_000 // the spare one came first
	w.must(t, scheduler.SetSettings{Settings: change})
	w.restart(t, config()) // whose defaults are others
	if got, version := w.state.Settings(); version != 1 || got != change {
		t.Errorf("version %d: %+v", version, got)
	}
	w.must(t, done(first, 1, 1))
	w.status(t, spare, job.Bidding)
	w.status(t, standard, job.Queued)
	w.must(t, scheduler.CancelJob{Order: standard})
	w.now = 1_000_001 // the deadline, and the retention is over as well
	w.must(t, scheduler.Tick{})
	if _, kept := w.state.Job(standard); kept {
		t.Error("an ended job is kept for longer than the settings say")
	}
}

func TestSettingsAreRefusedByName(t *testing.T) {
	w := newWorld()
	w.must(t, scheduler.Tick{})
	good, _ := w.state.Settings()
	before := w.state.Encode()
	for name, change := range map[string]func(*job.Settings){
		"auction_window_ms": func(s *job.Settings) { s.AuctionWindowMs = 0 },
		"spare_ms":          func(s *job.Settings) { s.SpareMs = s.StandardMs - 1 },
		"priority_ms":       func(s *job.Settings) { s.PriorityMs = 24*3600*1000 + 1 },
		"max_active":        func(s *job.Settings) { s.MaxActive = -1 },
		"sample":            func(s *job.Settings) { s.Sample = 1_025 },
		"hold_ms":           func(s *job.Settings) { s.HoldMs = 1 << 60 },
	} {
		bad := good
		change(&bad)
		if err := w.apply(scheduler.SetSettings{Settings: bad}); err == nil || !bytes.HasPrefix([]byte(err.Error()), []byte(name+" is ")) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	w.refused(t, "stale", scheduler.SetSettings{Version: 1, Settings: good})
	if !bytes.Equal(before, w.state.Encode()) {
		t.Error("a refused change changed the state")
	}
	w.must(t, scheduler.SetSettings{Settings: good})
	w.refused(t, "stale", scheduler.SetSettings{Settings: good}) // again
}

// A quota that is raised has those go on who waited for it.
func TestRaisedQuotaTakesTheParkedOn(t *testing.T) {
	c := config()
	c.MaxActive = 1
	w := worldWith(c)
	w.up(t, 1, 1)
	w.submit(t, with(1, func(*job.Spec) {}))
	second := w.submit(t, with(2, func(*job.Spec) {}))
	w.expect(t, "")
	change, _ := w.state.Settings()
	change.MaxActive, change.StandardMs = 2, 0
	w.must(t, scheduler.SetSettings{Settings: change})
	w.expect(t, "auction 2 among n1")
	w.status(t, second, job.Bidding)
}

// ofConsumer is a submission of the n-th consumer.
func ofConsumer(n int, nonce uint64) scheduler.Submit {
	s := submit(nonce, chain.PolicyNone{})
	s.Order.Consumer = crypto.AccountKeyOf(key(3_000 + n).Public())
	return s
}

// One consumer has a share of the bytes of specifications, and what of it has
// ended gives way to its own before it counts.
func TestShareOfSpecificationBytes(t *testing.T) {
	size := spec()
	one := len(size.Encode())
	c := config()
	c.MaxSpecBytes, c.MaxSpecBytesOf = 4*one, 2*one
	w := worldWith(c)
	first := ofConsumer(0, 1)
	w.must(t, first)
	w.must(t, ofConsumer(0, 2))
	w.refused(t, "quota", ofConsumer(0, 3))
	w.must(t, ofConsumer(1, 1))
	w.must(t, scheduler.CancelJob{Order: first.Order.ID()})
	w.must(t, ofConsumer(0, 3))
	if _, kept := w.state.Job(first.Order.ID()); kept {
		t.Error("what has ended did not give way")
	}
	w.must(t, ofConsumer(1, 2))
	w.restart(t, c)
	w.refused(t, "quota", ofConsumer(0, 4))
}

// One consumer's jobs do not fill the outbox while the chain does not answer:
// when as many of them wait for it as may, its others wait to run, and more are
// refused, and another's are taken and run.
func TestShareOfTheOutbox(t *testing.T) {
	c := config()
	c.MaxOutbox, c.MaxOutboxOf = 6, 3
	w := worldWith(c)
	h := hello(1)
	h.Total = job.Resources{Millicores: 64_000, MemoryMiB: 64_000}
	w.must(t, scheduler.NodeUp{Node: w.node(1, 1), Hello: h})
	var ids []crypto.Digest
	for nonce := range uint64(6) {
		s := ofConsumer(0, nonce)
		w.must(t, s)
		ids = append(ids, s.Order.ID())
	}
	run := func(id crypto.Digest) {
		t.Helper()
		w.win(t, id, 1)
		w.must(t, done(id, 1, 1))
	}
	for _, id := range ids[:3] {
		run(id)
	}
	if j := w.status(t, ids[3], job.Queued); w.state.Reason(j) != "the consumer has 0 jobs in auctions or running and 3 that wait for the chain, its share" {
		t.Errorf("reason is %q", w.state.Reason(j))
	}
	w.refused(t, "quota", ofConsumer(0, 7))
	w.restart(t, c)
	other := ofConsumer(1, 1)
	w.must(t, other)
	run(other.Order.ID())
	w.must(t, scheduler.Confirmed{Order: ids[0], Outcome: scheduler.SettlementRecord{Height: 1}})
	run(ids[3])
	w.status(t, ids[4], job.Queued)
}

// How many claims may wait for the chain is the log's as well: every replica
// refuses the same job, whatever it was started with.
func TestBoundOfTheOutboxIsASetting(t *testing.T) {
	w := newWorld()
	w.up(t, 1, 1)
	change, _ := w.state.Settings()
	change.MaxOutbox = 1
	w.must(t, scheduler.SetSettings{Settings: change})
	first := w.submit(t, with(1, big))
	w.win(t, first, 1)
	w.must(t, done(first, 1, 1))
	w.status(t, first, job.Settling)
	w.refused(t, "full", with(2, big))
	w.restart(t, config()) // whose own bound is another
	w.refused(t, "full", with(2, big))
	change.MaxOutbox = 2
	w.must(t, scheduler.SetSettings{Version: 1, Settings: change})
	w.submit(t, with(2, big))
}

// One consumer's orders that made room do not take the memory for everybody's.
func TestShareOfForgottenOrders(t *testing.T) {
	c := config()
	c.MaxPerConsumer, c.MaxPast, c.MaxPastOf = 1, 5, 3
	w := worldWith(c)
	churn := func(consumer int) (taken int) {
		for nonce := range uint64(10) {
			s := ofConsumer(consumer, nonce)
			if err := w.apply(s); err != nil {
				if got := fmt.Sprint(err); got != fmt.Sprintf("%d orders of this consumer are remembered until their deadlines, its share", taken-1) && consumer == 0 {
					t.Errorf("got %v", err)
				}
				return taken
			}
			taken++
			w.must(t, scheduler.CancelJob{Order: s.Order.ID()})
		}
		return taken
	}
	if taken := churn(0); taken != 4 {
		t.Errorf("%d orders of the first consumer, want 4", taken)
	}
	if taken := churn(1); taken != 3 {
		t.Errorf("%d orders of the second consumer, want 3", taken)
	}
	w.restart(t, c)
	w.refused(t, "quota", ofConsumer(0, 20))
}
