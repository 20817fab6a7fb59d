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
				if at[k] = w.loader.arena.step(at[k], int(ups[k].prefix>>(60-4*depth)&(fanout-1)), &seen); at[k] != 0 {
					left++
				}
			}
		}
	}
	w.seen = seen
}

// step looks at a node, all of which is copied, and returns which node is in a slot of it,
// 0 if none in memory. Of a page it looks at the sums, which are copied, and at the places
// of the slot's quarter.
func (a *Arena) step(r ref, slot int, seen *byte) ref {
	p := a.at(r)
	h := (*head)(p)
	if h.count > 0 {
		from, to := h.quarter(slot >> 2)
		places := unsafe.Add(a.at(h.places), placesBytes+digestBytes*from)
		*seen ^= look(p, bytesOfPage(int(h.count))) ^ look(places, digestBytes*(to-from))
		return 0
	}
	kids := h.used &^ h.leaves
	if kids>>slot&1 == 0 {
		return 0
	}
	bytes := bytesOfNode(h.used, h.leaves)
	*seen ^= look(p, bytes)
	before := bytes - kidBytes*bits.OnesCount16(kids)
	return (*kidSlot)(unsafe.Add(p, before+kidBytes*rank(kids, slot))).node
}

// fetchAhead is how many nodes of a batch are looked at together.
const fetchAhead = 32

// fetch looks at nodes of a batch, so that the processor waits for many at a time.
func (w *writes) fetch(nodes []freshNode) {
	a := w.t.arena
	for i := range nodes {
		w.seen ^= *(*byte)(a.at(nodes[i].at))
	}
	for i := range nodes {
		p := a.at(nodes[i].at)
		h := (*head)(p)
		if h.count == 0 {
			w.seen ^= look(p, bytesOfNode(h.used, h.leaves))
			continue
		}
		w.seen ^= look(p, bytesOfPage(int(h.count))) ^ look(a.at(h.places), bytesOfPlaces(int(h.count)))
	}
}

// fetchKids looks at the sums of what is new below a node.
func (w *writes) fetchKids(n *node) {
	a := w.t.arena
	for i := range n.kids {
		if kid := &n.kids[i]; kid.version >= w.fresh {
			w.seen ^= *(*byte)(a.at(kid.node))
		}
	}
	for i := range n.kids {
		if kid := &n.kids[i]; kid.version >= w.fresh {
			p := a.at(kid.node)
			if h := (*head)(p); h.count > 0 {
				w.seen ^= look(p, bytesOfPage(int(h.count)))
			}
		}
	}
}

// fetch looks at where blocks begin. The arena is locked.
func (a *Arena) fetch(blocks []block) {
	for i := range blocks {
		a.seen ^= *(*byte)(a.at(blocks[i].at))
	}
}

// look reads a byte of every line.
func look(p unsafe.Pointer, bytes int) (seen byte) {
	for at := 0; at < bytes; at += lineBytes {
		seen ^= *(*byte)(unsafe.Add(p, at))
	}
	return seen
}
