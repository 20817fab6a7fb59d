package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync"
	"unsafe"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// pending is what blocks changed since a flush began or ended: their changes are
// on the disk as lists, and here as a state. One goroutine adds; any read. Of all
// that it has nothing is a pointer for each change, so that the garbage collector has
// nothing to do with it: a hash leads to the last change of that hash, whose key is compared.
type pending struct {
	mu     sync.RWMutex
	blocks []pendingBlock   // ascending; what is in it never changes
	txs    []pendingTxs     // of the same blocks that have any
	newest cellIndex        // hash of a key → its last change
	older  []cell           // those before the last of their hash
	orders map[group]*order // the keys of the groups that were iterated over
	bytes  int              // that all of it takes in memory, about
}

// changeBytes is about how many bytes a change takes in memory beside its key and value
// and what the tree says of it: where it begins, and its part of the index.
const changeBytes = 40

// noteBytes is about how many the tree takes of it before it is settled.
const noteBytes = 48

type pendingBlock struct {
	height  uint64
	changes state.ChangeList // by ascending key
}

// cell names one change, and the one of the same hash before it.
type cell struct {
	block  int32  // in blocks, counted from one; 0: it names none
	place  uint32 // in the block's list
	before int32  // index in older, −1 if there is none
}

// newPending returns one that has room for as many changes, of as many keys, as one
// that is full had, within reason; nil: none is known.
func newPending(full *pending) *pending {
	p := &pending{}
	if full == nil {
		p.newest.room(0)
	} else {
		p.older = make([]cell, 0, min(len(full.older), roomyPending))
		p.newest.room(min(full.newest.count, roomyPending))
	}
	return p
}

// set makes a change the last one of its hash.
func (p *pending) set(hash uint32, c cell) {
	s := p.newest.claim(hash)
	if c.before = -1; s.block != 0 {
		c.before = int32(len(p.older))
		p.older = append(p.older, s.cell)
	}
	*s = cellSlot{hash, c}
}

// cellIndex finds the last change of a hash: a table by hash, with open addressing, so
// that a change is found by one look at the table and one at the change. Nothing is ever
// taken out.
type cellIndex struct {
	slots []cellSlot // a power of two of them
	count int        // in use
	large *pages     // that the slots are in; nil: they are the Go heap's
}

// cellSlot is a hash and its last change, none if the slot is free.
type cellSlot struct {
	hash uint32
	cell
}

const (
	leastSlots = 1 << 10
	slotBytes  = int(unsafe.Sizeof(cellSlot{}))
)

// pages is memory with large pages of the processor, that goes when nobody has it any more.
type pages struct{ memory []byte }

// newPages returns so many zero bytes, nil if there is no such memory.
func newPages(n int) *pages {
	memory, err := offHeap(n)
	if err != nil {
		return nil
	}
	useLargePages(memory)
	l := &pages{memory}
	runtime.AddCleanup(l, func(memory []byte) {
		if err := freeOffHeap(memory); err != nil {
			panic("store: memory that was taken cannot be given back: " + err.Error())
		}
	}, memory)
	return l
}

// room makes an empty table with room for so many hashes.
func (x *cellIndex) room(hashes int) {
	n := leastSlots
	for n*3 < hashes*4 {
		n *= 2
	}
	x.make(n)
}

// make makes an empty table. One of more than a few thousand changes is looked into all
// over, where large pages of the processor cost half as much.
func (x *cellIndex) make(n int) {
	if n*slotBytes >= leastLarge {
		if x.large = newPages(n * slotBytes); x.large != nil {
			x.slots = unsafe.Slice((*cellSlot)(unsafe.Pointer(unsafe.SliceData(x.large.memory))), n)
			return
		}
	}
	x.large, x.slots = nil, make([]cellSlot, n)
}

// slot returns the place of a hash, or the free one where it belongs.
func (x *cellIndex) slot(hash uint32) *cellSlot {
	mask := uint32(len(x.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if s := &x.slots[i]; s.block == 0 || s.hash == hash {
			return s
		}
	}
}

// claim returns the slot of a hash, for the caller to fill.
func (x *cellIndex) claim(hash uint32) *cellSlot {
	s := x.slot(hash)
	if s.block != 0 {
		return s
	}
	if x.count++; 4*x.count > 3*len(x.slots) {
		x.grow()
		s = x.slot(hash)
	}
	return s
}

// grow makes the table twice as large.
func (x *cellIndex) grow() {
	old, large := x.slots, x.large
	x.make(2 * len(old))
	for _, s := range old {
		if s.block != 0 {
			*x.slot(s.hash) = s
		}
	}
	runtime.KeepAlive(large)
}

// pendingSeed is of all hashes of keys of pending changes: a read looks into two of
// these with one hash.
var pendingSeed = maphash.MakeSeed()

func pendingHash(key []byte) uint32 { return uint32(maphash.Bytes(pendingSeed, key) >> 32) }

// add adds a block's changes, of which the tree keeps so many bytes more, and its
// transactions, which must not be modified afterwards.
func (p *pending) add(height uint64, changes state.ChangeList, noted int, txs []crypto.Digest) {
	byID := newPendingTxs(height, txs)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(txs) > 0 {
		p.txs = append(p.txs, byID)
		p.bytes += len(txs) * txBytesPending
	}
	p.blocks = append(p.blocks, pendingBlock{height, changes})
	block := int32(len(p.blocks))
	var at group
	var order *order // of that group; nil: nobody asked
	var hashes [keysAhead]uint32
	for i := range changes.Len() {
		if i%keysAhead == 0 {
			p.hashAhead(&hashes, changes, i)
		}
		key, hash := changes.Key(i), hashes[i%keysAhead]
		if g, ok := groupOf(key); ok && (g != at || i == 0) {
			at, order = g, p.orders[g]
		} else if !ok {
			order = nil
		}
		if order != nil {
			if _, ok := p.last(key, &p.newest.slot(hash).cell, math.MaxUint64); !ok {
				order.fresh = append(order.fresh, key)
			}
		}
		p.set(hash, cell{block: block, place: changes.Place(i)})
	}
	p.bytes += changeBytes*changes.Len() + len(changes.Bytes()) + noted
}

// hashAhead computes the hashes of the next changes, and looks at where they belong.
func (p *pending) hashAhead(hashes *[keysAhead]uint32, changes state.ChangeList, from int) {
	n := min(keysAhead, changes.Len()-from)
	for i := range n {
		hashes[i] = pendingHash(changes.Key(from + i))
	}
	runtime.KeepAlive(p.newest.look(hashes[:n]))
}

// get returns the last change of a key, of a hash, up to a height, and false if there is none.
func (p *pending) get(key []byte, hash uint32, height uint64) (state.Change, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.last(key, &p.newest.slot(hash).cell, height)
}

// last returns the last change of a key up to a height, of a cell and those of the same
// hash before it.
func (p *pending) last(key []byte, c *cell, height uint64) (state.Change, bool) {
	for c.block != 0 {
		if b := &p.blocks[c.block-1]; b.height <= height && bytes.Equal(b.changes.KeyOf(c.place), key) {
			return b.changes.AtPlace(c.place), true
		}
		if c.before < 0 {
			break
		}
		c = &p.older[c.before]
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
