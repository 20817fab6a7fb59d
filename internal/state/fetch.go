package state

import (
	"math/bits"
	"unsafe"
)

// lineBytes is how much the processor reads of its memory at a time.
const lineBytes = 64

// updatesAhead is how many updates before it the nodes of one are asked for: about as many
// as the processor works on while it waits for its memory.
const updatesAhead = 16

// ahead is what a worker's updates are going to read, by depth from one on and by update: 0
// if nothing, or what an update before is going to read as well.
type ahead struct {
	nodes [][]ref
	at    []ref
	asked int // updates for which it was asked
}

// fetch finds out what updates under the i-th child of the root are going to read: depth by
// depth, so that the processor waits for many nodes at a time, where each update for itself
// waits for one after the other. It reads of each node where the next one is, and no more: the
// rest is asked for while updates before it are made.
func (w *worker) fetch(top *node, i int, ups []update) {
	ahead := &w.pocket.ahead
	ahead.nodes, ahead.asked = ahead.nodes[:0], 0
	first := top.kid(i)
	if first == nil || first.node == 0 || len(ups) < 2 {
		return
	}
	at := ahead.at[:0]
	for range ups {
		at = append(at, first.node)
	}
	for depth, left := 1, len(ups); left > 0 && depth < staleDepth; depth++ {
		if depth > cap(ahead.nodes) {
			ahead.nodes = append(ahead.nodes, nil)
		}
		ahead.nodes = ahead.nodes[:depth]
		nodes := append(ahead.nodes[depth-1][:0], at...)
		ahead.nodes[depth-1] = nodes
		left = w.descend(nodes, at, ups, depth)
	}
	ahead.at = at
	w.ask(ups, 0)
}

// descend sets each of some nodes of a depth to the one below it that its update goes to, 0
// if none is in memory, and returns how many there are.
func (w *worker) descend(nodes, at []ref, ups []update, depth int) (left int) {
	a, last := w.loader.arena, ref(0)
	for _, r := range nodes {
		if r != last && r != 0 {
			w.seen ^= *(*byte)(a.at(r))
			last = r
		}
	}
	last = 0
	for k, r := range nodes {
		if r == 0 {
			continue
		}
		h := (*head)(a.at(r))
		if at[k] = h.below(ups[k].slot(depth)); at[k] != 0 {
			left++
		}
		if r == last && h.count == 0 {
			nodes[k] = 0
		}
		last = r
	}
	return left
}

// ask asks for what the updates are going to read that come a few after those that are done.
func (w *worker) ask(ups []update, done int) {
	ahead, a := &w.pocket.ahead, w.loader.arena
	for ; len(ahead.nodes) > 0 && ahead.asked < min(done+updatesAhead, len(ups)); ahead.asked++ {
		for d, nodes := range ahead.nodes {
			r := nodes[ahead.asked]
			if r == 0 {
				continue
			}
			p := a.at(r)
			h := (*head)(p)
			prefetch(p, h.bytes())
			if h.count > 0 {
				from, to := h.quarter(ups[ahead.asked].slot(d+1) >> 2)
				prefetch(unsafe.Add(a.at(h.places), placesBytes+digestBytes*from), digestBytes*(to-from))
			}
		}
	}
}

// slot returns in which slot of a node at a depth the position of an update is.
func (u *update) slot(depth int) int { return int(u.prefix >> (60 - 4*depth) & (fanout - 1)) }

// below returns which node is in a slot of the node that begins with the head, 0 if none in
// memory.
func (h *head) below(slot int) ref {
	kids := h.used &^ h.leaves
	if h.count > 0 || kids>>slot&1 == 0 {
		return 0
	}
	before := h.bytes() - kidBytes*bits.OnesCount16(kids)
	return (*kidSlot)(unsafe.Add(unsafe.Pointer(h), before+kidBytes*rank(kids, slot))).node
}

// bytes returns how many bytes the node, or the page without its places, takes that begins
// with the head.
func (h *head) bytes() int {
	if h.count > 0 {
		return bytesOfPage(int(h.count))
	}
	return bytesOfNode(h.used, h.leaves)
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
		if w.seen ^= look(p, h.bytes()); h.count > 0 {
			w.seen ^= look(a.at(h.places), bytesOfPlaces(int(h.count)))
		}
	}
}

// fetchKids looks at what says which leaves are new below a node.
func (w *writes) fetchKids(n *node) {
	a := w.t.arena
	for i := range n.kids {
		if kid := &n.kids[i]; uint64(kid.version) >= w.fresh {
			w.seen ^= *(*byte)(a.at(kid.node))
		}
	}
	for i := range n.kids {
		if kid := &n.kids[i]; uint64(kid.version) >= w.fresh {
			p := a.at(kid.node)
			if h := (*head)(p); h.count > 0 {
				w.seen ^= look(p, headBytes+stampBytes*int(h.count))
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
