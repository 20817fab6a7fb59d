package main

import (
	"fmt"
	"log/slog"
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

// prepareMemory has the heap lie in huge pages, as far as the collector lets it grow,
// and samples allocations only for who may ask for them. It comes before anything else
// allocates.
func prepareMemory(profiled bool, log *slog.Logger) {
	if !profiled {
		runtime.MemProfileRate = 0
	}
	if err := hugeHeap(collectAbove); err != nil {
		log.Debug("the heap has no huge pages", "error", err)
	}
}

// hugeHeap asks the system for huge pages (madvise(2), MADV_HUGEPAGE) where the heap
// will grow: the advice stays with the addresses of a region that is allocated, never
// touched, and given back, and from which the runtime takes the lowest free addresses
// first. A page that is touched for the first time costs the kernel 2 µs and, in a
// machine of which the host takes unused memory back, 26: a node that comes under load
// touches 50,000. What a huge page has too much is part of the heap a little later.
func hugeHeap(bytes int) error {
	region := make([]byte, bytes)
	err := adviseHuge(region)
	runtime.KeepAlive(region)
	debug.FreeOSMemory() // the collector does not count it as memory in use
	if err != nil {
		return fmt.Errorf("asking for huge pages: %w", err)
	}
	return nil
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
