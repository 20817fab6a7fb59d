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
	rest    []byte // of the memory taken last
	groups  []group
	vacant  spanSet          // spans without a block in use, those of dropped groups left out
	bare    int              // groups all of whose spans are among these
	dropped []uint32         // groups that take no memory
	missing int              // spans of such
	partial [classes]spanSet // spans of a class that have free blocks
	pockets []*pocket        // that nobody uses
	used    int              // bytes of blocks, those in pockets included
	seen    byte
}

// ref names a block: the number of its span, and where in it, in units. 0 is none.
type ref uint32

// span is a piece of memory that is cut into blocks of one class. What is known of it is
// half a line of the processor's caches: a version's blocks are of hundreds of spans.
type span struct {
	class  uint8
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
	// blocksAhead is how many blocks before it one is asked for.
	blocksAhead = 4
	mostBlocks  = 192 // of a span
	groupSpans  = (2 << 20) / spanBytes
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
	ahead  ahead
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
		for _, r := range (*free)[len(*free)-blocksAhead:] {
			prefetch(p.a.at(r), bytes)
		}
	}
	last := len(*free) - 1
	r := (*free)[last]
	*free = (*free)[:last]
	if last >= blocksAhead {
		prefetch(p.a.at((*free)[last-blocksAhead]), bytes) // it is written to soon
	}
	return r, p.a.at(r)
}

// put takes a block back that nobody has seen.
func (p *pocket) put(r ref, bytes int) {
	p.a.retire(r)
	p.free[classOf(bytes)] = append(p.free[classOf(bytes)], r)
}

// fill appends some free blocks of a class.
func (a *Arena) fill(class int, to *[]ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	units := classUnits(class)
	for wanted := pocketFill; wanted > 0; {
		s := a.open(class)
		in := &a.info[s]
		for ; wanted > 0 && in.left > 0; wanted-- {
			*to = append(*to, ref(s<<spanShift)|ref(in.take()*units))
		}
		if in.left == 0 {
			a.partial[class].remove(s)
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
	if s, some := a.partial[class].least(); some {
		return s
	}
	s := a.vacancy()
	in := &a.info[s]
	in.class, in.blocks = uint8(class), uint8(min(spanUnits/classUnits(class), mostBlocks))
	in.left, in.free = in.blocks, [mostBlocks / 64]uint64{}
	for i := range int(in.blocks) {
		in.free[i/64] |= 1 << (i % 64)
	}
	a.partial[class].add(s)
	return s
}

// vacancy returns a span without blocks.
func (a *Arena) vacancy() uint32 {
	if a.vacant.count == 0 {
		if n := len(a.dropped); n > 0 {
			a.offer(a.dropped[n-1])
			a.missing -= int(a.groups[a.dropped[n-1]].spans)
			a.dropped = a.dropped[:n-1]
		} else {
			a.extend()
		}
	}
	s, _ := a.vacant.least()
	a.vacant.remove(s)
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
		a.vacant.add(g.first + i)
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
	a.retire(r)
	a.restore(r)
}

// retire marks a block that was in use.
func (a *Arena) retire(r ref) {
	mark := (*uint64)(a.at(r))
	if *mark == freed {
		panic(fmt.Sprintf("state: block %x is released twice", r))
	}
	*mark = freed
}

// restore makes a block free in its span. The arena is locked.
func (a *Arena) restore(r ref) {
	s := uint32(r >> spanShift)
	in := &a.info[s]
	units := classUnits(int(in.class))
	block := int(r&(spanUnits-1)) / units
	bit := uint64(1) << (block % 64)
	if in.class == classes || in.free[block/64]&bit != 0 { // what a dropped block is marked with is gone
		panic(fmt.Sprintf("state: block %x is free twice", r))
	}
	in.free[block/64] |= bit
	in.left++
	a.used -= units * unitBytes
	switch {
	case in.left == in.blocks:
		a.partial[in.class].remove(s)
		in.class = classes
		a.vacate(s)
	case in.left == 1:
		a.partial[in.class].add(s)
	}
}

// vacate takes a span that has no block in use any more. There is room in such for what
// the next versions make; the memory of more is dropped, by whole groups.
func (a *Arena) vacate(s uint32) {
	a.vacant.add(s)
	g := &a.groups[a.info[s].group]
	if g.vacant++; g.vacant == g.spans {
		a.bare++
	}
	if (a.vacant.count-groupSpans)*spanBytes < roomBytes+a.used/roomPart {
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
	for i := range uint32(g.spans) {
		a.vacant.remove(g.first + i)
	}
	a.bare, g.vacant = a.bare-1, 0
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
	stampBytes   = int(unsafe.Sizeof(stamp(0)))
)

// digestsOf returns how many digests a page of so many leaves has.
func digestsOf(leaves int) int {
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

func bytesOfPage(leaves int) int {
	return headBytes + stampBytes*leaves + digestBytes*digestsOf(leaves)
}
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
	n := node{head: h, places: unsafe.Slice((*crypto.Digest)(unsafe.Add(a.at(h.places), placesBytes)), h.count)}
	n.paged(unsafe.Add(p, headBytes))
	return n
}

// paged sets what a page has at p, after its head.
func (n *node) paged(p unsafe.Pointer) {
	leaves := int(n.count)
	n.versions = unsafe.Slice((*stamp)(p), leaves)
	n.digests = unsafe.Slice((*crypto.Digest)(unsafe.Add(p, stampBytes*leaves)), digestsOf(leaves))
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

// newValues returns a page that is at the places of another, whose versions and digests
// hold anything.
func (p *pocket) newValues(version uint64, of *node) (ref, node) {
	r, at := p.alloc(bytesOfPage(len(of.places)))
	h := (*head)(at)
	*h = *of.head
	h.born = version
	n := node{head: h, places: of.places}
	n.paged(unsafe.Add(at, headBytes))
	return r, n
}

// newPage returns a page of so many leaves, which hold anything.
func (p *pocket) newPage(version uint64, leaves int) (ref, node) {
	places, at := p.alloc(bytesOfPlaces(leaves))
	(*placesHead)(at).born = version
	n := node{places: unsafe.Slice((*crypto.Digest)(unsafe.Add(at, placesBytes)), leaves)}
	r, at := p.alloc(bytesOfPage(leaves))
	n.head = (*head)(at)
	*n.head = head{born: version, count: uint32(leaves), places: places}
	n.paged(unsafe.Add(at, headBytes))
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
