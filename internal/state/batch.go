package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Batch is what the version of one tree adds to the disk: the records of its
// new leaves and nodes, and the keys of the records that it supersedes. Its
// iterators lend buffers that are valid until their next step.
type Batch struct {
	layer *layer // nil: nothing to write
}

// Batch returns what to persist for this version. It is empty for a tree that
// was opened, or that knows itself to be persisted.
func (t *Tree) Batch() Batch {
	if len(t.layers) == 0 {
		return Batch{}
	}
	return Batch{layer: t.layers[len(t.layers)-1]}
}

// Mark returns the version that the batch makes durable, and false if the batch
// is empty.
func (b Batch) Mark() (Mark, bool) {
	if b.layer == nil {
		return Mark{}, false
	}
	return b.layer.mark, true
}

// Nodes yields the key and record of every new leaf and node.
func (b Batch) Nodes() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, record []byte) bool) {
		if b.layer == nil {
			return
		}
		l, version := b.layer, b.layer.mark.Version
		var key, record []byte
		for i := range l.entries {
			e := &l.entries[i]
			c := &l.changes[e.change]
			key = appendNodeKey(key[:0], version, leafDepth, e.position)
			record = appendLeaf(record[:0], c.Key, c.Value)
			if !yield(key, record) {
				return
			}
		}
		for i := range l.nodes {
			n := &l.nodes[i]
			key = appendNodeKey(key[:0], version, n.depth, n.position)
			record = appendNode(record[:0], version, n.node)
			if !yield(key, record) {
				return
			}
		}
	}
}

// Stale yields the keys of the records that versions before this one need and
// this one and later ones do not.
func (b Batch) Stale() iter.Seq[[]byte] {
	return func(yield func(key []byte) bool) {
		if b.layer == nil {
			return
		}
		var key []byte
		for i := range b.layer.stale {
			s := &b.layer.stale[i]
			key = appendNodeKey(key[:0], s.version, s.depth, s.position)
			if !yield(key) {
				return
			}
		}
	}
}

// StaleList returns Stale as one string of bytes, for a store to keep until it
// prunes. It is nil if nothing is stale.
func (b Batch) StaleList() []byte {
	var out []byte
	for key := range b.Stale() {
		out = append(out, key...)
	}
	return out
}

var errStaleList = errors.New("state: list of stale nodes is corrupt")

// NodeKeys yields the keys of a StaleList. It ends after the first error. The
// keys are parts of list.
func NodeKeys(list []byte) iter.Seq2[[]byte, error] {
	return func(yield func(key []byte, err error) bool) {
		for rest := list; len(rest) > 0; {
			size, err := nodeKeySize(rest)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(rest[:size:size], nil) {
				return
			}
			rest = rest[size:]
		}
	}
}

// nodeKeySize returns the length of the node key that data begins with. It
// says in itself how long it is.
func nodeKeySize(data []byte) (int, error) {
	const fixed = 9
	if len(data) < fixed || data[fixed-1] > leafDepth {
		return 0, fmt.Errorf("%w: %d bytes are left", errStaleList, len(data))
	}
	size := fixed + (int(data[fixed-1])+1)/2
	if len(data) < size {
		return 0, fmt.Errorf("%w: key of %d bytes, %d are left", errStaleList, size, len(data))
	}
	return size, nil
}

// VersionOfNodeKey returns the version that wrote the record of that name.
func VersionOfNodeKey(key []byte) (uint64, error) {
	size, err := nodeKeySize(key)
	if err == nil && size != len(key) {
		err = fmt.Errorf("%w: key of %d bytes in %d", errStaleList, size, len(key))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(key), nil
}

// RootNodeKey returns the key of the root's record in a version: it exists as
// long as the version is stored in full.
func RootNodeKey(version uint64) []byte {
	return appendNodeKey(nil, version, 0, &crypto.Digest{})
}
