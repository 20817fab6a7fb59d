package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// need is what one job takes of the node.
type need struct {
	millicores uint64
	memoryMiB  uint64
	diskMiB    uint64 // of the directory that it runs in
	gpuMilli   uint64 // thousandths of GPUs
	storeBytes uint64 // of the store of inputs and outputs
}

// entryBytes is the most that an entry of an output's archive takes beside its content.
const entryBytes = 1_100

// needOf returns what a job takes: what it asks for, and room for its unpacked
// input and its output, and for both in the store, the output encrypted.
func needOf(spec *job.Spec) need {
	output := blob.SealedBytes(int64(spec.Limits.OutputBytes) + int64(spec.Limits.OutputFiles)*entryBytes)
	return need{
		storeBytes: uint64(blob.StoredBytes(int64(spec.InputBytes)) + blob.StoredBytes(output)),
		millicores: spec.Resources.Millicores, memoryMiB: spec.Resources.MemoryMiB,
		diskMiB: mebibytes(spec.InputBytes) + mebibytes(spec.Limits.OutputBytes), gpuMilli: spec.Resources.GPUs * spec.Resources.GPUMilli,
	}
}

func (n need) plus(m need) need {
	return need{n.millicores + m.millicores, n.memoryMiB + m.memoryMiB, n.diskMiB + m.diskMiB, n.gpuMilli + m.gpuMilli, n.storeBytes + m.storeBytes}
}

// beyond is by how much a need is above another.
func (n need) beyond(m need) need {
	above := func(a, b uint64) uint64 { return a - min(a, b) }
	return need{above(n.millicores, m.millicores), above(n.memoryMiB, m.memoryMiB), above(n.diskMiB, m.diskMiB), above(n.gpuMilli, m.gpuMilli), above(n.storeBytes, m.storeBytes)}
}

func mebibytes(n uint64) uint64 { return (n + 1<<20 - 1) >> 20 }

// capacity counts what the jobs that run take. Safe for concurrent use.
type capacity struct {
	total   need
	maxJobs int
	spooled func() uint64 // bytes of the store that finished jobs keep

	mu      sync.Mutex
	used    need
	running int
	waiting int
	freed   chan struct{} // closed when something is released
}

func newCapacity(c *Config) *capacity {
	return &capacity{
		total: need{
			millicores: c.Millicores, memoryMiB: c.MemoryMiB, diskMiB: c.DiskMiB / 2, gpuMilli: c.GPUs * job.GPUWhole, storeBytes: c.storeBytes(),
		},
		maxJobs: c.MaxJobs, spooled: func() uint64 { return 0 }, freed: make(chan struct{}),
	}
}

// lacks names what is not free for a job now, or returns nothing. The caller
// holds c.mu.
func (c *capacity) lacks(n need) string {
	if c.running >= c.maxJobs {
		return fmt.Sprintf("%d jobs run, as many as this node runs at a time", c.running)
	}
	return c.short(n)
}

// short names what there is too little of. The caller holds c.mu.
func (c *capacity) short(n need) string {
	for _, r := range []struct {
		what              string
		want, used, total uint64
	}{
		{"millicores", n.millicores, c.used.millicores, c.total.millicores},
		{"MiB of memory", n.memoryMiB, c.used.memoryMiB, c.total.memoryMiB},
		{"MiB of disk", n.diskMiB, c.used.diskMiB, c.total.diskMiB},
		{"thousandths of gpus", n.gpuMilli, c.used.gpuMilli, c.total.gpuMilli},
	} {
		if free := r.total - r.used; r.want > free {
			return fmt.Sprintf("%d %s needed, %d free", r.want, r.what, free)
		}
	}
	return c.full(n.storeBytes)
}

// full says that the store has no room for the inputs and the output of one more job, beside those of the jobs that run and
// the outputs that no server has taken. What is more than the store ever has, most of which its consumer will not use, takes
// all of it. The caller holds c.mu.
func (c *capacity) full(want uint64) string {
	spooled := c.spooled()
	want, free := min(want, c.total.storeBytes), c.total.storeBytes-min(c.total.storeBytes, c.used.storeBytes+spooled)
	if want <= free {
		return ""
	}
	return fmt.Sprintf("%d bytes of the store of inputs and outputs needed, %d free: %d are of finished jobs whose outputs no server has taken", want, free, spooled)
}

// missing names what is not free for one more job now, or returns nothing.
func (c *capacity) missing(n need) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting > 0 {
		return fmt.Sprintf("%d jobs wait for capacity already", c.waiting)
	}
	return c.lacks(n)
}

// acquire takes what a job needs, and waits until it is free or ctx ends. No other work is taken on
// meanwhile.
func (c *capacity) acquire(ctx context.Context, n need) error { return c.acquireLate(ctx, n, 0) }

// acquireLate is acquire for what lets other work be taken on for a while: whoever waits does not
// stand in the way of whatever fits beside it.
func (c *capacity) acquireLate(ctx context.Context, n need, after time.Duration) error {
	timer := time.NewTimer(after)
	defer timer.Stop()
	first := after == 0 // it goes before other work
	c.mu.Lock()
	defer c.mu.Unlock()
	if first {
		c.waiting++
	}
	defer func() {
		if first {
			c.waiting--
		}
	}()
	for {
		lack := c.lacks(n)
		if lack == "" {
			c.used = c.used.plus(n)
			c.running++
			return nil
		}
		freed, late := c.freed, false
		c.mu.Unlock()
		select {
		case <-freed:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			c.mu.Lock()
			return fmt.Errorf("waiting for capacity (%s): %w", lack, context.Cause(ctx))
		}
		c.mu.Lock()
		if late && !first {
			first = true
			c.waiting++
		}
	}
}

// seize takes what is free of what is wanted: all of it, or what there is after a while. It is given
// back with shrink.
func (c *capacity) seize(ctx context.Context, want need, patience time.Duration) need {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for late := false; ; {
		free := c.total.beyond(c.used)
		short := want.beyond(free)
		if late || short == (need{}) {
			taken := want.beyond(short)
			c.used = c.used.plus(taken)
			return taken
		}
		freed := c.freed
		c.mu.Unlock()
		select {
		case <-freed:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			late = true
		}
		c.mu.Lock()
	}
}

// grow takes more for a job that has acquired what it needed, or names what is not free.
func (c *capacity) grow(more need) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lack := c.short(more)
	if lack == "" {
		c.used = c.used.plus(more)
	}
	return lack
}

// shrink gives back a part of what a job took, which goes on.
func (c *capacity) shrink(less need) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveBack(less)
}

// release gives back what acquire took.
func (c *capacity) release(n need) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.giveBack(n)
}

func (c *capacity) giveBack(n need) {
	c.used = c.used.beyond(n)
	close(c.freed)
	c.freed = make(chan struct{})
}

// free returns what no job takes now.
func (c *capacity) free() job.Resources {
	c.mu.Lock()
	defer c.mu.Unlock()
	return job.Resources{
		Millicores: c.total.millicores - c.used.millicores, MemoryMiB: c.total.memoryMiB - c.used.memoryMiB,
		GPUs: (c.total.gpuMilli - c.used.gpuMilli) / job.GPUWhole,
	}
}

// load returns the larger share of CPU or memory that is taken, in thousandths.
func (c *capacity) load() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.used.millicores*1_000/c.total.millicores, c.used.memoryMiB*1_000/c.total.memoryMiB)
}
