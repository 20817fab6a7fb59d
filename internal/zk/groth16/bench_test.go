package groth16

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// benchKernels are those that are sold. Their keys are made once and kept where
// devnets keep theirs; the largest take minutes to make.
var benchKernels = []zk.Kernel{
	"matmul-16", "matmul-32", "matmul-64", "matmul-128", "mlp-8", "hashchain-256", "merkle-update-16", "usage-batch-32", "usage-batch-112",
}

var benchKeys = func() map[zk.Kernel]func() (*Keys, error) {
	out := map[zk.Kernel]func() (*Keys, error){}
	for _, kernel := range benchKernels {
		out[kernel] = sync.OnceValues(func() (*Keys, error) {
			dir, err := os.UserCacheDir()
			if err != nil {
				return nil, err
			}
			return LoadOrSetup(filepath.Join(dir, "hypermesh", "keys"), kernel, nil)
		})
	}
	return out
}()

// processor returns the processor time that the process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// forEachKernel runs a benchmark for every kernel that is sold, on one random
// work of it.
func forEachKernel(b *testing.B, bench func(b *testing.B, keys *Keys, work zk.Work)) {
	for _, kernel := range benchKernels {
		b.Run(string(kernel), func(b *testing.B) {
			keys, err := benchKeys[kernel]()
			if err != nil {
				b.Fatal(err)
			}
			bench(b, keys, randomWork(b, rand.New(rand.NewPCG(5, 6)), kernel))
		})
	}
}

func BenchmarkProve(b *testing.B) {
	forEachKernel(b, func(b *testing.B, keys *Keys, work zk.Work) {
		begun := processor(b)
		for b.Loop() {
			if _, err := NewProver(keys).Prove(work, zk.Field{31: 1}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(processor(b)-begun)/float64(b.N), "processor-ns/op")
		b.ReportMetric(float64(keys.Constraints()), "constraints")
		b.ReportMetric(ProofSize, "proof-bytes")
	})
}

func BenchmarkVerify(b *testing.B) {
	forEachKernel(b, func(b *testing.B, keys *Keys, work zk.Work) {
		result, err := NewProver(keys).Prove(work, zk.Field{31: 1})
		if err != nil {
			b.Fatal(err)
		}
		verifier := verifierOf(b, keys)
		begun := processor(b)
		for b.Loop() {
			if err := verifier.Verify(result.Statement, result.Proof); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(processor(b)-begun)/float64(b.N), "processor-ns/op") // what its gas is derived from
	})
}

// BenchmarkSetup makes a devnet's keys.
func BenchmarkSetup(b *testing.B) {
	for _, kernel := range []zk.Kernel{"matmul-32"} {
		b.Run(fmt.Sprint(kernel), func(b *testing.B) {
			for b.Loop() {
				if _, err := Setup(kernel, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDigest is what the consumer computes.
func BenchmarkDigest(b *testing.B) {
	m := randomMatrix(rand.New(rand.NewPCG(9, 10)), 32)
	for b.Loop() {
		zk.LeftDigest(m)
	}
}
