package main

import (
	"os"
	"runtime"
	"runtime/debug"
)

// How a node's garbage is collected: seldom, because little of what it allocates
// lives long, until it holds so much that its memory would leave its bound.
const (
	collectAfter = 150       // % of what lives
	collectAbove = 240 << 20 // bytes, beside a tree of treeAtRest
	collectLeast = 144 << 20 // bytes, beside any tree: less would be spent on collecting
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
// bytes outside of it, unless the environment does: together they keep within one bound.
func limitHeap(tree int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapBeside(tree))
	}
}

func heapBeside(tree int) int64 {
	return int64(max(collectAbove-max(tree-treeAtRest, 0), collectLeast))
}
