package mempool

import "container/heap"

// entryHeap is a heap of entries whose removed ones are dropped lazily.
type entryHeap struct {
	entries []*entry
	less    func(a, b *entry) bool
}

func (h *entryHeap) Len() int           { return len(h.entries) }
func (h *entryHeap) Less(i, j int) bool { return h.less(h.entries[i], h.entries[j]) }
func (h *entryHeap) Swap(i, j int)      { h.entries[i], h.entries[j] = h.entries[j], h.entries[i] }
func (h *entryHeap) Push(x any)         { h.entries = append(h.entries, x.(*entry)) }

func (h *entryHeap) Pop() any {
	last := len(h.entries) - 1
	e := h.entries[last]
	h.entries[last] = nil
	h.entries = h.entries[:last]
	return e
}

func (h *entryHeap) popLive() (*entry, bool) {
	for len(h.entries) > 0 {
		if e := heap.Pop(h).(*entry); !e.removed {
			return e, true
		}
	}
	return nil, false
}

// live returns the first live entry, which stays.
func (h *entryHeap) live() (*entry, bool) {
	e, ok := h.popLive()
	if ok {
		heap.Push(h, e)
	}
	return e, ok
}

// compact rebuilds the heap once removed entries outnumber the live ones.
func (h *entryHeap) compact(live int) {
	if len(h.entries) >= 2*live+64 {
		h.dropRemoved()
	}
}

// dropRemoved rebuilds the heap of the live entries.
func (h *entryHeap) dropRemoved() {
	kept := h.entries[:0]
	for _, e := range h.entries {
		if !e.removed {
			kept = append(kept, e)
		}
	}
	clear(h.entries[len(kept):])
	h.entries = kept
	heap.Init(h)
}
