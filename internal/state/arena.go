package state

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Arena is the memory of the nodes of trees. A node is a block of it and is named by a
// number, so that neither a node nor what names it has a pointer: the garbage
// collector sees a few large pieces, or nothing. When a block is of use again is a
// matter of lifetimes, see version. Safe for concurrent use.
type Arena struct {
	take  func(atLeast int) []byte
	drop  func(memory []byte)
	spans atomic.Pointer[[]unsafe.Pointer] // where each span begins

	mu      sync.Mutex // held while what follows changes, and the lifetimes of its versions
	info    []span
	rest    []byte            // of the memory taken last
	vacant  spanHeap          // spans without a block in use
	dropped []uint32          // such that take no memory
	partial [classes]spanHeap // spans of a class that have, or had, free blocks
	pockets []*pocket         // that nobody uses
	used    int               // bytes of blocks, those in pockets included
}

// ref names a block: the number of its span, and where in it, in units. 0 is none.
type ref uint32

// span is a piece of memory that is cut into blocks of one class.
type span struct {
	class  uint8
	listed bool // is in partial
	blocks uint16
	free   []uint16 // where, in units; the last is the next to be used
}

const (
	unitBytes  = 32
	spanShift  = 9
	spanUnits  = 1 << spanShift
	spanBytes  = spanUnits * unitBytes
	fineUnits  = 8 // classes grow by one unit up to here, then by two
	mostUnits  = 46
	classes    = fineUnits + (mostUnits-fineUnits)/2
	pocketFill = 16
	// chunkBytes is how much an arena of its own takes at a time.
	chunkBytes = 8 * spanBytes
	// roomBytes and a part of what is in use are kept in spans without a block.
	roomBytes = 4 << 20
	roomPart  = 16
	// freed stands where a block in use has the version that made it.
	freed = 1<<64 - 1
)

// NewArena returns an arena without memory. It gets some from take: at least so many
// bytes on an address that 32 divides. They are the caller's again when nobody has the
// arena, or a tree in it, any more. What is in parts of it need not be kept after drop
// was called with them. With a nil take it is the Go heap's, and nothing is dropped.
func NewArena(take func(atLeast int) []byte, drop func(memory []byte)) *Arena {
	if take == nil {
		take = func(atLeast int) []byte { return make([]byte, max(atLeast, chunkBytes)) }
		drop = func([]byte) {}
	}
	a := &Arena{take: take, drop: drop, info: make([]span, 1)}
	a.spans.Store(&[]unsafe.Pointer{nil}) // span 0 is none
	return a
}

// Bytes returns how many bytes the nodes use, those included that are kept for the next
// ones, and how many of memory there are for them that were not dropped.
func (a *Arena) Bytes() (used, taken int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, (len(a.info)-1-len(a.dropped))*spanBytes + len(a.rest)
}

// classOf returns the class of blocks for so many bytes.
func classOf(bytes int) int {
	units := (bytes + unitBytes - 1) / unitBytes
	if units <= fineUnits {
		return units - 1
	}
	return fineUnits + (units-fineUnits+1)/2 - 1
}

func classUnits(class int) int {
	if class < fineUnits {
		return class + 1
	}
	return fineUnits + 2*(class-fineUnits+1)
}

// blockBytes returns how many bytes a block for so many has.
func blockBytes(bytes int) int { return classUnits(classOf(bytes)) * unitBytes }

// at returns where a block is.
func (a *Arena) at(r ref) unsafe.Pointer {
	return unsafe.Add((*a.spans.Load())[r>>spanShift], int(r&(spanUnits-1))*unitBytes)
}

// pocket is free blocks in the hands of one goroutine.
type pocket struct {
	a    *Arena
	free [classes][]ref
}

// pocket returns one. It goes back by give, with what is in it.
func (a *Arena) pocket() *pocket {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.pockets)
	if n == 0 {
		return &pocket{a: a}
	}
	p := a.pockets[n-1]
	a.pockets = a.pockets[:n-1]
	return p
}

func (a *Arena) give(p *pocket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pockets = append(a.pockets, p)
}

// alloc returns a block for so many bytes, which hold anything.
func (p *pocket) alloc(bytes int) (ref, unsafe.Pointer) {
	free := &p.free[classOf(bytes)]
	if len(*free) == 0 {
		p.a.fill(classOf(bytes), free)
	}
	last := len(*free) - 1
	r := (*free)[last]
	*free = (*free)[:last]
	return r, p.a.at(r)
}

// put takes a block back that nobody has seen.
func (p *pocket) put(r ref, bytes int) {
	*(*uint64)(p.a.at(r)) = freed
	p.free[classOf(bytes)] = append(p.free[classOf(bytes)], r)
}

