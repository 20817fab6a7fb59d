package state

import (
	"fmt"
	"math/bits"
	"slices"
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
	rest    []byte // of the memory taken last
	groups  []group
	vacant  spanHeap          // spans without a block in use, those of dropped groups left out
	bare    int               // groups all of whose spans are among these
	dropped []uint32          // groups that take no memory
	missing int               // spans of such
	partial [classes]spanHeap // spans of a class that have, or had, free blocks
	pockets []*pocket         // that nobody uses
	used    int               // bytes of blocks, those in pockets included
	seen    byte
}

// ref names a block: the number of its span, and where in it, in units. 0 is none.
type ref uint32

// span is a piece of memory that is cut into blocks of one class. What is known of it is
// half a line of the processor's caches: a version's blocks are of hundreds of spans.
type span struct {
	class  uint8
	listed bool // is in partial
	blocks uint8
	left   uint8  // of these are free
	group  uint32 // index in groups
	free   [mostBlocks / 64]uint64
}

// group is spans one after the other that are dropped together: a large page of the
// processor, of which no part can be dropped without losing the whole.
type group struct {
	first         uint32
	spans, vacant uint16
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
	mostBlocks = 192 // of a span
	groupSpans = (2 << 20) / spanBytes
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
	return a.used, (len(a.info)-1-a.missing)*spanBytes + len(a.rest)
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

// pocket is what is in the hands of one goroutine: free blocks, and room to hash in.
type pocket struct {
	a      *Arena
	free   [classes][]ref
	sealer sealer
	seen   byte
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
		for _, r := range *free { // all of them are written to soon: the processor waits for them together
			p.seen ^= look(p.a.at(r), bytes)
		}
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
	units := classUnits(class)
	for wanted := pocketFill; wanted > 0; {
		s := a.open(class)
		for in := &a.info[s]; wanted > 0 && in.left > 0; wanted-- {
			*to = append(*to, ref(s<<spanShift)|ref(in.take()*units))
		}
	}
	a.used += pocketFill * units * unitBytes
}

// take returns the first free block of a span that has one.
func (in *span) take() int {
	for w := range in.free {
		if rest := in.free[w]; rest != 0 {
			in.free[w] = rest & (rest - 1)
			in.left--
			return 64*w + bits.TrailingZeros64(rest)
		}
	}
	panic("state: a span has no free block, and says that it has")
}

// open returns the first span of a class that has a free block. So those behind become
// vacant in time, however few blocks of the class are left.
func (a *Arena) open(class int) uint32 {
	for list := &a.partial[class]; len(*list) > 0; list.pop() {
		s := (*list)[0]
		if in := &a.info[s]; int(in.class) == class && in.left > 0 {
			return s
		} else if int(in.class) == class {
			in.listed = false
		}
	}
	s := a.vacancy()
	in := &a.info[s]
	in.class, in.listed, in.blocks = uint8(class), true, uint8(min(spanUnits/classUnits(class), mostBlocks))
	in.left, in.free = in.blocks, [mostBlocks / 64]uint64{}
	for i := range int(in.blocks) {
		in.free[i/64] |= 1 << (i % 64)
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
	if len(a.vacant) == 0 {
		if n := len(a.dropped); n > 0 {
			a.offer(a.dropped[n-1])
			a.missing -= int(a.groups[a.dropped[n-1]].spans)
			a.dropped = a.dropped[:n-1]
		} else {
			a.extend()
		}
	}
	s := a.vacant[0]
	a.vacant.pop()
	g := &a.groups[a.info[s].group]
	if g.vacant == g.spans {
		a.bare--
	}
	g.vacant--
	return s
}

// offer makes the spans of a group vacant, none of which is in use.
func (a *Arena) offer(number uint32) {
	g := &a.groups[number]
	for i := range uint32(g.spans) {
		a.vacant.push(g.first + i)
	}
	g.vacant = g.spans
	a.bare++
}

// extend makes another group of spans.
func (a *Arena) extend() {
	if len(a.rest) < spanBytes {
		a.rest = a.take(spanBytes)
	}
	number := uint32(len(a.groups))
	g := group{first: uint32(len(a.info)), spans: uint16(min(groupSpans, len(a.rest)/spanBytes))}
	if int(g.first)+int(g.spans) > 1<<(32-spanShift) {
		panic("state: an arena has no more than 128 GiB")
	}
	spans := *a.spans.Load()
	for range g.spans {
		base := unsafe.Pointer(unsafe.SliceData(a.rest))
		if uintptr(base)%unitBytes != 0 {
			panic("state: memory of an arena begins between its units")
		}
		a.rest = a.rest[spanBytes:]
		a.info = append(a.info, span{class: classes, group: number})
		spans = append(spans, base) // who reads the shorter one does not read what is added
	}
	a.spans.Store(&spans)
	a.groups = append(a.groups, g)
	a.offer(number)
}

// release makes a block of use again. The arena is locked.
func (a *Arena) release(r ref) {
	mark := (*uint64)(a.at(r))
	if *mark == freed {
		panic(fmt.Sprintf("state: block %x is released twice", r))
	}
	*mark = freed
	a.restore(r)
}

// restore makes a block free in its span. The arena is locked.
func (a *Arena) restore(r ref) {
	s := uint32(r >> spanShift)
	in := &a.info[s]
	units := classUnits(int(in.class))
	block := int(r&(spanUnits-1)) / units
	in.free[block/64] |= 1 << (block % 64)
	in.left++
	a.used -= units * unitBytes
	switch {
	case in.left == in.blocks:
		in.class, in.listed = classes, false // what lists name it are stale
		a.vacate(s)
	case !in.listed:
		in.listed = true
		a.partial[in.class].push(s)
	}
}

// vacate takes a span that has no block in use any more. There is room in such for what
// the next versions make; the memory of more is dropped, by whole groups.
func (a *Arena) vacate(s uint32) {
	a.vacant.push(s)
	g := &a.groups[a.info[s].group]
	if g.vacant++; g.vacant == g.spans {
		a.bare++
	}
	if (len(a.vacant)-groupSpans)*spanBytes < roomBytes+a.used/roomPart {
		return
	}
	if a.bare > 0 {
		a.dropLast()
		return
	}
	idle := a.pockets // what they keep may be all that holds a group
	a.pockets = nil
	for _, p := range idle {
		for _, free := range p.free {
			for _, r := range free {
				a.restore(r)
			}
		}
	}
}

// dropLast drops the last group that has no span in use. There is one.
func (a *Arena) dropLast() {
	number := len(a.groups) - 1
	for a.groups[number].vacant != a.groups[number].spans {
		number--
	}
	g := &a.groups[number]
	kept := a.vacant[:0]
	for _, s := range a.vacant {
		if s < g.first || s >= g.first+uint32(g.spans) {
			kept = append(kept, s)
		}
	}
	slices.Sort(kept)
	a.vacant, a.bare, g.vacant = kept, a.bare-1, 0
	a.drop(unsafe.Slice((*byte)((*a.spans.Load())[g.first]), int(g.spans)*spanBytes))
	a.dropped, a.missing = append(a.dropped, uint32(number)), a.missing+int(g.spans)
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
