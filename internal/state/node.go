package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sort"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The physical tree: nodes of sixteen slots, four binary levels each, and pages.
const (
	fanout    = 16
	leafDepth = 2 * crypto.DigestSize // nibbles of a position
	// pageLeaves is up to how many leaves a subtree below the root is a page.
	pageLeaves = 32
)

// leafSlot is what a node knows of a child that is a leaf.
type leafSlot struct {
	hash     crypto.Digest
	position crypto.Digest
	version  uint64 // that wrote the leaf's record
}

// kidSlot is what a node, or the tree itself, knows of a child that is a node.
type kidSlot struct {
	hash    crypto.Digest // of the child's binary subtree
	version stamp         // that wrote the child's record
	node    ref           // 0: it is on disk alone
}

// MaxVersion is the last version that there can be: a node names one for each of its leaves
// or children, and half as many bytes for that are bytes that an update need not copy.
const MaxVersion = math.MaxUint32

// stamp is a version as a node names it.
type stamp uint32

// stampOf returns the stamp of a version. Who makes or opens one has seen that it has one.
func stampOf(version uint64) stamp {
	if version > MaxVersion {
		panic(fmt.Sprintf("state: version %d is beyond the last", version))
	}
	return stamp(version)
}

// node is sixteen slots, the empty ones left out; or it is a page: all leaves of a
// small subtree, in ascending order of positions, which is then one record. What it
// consists of is in an arena, or, of one that was read and is soon forgotten, on the
// Go heap. It never changes once it is reachable from a tree.
type node struct {
	*head
	quarters *[4]crypto.Digest
	leafs    []leafSlot // by slot
	kids     []kidSlot  // by slot

	// Of a page: where its leaves are, which stays when their values change and then is
	// the same memory in all versions, and for each the version that wrote its record, and
	// its digest; then, if there are more than few, the digests of the quarters.
	places   []crypto.Digest // 2 to pageLeaves; nil: it is no page
	versions []stamp
	digests  []crypto.Digest

	opened []*node // by kid, if the node stands for a page: what its kids are
}

// newPage returns the page at a depth of leaves in ascending order of positions.
func newPage(leaves []leafSlot, depth int) *node {
	n := blankPage(len(leaves))
	n.setLeaves(leaves, depth)
	return n
}

// blankPage returns a page with room for so many leaves.
func blankPage(leaves int) *node {
	return &node{head: &head{count: uint32(leaves)}, places: make([]crypto.Digest, leaves), versions: make([]stamp, leaves), digests: make([]crypto.Digest, digestsOf(leaves))}
}

// setLeaves fills a page at some depth.
func (n *node) setLeaves(leaves []leafSlot, depth int) {
	for i := range leaves {
		n.setLeaf(i, &leaves[i])
	}
	n.divide(depth)
}

func (n *node) setLeaf(i int, leaf *leafSlot) {
	n.places[i], n.versions[i], n.digests[i] = leaf.position, stampOf(leaf.version), leaf.hash
}

// divide finds out where the quarters of a page at some depth end.
func (n *node) divide(depth int) {
	at := 0
	for q := range n.ends {
		for at < len(n.places) && pageQuarter(&n.places[at], depth) <= q {
			at++
		}
		n.ends[q] = uint8(at)
	}
}

// page reports whether the node is one.
func (n *node) page() bool { return n.places != nil }

// quarter returns which leaves of a page are in a quarter.
func (h *head) quarter(q int) (from, to int) {
	from, to = 0, int(h.count)
	if q > 0 {
		from = int(h.ends[q-1])
	}
	if q < len(h.ends) {
		to = int(h.ends[q])
	}
	return from, to
}

// leafAt returns a leaf of a page.
func (n *node) leafAt(i int) leafSlot {
	return leafSlot{hash: n.digests[i], position: n.places[i], version: uint64(n.versions[i])}
}

// appendLeaves appends all leaves of a page.
func (n *node) appendLeaves(dst []leafSlot) []leafSlot {
	for i := range n.places {
		dst = append(dst, n.leafAt(i))
	}
	return dst
}