// fill appends some free blocks of a class.
func (a *Arena) fill(class int, to *[]ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range pocketFill {
		s := a.open(class)
		in := &a.info[s]
		last := len(in.free) - 1
		*to = append(*to, ref(s<<spanShift)|ref(in.free[last]))
		in.free = in.free[:last]
		a.used += classUnits(class) * unitBytes
	}
}

// open returns the first span of a class that has a free block. So those behind become
// vacant in time, however few blocks of the class are left.
func (a *Arena) open(class int) uint32 {
	for list := &a.partial[class]; len(*list) > 0; list.pop() {
		s := (*list)[0]
		if in := &a.info[s]; int(in.class) == class && len(in.free) > 0 {
			return s
		} else if int(in.class) == class {
			in.listed = false
		}
	}
	s := a.vacancy()
	in, units := &a.info[s], classUnits(class)
	in.class, in.listed, in.blocks = uint8(class), true, uint16(spanUnits/units)
	for i := int(in.blocks) - 1; i >= 0; i-- {
		in.free = append(in.free, uint16(i*units))
	}
	a.partial[class].push(s)
	return s
}

// spanHeap is spans, the least of which is in front.
type spanHeap []uint32

func (h *spanHeap) push(s uint32) {
	*h = append(*h, s)
	for at := len(*h) - 1; at > 0; {
		up := (at - 1) / 2
		if (*h)[up] <= (*h)[at] {
			return
		}
		(*h)[up], (*h)[at] = (*h)[at], (*h)[up]
		at = up
	}
}

// pop takes the least away.
func (h *spanHeap) pop() {
	last := len(*h) - 1
	(*h)[0] = (*h)[last]
	*h = (*h)[:last]
	for at := 0; ; {
		least := at
		for kid := 2*at + 1; kid <= 2*at+2 && kid < last; kid++ {
			if (*h)[kid] < (*h)[least] {
				least = kid
			}
		}
		if least == at {
			return
		}
		(*h)[at], (*h)[least] = (*h)[least], (*h)[at]
		at = least
	}
}

// vacancy returns a span without blocks.
func (a *Arena) vacancy() uint32 {
	if len(a.vacant) > 0 {
		s := a.vacant[0]
		a.vacant.pop()
		return s
	}
	if n := len(a.dropped); n > 0 {
		s := a.dropped[n-1]
		a.dropped = a.dropped[:n-1]
		return s
	}
	if len(a.rest) < spanBytes {
		a.rest = a.take(spanBytes)
	}
	s := len(a.info)
	if s >= 1<<(32-spanShift) {
		panic("state: an arena has no more than 128 GiB")
	}
	base := unsafe.Pointer(unsafe.SliceData(a.rest))
	if uintptr(base)%unitBytes != 0 {
		panic("state: memory of an arena begins between its units")
	}
	a.rest = a.rest[spanBytes:]
	a.info = append(a.info, span{})
	spans := append(*a.spans.Load(), base) // who reads the shorter one does not read what is added
	a.spans.Store(&spans)
	return uint32(s)
}

// release makes a block of use again. The arena is locked.
func (a *Arena) release(r ref) {
	mark := (*uint64)(a.at(r))
	if *mark == freed {
		panic(fmt.Sprintf("state: block %x is released twice", r))
	}
	*mark = freed
	s := uint32(r >> spanShift)
	in := &a.info[s]
	in.free = append(in.free, uint16(r&(spanUnits-1)))
	a.used -= classUnits(int(in.class)) * unitBytes
	switch {
	case len(in.free) == int(in.blocks):
		in.class, in.listed, in.free = classes, false, in.free[:0] // what lists name it are stale
		a.vacate(s)
	case !in.listed:
		in.listed = true
		a.partial[in.class].push(s)
	}
}

// vacate takes a span that has no block in use any more. There is room in such for what
// the next versions make; the memory of more is dropped.
func (a *Arena) vacate(s uint32) {
	if len(a.vacant)*spanBytes < roomBytes+a.used/roomPart {
		a.vacant.push(s)
		return
	}
	a.drop(unsafe.Slice((*byte)((*a.spans.Load())[s]), spanBytes))
	a.dropped = append(a.dropped, s)
}

// head is what a node begins with in memory.
type head struct {
	born   uint64 // version that made it
	used   uint16 // bit i: slot i is not empty
	leaves uint16 // bit i: slot i is a leaf
	// known says which of quarters are computed: the digests of the binary
	// subtrees over four slots, kept so that one changed slot costs four hashes
	// or five and not fifteen. A node of few slots, or a page of few leaves, has none;
	// in a page a quarter of less than two leaves has no digest that counts.
	known  uint8
	ends   [3]uint8 // of a page: where the leaves of the first three quarters end
	count  uint32   // of a page: its leaves; 0: it is no page
	places ref      // of a page
}

// placesHead is what the places of a page begin with.
type placesHead struct{ born uint64 }

