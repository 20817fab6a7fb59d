package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// pending is what blocks changed since a flush began or ended: their changes are
// on the disk as lists, and here as a state. One goroutine adds; any read. Of all
// that it has nothing is a pointer for each change, so that the garbage collector has
// nothing to do with it: a hash leads to the last cell of that hash, whose key is compared.
type pending struct {
	mu     sync.RWMutex
	blocks []pendingBlock   // ascending; what is in it never changes
	txs    []pendingTxs     // of the same blocks that have any
	cells  []cell           // in the order of the blocks
	newest cellIndex        // hash of a key → index of its last cell
	orders map[group]*order // the keys of the groups that were iterated over
	bytes  int              // that all of it takes in memory, about
}

// changeBytes is about how many bytes a change takes in memory beside its key
// and value: here, and in the tree until it is written.
const changeBytes = 110

type pendingBlock struct {
	height  uint64
	changes state.ChangeList // by ascending key
}

// cell names one change and the one of the same hash before it, −1 if there is
// none.
type cell struct{ block, change, before int32 }

// newPending returns one that has room for as many changes, of as many keys, as one
// that is full had, within reason; nil: none is known.
func newPending(full *pending) *pending {
	if full == nil {
		return &pending{newest: newCellIndex(0)}
	}
	return &pending{
		cells:  make([]cell, 0, min(len(full.cells), roomyPending)),
		newest: newCellIndex(min(full.newest.count, roomyPending)),
	}
}

// cellIndex finds the last cell of a hash: a table of places by hash, with open
// addressing. Nothing is ever taken out.
type cellIndex struct {
	slots []uint64 // hash ‖ number of the cell and one; 0: free. A power of two of them
	count int      // in use
}

const leastSlots = 1 << 10

// newCellIndex returns one that has room for so many hashes.
func newCellIndex(hashes int) cellIndex {
	n := leastSlots
	for n*3 < hashes*4 {
		n *= 2
	}
	return cellIndex{slots: make([]uint64, n)}
}

