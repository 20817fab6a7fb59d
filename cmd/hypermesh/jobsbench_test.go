package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
)

// jobNet is a network of one validator, three servers and four agents with room
// for many jobs, each a process, whose auctions wait 5 ms for bids.
type jobNet struct {
	t       testing.TB
	network *devnet.Network
	config  string
	down    func()
}

func newJobNet(t testing.TB) *jobNet {
	t.Helper()
	program, _ := programs(t)
	for name, value := range map[string]string{
		"NEXUS_AUCTION_WINDOW": "5ms", "NEXUS_LOG_LEVEL": "warn", "AGENT_LOG_LEVEL": "warn",
		"AGENT_MILLICORES": "10000", "AGENT_MEMORY_MIB": "16384", "AGENT_MAX_JOBS": "1024", "AGENT_NICE": "10",
	} {
		t.Setenv("HYPERMESH_"+name, value)
	}
	dir := t.TempDir()
	network, err := devnet.Up(context.Background(), devnet.Options{
		Dir: dir, Binary: program, Validators: 1, Servers: 3, Agents: 4, NoExplorer: true, NoRestart: true, Progress: func(string, float64) {},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n := &jobNet{t: t, config: filepath.Join(dir, "net.json"), network: network}
	n.down = sync.OnceFunc(func() {
		if err := network.Down(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.down)
	if err := network.WriteTo(n.config, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return n
}

// signal sends a signal to every process of a role.
func (n *jobNet) signal(role string, s syscall.Signal) {
	n.t.Helper()
	for _, p := range n.network.Description().Processes {
		if p.Role == role {
			if err := syscall.Kill(p.PID, s); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

// bench runs hypermesh bench jobs.
func (n *jobNet) bench(args ...string) (r devnet.JobResult, stderr string, err error) {
	n.t.Helper()
	program, _ := programs(n.t)
	cmd := exec.Command(program, append([]string{"bench", "jobs", "--config", n.config, "--json"}, args...)...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		stderr = string(exit.Stderr)
	}
	if len(out) > 0 {
		if err := json.Unmarshal(out, &r); err != nil {
			n.t.Fatalf("%v: %s", err, out)
		}
	}
	return r, stderr, err
}

// BenchmarkJobs loads three servers and four agents, each a process, with jobs of
// a millisecond. Each iteration is a network of its own, and what is reported are
// medians. The relay is stopped, so that settlement does not take the processors
// of what is measured; TestBenchJobs has it. The burst is as many jobs as one consumer
// may have active.
func BenchmarkJobs(b *testing.B) {
	for _, c := range []struct {
		name            string
		count, inflight int
	}{{"throughput", 4_000, 4_000}, {"latency", 500, 1}} {
		b.Run(c.name, func(b *testing.B) {
			var runs []devnet.JobResult
			for b.Loop() {
				n := newJobNet(b)
				n.signal("relay", syscall.SIGSTOP)
				r, stderr, err := n.bench("--settle=false", "--count", strconv.Itoa(c.count), "--inflight", strconv.Itoa(c.inflight))
				n.signal("relay", syscall.SIGCONT)
				if err != nil || r.Completed != c.count || r.Lost+r.Duplicated != 0 {
					b.Fatalf("%+v: %v: %s", r, err, stderr)
				}
				b.Logf("%+v", r)
				runs = append(runs, r)
				n.down()
			}
			report := func(unit string, of func(devnet.JobResult) float64) {
				var values []float64
				for _, r := range runs {
					values = append(values, of(r))
				}
				b.ReportMetric(median(values), unit)
			}
			if c.inflight > 1 {
				report("accepted/s", func(r devnet.JobResult) float64 { return r.AcceptedPerSecond })
				report("placed/s", func(r devnet.JobResult) float64 { return r.PlacedPerSecond })
				report("completed/s", func(r devnet.JobResult) float64 { return r.CompletedPerSecond })
			} else {
				report("p50-ms", func(r devnet.JobResult) float64 { return r.Latency.P50 })
				report("p99-ms", func(r devnet.JobResult) float64 { return r.Latency.P99 })
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestBenchJobs runs bench jobs to the chain's payment, and asks it wrongly: with
// no money, with Ctrl-C in the middle, and for a cluster that is away.
func TestBenchJobs(t *testing.T) {
	endToEnd(t)
	n := newJobNet(t)
	r, stderr, err := n.bench("--count", "200", "--inflight", "50")
	if err != nil || r.Accepted != 200 || r.Placed != 200 || r.Completed != 200 || r.Settled != 200 || r.Failed+r.Lost+r.Duplicated != 0 {
		t.Fatalf("%+v: %v: %s", r, err, stderr)
	}
	if r.AcceptedPerSecond <= 0 || r.PlacedPerSecond <= 0 || r.CompletedPerSecond <= 0 || r.SettledPerSecond <= 0 || r.Latency.P50 <= 0 || r.Latency.P99 < r.Latency.P50 {
		t.Errorf("%+v", r)
	}
	poor := filepath.Join(t.TempDir(), "poor.key")
	if err := node.WriteKey(poor, crypto.GenerateKey()); err != nil {
		t.Fatal(err)
	}
	if _, stderr, err := n.bench("--count", "10", "--key-file", poor, "--settle=false"); err == nil || !strings.Contains(stderr, "fund it") {
		t.Errorf("without money: %v: %s", err, stderr)
	}
	program, _ := programs(t)
	cmd := exec.Command(program, "bench", "jobs", "--config", n.config, "--count", "5000", "--inflight", "20", "--settle=false")
	out := &sendingWatch{seen: make(chan struct{})}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-out.seen
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "of 5000 jobs were accepted") {
		t.Errorf("interrupted: %v: %s", err, out.String())
	}
	n.signal("nexus", syscall.SIGKILL)
	began := time.Now()
	if _, stderr, err := n.bench("--count", "10"); err == nil || !strings.Contains(stderr, "nobody listens at ") || time.Since(began) > 30*time.Second {
		t.Errorf("a cluster that is away, after %v: %v: %s", time.Since(began), err, stderr)
	}
}

// sendingWatch is what a command writes, and tells when it has begun to send.
type sendingWatch struct {
	strings.Builder
	seen chan struct{}
	told bool
}

// Write implements io.Writer.
func (w *sendingWatch) Write(p []byte) (int, error) {
	n, err := w.Builder.Write(p)
	if !w.told && strings.Contains(w.String(), devnet.StageSending) {
		w.told = true
		close(w.seen)
	}
	return n, err
}