const (
	headBytes    = int(unsafe.Sizeof(head{}))
	placesBytes  = int(unsafe.Sizeof(placesHead{}))
	digestBytes  = int(unsafe.Sizeof(crypto.Digest{}))
	quarterBytes = int(unsafe.Sizeof([4]crypto.Digest{}))
	leafBytes    = int(unsafe.Sizeof(leafSlot{}))
	kidBytes     = int(unsafe.Sizeof(kidSlot{}))
	sumBytes     = int(unsafe.Sizeof(sum{}))
)

// sumsOf returns how many sums a page of so many leaves has.
func sumsOf(leaves int) int {
	if leaves > fewSlots {
		leaves += 4
	}
	return leaves
}

// bytesOfNode returns how many bytes a node with those slots takes, bytesOfPage and
// bytesOfPlaces the two parts of a page.
func bytesOfNode(used, leaves uint16) int {
	size := headBytes + leafBytes*bits.OnesCount16(leaves) + kidBytes*bits.OnesCount16(used&^leaves)
	if bits.OnesCount16(used) > fewSlots {
		size += quarterBytes
	}
	return size
}

func bytesOfPage(leaves int) int   { return headBytes + sumBytes*sumsOf(leaves) }
func bytesOfPlaces(leaves int) int { return placesBytes + digestBytes*leaves }

// node returns a node in memory that some version made.
func (a *Arena) node(r ref, born uint64) node {
	p := a.at(r)
	h := (*head)(p)
	if h.born != born {
		panic(fmt.Sprintf("state: block %x is a node of version %d, and no longer that of %d", r, h.born, born))
	}
	if h.count == 0 {
		return slotted(h, unsafe.Add(p, headBytes))
	}
	return node{
		head:   h,
		sums:   unsafe.Slice((*sum)(unsafe.Add(p, headBytes)), sumsOf(int(h.count))),
		places: unsafe.Slice((*crypto.Digest)(unsafe.Add(a.at(h.places), placesBytes)), h.count),
	}
}

// slotted returns the node of sixteen slots that follow its head at p.
func slotted(h *head, p unsafe.Pointer) node {
	n := node{head: h}
	if bits.OnesCount16(h.used) > fewSlots {
		n.quarters = (*[4]crypto.Digest)(p)
		p = unsafe.Add(p, quarterBytes)
	}
	if leaves := bits.OnesCount16(h.leaves); leaves > 0 {
		n.leafs = unsafe.Slice((*leafSlot)(p), leaves)
		p = unsafe.Add(p, leaves*leafBytes)
	}
	if kids := bits.OnesCount16(h.used &^ h.leaves); kids > 0 {
		n.kids = unsafe.Slice((*kidSlot)(p), kids)
	}
	return n
}

// newNode returns a node with those slots, which hold anything.
func (p *pocket) newNode(version uint64, used, leaves uint16) (ref, node) {
	r, at := p.alloc(bytesOfNode(used, leaves))
	h := (*head)(at)
	*h = head{born: version, used: used, leaves: leaves}
	return r, slotted(h, unsafe.Add(at, headBytes))
}

// newSums returns a page that is at the places of another, with sums that hold anything.
func (p *pocket) newSums(version uint64, of *node) (ref, node) {
	r, at := p.alloc(bytesOfPage(len(of.places)))
	h := (*head)(at)
	*h = *of.head
	h.born = version
	return r, node{head: h, places: of.places, sums: unsafe.Slice((*sum)(unsafe.Add(at, headBytes)), len(of.sums))}
}

// newPage returns a page of so many leaves, which hold anything.
func (p *pocket) newPage(version uint64, leaves int) (ref, node) {
	places, at := p.alloc(bytesOfPlaces(leaves))
	(*placesHead)(at).born = version
	n := node{places: unsafe.Slice((*crypto.Digest)(unsafe.Add(at, placesBytes)), leaves)}
	r, at := p.alloc(bytesOfPage(leaves))
	n.head = (*head)(at)
	*n.head = head{born: version, count: uint32(leaves), places: places}
	n.sums = unsafe.Slice((*sum)(unsafe.Add(at, headBytes)), sumsOf(leaves))
	return r, n
}

// placesBorn returns which version made the places of a page.
func (a *Arena) placesBorn(n *node) uint64 { return (*placesHead)(a.at(n.head.places)).born }

// discard takes back a node that a version made and nobody has seen.
func (p *pocket) discard(r ref, version uint64) {
	n := p.a.node(r, version)
	if !n.page() {
		p.put(r, bytesOfNode(n.used, n.head.leaves))
		return
	}
	if p.a.placesBorn(&n) == version {
		p.put(n.head.places, bytesOfPlaces(len(n.places)))
	}
	p.put(r, bytesOfPage(len(n.places)))
}
