package main

import "testing"

// What the state tree takes outside of the Go heap, the heap does without, as far as it
// can.
func TestHeapBesideATree(t *testing.T) {
	for tree, want := range map[int]int64{0: 240 << 20, 16 << 20: 240 << 20, 80 << 20: 176 << 20, 1 << 30: 144 << 20} {
		if got := heapBeside(tree); got != want {
			t.Errorf("beside a tree of %d bytes the heap may hold %d, want %d", tree, got, want)
		}
	}
}
