package scheduler_test

import (
	"encoding/binary"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// What one consumer may have waiting must not make one command slow for all.

// maxCommandTime is of a processor: many times what the commands take, and less
// than what they took when their cost was the square, or the cube, of what waits.
const maxCommandTime = time.Second

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// quick applies one command, without an audit, that must not take long.
func (w *world) quick(t *testing.T, c scheduler.Command) {
	t.Helper()
	began := processorTime(t)
	_, errs := w.state.Apply(scheduler.Entry{TimeMs: w.now, Commands: []scheduler.Command{c}})
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	if took := processorTime(t) - began; took > maxCommandTime {
		t.Errorf("%T took %v of a processor, want at most %v", c, took, maxCommandTime)
	}
}

func (w *world) submitted(t *testing.T, nonce uint64, change func(*job.Spec, *chain.Order)) crypto.Digest {
	t.Helper()
	s := submit(nonce, chain.PolicyNone{})
	s.Order.MaxCost = chain.Nano(1)
	change(&s.Spec, &s.Order)
	s.Order.Spec = s.Spec.Digest()
	w.quick(t, s)
	return s.Order.ID()
}

func TestManyGangsThatCannotBeginCostLittle(t *testing.T) {
	const gangs = 3_000
	cfg := config()
	cfg.MaxRequestsOf = gangs
	w := worldWith(cfg)
	w.up(t, 1, 1)
	for i := range uint64(2 * gangs) {
		w.submitted(t, i, func(s *job.Spec, _ *chain.Order) {
			var id crypto.Digest
			binary.BigEndian.PutUint64(id[:], i/2+1)
			s.Scheduling.Gang = job.Gang{ID: id, Size: 2}
			if i%2 == 1 {
				s.Resources.Millicores = job.MaxMillicores // which no node has
			}
		})
	}
	w.state.Audit()
	w.quick(t, scheduler.NodeLoad{Node: key(1).Public()})
	w.quick(t, scheduler.NodeLoad{Node: key(1).Public(), Accepting: true})
	w.state.Audit()
}

func TestManyDependentsThatEndTogetherCostLittle(t *testing.T) {
	w := newWorld()
	var before []crypto.Digest
	for i := range uint64(job.MaxAfter) {
		before = append(before, w.submitted(t, i, func(*job.Spec, *chain.Order) {}))
	}
	slices.SortFunc(before, crypto.Digest.Compare)
	for i := range uint64(9_000) {
		w.submitted(t, 100+i, func(s *job.Spec, _ *chain.Order) { s.Scheduling.After = before })
	}
	w.quick(t, scheduler.CancelJob{Order: before[len(before)-1]})
	w.state.Audit()
}

func TestManyDeadlinesAtOnceCostLittle(t *testing.T) {
	w := newWorld()
	for i := range 5_000 {
		w.quick(t, scheduler.NodeUp{Node: key(i).Public(), Hello: hello(i)})
	}
	for i := range uint64(9_000) {
		w.submitted(t, i, func(s *job.Spec, _ *chain.Order) { s.Resources.Millicores = job.MaxMillicores })
	}
	w.now = 1_000_001
	w.quick(t, scheduler.Tick{})
	w.state.Audit()
}

// A consumer with many different requests that nobody can serve keeps out no
// others.
func TestRequestsOfOneConsumerDoNotFillTheQueue(t *testing.T) {
	c := config()
	c.MaxRequests, c.MaxRequestsOf = 3, 2
	w := worldWith(c)
	request := func(nonce uint64, consumer int) scheduler.Submit {
		s := submit(nonce, chain.PolicyNone{})
		s.Order.Consumer = crypto.AccountKeyOf(key(consumer).Public())
		s.Spec.Resources.Millicores = 1_000 + nonce
		s.Order.Spec = s.Spec.Digest()
		return s
	}
	first := request(1, 3_000)
	w.must(t, first)
	w.must(t, request(2, 3_000))
	w.refused(t, "quota", request(3, 3_000))
	w.must(t, request(2, 3_001)) // behind one that waits already
	w.must(t, request(3, 3_001))
	w.must(t, scheduler.CancelJob{Order: first.Order.ID()})
	w.must(t, request(4, 3_000))
}

// A node cannot be given a second replica of what it runs by coming back as
// another owner's.
func TestANodeThatRunsKeepsItsOwner(t *testing.T) {
	w := newWorld()
	j, _ := w.state.Job(w.assign(t, submit(1, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}), 1, 2))
	n := 1
	if j.Holder().Node == key(2).Public() {
		n = 2
	}
	w.refused(t, "owner", scheduler.NodeUp{Node: key(n).Public(), Hello: hello(3)})
	w.up(t, n, n)
	w.must(t, scheduler.NodeDown{Node: key(n).Public()})
	w.up(t, n, 3)
}

// A look at the state costs the same however many nodes there are, and shows the
// busiest.
func TestALookCostsTheSameWhateverTheNodes(t *testing.T) {
	const rows = 20
	cost := func(nodes int) (least time.Duration, o scheduler.Overview) {
		w := newWorld()
		for i := range nodes {
			w.quick(t, scheduler.NodeUp{Node: key(i).Public(), Hello: hello(i)})
		}
		w.quick(t, scheduler.NodeDown{Node: key(0).Public()})
		w.quick(t, scheduler.NodeLoad{Node: key(1).Public()})
		w.state.Audit()
		least = time.Hour
		for range 20 {
			began := processorTime(t)
			for range 100 {
				o = w.state.Overview(rows)
			}
			least = min(least, processorTime(t)-began)
		}
		return least, o
	}
	few, _ := cost(100)
	many, o := cost(5_000)
	if many > 5*few { // a look at every node would be about fifty times
		t.Errorf("with 5,000 nodes 100 looks take %v of a processor, with 100 nodes %v", many, few)
	}
	total := hello(1).Total
	if got := o.Totals; len(o.Nodes) != rows || got.Nodes != 5_000 || got.Connected != 4_999 || got.Accepting != 4_998 || got.Total.Millicores != 4_999*total.Millicores || got.Used != (job.Resources{}) {
		t.Errorf("%d nodes are listed of %+v", len(o.Nodes), got)
	}
}
