package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// A node collects at one size of its heap, more beside a tree that is far larger, and
// never when next to nothing could be collected.
func TestHeapBesideATree(t *testing.T) {
	for tree, want := range map[int]int64{0: 168 << 20, 16 << 20: 168 << 20, 46 << 20: 128 << 20, 96 << 20: 64 << 20, 300 << 20: 200 << 20, 3 << 30: 2 << 30} {
		if got := goalBeside(tree); got != want {
			t.Errorf("beside a tree of %d bytes the goal is %d, want %d", tree, got, want)
		}
	}
	for live, want := range map[uint64]int{0: 400, 10 << 20: 400, 20 << 20: 260, 30 << 20: 140, 36 << 20: 100, 70 << 20: 50, 1 << 40: 50} {
		if got := percentTo(72<<20, live); got != want {
			t.Errorf("beside %d bytes that live: %d %%, want %d", live, got, want)
		}
	}
}

// What a server may allocate until its garbage is collected is never less than what lives.
func TestHeapBesideJobs(t *testing.T) {
	for live, want := range map[uint64]int{0: 6_400, 1 << 20: 6_400, 16 << 20: 400, 64 << 20: 100, 1 << 40: 100} {
		if got := percentBeside(live); got != want {
			t.Errorf("beside %d bytes that live: %d %%, want %d", live, got, want)
		}
	}
}

// The collector is set anew when other amounts live.
func TestCollectorFollowsTheHeap(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	t.Setenv("GOGC", "")
	percent := func() uint64 {
		set := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(set)
		return set[0].Value.Uint64()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	runtime.GC() // what it looks at is of the last collection
	spareCollector(ctx)
	if percent() <= 100 {
		t.Fatalf("beside little the collector is set to %d %%", percent())
	}
	ballast := make([]byte, 256<<20)
	for percent() > 100 {
		runtime.GC()
	}
	runtime.KeepAlive(ballast)
}
