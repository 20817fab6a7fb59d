package scheduler_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestOverview looks at a cluster in which a job runs, one is auctioned, and
// others wait for capacity, for bids, for an order before them and for their
// consumer's own, one of them long enough to go before urgent work.
func TestOverview(t *testing.T) {
	c := config()
	c.MaxActive = 3
	w := worldWith(c)
	w.up(t, 1, 1)
	class := func(class job.Class, change func(*job.Spec)) func(*job.Spec) {
		return func(s *job.Spec) { s.Scheduling.Class = class; change(s) }
	}
	half := func(*job.Spec) {}
	first := w.submit(t, with(1, class(job.Urgent, half)))
	w.win(t, first, 1)
	unwanted := w.submit(t, with(2, half))
	w.must(t, scheduler.CloseAuction{Order: unwanted, Auction: w.status(t, unwanted, job.Bidding).Auction})
	round := w.submit(t, with(3, class(job.Spare, half)))
	aged := w.submit(t, with(4, big))
	like := w.submit(t, with(5, class(job.Spare, big)))
	w.submit(t, with(6, func(s *job.Spec) { s.Scheduling.After = append(s.Scheduling.After, first) }))
	w.now += chain.TimeMs(c.StandardMs)
	third := w.submit(t, with(7, func(s *job.Spec) { s.Resources.Millicores = 3_000 }))
	w.must(t, scheduler.Tick{}) // and the unwanted one is auctioned again, and finds no room
	o := w.state.Overview(10)
	if o.Arrivals != 7 || o.Open != 7 || o.Looked != 7 || len(o.Consumers) != 1 || len(o.Nodes) != 1 || len(o.Bidding) != 1 {
		t.Fatalf("%+v", o)
	}
	want := []scheduler.ClassLoad{
		{Class: job.Urgent, Running: 1},
		{Class: job.Standard, DelayMs: c.StandardMs, Queued: 3, Aged: 2, Held: 1, Oldest: 1_000},
		{Class: job.Spare, DelayMs: c.SpareMs, Queued: 1, Bidding: 1, Oldest: 1_000},
	}
	for i := range want {
		if o.Classes[i] != want[i] {
			t.Errorf("class %d is %+v, want %+v", i, o.Classes[i], want[i])
		}
	}
	if b := o.Bidding[0]; b.Order != round || b.Want != 1 || b.Places != 1 || b.Class != job.Spare {
		t.Errorf("auction: %+v", b)
	}
	if n := o.Nodes[0]; n.Running != 1 || n.Places != 1 || n.Used.Millicores != 2_000 || !n.Accepting {
		t.Errorf("node: %+v", n)
	}
	if u := o.Consumers[0]; u.Queued != 4 || u.Held != 1 || u.Running != 1 || u.Bidding != 1 || u.Active != 2 || u.Kept != 7 || u.Used.Millicores != 1_000 || u.Outstanding.IsZero() {
		t.Errorf("consumer: %+v", u)
	}
	if len(o.Next) != 3 || o.Next[0].Order != unwanted || o.Next[1].Order != aged || o.Next[1].Alike != 1 || o.Next[2].Order != third || o.Next[1].Reason == "" {
		t.Errorf("next: %+v (%s is like %s)", o.Next, like.Short(), aged.Short())
	}
	if short := w.state.Overview(1); len(short.Next) != 1 || short.Classes[1] != o.Classes[1] {
		t.Errorf("of one row: %+v", short.Next)
	}
}

// TestOverviewOfQuotas has a consumer's jobs wait for its own, and for bids.
func TestOverviewOfQuotas(t *testing.T) {
	c := config()
	c.MaxActive = 1
	w := worldWith(c)
	w.up(t, 1, 1)
	first := w.submit(t, with(1, func(*job.Spec) {}))
	second := w.submit(t, with(2, func(*job.Spec) {}))
	o := w.state.Overview(10)
	if s := o.Classes[1]; s.Bidding != 1 || s.Parked != 1 || o.Consumers[0].Parked != 1 || o.MaxActive != 1 {
		t.Errorf("a consumer at its quota: %+v, %+v", s, o.Consumers)
	}
	w.must(t, scheduler.CloseAuction{Order: first, Auction: w.status(t, first, job.Bidding).Auction})
	o = w.state.Overview(10)
	if s := o.Classes[1]; s.Backing != 1 || len(o.Next) != 1 || o.Next[0].Retry == 0 || o.Next[0].Reason != "no bid counted" {
		t.Errorf("a job that nobody wants: %+v, %+v", s, o.Next)
	}
	w.status(t, second, job.Bidding)
}
