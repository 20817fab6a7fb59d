package scheduler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// zoo has nodes of every kind: one of each that something excludes, and two that
// take everything.
func zoo(t *testing.T) *world {
	w := newWorld()
	add := func(n int, change func(*job.Hello)) {
		h := hello(n)
		h.Total = job.Resources{Millicores: 4_000, MemoryMiB: 4_096, GPUs: 2}
		h.GPUKind = "T4"
		change(&h)
		w.must(t, scheduler.NodeUp{Node: w.node(n, n), Hello: h})
	}
	add(1, func(*job.Hello) {})
	add(2, func(*job.Hello) {})
	add(3, func(h *job.Hello) { h.Region = "us" })
	add(4, func(h *job.Hello) { h.Kernels = []string{"matmul-32"} }) // runs no containers
	add(5, func(h *job.Hello) { h.Kernels = []string{job.KindContainer} })
	add(6, func(h *job.Hello) { h.GPUKind = "A10" })
	add(7, func(h *job.Hello) { h.Total.Millicores = 500 })
	add(8, func(h *job.Hello) { h.Total.MemoryMiB = 128 })
	add(9, func(h *job.Hello) { h.Total.GPUs, h.GPUKind = 1, "T4" })
	add(10, func(h *job.Hello) { h.Accepting = false })
	add(11, func(*job.Hello) {})
	w.must(t, scheduler.NodeDown{Node: key(11).Public()})
	return w
}

// Each requirement of a specification excludes the nodes that it should, counted
// and named.
func TestQuoteSaysWhichRequirementExcludesHowMany(t *testing.T) {
	always := "1 not connected, 1 paused"
	for _, c := range []struct {
		name     string
		change   func(*job.Spec)
		fit      int
		excluded string
	}{
		{"any", func(*job.Spec) {}, 7, always + ", 1 not enough free cpu, 1 not enough free memory"},
		{"region", func(s *job.Spec) { s.Region = "us" }, 1, always + ", 8 other region"},
		{"container", func(s *job.Spec) {
			s.Work = job.WorkField{Work: job.Container{Image: crypto.Digest{1}, Processes: job.MinProcesses}}
		}, 6, always + ", 1 kernel not offered, 1 not enough free cpu, 1 not enough free memory"},
		{"kernel", func(s *job.Spec) {
			s.Work = job.WorkField{Work: job.Kernel{Name: "matmul-32", Inputs: []crypto.Digest{{1}, {2}}}}
		}, 6, always + ", 1 kernel not offered, 1 not enough free cpu, 1 not enough free memory"},
		{"kind", func(s *job.Spec) { s.Resources.GPUs, s.Resources.GPUMilli, s.Scheduling.GPUKind = 1, 300, "A10" }, 1, always + ", 8 other kind of gpu"},
		{"share", func(s *job.Spec) { s.Resources.GPUs, s.Resources.GPUMilli = 1, 300 }, 7, always + ", 1 not enough free cpu, 1 not enough free memory"},
		{"two gpus", func(s *job.Spec) { s.Resources.GPUs, s.Resources.GPUMilli = 2, job.GPUWhole }, 6, always + ", 1 not enough free cpu, 1 not enough free memory, 1 not enough free gpu"},
		{"cpu", func(s *job.Spec) { s.Resources.Millicores = 4_001 }, 0, always + ", 9 not enough free cpu"},
		{"memory", func(s *job.Spec) { s.Resources.MemoryMiB = 4_097 }, 0, always + ", 1 not enough free cpu, 8 not enough free memory"},
	} {
		w := zoo(t)
		asked := spec()
		c.change(&asked)
		said := w.state.Explain(&asked, 100)
		if got := list(said.Excluded); len(said.Fit) != c.fit || got != c.excluded || said.Looked != 11 || said.Nodes != 11 {
			t.Errorf("%s: %d of %d fit; %s", c.name, len(said.Fit), said.Nodes, got)
		}
		for _, s := range said.Fit {
			if s.Owner.IsZero() || s.Factor < match.One {
				t.Errorf("%s: %+v", c.name, s)
			}
		}
	}
	// Owners that a job may not be given to are counted as well, by why.
	w := newWorld()
	c := config()
	id := w.assign(t, submit(1, chain.PolicyNone{}), 1)
	w.must(t, scheduler.Refused{Order: id, Node: key(1).Public(), Reason: "busy"})
	if why := w.state.Reason(w.status(t, id, job.Queued)); !strings.Contains(why, "1 failed this job before") {
		t.Errorf("reason is %q", why)
	}
	w.now += chain.TimeMs(c.FailureMs)
}

func list(excluded []match.Exclusion) string {
	var out []string
	for _, e := range excluded {
		out = append(out, fmt.Sprintf("%d %s", e.Nodes, e.Reason))
	}
	return strings.Join(out, ", ")
}

