package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// How a node's garbage is collected: seldom, because little of what it allocates lives
// long. The collector runs when the heap holds roomyHeap, less four thirds of what the state
// tree takes outside of it above smallTree; but heapGoal, or a part of the tree, if that is more. The
// limit on memory is above that and should not be reached: near it the runtime gives memory back that it takes again at once.
const (
	roomyHeap    = 168 << 20 // bytes
	smallTree    = 16 << 20  // bytes
	heapGoal     = 64 << 20  // bytes
	heapSpare    = 24 << 20  // bytes from the goal to the limit
	collectMost  = 400       // % of what lives, so that who has little to do holds little
	collectLeast = 50        // % of what lives: less would be spent on collecting
)

// sampleAllocations samples allocations only for who may ask for them. It comes before
// anything else allocates.
func sampleAllocations(profiled bool) {
	if !profiled {
		runtime.MemProfileRate = 0
	}
}

// nodeCollector has the collector follow a node's heap until ctx ends, unless the
// environment sets it (package runtime, GOGC and GOMEMLIMIT). It returns who is to be told
// what the state tree takes outside of the heap (node.Config.NodeMemory).
func nodeCollector(ctx context.Context) (tree func(bytes int)) {
	var goal atomic.Int64
	tree = func(bytes int) {
		goal.Store(goalBeside(bytes))
		if os.Getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(goal.Load() + heapSpare)
		}
	}
	tree(0)
	followHeap(ctx, func(live uint64) int { return percentTo(goal.Load(), live) })
	return tree
}

// goalBeside returns at how many bytes in the heap a node's garbage is collected.
func goalBeside(tree int) int64 {
	return int64(max(heapGoal, tree/3*2, roomyHeap-max(0, tree-smallTree)/3*4))
}

// percentTo returns how much may be allocated until the heap holds goal, in % of what lives.
func percentTo(goal int64, live uint64) int {
	percent := (goal - int64(live)) * 100 / max(int64(live), 1)
	return int(min(max(percent, collectLeast), collectMost))
}

// A Nexus server holds little, but allocates a lot for each job: it collects when
// spareHeap has been allocated since, or as much as lives if that is more.
const (
	spareHeap    = 64 << 20 // bytes
	leastPercent = 100      // the runtime's own
)

// spareCollector has the collector spare what is below spareHeap until ctx ends,
// unless the environment sets it.
func spareCollector(ctx context.Context) { followHeap(ctx, percentBeside) }

// followHeap sets after each collection how much may be allocated until the next, in %
// of what lives, until ctx ends, unless the environment sets it.
func followHeap(ctx context.Context, percent func(live uint64) int) {
	if os.Getenv("GOGC") == "" {
		(&collected{ctx: ctx, of: percent}).again()
	}
}

// collected is garbage at each collection. Its pointers keep it from a block that
// it would share with what lives (runtime.SetFinalizer).
type collected struct {
	ctx context.Context
	of  func(live uint64) int
	set int // %
}

func (c *collected) again() {
	if c.ctx.Err() != nil {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := c.of(live[0].Value.Uint64())
	if percent*8 < c.set*7 || percent*7 > c.set*8 { // setting it stops the world
		debug.SetGCPercent(percent)
		c.set = percent
	}
	runtime.SetFinalizer(&collected{c.ctx, c.of, c.set}, (*collected).again)
}

// percentBeside returns how much may be allocated beside what lives, in % of that.
func percentBeside(live uint64) int {
	return int(max(leastPercent, spareHeap*100/max(live, 1<<20)))
}
