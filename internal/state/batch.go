package state

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Batch is what a tree adds to the disk beyond the last version that it knows
// to be there: the records of leaves and nodes that are new since, and the keys
// of the records that they supersede. Versions in between that were never
// persisted leave nothing; to keep every version, persist every one. Its
// iterators lend buffers that are valid until their next step.
type Batch struct{ t *Tree }

// Batch returns what to persist for this version. It is empty for a tree that
// was opened, or that knows itself to be persisted.
func (t *Tree) Batch() Batch { return Batch{t} }

// Empty reports whether the version is on disk.
func (b Batch) Empty() bool { return len(b.t.layers) == 0 }

// Nodes yields the key and record of every new leaf and node.
func (b Batch) Nodes() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, record []byte) bool) {
		if b.Empty() {
			return
		}
		w := writes{t: b.t, fresh: b.t.fresh(), yield: yield}
		w.below(&b.t.top, 0, &crypto.Digest{})
	}
}

// writes is one iteration over the records of a batch.
type writes struct {
	t           *Tree
	fresh       uint64
	yield       func(key, record []byte) bool
	key, record []byte
}

// below yields what is new from a new node down, and reports whether to go on.
// A node that is new is in memory, and so are new leaves.
func (w *writes) below(at *slot, depth int, path *crypto.Digest) bool {
	w.key = appendNodeKey(w.key[:0], at.version, depth, path)
	w.record = appendNode(w.record[:0], at.version, at.node)
	if !w.yield(w.key, w.record) {
		return false
	}
	for rest, k := at.node.used, 0; rest != 0; rest, k = rest&(rest-1), k+1 {
		child := &at.node.slots[k]
		switch {
		case child.version < w.fresh:
		case child.leaf != nil:
			if !w.leaf(child) {
				return false
			}
		default:
			next := childPath(path, depth, bits.TrailingZeros16(rest))
			if !w.below(child, depth+1, &next) {
				return false
			}
		}
	}
	return true
}

func (w *writes) leaf(leaf *slot) bool {
	e, err := w.t.entry(leaf)
	if err != nil {
		panic("state: a leaf that is not on disk is not in memory: " + err.Error())
	}
	w.key = appendNodeKey(w.key[:0], leaf.version, leafDepth, leaf.leaf)
	w.record = appendLeaf(w.record[:0], e.Key, e.Value)
	return w.yield(w.key, w.record)
}

// childPath returns the path of a node's i-th child.
func childPath(path *crypto.Digest, depth, i int) crypto.Digest {
	next := *path
	next[depth/2] |= byte(i) << (4 * (1 - depth%2))
	return next
}

// Stale yields the keys of the records on disk that earlier versions need and
// this one and later ones do not.
func (b Batch) Stale() iter.Seq[[]byte] {
	return func(yield func(key []byte) bool) {
		var key []byte
		fresh := b.t.fresh()
		for _, l := range b.t.layers {
			for i := range l.stale {
				s := &l.stale[i]
				if s.version >= fresh {
					continue // it never was on disk
				}
				key = appendNodeKey(key[:0], s.version, s.depth, s.position)
				if !yield(key) {
					return
				}
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