// slot returns the place of a hash, or the free one where it belongs.
func (x *cellIndex) slot(hash uint32) *uint64 {
	mask := uint32(len(x.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if s := &x.slots[i]; *s == 0 || uint32(*s>>32) == hash {
			return s
		}
	}
}

// get returns the last cell of a hash, −1 if there is none.
func (x *cellIndex) get(hash uint32) int32 { return int32(uint32(*x.slot(hash))) - 1 }

// set makes a cell the last one of its hash, and returns the one that was.
func (x *cellIndex) set(hash uint32, cell int32) (before int32) {
	s := x.slot(hash)
	before = int32(uint32(*s)) - 1
	if *s == 0 {
		if x.count++; 4*x.count > 3*len(x.slots) {
			x.grow()
			s = x.slot(hash)
		}
	}
	*s = uint64(hash)<<32 | uint64(uint32(cell+1))
	return before
}

// grow makes the table twice as large.
func (x *cellIndex) grow() {
	old := x.slots
	x.slots = make([]uint64, 2*len(old))
	for _, s := range old {
		if s != 0 {
			*x.slot(uint32(s >> 32)) = s
		}
	}
}

// pendingSeed is of all hashes of keys of pending changes: a read looks into two of
// these with one hash.
var pendingSeed = maphash.MakeSeed()

func pendingHash(key []byte) uint32 { return uint32(maphash.Bytes(pendingSeed, key) >> 32) }

// add adds a block's changes, and its transactions, which must not be modified afterwards.
func (p *pending) add(height uint64, changes state.ChangeList, txs []crypto.Digest) {
	byID := newPendingTxs(height, txs)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(txs) > 0 {
		p.txs = append(p.txs, byID)
		p.bytes += len(txs) * txBytesPending
	}
	block := int32(len(p.blocks))
	p.blocks = append(p.blocks, pendingBlock{height, changes})
	var at group
	var order *order // of that group; nil: nobody asked
	for i := range changes.Len() {
		key := changes.Key(i)
		if g, ok := groupOf(key); ok && (g != at || i == 0) {
			at, order = g, p.orders[g]
		} else if !ok {
			order = nil
		}
		before := p.newest.set(pendingHash(key), int32(len(p.cells)))
		if order != nil {
			if _, ok := p.last(key, before, math.MaxUint64); !ok {
				order.fresh = append(order.fresh, key)
			}
		}
		p.cells = append(p.cells, cell{block, int32(i), before})
	}
	p.bytes += changeBytes*changes.Len() + len(changes.Bytes())
}

// get returns the last change of a key, of a hash, up to a height, and false if there is none.
func (p *pending) get(key []byte, hash uint32, height uint64) (state.Change, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.last(key, p.newest.get(hash), height)
}

// last returns the last change of a key up to a height, of the cell at an index
// and those of the same hash before it.
func (p *pending) last(key []byte, at int32, height uint64) (state.Change, bool) {
	for at >= 0 {
		c := &p.cells[at]
		if b := &p.blocks[c.block]; b.height <= height && bytes.Equal(b.changes.Key(int(c.change)), key) {
			return b.changes.At(int(c.change)), true
		}
		at = c.before
	}
	return state.Change{}, false
}

// upTo returns the blocks up to a height.
func (p *pending) upTo(height uint64) []pendingBlock {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := sort.Search(len(p.blocks), func(i int) bool { return p.blocks[i].height > height })
	return p.blocks[:n:n]
}

// merged returns which is the last change of every key, by ascending key. Nothing may be
// added meanwhile.
func (p *pending) merged() []mergedChange {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return merge(p.blocks, nil, nil)
}

// mergedChange names one change of some blocks.
type mergedChange struct {
	prefix uint64 // of the key, so that most comparisons are of numbers
	block  int32
	place  uint32 // in the block's list
}

func (m *mergedChange) in(blocks []pendingBlock) state.Change {
	return blocks[m.block].changes.AtPlace(m.place)
}

func (m *mergedChange) key(blocks []pendingBlock) []byte {
	return blocks[m.block].changes.KeyOf(m.place)
}

// changesAhead is how many changes are looked at together: they are all over the lists
// of some hundred blocks.
const changesAhead = 32

// lookAhead looks at the next changes if it is time.
func lookAhead(blocks []pendingBlock, changes []mergedChange, i int) (seen byte) {
	if i%changesAhead != 0 {
		return 0
	}
	for _, m := range changes[i:min(i+changesAhead, len(changes))] {
		seen ^= blocks[m.block].changes.Look(m.place)
	}
	return seen
}

// merge sorts the changes of blocks, each of which is sorted: by key, of each the last
// alone.
func merge(blocks []pendingBlock, start, end []byte) []mergedChange {
	count := 0
	bounds := make([][2]int, len(blocks))
	for i := range blocks {
		changes := blocks[i].changes
		bounds[i] = [2]int{changes.From(start), changes.Len()}
		if end != nil {
			bounds[i][1] = max(bounds[i][0], changes.From(end))
		}
		count += bounds[i][1] - bounds[i][0]
	}
	all := make([]mergedChange, 0, count)
	for i := range blocks {
		for k := bounds[i][0]; k < bounds[i][1]; k++ {
			all = append(all, mergedChange{keyPrefix(blocks[i].changes.Key(k)), int32(i), blocks[i].changes.Place(k)})
		}
	}
	slices.SortFunc(all, func(a, b mergedChange) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		if c := bytes.Compare(a.key(blocks), b.key(blocks)); c != 0 {
			return c
		}
		return cmp.Compare(b.block, a.block)
	})
	out := all[:0]
	for i := range all {
		if i == 0 || all[i].prefix != out[len(out)-1].prefix || !bytes.Equal(out[len(out)-1].key(blocks), all[i].key(blocks)) {
			out = append(out, all[i])
		}
	}
	return out
}

// keyPrefix returns the first eight bytes of a key, filled up with zeros.
func keyPrefix(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var buf [8]byte
	copy(buf[:], key)
	return binary.BigEndian.Uint64(buf[:])
}

// overlaid yields the pairs of a state with changes on top of them, both by
// ascending key: next returns one change after the other, and false in the end.
func overlaid(next func() (state.Change, bool), below iter.Seq2[[]byte, []byte]) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c, ok := next()
		for key, value := range below {
			for ; ok && bytes.Compare(c.Key, key) < 0; c, ok = next() {
				if !c.Deleted && !yield(bytes.Clone(c.Key), c.Value) {
					return
				}
			}
			if ok && bytes.Equal(c.Key, key) {
				continue // the change comes before the next pair
			}
			if !yield(key, value) {
				return
			}
		}
		for ; ok; c, ok = next() {
			if !c.Deleted && !yield(bytes.Clone(c.Key), c.Value) {
				return
			}
		}
	}
}
