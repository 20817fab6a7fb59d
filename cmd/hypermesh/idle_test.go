package main

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// BenchmarkIdleAgent leaves agents alone for 20 seconds at a time, connected to three
// servers and asking the chain what was paid: one as agent init makes it, paired and
// without kernels, and one that can prove.
func BenchmarkIdleAgent(b *testing.B) {
	network := startDevnet(b, "--servers", "3", "--agents", "1", "--no-explorer")
	program, _ := programs(b)
	home := filepath.Join(b.TempDir(), "agent")
	if out, err := exec.Command(program, "agent", "init", "--home", home, "--config", network.path, "--http", "127.0.0.1:0", "--yes").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, "agent", "up", "--home", home)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			b.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	proves := 0
	for _, p := range network.describe(b).Processes {
		if p.Role == "agent" {
			proves = p.PID
		}
	}
	rest(b, 5*time.Second)
	b.Run("plain", func(b *testing.B) { benchmarkIdle(b, home, cmd.Process.Pid, 0) })
	b.Run("kernels", func(b *testing.B) { benchmarkIdle(b, filepath.Join(network.dir, "agent-0"), proves, 1) })
}

// benchmarkIdle measures an agent with so many kernels.
func benchmarkIdle(b *testing.B, home string, pid, kernels int) {
	remote, err := agent.Reach(b.Context(), home)
	if err != nil {
		b.Fatal(err)
	}
	if s, err := remote.Status(b.Context()); err != nil || s.NotReadyAs != "" || !s.Accepting || len(s.Kernels) != kernels {
		b.Fatalf("the agent is not idle but %+v, %v", s, err)
	}
	var cores, memory []float64
	for b.Loop() {
		before, began := usageOf(b, pid), time.Now()
		rest(b, 20*time.Second)
		after, passed := usageOf(b, pid), time.Since(began)
		cores = append(cores, (after.cpu-before.cpu).Seconds()/passed.Seconds()*100)
		memory = append(memory, after.mib)
	}
	b.ReportMetric(median(cores), "%core")
	b.ReportMetric(median(memory), "MiB")
	b.ReportMetric(0, "ns/op")
}