// A forecast counts what runs, and who waits before.
func TestForecastOfAFullCluster(t *testing.T) {
	w := newWorld()
	asked := spec()
	if f := w.state.Forecast(&asked, 0, 1); f.At != 0 {
		t.Errorf("on no node: %+v", f)
	}
	w.up(t, 1, 1)
	if f := w.state.Forecast(&asked, 0, 1); f.At != w.now || f.Ahead != 0 {
		t.Errorf("on a free node: %+v", f)
	}
	wall := chain.TimeMs(asked.Limits.WallMs)
	for nonce := range uint64(2) {
		w.win(t, w.submit(t, with(nonce, func(*job.Spec) {})), 1)
		w.now += 100
	}
	first := w.now - 200
	if f := w.state.Forecast(&asked, 0, 1); f.At != first+wall || f.Ahead != 0 {
		t.Errorf("behind two that run: %+v, want %d", f, first+wall)
	}
	for nonce := range uint64(2) {
		w.submit(t, with(10+nonce, func(*job.Spec) {}))
	}
	if f := w.state.Forecast(&asked, 0, 1); f.At != first+2*wall || f.Ahead != 2 {
		t.Errorf("behind two that wait: %+v, want %d", f, first+2*wall)
	}
	urgent := asked
	urgent.Scheduling.Class = job.Urgent
	w.now += 30_000
	if f := w.state.Forecast(&urgent, 0, 1); f.At != first+wall || f.Ahead != 0 {
		t.Errorf("an urgent one: %+v, want %d", f, first+wall)
	}
	if f := w.state.Forecast(&asked, 0, 2); f.At != 0 {
		t.Errorf("of two owners where there is one: %+v", f)
	}
	large := asked
	large.Resources.Millicores = 2_001
	if f := w.state.Forecast(&large, 0, 1); f.At != 0 {
		t.Errorf("of what no node offers: %+v", f)
	}
	// Which is what happens if they take all of their time.
	w.now = first + wall
}

// Of many nodes some are looked at, and the counts are close.
func TestReasonsOfManyNodesAreEstimates(t *testing.T) {
	w := newWorld()
	w.state = scheduler.New(manyNodes(5_000))
	for n := range 5_000 {
		h := hello(0)
		h.Owner[0], h.Owner[1] = byte(n), byte(n>>8)
		h.Region = []string{"eu", "us", "us", "us"}[n*7919%4]
		w.quick(t, scheduler.NodeUp{Node: crypto.PublicKey{byte(n), byte(n >> 8), 1}, Hello: h})
	}
	asked := spec()
	asked.Region = "eu"
	said := w.state.Explain(&asked, 20)
	if len(said.Fit) != 20 || said.Looked > scheduler.QuoteNodes || said.Nodes != 5_000 || said.Excluded[0].Nodes < 3_500 || said.Excluded[0].Nodes > 4_000 {
		t.Errorf("%d fit, %d of %d looked at, %v", len(said.Fit), said.Looked, said.Nodes, said.Excluded)
	}
	id := w.submitted(t, 1, func(s *job.Spec, _ *chain.Order) { s.Resources.Millicores = 2_001 })
	if got := w.state.Reason(w.status(t, id, job.Queued)); got != "no node fits; about 5000 not enough free cpu" {
		t.Errorf("reason is %q", got)
	}
}

func manyNodes(n int) scheduler.Config {
	c := config()
	c.MaxNodes = n
	return c
}

// BenchmarkReason asks why a job waits, and for a quote, of clusters of 100 and
// 10,000 nodes in turns; what is reported is processor time, and the ratios.
func BenchmarkReason(b *testing.B) {
	sizes := []int{100, 10_000}
	states := make([]*scheduler.State, len(sizes))
	waiting := make([]*scheduler.Job, len(sizes))
	for i, nodes := range sizes {
		k := newCrowd(b, nodes)
		for range 2 * nodes {
			k.step()
		}
		s := submit(1<<40, chain.PolicyNone{})
		s.Spec.Resources.Millicores = job.MaxMillicores
		s.Order.Spec, s.Escrow, s.Order.Deadline, s.TimeMs = s.Spec.Digest(), chain.Hyper(1_000_000_000), k.now+keptJobs, k.now
		k.apply(s)
		states[i] = k.state
		waiting[i], _ = k.state.Job(s.Order.ID())
	}
	asked := spec()
	var reason, quote [2]time.Duration
	turns := 0
	for b.Loop() {
		turns++
		for i, state := range states {
			began := processorTime(b)
			for range 100 {
				state.Reason(waiting[i])
			}
			between := processorTime(b)
			for range 10 {
				state.Explain(&asked, 256)
				state.Forecast(&waiting[i].Spec, 0, 1)
			}
			reason[i] += between - began
			quote[i] += processorTime(b) - between
		}
	}
	for i, nodes := range sizes {
		b.ReportMetric(float64(reason[i].Nanoseconds())/float64(turns*100)/1_000, fmt.Sprintf("µs/reason-%d", nodes))
		b.ReportMetric(float64(quote[i].Nanoseconds())/float64(turns*10)/1_000, fmt.Sprintf("µs/quote-%d", nodes))
	}
	b.ReportMetric(float64(reason[1])/float64(reason[0]), "reason-ratio")
	b.ReportMetric(float64(quote[1])/float64(quote[0]), "quote-ratio")
}
