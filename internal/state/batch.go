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

// Nodes yields the key and record of every new leaf and node, in ascending order
// of keys.
func (b Batch) Nodes() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, record []byte) bool) {
		if b.Empty() {
			return
		}
		if err := b.t.hold.use(); err != nil {
			panic("state: the records of a version that was released are asked for")
		}
		defer b.t.hold.done()
		w := writes{t: b.t, fresh: b.t.fresh(), yield: yield, versions: make([]freshRecords, len(b.t.layers))}
		w.collect(&b.t.top, 0, &crypto.Digest{})
		for i := range w.versions {
			if !w.version(b.t.layers[i], &w.versions[i]) {
				return
			}
		}
	}
}

// writes is one iteration over the records of a batch.
type writes struct {
	t           *Tree
	fresh       uint64
	yield       func(key, record []byte) bool
	key, record []byte
	versions    []freshRecords // of the tree's layers
	seen        byte
}

// freshRecords is what a version made and the latest one still needs. The way
// through the tree meets the nodes of one depth, and the leaves, in ascending
// order of positions.
type freshRecords struct {
	nodes  [][]freshNode    // by depth
	leaves []*crypto.Digest // their positions
}

type freshNode struct {
	at   ref
	path crypto.Digest
}

// collect files what is new from a new node down. A node that is new is in
// memory, and so are new leaves.
func (w *writes) collect(at *kidSlot, depth int, path *crypto.Digest) {
	of := w.of(uint64(at.version))
	for len(of.nodes) <= depth {
		of.nodes = append(of.nodes, nil)
	}
	of.nodes[depth] = append(of.nodes[depth], freshNode{at.node, *path})
	n := w.t.arena.node(at.node, uint64(at.version))
	if n.page() {
		for i := range n.places {
			if version := uint64(n.versions[i]); version >= w.fresh {
				of := w.of(version)
				of.leaves = append(of.leaves, &n.places[i])
			}
		}
		return
	}
	w.fetchKids(&n)
	leaf, kid := 0, 0
	for rest := n.used; rest != 0; rest &= rest - 1 {
		if n.leaves&rest&-rest != 0 {
			if child := &n.leafs[leaf]; child.version >= w.fresh {
				of := w.of(child.version)
				of.leaves = append(of.leaves, &child.position)
			}
			leaf++
			continue
		}
		if child := &n.kids[kid]; uint64(child.version) >= w.fresh {
			next := childPath(path, depth, bits.TrailingZeros16(rest))
			w.collect(child, depth+1, &next)
		}
		kid++
	}
}

func (w *writes) of(version uint64) *freshRecords {
	layers := w.t.layers
	i := int(min(version-layers[0].mark.Version, uint64(len(layers)))) // mostly they are one after the other
	if i == len(layers) || layers[i].mark.Version != version {
		i = w.t.layerOf(version)
	}
	if i < 0 {
		panic(fmt.Sprintf("state: a record of version %d is neither on disk nor in memory", version))
	}
	return &w.versions[i]
}

// version yields the records of one version and reports whether to go on.
func (w *writes) version(l *layer, of *freshRecords) bool {
	for depth, nodes := range of.nodes {
		for i := range nodes {
			if i%fetchAhead == 0 {
				w.fetch(nodes[i:min(i+fetchAhead, len(nodes))])
			}
			w.key = appendNodeKey(w.key[:0], l.mark.Version, depth, &nodes[i].path)
			n := w.t.arena.node(nodes[i].at, l.mark.Version)
			w.record = appendNode(w.record[:0], l.mark.Version, &n)
			if !w.yield(w.key, w.record) {
				return false
			}
		}
	}
	return w.leaves(l, of.leaves)
}

// leaves yields the records of leaves that one version wrote, and reports whether to go on.
func (w *writes) leaves(l *layer, leaves []*crypto.Digest) bool {
	at := 0
	more := w.t.places(l, func(int) bool { return at < len(leaves) }, func(i int, position *crypto.Digest) bool {
		if at == len(leaves) {
			return true
		}
		if at%fetchAhead == 0 {
			for _, next := range leaves[at:min(at+fetchAhead, len(leaves))] {
				w.seen ^= next[0]
			}
		}
		c := l.changes.At(int(l.written[i]))
		if c.Deleted || *leaves[at] != *position {
			return true
		}
		at++
		w.key = appendNodeKey(w.key[:0], l.mark.Version, leafDepth, position)
		w.record = appendLeaf(w.record[:0], c.Key, c.Value)
		return w.yield(w.key, w.record)
	})
	if more && at < len(leaves) {
		panic("state: a leaf that is not on disk is not in memory: " + leaves[at].String())
	}
	return more
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
			for i := range l.staleNodes {
				s := &l.staleNodes[i]
				if version := s.version(); version < fresh { // else it never was on disk
					position := s.position()
					key = appendNodeKey(key[:0], version, s.depth(), &position)
					if !yield(key) {
						return
					}
				}
			}
			for i := range l.staleDeep {
				if s := &l.staleDeep[i]; s.version < fresh {
					key = appendNodeKey(key[:0], s.version, s.depth, &s.path)
					if !yield(key) {
						return
					}
				}
			}
			if !b.t.places(l, func(i int) bool { return l.staleLeaves[i] < fresh }, func(i int, position *crypto.Digest) bool {
				key = appendNodeKey(key[:0], l.staleLeaves[i], leafDepth, position)
				return yield(key)
			}) {
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

// IsLeafKey reports whether a node key names the record of a leaf.
func IsLeafKey(key []byte) bool { return len(key) == leafKeyBytes && key[8] == leafDepth }

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
