package state

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// mustPanic wants a panic of what does something that cannot be.
func mustPanic(t *testing.T, what string, do func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s does not panic", what)
		}
	}()
	do()
}

// A block that is free is not made free again, whoever has it, and whatever stands in it:
// two nodes would be in one place.
func TestNoBlockIsFreeTwice(t *testing.T) {
	a := NewArena(nil, nil)
	p := a.pocket()
	used := func() ref {
		r, n := p.newNode(7, 1, 1)
		n.leafs[0] = leafSlot{version: 7}
		return r
	}
	bytes := bytesOfNode(1, 1)
	r := used()
	p.put(r, bytes)
	mustPanic(t, "a block that is put into a pocket twice", func() { p.put(r, bytes) })
	mustPanic(t, "a block of a pocket that is released", func() { a.release(r) })

	used() // so that the span is not vacant
	r = used()
	a.release(r)
	(*head)(a.at(r)).born = 7 // as if its memory had been dropped since
	mustPanic(t, "a block that is released twice", func() { a.release(r) })

	b := NewArena(nil, nil)
	p = b.pocket()
	var last ref
	for range pocketFill {
		r, _ := p.newNode(7, 1, 1)
		if last != 0 {
			b.release(last)
		}
		last = r
	}
	b.release(last)
	if b.vacant.count == 0 {
		t.Fatal("all blocks are released, and no span is vacant")
	}
	(*head)(b.at(last)).born = 7
	mustPanic(t, "a block of a vacant span that is released", func() { b.release(last) })
}

// holding is what the test of an arena has: blocks of how many bytes, by where they are.
type holding struct {
	a     *Arena
	p     *pocket
	bytes map[ref]int
	order []ref
}

// check compares an arena with what is in use of it: no two blocks overlap, and what the
// spans say is free is all the rest.
func (h *holding) check(t *rapid.T) {
	units := make([]int, len(h.a.info)) // in hand, by span
	seen := make([]bool, len(h.a.info)*spanUnits)
	claim := func(r ref, size int) {
		for u := int(r); u < int(r)+size; u++ {
			if seen[u] {
				t.Fatalf("unit %x is of two blocks", u)
			}
			seen[u] = true
		}
		units[r>>spanShift] += size
	}
	used := 0
	for r, bytes := range h.bytes {
		claim(r, blockBytes(bytes)/unitBytes)
		used += blockBytes(bytes)
	}
	for _, p := range append([]*pocket{h.p}, h.a.pockets...) {
		for class, free := range p.free {
			for _, r := range free {
				claim(r, classUnits(class))
				used += classUnits(class) * unitBytes
			}
		}
	}
	if h.a.used != used {
		t.Fatalf("%d bytes are in use, the arena says %d", used, h.a.used)
	}
	for s := uint32(1); s < uint32(len(h.a.info)); s++ {
		in := &h.a.info[s]
		if in.class == classes {
			if units[s] != 0 {
				t.Fatalf("span %d is vacant, and %d units of it are in use", s, units[s])
			}
			continue
		}
		free := 0
		for _, w := range in.free {
			free += bits.OnesCount64(w)
		}
		if free != int(in.left) || units[s] != (int(in.blocks)-free)*classUnits(int(in.class)) {
			t.Fatalf("span %d of %d blocks has %d free, says %d, and %d units are in use", s, in.blocks, free, in.left, units[s])
		}
		if in.left > 0 != h.a.partial[in.class].has(s) || h.a.vacant.has(s) {
			t.Fatalf("span %d with %d free blocks is in the wrong sets", s, in.left)
		}
	}
}

// has reports whether a span is in the set.
func (s *spanSet) has(span uint32) bool {
	w := int(span / 64)
	return w < len(s.words) && s.words[w]>>(span%64)&1 != 0
}

// TestArenaHistories: whatever is allocated, put back, released and dropped, no two blocks are
// in one place, and what spans and sets say is free is so.
func TestArenaHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]int{spanBytes, 3*spanBytes + unitBytes, groupSpans * spanBytes}).Draw(t, "piece")
		h := holding{bytes: map[ref]int{}}
		h.a = NewArena(func(atLeast int) []byte { return make([]byte, max(atLeast, piece)) }, func(memory []byte) { clear(memory) })
		h.p = h.a.pocket()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"alloc", "alloc", "put", "release", "many", "pocket"}).Draw(t, "step") {
			case "alloc":
				h.alloc(rapid.IntRange(headBytes, mostUnits*unitBytes).Draw(t, "bytes"), rapid.IntRange(1, 400).Draw(t, "blocks"))
			case "many": // enough that some is dropped once it is released
				h.alloc(mostUnits*unitBytes, 6000)
			case "put":
				h.lose(t, h.p.put)
			case "release":
				h.lose(t, func(r ref, _ int) { h.a.release(r) })
			case "pocket":
				h.a.give(h.p)
				h.p = &pocket{a: h.a}
			}
			h.check(t)
		}
	})
}

func (h *holding) alloc(bytes, blocks int) {
	for range blocks {
		r, at := h.p.alloc(bytes)
		(*head)(at).born = 7
		h.bytes[r], h.order = bytes, append(h.order, r)
	}
}

// lose gives some blocks back, the last or the first that were allocated.
func (h *holding) lose(t *rapid.T, back func(r ref, bytes int)) {
	n := len(h.order)
	k := n - n/rapid.IntRange(1, 4).Draw(t, "part")
	gone, kept := h.order[k:], h.order[:k:k]
	if rapid.Bool().Draw(t, "the first") {
		gone, kept = h.order[:n-k], h.order[n-k:]
	}
	for _, r := range gone {
		back(r, h.bytes[r])
		delete(h.bytes, r)
	}
	h.order = kept
}
