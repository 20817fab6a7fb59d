package scheduler

import (
	"math/bits"

	"github.com/hypermesh/hypermesh/nexus/match"
)

// index finds nodes that could take a request without looking at all of them: a
// complete binary tree over slots, whose branches hold the most that any node
// below has of each resource, and the marks of what the nodes below offer. A
// search leaves out every branch that cannot hold a node that fits, so the next
// node that fits is found in O(log n) steps unless what is free differs so much
// between neighbours that most branches promise what none of their nodes has.
type index struct {
	size   int // of the lowest level, a power of two; 0: there is none
	levels []summary
}

// summary bounds what is below a branch: no node has more of anything.
type summary struct {
	free  match.Free // now
	evict match.Free // if everything that may be preempted were ended
	marks uint64     // of region, kernels and kind of GPU
}

// wanted is a request as the index sees it.
type wanted struct {
	request *match.Request
	marks   uint64
	evict   bool // what may be preempted counts as free
}

// mark returns one bit of 64 for an attribute: different ones may share it, so
// that a branch with the mark has to be looked into, and one without has not.
func mark(kind byte, name string) uint64 {
	h := uint64(kind) + 1
	for i := range len(name) {
		h = mix(h ^ uint64(name[i]))
	}
	return 1 << (h >> 58)
}

const (
	markRegion byte = iota
	markKernel
	markGPU
)

func marksOf(n *Node) uint64 {
	m := mark(markRegion, n.Region) | mark(markGPU, n.GPUKind)
	for _, k := range n.Kernels {
		m |= mark(markKernel, k)
	}
	return m
}

func want(r *match.Request, evict bool) wanted {
	w := wanted{request: r, evict: evict}
	if r.Region != "" {
		w.marks |= mark(markRegion, r.Region)
	}
	if r.Kernel != "" {
		w.marks |= mark(markKernel, r.Kernel)
	}
	if r.GPUs > 0 && r.GPUKind != "" {
		w.marks |= mark(markGPU, r.GPUKind)
	}
	return w
}

// may reports whether a node that fits could be below.
func (w *wanted) may(s *summary) bool {
	free := &s.free
	if w.evict {
		free = &s.evict
	}
	return w.marks&^s.marks == 0 && free.Short(w.request) == match.Fits
}

// set changes what is known of a slot.
func (x *index) set(slot int, s summary) {
	for slot >= x.size {
		x.grow()
	}
	at := x.size + slot
	if x.levels[at] == s {
		return
	}
	x.levels[at] = s
	for at /= 2; at > 0; at /= 2 {
		joined := join(&x.levels[2*at], &x.levels[2*at+1])
		if x.levels[at] == joined {
			return
		}
		x.levels[at] = joined
	}
}

func (x *index) grow() {
	old := x.levels[x.size:]
	x.size = max(1, 2*x.size)
	x.levels = make([]summary, 2*x.size)
	copy(x.levels[x.size:], old)
	for at := x.size - 1; at > 0; at-- {
		x.levels[at] = join(&x.levels[2*at], &x.levels[2*at+1])
	}
}

func join(a, b *summary) summary {
	return summary{free: most(a.free, b.free), evict: most(a.evict, b.evict), marks: a.marks | b.marks}
}

func most(a, b match.Free) match.Free {
	return match.Free{
		Millicores: max(a.Millicores, b.Millicores), MemoryMiB: max(a.MemoryMiB, b.MemoryMiB),
		GPUs: max(a.GPUs, b.GPUs), GPUMilli: max(a.GPUMilli, b.GPUMilli),
	}
}

// next returns the first slot from a given one on, and around, that the request
// may fit and that is accepted, or −1.
func (x *index) next(from int, w *wanted, accept func(slot int) bool) int {
	if x.size == 0 {
		return -1
	}
	if at := x.search(1, from, x.size, w, accept); at >= 0 {
		return at
	}
	return x.search(1, 0, from, w, accept)
}

// search looks below a branch for the first slot in [lo, hi).
func (x *index) search(at, lo, hi int, w *wanted, accept func(slot int) bool) int {
	width := x.size >> (bits.Len(uint(at)) - 1)
	begin := at*width - x.size
	if begin >= hi || begin+width <= lo || !w.may(&x.levels[at]) {
		return -1
	}
	if width == 1 {
		if accept(begin) {
			return begin
		}
		return -1
	}
	if slot := x.search(2*at, lo, hi, w, accept); slot >= 0 {
		return slot
	}
	return x.search(2*at+1, lo, hi, w, accept)
}