// fewSlots is up to how many slots a node does without quarters.
const fewSlots = 4

// size is how many bytes a node takes in an arena.
func (n *node) size() int {
	if n.page() {
		return blockBytes(bytesOfPage(len(n.places))) + blockBytes(bytesOfPlaces(len(n.places)))
	}
	return blockBytes(bytesOfNode(n.used, n.leaves))
}

func rank(bits16 uint16, i int) int { return bits.OnesCount16(bits16 & (1<<i - 1)) }

// leaf returns slot i if it is a leaf, or nil.
func (n *node) leaf(i int) *leafSlot {
	if n.leaves>>i&1 == 0 {
		return nil
	}
	return &n.leafs[rank(n.leaves, i)]
}

// kid returns slot i if it is a node, or nil.
func (n *node) kid(i int) *kidSlot {
	if (n.used&^n.leaves)>>i&1 == 0 {
		return nil
	}
	return &n.kids[rank(n.used&^n.leaves, i)]
}

// noDigest is that of a subtree without leaves.
var noDigest crypto.Digest

// digestAt returns where the digest of slot i is.
func (n *node) digestAt(i int) *crypto.Digest {
	if kid := n.kid(i); kid != nil {
		return &kid.hash
	}
	if leaf := n.leaf(i); leaf != nil {
		return &leaf.hash
	}
	return &noDigest
}

// resident adds up the sizes of the nodes in memory from one down.
func (a *Arena) resident(at *kidSlot) int {
	if at.node == 0 {
		return 0
	}
	n := a.node(at.node, uint64(at.version))
	size := n.size()
	for i := range n.kids {
		size += a.resident(&n.kids[i])
	}
	return size
}

// fold returns the digest of the binary subtree over the slots
// [lo, lo+width), width a power of two.
func (n *node) fold(lo, width int) crypto.Digest {
	mask := uint16(1<<width-1) << lo
	used := n.used & mask
	switch {
	case used == 0:
		return crypto.Digest{}
	case used&(used-1) == 0 && (width == 1 || n.leaves&used != 0):
		return *n.digestAt(bits.TrailingZeros16(used))
	case width == 4 && n.known>>(lo/4)&1 != 0:
		return n.quarters[lo/4]
	}
	half := width / 2
	return crypto.DomainStateInner.HashPair(n.fold(lo, half), n.fold(lo+half, half))
}

// digest returns the digest of the subtree of a node at some depth.
func (n *node) digest(depth int) crypto.Digest {
	if n.page() {
		return foldPage(n.appendLeaves(nil), 4*depth)
	}
	return n.fold(0, fanout)
}

// keep keeps the quarters of a node that has room for them.
func (n *node) keep(quarters *[4]crypto.Digest) {
	if n.quarters != nil {
		*n.quarters, n.known = *quarters, 15
	}
}

// seal computes the quarters that are not known, if the node has such, and
// returns the node's digest.
func (n *node) seal() crypto.Digest {
	if bits.OnesCount16(n.used) > fewSlots {
		var quarters [4]crypto.Digest
		for q := range quarters {
			quarters[q] = n.fold(4*q, 4)
		}
		n.keep(&quarters)
	}
	return n.fold(0, fanout)
}

// open returns the node of sixteen slots that stands for a page at some depth, and
// any other node as it is: for who walks slot by slot.
func (n *node) open(depth int) *node {
	if !n.page() {
		return n
	}
	out := &node{head: &head{}}
	for rest := n.appendLeaves(nil); len(rest) > 0; {
		var group []leafSlot
		i := nibble(&rest[0].position, depth)
		group, rest = splitLeaves(rest, depth)
		out.used |= 1 << i
		if len(group) == 1 {
			out.leaves |= 1 << i
			out.leafs = append(out.leafs, group[0])
			continue
		}
		out.kids = append(out.kids, kidSlot{hash: foldPage(group, 4*(depth+1))})
		out.opened = append(out.opened, newPage(group, depth+1))
	}
	return out
}

