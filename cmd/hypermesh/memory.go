package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How a node's garbage is collected: seldom, because little of what it allocates
// lives long, until it holds so much that its memory would leave its bound.
const (
	collectAfter = 150       // % of what lives
	collectAbove = 240 << 20 // bytes, beside a tree of treeAtRest
	collectLeast = 104 << 20 // bytes, beside any tree: less would be spent on collecting
	treeAtRest   = 16 << 20
)

// sampleAllocations samples allocations only for who may ask for them. It comes before
// anything else allocates.
func sampleAllocations(profiled bool) {
	if !profiled {
		runtime.MemProfileRate = 0
	}
}

// tuneCollector sets the collector, unless the environment does (package runtime,
// GOGC and GOMEMLIMIT).
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAfter)
	}
	limitHeap(0)
}

// limitHeap sets how much the Go heap may hold beside a state tree that takes so many
// bytes outside of it, unless the environment does: together they keep within one bound,
// until the tree is so large that more changes wait beside it (store.Options.PendingBytes).
func limitHeap(tree int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapBeside(tree))
	}
}

func heapBeside(tree int) int64 {
	return int64(max(collectAbove-max(tree-treeAtRest, 0)/3*4, collectLeast, tree/4*3))
}

// A Nexus server holds little, but allocates a lot for each job: it collects when
// spareHeap has been allocated since, or as much as lives if that is more.
const (
	spareHeap    = 64 << 20 // bytes
	leastPercent = 100      // the runtime's own
)

// spareCollector has the collector spare what is below spareHeap until ctx ends,
// unless the environment sets it. It looks at what lives after each collection.
func spareCollector(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		(&collected{ctx: ctx}).again()
	}
}

// collected is garbage at each collection. Its pointer keeps it from a block that
// it would share with what lives (runtime.SetFinalizer).
type collected struct {
	ctx     context.Context
	percent int
}

func (c *collected) again() {
	if c.ctx.Err() != nil {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := percentBeside(live[0].Value.Uint64())
	if percent*4 < c.percent*3 || percent*3 > c.percent*4 { // setting it stops the world
		debug.SetGCPercent(percent)
		c.percent = percent
	}
	runtime.SetFinalizer(&collected{c.ctx, c.percent}, (*collected).again)
}

// percentBeside returns how much may be allocated beside what lives, in % of that.
func percentBeside(live uint64) int {
	return int(max(leastPercent, spareHeap*100/max(live, 1<<20)))
}
