package store

import (
	"bytes"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/hypermesh/hypermesh/internal/state"
)

// pending is what blocks changed since a flush began or ended: their changes are
// on the disk as lists, and here as a state. One goroutine adds; any read.
type pending struct {
	mu     sync.RWMutex
	blocks []pendingBlock   // ascending; what is in it never changes
	cells  []cell           // in the order of the blocks
	newest map[string]int32 // key → index of its last cell
	bytes  int              // of keys and values
}

type pendingBlock struct {
	height  uint64
	changes []state.Change // by ascending key
}

// cell names one change and the one of the same key before it.
type cell struct{ block, change, before int32 }

func newPending() *pending { return &pending{newest: map[string]int32{}} }

// add adds a block's changes, which must not be modified afterwards.
func (p *pending) add(height uint64, changes []state.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	block := int32(len(p.blocks))
	p.blocks = append(p.blocks, pendingBlock{height, changes})
	for i := range changes {
		c := &changes[i]
		before, ok := p.newest[string(c.Key)]
		if !ok {
			before = -1
		}
		p.newest[string(c.Key)] = int32(len(p.cells))
		p.cells = append(p.cells, cell{block, int32(i), before})
		p.bytes += len(c.Key) + len(c.Value)
	}
}

// get returns the last change of a key up to a height, nil if there is none.
func (p *pending) get(key []byte, height uint64) *state.Change {
	p.mu.RLock()
	defer p.mu.RUnlock()
	at, ok := p.newest[string(key)]
	for ok && at >= 0 {
		c := &p.cells[at]
		if b := &p.blocks[c.block]; b.height <= height {
			return &b.changes[c.change]
		}
		at = c.before
	}
	return nil
}

// upTo returns the blocks up to a height.
func (p *pending) upTo(height uint64) []pendingBlock {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := sort.Search(len(p.blocks), func(i int) bool { return p.blocks[i].height > height })
	return p.blocks[:n:n]
}

// merged returns the last change of every key, by ascending key. Nothing may be
// added meanwhile.
func (p *pending) merged() []*state.Change {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]*state.Change, 0, len(p.newest))
	for _, at := range p.newest { // order-free: sorted below
		c := &p.cells[at]
		out = append(out, &p.blocks[c.block].changes[c.change])
	}
	slices.SortFunc(out, func(a, b *state.Change) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

// inRange returns the last change of every key with start ≤ key < end that
// blocks made, by ascending key. The blocks ascend; a nil end is no end.
func inRange(blocks []pendingBlock, start, end []byte) []*state.Change {
	type found struct {
		*state.Change
		height uint64
	}
	var all []found
	for i := range blocks {
		b := &blocks[i]
		from := sort.Search(len(b.changes), func(i int) bool { return bytes.Compare(b.changes[i].Key, start) >= 0 })
		for k := from; k < len(b.changes) && (end == nil || bytes.Compare(b.changes[k].Key, end) < 0); k++ {
			all = append(all, found{&b.changes[k], b.height})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 || a.height == b.height {
			return c
		}
		if a.height > b.height {
			return -1
		}
		return 1
	})
	out := make([]*state.Change, 0, len(all))
	for i := range all {
		if i == 0 || !bytes.Equal(all[i-1].Key, all[i].Key) {
			out = append(out, all[i].Change)
		}
	}
	return out
}

// overlaid yields the pairs of a state with changes on top of them, both by
// ascending key.
func overlaid(changes []*state.Change, below iter.Seq2[[]byte, []byte]) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := changes
		for key, value := range below {
			for len(rest) > 0 && bytes.Compare(rest[0].Key, key) < 0 {
				if c := rest[0]; !c.Deleted && !yield(bytes.Clone(c.Key), c.Value) {
					return
				}
				rest = rest[1:]
			}
			if len(rest) > 0 && bytes.Equal(rest[0].Key, key) {
				continue // the change comes before the next pair
			}
			if !yield(key, value) {
				return
			}
		}
		for _, c := range rest {
			if !c.Deleted && !yield(bytes.Clone(c.Key), c.Value) {
				return
			}
		}
	}
}
