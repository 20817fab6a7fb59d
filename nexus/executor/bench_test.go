package executor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

// BenchmarkWarmStart is a Run of a module that is compiled already: what a job
// of no work costs this machine, its /in and /out included. core-µs/op is the
// process's processor time, all threads.
func BenchmarkWarmStart(b *testing.B) {
	b.Run("trivial", func(b *testing.B) { warmStart(b, wat(b, body("nop"))) })
	b.Run("go", func(b *testing.B) {
		all, err := programs()
		if err != nil {
			b.Fatal(err)
		}
		warmStart(b, all["probe"], "nothing")
	})
}

func warmStart(b *testing.B, module []byte, args ...string) {
	w, err := executor.NewWasm(executor.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	dir := b.TempDir()
	id := crypto.DomainBlob.Hash(module) // as an agent names it, which does not hash it anew for each job
	start := func(i int) {
		out := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(out, 0o700); err != nil {
			b.Fatal(err)
		}
		o, err := w.Run(b.Context(), executor.Task{ID: id, Module: module, Args: args, OutputDir: out, Limits: generous()})
		if err != nil || o.Status != executor.StatusOK {
			b.Fatalf("%+v, %v", o, err)
		}
		if err := os.Remove(out); err != nil {
			b.Fatal(err)
		}
	}
	start(-1)
	before := processorTime(b)
	b.ResetTimer()
	for i := range b.N {
		start(i)
	}
	b.StopTimer()
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "core-µs/op")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
