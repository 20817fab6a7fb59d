package main

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// BenchmarkIdleAgent leaves an agent alone for 20 seconds at a time, as agent init
// makes it, paired, connected to three servers and asking the chain what was paid.
// It has no kernel: proving keys are kept in memory.
func BenchmarkIdleAgent(b *testing.B) {
	network := startDevnet(b, "--servers", "3", "--agents", "0", "--no-explorer")
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
	rest(b, 5*time.Second)
	remote, err := agent.Reach(b.Context(), home)
	if err != nil {
		b.Fatal(err)
	}
	if s, err := remote.Status(b.Context()); err != nil || s.NotReadyAs != "" || !s.Accepting {
		b.Fatalf("the agent is not idle but %+v, %v", s, err)
	}
	var cores, memory []float64
	for b.Loop() {
		before, began := usageOf(b, cmd.Process.Pid), time.Now()
		rest(b, 20*time.Second)
		after, passed := usageOf(b, cmd.Process.Pid), time.Since(began)
		cores = append(cores, (after.cpu-before.cpu).Seconds()/passed.Seconds()*100)
		memory = append(memory, after.mib)
	}
	b.ReportMetric(median(cores), "%core")
	b.ReportMetric(median(memory), "MiB")
	b.ReportMetric(0, "ns/op")
}
