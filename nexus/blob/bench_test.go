package blob_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

const bulkBytes = 128 << 20

// memory returns a directory that is kept in memory where there is one, so that
// the disk is no part of what is measured.
func memory(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "blob-bench-")
	if err != nil {
		b.Logf("no /dev/shm, the disk is measured too: %v", err)
		return b.TempDir()
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// BenchmarkBulk moves 128 MiB from a provider's store to a consumer's over
// loopback, every chunk verified before it is kept, in turns with as many bytes on a
// bare stream of quic-go, and reports the rates, their ratio and that of the
// processor time, which is also comparable beside other work. BenchmarkBulkDisk
// is the same with both stores on disk and the bytes durable at the end.
func BenchmarkBulk(b *testing.B)     { benchmarkBulk(b, memory(b), memory(b)) }
func BenchmarkBulkDisk(b *testing.B) { benchmarkBulk(b, b.TempDir(), b.TempDir()) }

func benchmarkBulk(b *testing.B, from, to string) {
	ctx := context.Background()
	there, here := roomy(b, from), roomy(b, to)
	data := content(bulkBytes)
	id := put(b, there, data)
	conn := connected(b, func(ctx context.Context, stream *transport.Stream) {
		_ = there.Serve(ctx, stream) // what it met, the asker says as well
	})
	bare, err := netem.OpenBare(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := bare.Close(); err != nil {
			b.Error(err)
		}
	}()
	b.SetBytes(bulkBytes)
	var ours, theirs, oursCPU, theirsCPU time.Duration
	round := func() {
		used := processorTime(b)
		took, err := bare.Move(ctx, data, 1)
		if err != nil {
			b.Fatal(err)
		}
		theirs += took
		theirsCPU += processorTime(b) - used
		began, used := time.Now(), processorTime(b)
		if _, err := here.Fetch(ctx, id, 1<<30, conn); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)
		oursCPU += processorTime(b) - used
		if err := errors.Join(here.Remove(id), bulkGone(here, id)); err != nil {
			b.Fatal(err)
		}
	}
	round() // the machine gives memory to who has not had it before slowly
	ours, theirs, oursCPU, theirsCPU = 0, 0, 0, 0
	for b.Loop() {
		round()
	}
	rate := func(d time.Duration) float64 { return float64(b.N) * bulkBytes / 1e6 / d.Seconds() }
	b.ReportMetric(rate(ours), "transfer-MB/s")
	b.ReportMetric(rate(theirs), "bare-MB/s")
	b.ReportMetric(rate(ours)/rate(theirs), "ratio")
	b.ReportMetric(theirsCPU.Seconds()/oursCPU.Seconds(), "cpu-ratio")
	b.ReportMetric(0, "ns/op") // of both together: says nothing
	b.ReportMetric(0, "MB/s")
}

// processorTime is what this process, which is both ends, has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bulkGone makes sure that the next round moves the bytes again.
func bulkGone(s *blob.Store, id crypto.Digest) error {
	if s.Has(id) {
		return errors.New("the blob is still there")
	}
	return nil
}

func roomy(b *testing.B, dir string) *blob.Store {
	cfg := config(dir)
	cfg.MaxBytes, cfg.MaxBlobBytes = 1<<30, 1<<30
	return open(b, cfg)
}
