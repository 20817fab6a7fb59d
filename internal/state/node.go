package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The physical tree: nodes of sixteen slots, four binary levels each.
const (
	fanout    = 16
	leafDepth = 2 * crypto.DigestSize // nibbles of a position
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
	version uint64        // that wrote the child's record
	node    *node         // nil: it is on disk alone
}

// node is sixteen slots, the empty ones left out. It never changes once it is
// reachable from a tree; versions of a node share what they have in common.
type node struct {
	used   uint16 // bit i: slot i is not empty
	leaves uint16 // bit i: slot i is a leaf
	// known says which of quarters are computed: the digests of the binary
	// subtrees over four slots, kept so that one changed slot costs four hashes
	// or five and not fifteen. A node of few slots has none.
	known    uint8
	quarters *[4]crypto.Digest
	leafs    []leafSlot // by slot
	kids     []kidSlot  // by slot
}

// fewSlots is up to how many slots a node does without quarters.
const fewSlots = 4

// size is about how many bytes a node takes in memory.
func (n *node) size() int {
	const fixed, leaf, kid, quarters = 80, 72, 48, 128
	size := fixed + leaf*len(n.leafs) + kid*len(n.kids)
	if n.quarters != nil {
		size += quarters
	}
	return size
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

// hash returns the digest of slot i, zero if it is empty.
func (n *node) hash(i int) crypto.Digest {
	if leaf := n.leaf(i); leaf != nil {
		return leaf.hash
	}
	if kid := n.kid(i); kid != nil {
		return kid.hash
	}
	return crypto.Digest{}
}

// lone returns the only slot if it is the only one and a leaf, or nil.
func (n *node) lone() *leafSlot {
	if len(n.leafs) == 1 && len(n.kids) == 0 {
		return &n.leafs[0]
	}
	return nil
}

// resident adds up the sizes of the nodes in memory from this one down.
func (n *node) resident() int {
	size := n.size()
	for i := range n.kids {
		if below := n.kids[i].node; below != nil {
			size += below.resident()
		}
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
		return n.hash(bits.TrailingZeros16(used))
	case width == 4 && n.known>>(lo/4)&1 != 0:
		return n.quarters[lo/4]
	}
	half := width / 2
	return crypto.DomainStateInner.HashPair(n.fold(lo, half), n.fold(lo+half, half))
}

// keep keeps the quarters of a node of more than few slots.
func (n *node) keep(quarters *[4]crypto.Digest) {
	if bits.OnesCount16(n.used) > fewSlots {
		own := *quarters // those so far may be those of the version before
		n.quarters, n.known = &own, 15
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
// its version from the node's (uvarint), and for a leaf its position.
func appendNode(dst []byte, version uint64, n *node) []byte {
	dst = binary.BigEndian.AppendUint16(dst, n.used)
	dst = binary.BigEndian.AppendUint16(dst, n.leaves)
	for rest, leaf, kid := n.used, 0, 0; rest != 0; rest &= rest - 1 {
		if n.leaves&rest&-rest != 0 {
			s := &n.leafs[leaf]
			dst = append(dst, s.hash[:]...)
			dst = binary.AppendUvarint(dst, version-s.version)
			dst = append(dst, s.position[:]...)
			leaf++
			continue
		}
		s := &n.kids[kid]
		dst = append(dst, s.hash[:]...)
		dst = binary.AppendUvarint(dst, version-s.version)
		kid++
	}
	return dst
}

var errRecord = errors.New("state: node record is corrupt")

// decodeNode reads the record of a node that version wrote.
func decodeNode(data []byte, version uint64) (*node, error) {
	if len(data) < nodeHeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes", errRecord, len(data))
	}
	n := &node{used: binary.BigEndian.Uint16(data), leaves: binary.BigEndian.Uint16(data[2:])}
	if n.leaves&^n.used != 0 {
		return nil, fmt.Errorf("%w: a leaf in an empty slot", errRecord)
	}
	data = data[nodeHeaderBytes:]
	n.leafs = make([]leafSlot, 0, bits.OnesCount16(n.leaves))
	n.kids = make([]kidSlot, 0, bits.OnesCount16(n.used&^n.leaves))
	for rest := n.used; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros16(rest)
		if len(data) < crypto.DigestSize {
			return nil, fmt.Errorf("%w: ends in slot %d", errRecord, i)
		}
		var hash crypto.Digest
		data = data[copy(hash[:], data):]
		distance, size := binary.Uvarint(data)
		if size <= 0 || distance > version || hash.IsZero() {
			return nil, fmt.Errorf("%w: slot %d", errRecord, i)
		}
		data = data[size:]
		if n.leaves>>i&1 == 0 {
			n.kids = append(n.kids, kidSlot{hash: hash, version: version - distance})
			continue
		}
		leaf := leafSlot{hash: hash, version: version - distance}
		if len(data) < crypto.DigestSize {
			return nil, fmt.Errorf("%w: ends in the leaf of slot %d", errRecord, i)
		}
		data = data[copy(leaf.position[:], data):]
		n.leafs = append(n.leafs, leaf)
	}
	if len(data) != 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", errRecord, len(data))
	}
	return n, nil
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