// splitLeaves cuts off the leaves that share the first one's nibble at depth.
func splitLeaves(leaves []leafSlot, depth int) (group, rest []leafSlot) {
	i, n := nibble(&leaves[0].position, depth), 1
	for n < len(leaves) && nibble(&leaves[n].position, depth) == i {
		n++
	}
	return leaves[:n:n], leaves[n:]
}

// pageQuarter returns in which quarter of a page at some depth a position is.
func pageQuarter(position *crypto.Digest, depth int) int { return nibble(position, depth) >> 2 }

// inPage returns the index in a page of the first leaf at or after a position.
func (n *node) inPage(position *crypto.Digest) int {
	return sort.Search(len(n.places), func(i int) bool { return n.places[i].Compare(*position) >= 0 })
}

// foldPage returns the digest of the binary subtree, its root at a depth of so many
// bits, of leaves in ascending order of positions.
func foldPage(leaves []leafSlot, bit int) crypto.Digest {
	switch len(leaves) {
	case 0:
		return crypto.Digest{}
	case 1:
		return leaves[0].hash
	}
	split := 0
	for split < len(leaves) && leaves[split].position[bit/8]>>(7-bit%8)&1 == 0 {
		split++
	}
	return crypto.DomainStateInner.HashPair(foldPage(leaves[:split], bit+1), foldPage(leaves[split:], bit+1))
}

// nibble returns the i-th nibble of a position, the most significant first.
func nibble(position *crypto.Digest, i int) int {
	b := position[i/2]
	if i%2 == 0 {
		return int(b >> 4)
	}
	return int(b & 15)
}

// appendNodeKey appends the name of a record: version (8 bytes, big endian) ‖
// depth (1 byte: nibbles of the path) ‖ path (two nibbles a byte, the last byte
// filled up with zero). Depth 64 is a leaf.
func appendNodeKey(dst []byte, version uint64, depth int, position *crypto.Digest) []byte {
	dst = binary.BigEndian.AppendUint64(dst, version)
	dst = append(dst, byte(depth))
	dst = append(dst, position[:depth/2]...)
	if depth%2 == 1 {
		dst = append(dst, position[depth/2]&0xf0)
	}
	return dst
}

const nodeHeaderBytes = 4

// appendNode appends the record of a node that version wrote: used and leaves
// (2 bytes each, big endian), then for each slot its digest, the distance of
// its version from the node's (uvarint), and for a leaf its position. A page has
// zero for used, the number of its leaves for leaves, and the same of each.
func appendNode(dst []byte, version uint64, n *node) []byte {
	if n.page() {
		dst = binary.BigEndian.AppendUint16(dst, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(n.places)))
		for i := range n.places {
			dst = appendLeafSlot(dst, &n.digests[i], version-uint64(n.versions[i]), &n.places[i])
		}
		return dst
	}
	dst = binary.BigEndian.AppendUint16(dst, n.used)
	dst = binary.BigEndian.AppendUint16(dst, n.leaves)
	for rest, leaf, kid := n.used, 0, 0; rest != 0; rest &= rest - 1 {
		if n.leaves&rest&-rest != 0 {
			s := &n.leafs[leaf]
			dst = appendLeafSlot(dst, &s.hash, version-s.version, &s.position)
			leaf++
			continue
		}
		s := &n.kids[kid]
		dst = append(dst, s.hash[:]...)
		dst = binary.AppendUvarint(dst, version-uint64(s.version))
		kid++
	}
	return dst
}

func appendLeafSlot(dst []byte, hash *crypto.Digest, distance uint64, position *crypto.Digest) []byte {
	dst = append(dst, hash[:]...)
	dst = binary.AppendUvarint(dst, distance)
	return append(dst, position[:]...)
}

var errRecord = errors.New("state: node record is corrupt")

