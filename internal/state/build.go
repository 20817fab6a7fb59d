package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

var errLeafOrder = errors.New("state: leaves are not in strictly ascending order of positions")

// leafKeyBytes is the length of the key of a leaf's record.
const leafKeyBytes = 8 + 1 + crypto.DigestSize

// LeafRecord returns the key and the record of a leaf that a version wrote, as
// Batch.Nodes yields them. Keys of one version's leaves ascend with their
// positions: see LeafKeys.
func LeafRecord(version uint64, e Entry) (key, record []byte) {
	assertKey(len(e.Key))
	assertValue(len(e.Value))
	return appendNodeKey(make([]byte, 0, leafKeyBytes), version, leafDepth, &e.Position), appendLeaf(nil, e.Key, e.Value)
}

// LeafKeys returns between which keys the records of the leaves are that a
// version wrote: lower ≤ key < upper.
func LeafKeys(version uint64) (lower, upper []byte) {
	lower = append(binary.BigEndian.AppendUint64(nil, version), leafDepth)
	return lower, append(binary.BigEndian.AppendUint64(nil, version), leafDepth+1)
}

// Builder makes the nodes of one version from all of its leaves, in ascending
// order of positions, and keeps no more in memory than one way from the root to
// a leaf. It is for a state that comes whole and not as changes.
type Builder struct {
	version uint64
	write   func(key, record []byte) error
	open    []*node // the nodes on the way to last, by depth

	some   bool
	last   crypto.Digest // position of the last leaf, which is not in its node yet
	hash   crypto.Digest // of that leaf
	common int           // nibbles that it shares with the leaf before it
}

// NewBuilder returns a builder that hands each node's key and record to write,
// which may keep them. The records of the leaves are not its business: see
// LeafRecord.
func NewBuilder(version uint64, write func(key, record []byte) error) *Builder {
	return &Builder{version: version, write: write, open: []*node{{}}}
}

// AddRecord adds the leaf of a record that LeafRecord made.
func (b *Builder) AddRecord(key, record []byte) error {
	if len(key) != leafKeyBytes || binary.BigEndian.Uint64(key) != b.version || key[8] != leafDepth {
		return fmt.Errorf("%w: %x is no leaf of version %d", errRecord, key, b.version)
	}
	_, value, err := decodeLeaf(record)
	if err != nil {
		return err
	}
	var position crypto.Digest
	copy(position[:], key[9:])
	return b.add(position, leafHash(position, value))
}

func (b *Builder) add(position, hash crypto.Digest) error {
	if b.some {
		if position.Compare(b.last) <= 0 {
			return fmt.Errorf("%w: %v, then %v", errLeafOrder, b.last, position)
		}
		common := commonBits(b.last, position) / 4
		b.place(max(b.common, common))
		if err := b.close(common); err != nil {
			return err
		}
		b.common = common
	}
	b.some, b.last, b.hash = true, position, hash
	return nil
}

// place puts the last leaf into the node at a depth of its way.
func (b *Builder) place(depth int) {
	for len(b.open) <= depth {
		b.open = append(b.open, &node{})
	}
	n, i := b.open[depth], nibble(&b.last, depth)
	n.used |= 1 << i
	n.leaves |= 1 << i
	n.leafs = append(n.leafs, leafSlot{hash: b.hash, position: b.last, version: b.version})
}

// close writes the nodes below a depth and puts them into their parents.
func (b *Builder) close(depth int) error {
	for d := len(b.open) - 1; d > depth; d-- {
		hash, err := b.finish(d)
		if err != nil {
			return err
		}
		above := b.open[d-1]
		above.used |= 1 << nibble(&b.last, d-1)
		above.kids = append(above.kids, kidSlot{hash: hash, version: b.version})
		b.open = b.open[:d]
	}
	return nil
}

func (b *Builder) finish(depth int) (crypto.Digest, error) {
	n := b.open[depth]
	if len(n.leafs)+len(n.kids) != bits.OnesCount16(n.used) {
		panic("state: a slot was filled twice")
	}
	hash := n.seal()
	key := appendNodeKey(nil, b.version, depth, &b.last)
	return hash, b.write(key, appendNode(nil, b.version, n))
}

// Finish writes the nodes that are still open, the root last, and returns the
// version's mark. The builder is of no use any more.
func (b *Builder) Finish() (Mark, error) {
	if b.some {
		b.place(b.common)
	}
	if err := b.close(0); err != nil {
		return Mark{}, err
	}
	root, err := b.finish(0)
	return Mark{Version: b.version, Root: root}, err
}
