package state

import (
	"math/bits"
	"unsafe"
)

// lineBytes is how much the processor reads of its memory at a time.
const lineBytes = 64

// fetch looks at what updates under the i-th child of the root are going to read: depth
// by depth, so that the processor waits for many nodes at a time, where each update for
// itself waits for one after the other.
func (w *worker) fetch(top *node, i int, ups []update) {
	first := top.kid(i)
	if first == nil || first.node == 0 || len(ups) < 2 {
		return
	}
	at := make([]ref, len(ups))
	for k := range at {
		at[k] = first.node
	}
	var seen byte
	for depth, left := 1, len(ups); left > 0 && depth < staleDepth; depth++ {
		left = 0
		for k := range ups {
			if at[k] != 0 {
				if at[k] = w.loader.arena.step(at[k], ups[k].prefix>>(60-4*depth)&(fanout-1), &seen); at[k] != 0 {
					left++
				}
			}
		}
	}
	w.seen = seen
}

// step looks at a node and returns which node is in a slot of it, 0 if none in memory. Of
// a page it looks at everything.
func (a *Arena) step(r ref, slot uint64, seen *byte) ref {
	p := a.at(r)
	h := (*head)(p)
	if h.count > 0 {
		*seen ^= look(p, bytesOfPage(int(h.count))) ^ look(a.at(h.places), bytesOfPlaces(int(h.count)))
		return 0
	}
	kids := h.used &^ h.leaves
	if kids>>slot&1 == 0 {
		return 0
	}
	before := bytesOfNode(h.used, h.leaves) - kidBytes*bits.OnesCount16(kids)
	return (*kidSlot)(unsafe.Add(p, before+kidBytes*rank(kids, int(slot)))).node
}

// look reads a byte of every line.
func look(p unsafe.Pointer, bytes int) (seen byte) {
	for at := 0; at < bytes; at += lineBytes {
		seen ^= *(*byte)(unsafe.Add(p, at))
	}
	return seen
}
