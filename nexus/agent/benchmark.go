package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
)

// Benchmarked is what a machine shows of its hardware.
type Benchmarked struct {
	Lanes     uint64 `json:"lanes"`      // that were asked for, of a core each
	LaneBytes uint64 `json:"lane_bytes"` // memory that each takes
	Fitting   uint64 `json:"fitting"`    // lanes that the available memory has room for
	InTime    uint64 `json:"in_time"`
	SlowestMs uint64 `json:"slowest_ms"` // until the last lane that was in time
	LimitMs   uint64 `json:"limit_ms"`
	// Millicores and MemoryMiB are what the node could declare, at most.
	Millicores uint64 `json:"millicores"`
	MemoryMiB  uint64 `json:"memory_mib"`
}

// Benchmark does what a challenge of so much hardware asks for, by the parameters of a network, and
// says what shows up. It takes the machine for itself, for as long as a challenge may.
func Benchmark(ctx context.Context, params *chain.Params, millicores, memoryMiB uint64) (Benchmarked, error) {
	return newBench().measure(ctx, params, millicores, memoryMiB)
}

func (b bench) measure(ctx context.Context, params *chain.Params, millicores, memoryMiB uint64) (out Benchmarked, err error) {
	var seed crypto.Digest
	if _, err := rand.Read(seed[:]); err != nil {
		return out, fmt.Errorf("agent: no randomness: %w", err)
	}
	task, some := hardware.TaskOf(seed, chain.Lanes(millicores), memoryMiB, params.HardwareLaneMiB)
	if !some {
		return out, fmt.Errorf("agent: %d millicores are not challenged, want %d to %d", millicores, chain.LaneMillicores, hardware.MaxLanes*chain.LaneMillicores)
	}
	limit := time.Duration(task.LimitMs(params.HardwareStepNs)) * time.Millisecond
	out = Benchmarked{Lanes: task.Lanes, LaneBytes: task.LaneBytes(), LimitMs: uint64(limit.Milliseconds())}
	out.Fitting = min(task.Lanes, b.memory()<<20/task.LaneBytes())
	began := b.now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	lanes := make([]*hardware.Lane, out.Fitting) // all of them are held at a time
	var wg sync.WaitGroup
	var next, slowest atomic.Uint64
	for range min(out.Fitting, uint64(b.cores)) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < out.Fitting; n = next.Add(1) - 1 {
				if lanes[n] = b.run(task, n, func() bool { return limited.Err() != nil }); lanes[n] == nil {
					return
				}
				ms := uint64(b.now().Sub(began).Milliseconds())
				for old := slowest.Load(); ms > old && !slowest.CompareAndSwap(old, ms); old = slowest.Load() {
					continue
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return out, errors.New("agent: the benchmark was interrupted")
	}
	for _, l := range lanes {
		if l != nil {
			out.InTime++
		}
	}
	out.SlowestMs, out.Millicores, out.MemoryMiB = slowest.Load(), out.InTime*chain.LaneMillicores, memoryMiB*out.InTime/task.Lanes
	if out.InTime == task.Lanes {
		out.Millicores = millicores // a part of a core is not challenged
	}
	return out, nil
}
