package state

import (
	"encoding/binary"
	"errors"
	"fmt"

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
// a leaf, and what hangs on it in pages. It is for a state that comes whole and not
// as changes.
type Builder struct {
	version uint64
	write   func(key, record []byte) error
	open    [][]part // the nodes on the way to last, by depth, and what is in their slots so far

	some   bool
	last   crypto.Digest // position of the last leaf, which is not in its node yet
	hash   crypto.Digest // of that leaf
	common int           // nibbles that it shares with the leaf before it
}

// part is a slot of a node that is being built: up to pageLeaves leaves, or a node
// that was written.
type part struct {
	at     int
	leaves []leafSlot
	kid    kidSlot
}

// NewBuilder returns a builder that hands each node's key and record to write,
// which may keep them. The records of the leaves are not its business: see
// LeafRecord.
func NewBuilder(version uint64, write func(key, record []byte) error) *Builder {
	return &Builder{version: version, write: write, open: make([][]part, 1)}
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
	if err := b.check(); err != nil {
		return err
	}
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

// check refuses a version that no tree can have.
func (b *Builder) check() error {
	if b.version > MaxVersion {
		return fmt.Errorf("%w: %d is beyond the last", errVersion, b.version)
	}
	return nil
}

// place puts the last leaf into the node at a depth of its way.
func (b *Builder) place(depth int) {
	for len(b.open) <= depth {
		b.open = append(b.open, nil)
	}
	leaf := leafSlot{hash: b.hash, position: b.last, version: b.version}
	b.open[depth] = append(b.open[depth], part{at: nibble(&b.last, depth), leaves: []leafSlot{leaf}})
}

// close puts what is below a depth into the nodes above it.
func (b *Builder) close(depth int) error {
	for d := len(b.open) - 1; d > depth; d-- {
		made, err := b.finish(d)
		if err != nil {
			return err
		}
		made.at = nibble(&b.last, d-1)
		b.open[d-1] = append(b.open[d-1], made)
		b.open = b.open[:d]
	}
	return nil
}

// finish returns what the node at a depth of the last leaf's way comes to: its
// leaves, if a page may hold them, else the node, which is written.
func (b *Builder) finish(depth int) (part, error) {
	var leaves []leafSlot
	small := depth > 0
	for _, p := range b.open[depth] {
		leaves = append(leaves, p.leaves...)
		small = small && p.leaves != nil
	}
	if small && len(leaves) <= pageLeaves {
		return part{leaves: leaves}, nil
	}
	n := &node{head: &head{}}
	for _, p := range b.open[depth] {
		if n.used>>p.at != 0 {
			panic("state: slots are not filled in their order")
		}
		n.used |= 1 << p.at
		if len(p.leaves) == 1 {
			n.leaves |= 1 << p.at
			n.leafs = append(n.leafs, p.leaves[0])
			continue
		}
		if p.leaves != nil {
			var err error
			if p.kid, err = b.put(newPage(p.leaves, depth+1), depth+1, &p.leaves[0].position); err != nil {
				return part{}, err
			}
		}
		n.kids = append(n.kids, p.kid)
	}
	kid, err := b.put(n, depth, &b.last)
	return part{kid: kid}, err
}

// put writes a node at a depth of the way to a position.
func (b *Builder) put(n *node, depth int, position *crypto.Digest) (kidSlot, error) {
	hash := n.digest(depth)
	return kidSlot{hash: hash, version: stampOf(b.version)}, b.write(appendNodeKey(nil, b.version, depth, position), appendNode(nil, b.version, n))
}

// Finish writes the nodes that are still open, the root last, and returns the
// version's mark. The builder is of no use any more.
func (b *Builder) Finish() (Mark, error) {
	if err := b.check(); err != nil { // of a state without leaves nothing was added
		return Mark{}, err
	}
	if b.some {
		b.place(b.common)
	}
	if err := b.close(0); err != nil {
		return Mark{}, err
	}
	root, err := b.finish(0)
	return Mark{Version: b.version, Root: root.kid.hash}, err
}