// decodeNode reads the record of a node at some depth that version wrote.
func decodeNode(data []byte, version uint64, depth int) (*node, error) {
	if len(data) < nodeHeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes", errRecord, len(data))
	}
	used, leaves := binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:])
	r := slotReader{rest: data[nodeHeaderBytes:], version: version}
	if used == 0 && leaves != 0 {
		return r.page(int(leaves), depth)
	}
	if leaves&^used != 0 {
		return nil, fmt.Errorf("%w: a leaf in an empty slot", errRecord)
	}
	n := &node{head: &head{used: used, leaves: leaves}}
	n.leafs = make([]leafSlot, 0, bits.OnesCount16(leaves))
	n.kids = make([]kidSlot, 0, bits.OnesCount16(used&^leaves))
	for rest := used; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros16(rest)
		var kid kidSlot
		var leaf leafSlot
		var err error
		if leaves>>i&1 != 0 {
			err = r.leaf(&leaf)
			n.leafs = append(n.leafs, leaf)
		} else {
			var version uint64
			kid.hash, version, err = r.slot()
			kid.version = stampOf(version)
			n.kids = append(n.kids, kid)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: slot %d", err, i)
		}
	}
	return n, r.end()
}

// slotReader reads the slots of a node's record.
type slotReader struct {
	rest    []byte
	version uint64 // of the node
}

// page reads the slots of a page of so many leaves at some depth.
func (r *slotReader) page(leaves, depth int) (*node, error) {
	if leaves < 2 || leaves > pageLeaves {
		return nil, fmt.Errorf("%w: a page of %d leaves, want 2 to %d", errRecord, leaves, pageLeaves)
	}
	n := blankPage(leaves)
	for i := range n.places {
		var leaf leafSlot
		if err := r.leaf(&leaf); err != nil {
			return nil, fmt.Errorf("%w: leaf %d of a page", err, i)
		}
		n.setLeaf(i, &leaf)
		if i > 0 && n.places[i-1].Compare(n.places[i]) >= 0 {
			return nil, fmt.Errorf("%w: leaf %d of a page is not above the one before it", errRecord, i)
		}
	}
	n.divide(depth)
	return n, r.end()
}

func (r *slotReader) slot() (hash crypto.Digest, version uint64, err error) {
	if len(r.rest) < crypto.DigestSize {
		return hash, 0, fmt.Errorf("%w: it ends within", errRecord)
	}
	r.rest = r.rest[copy(hash[:], r.rest):]
	distance, size := binary.Uvarint(r.rest)
	if size <= 0 || distance > r.version || hash.IsZero() {
		return hash, 0, fmt.Errorf("%w: no digest, or no version", errRecord)
	}
	r.rest = r.rest[size:]
	return hash, r.version - distance, nil
}

func (r *slotReader) leaf(to *leafSlot) (err error) {
	if to.hash, to.version, err = r.slot(); err != nil {
		return err
	}
	if len(r.rest) < crypto.DigestSize {
		return fmt.Errorf("%w: it ends within", errRecord)
	}
	r.rest = r.rest[copy(to.position[:], r.rest):]
	return nil
}

func (r *slotReader) end() error {
	if len(r.rest) != 0 {
		return fmt.Errorf("%w: %d bytes too many", errRecord, len(r.rest))
	}
	return nil
}

// appendLeaf appends the record of a leaf: the key's length (uvarint), the
// key, the value.
func appendLeaf(dst, key, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = append(dst, key...)
	return append(dst, value...)
}

// decodeLeaf reads the record of a leaf. The results are parts of data.
func decodeLeaf(data []byte) (key, value []byte, err error) {
	length, size := binary.Uvarint(data)
	if size <= 0 || length > MaxKeyBytes || uint64(len(data)-size) < length {
		return nil, nil, fmt.Errorf("%w: leaf of %d bytes", errRecord, len(data))
	}
	key = data[size : size+int(length) : size+int(length)]
	return key, data[size+int(length):], nil
}

func leafHash(position crypto.Digest, value []byte) crypto.Digest {
	return crypto.DomainStateLeaf.HashPair(position, crypto.DomainStateValue.Hash(value))
}

// Position returns where key's leaf is in the tree.
func Position(key []byte) crypto.Digest { return crypto.DomainStateKey.Hash(key) }
