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
	collectAbove = 240 << 20 // bytes
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
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(collectAbove)
	}
}
