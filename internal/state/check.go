package state

import (
	"errors"
	"fmt"
	"iter"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ErrRecords says that the records of a version are not those of its root.
var ErrRecords = errors.New("state: the tree's records do not make its root")

// TreeSize is how much a version of a tree is.
type TreeSize struct {
	Leaves, Nodes uint64
	Bytes         uint64 // of the records, with their keys
}

// Checked is Iterate from the first leaf on, holding every record against the
// digest that names it above, up to the root: what it yields is what the root
// commits to. It adds to size what it has read. The error names the record that
// does not hold.
func (t *Tree) Checked(size *TreeSize) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if !t.started() {
			return
		}
		w := checkedWalk{t: t, l: t.loader(), size: size, yield: yield}
		if err := t.hold.use(); err != nil {
			w.fail(err)
			return
		}
		defer t.hold.done()
		w.below(&t.top, 0, &crypto.Digest{})
	}
}

type checkedWalk struct {
	t     *Tree
	l     loader
	size  *TreeSize
	yield func(Entry, error) bool
	key   []byte
	data  []byte
}

func (w *checkedWalk) fail(err error) bool {
	w.yield(Entry{}, err)
	return false
}

// below checks and yields what is under a node and reports whether to go on.
func (w *checkedWalk) below(at *kidSlot, depth int, path *crypto.Digest) bool {
	var n node
	if err := w.l.load(&n, at, depth, path); err != nil {
		return w.fail(err)
	}
	w.key = appendNodeKey(w.key[:0], uint64(at.version), depth, path)
	if got := n.digest(depth); got != at.hash {
		return w.fail(fmt.Errorf("%w: node %x has digest %v, above it stands %v", ErrRecords, w.key, got, at.hash))
	}
	w.data = appendNode(w.data[:0], uint64(at.version), &n)
	w.size.Nodes++
	w.size.Bytes += uint64(len(w.key) + len(w.data))
	if n.page() {
		for i := range n.places {
			if leaf := n.leafAt(i); !w.leaf(&leaf, depth, path) {
				return false
			}
		}
		return true
	}
	for i := range fanout {
		next := childPath(path, depth, i)
		if kid := n.kid(i); kid != nil && !w.below(kid, depth+1, &next) {
			return false
		}
		if leaf := n.leaf(i); leaf != nil && !w.leaf(leaf, depth+1, &next) {
			return false
		}
	}
	return true
}

func (w *checkedWalk) leaf(leaf *leafSlot, depth int, path *crypto.Digest) bool {
	e, err := w.t.entry(leaf)
	switch {
	case err != nil:
		return w.fail(err)
	case Position(e.Key) != leaf.position || leafHash(leaf.position, e.Value) != leaf.hash || commonBits(*path, leaf.position) < 4*depth:
		return w.fail(fmt.Errorf("%w: the leaf at %v, key %x, does not have the digest that stands above it", ErrRecords, leaf.position, e.Key))
	}
	w.size.Leaves++
	w.size.Bytes += uint64(leafKeyBytes + len(appendLeaf(w.data[:0], e.Key, nil)) + len(e.Value))
	return w.yield(e, nil)
}

// Add adds a leaf.
func (b *Builder) Add(e Entry) error {
	return b.AddValue(e.Position, crypto.DomainStateValue.Hash(e.Value))
}

// AddValue adds the leaf at a position with the digest of its value.
func (b *Builder) AddValue(position, value crypto.Digest) error {
	return b.add(position, crypto.DomainStateLeaf.HashPair(position, value))
}

// Difference is one key that two states do not agree about.
type Difference struct {
	Position crypto.Digest
	Key      []byte
	A, B     []byte // the values; nil: the key is not there
}

// Diff yields what differs between two states that are yielded by ascending
// position, as Iterate does. It ends after the first error.
func Diff(a, b iter.Seq2[Entry, error]) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		nextA, stopA := iter.Pull2(a)
		defer stopA()
		nextB, stopB := iter.Pull2(b)
		defer stopB()
		ea, errA, okA := nextA()
		eb, errB, okB := nextB()
		for okA || okB {
			if err := errors.Join(errA, errB); err != nil {
				yield(Difference{}, err)
				return
			}
			var order int
			switch {
			case !okA:
				order = 1
			case !okB:
				order = -1
			default:
				order = ea.Position.Compare(eb.Position)
			}
			if d, differ := difference(&ea, &eb, order); differ && !yield(d, nil) {
				return
			}
			if order <= 0 {
				ea, errA, okA = nextA()
			}
			if order >= 0 {
				eb, errB, okB = nextB()
			}
		}
	}
}

// difference compares the next leaves of two states, of which the first comes
// before (order −1), with or after (1) the second.
func difference(a, b *Entry, order int) (Difference, bool) {
	switch {
	case order < 0:
		return Difference{Position: a.Position, Key: a.Key, A: present(a.Value)}, true
	case order > 0:
		return Difference{Position: b.Position, Key: b.Key, B: present(b.Value)}, true
	}
	return Difference{Position: a.Position, Key: a.Key, A: present(a.Value), B: present(b.Value)}, string(a.Value) != string(b.Value)
}

func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}
