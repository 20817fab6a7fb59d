package state

import (
	"errors"
	"fmt"
	"iter"
	"sort"
	"unsafe"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// NodeReader reads the records of a tree by the keys that Batch gave them.
// It must be safe for concurrent use.
type NodeReader interface {
	// AppendNode appends the record named key to dst, and reports whether there
	// is one.
	AppendNode(dst, key []byte) ([]byte, bool, error)
}

// Mark names one version of a state.
type Mark struct {
	Version uint64
	Root    crypto.Digest
}

// Entry is one leaf of a tree.
type Entry struct {
	Position   crypto.Digest
	Key, Value []byte
}

var (
	// ErrNoVersion says that the reader has no such version, or has pruned it.
	ErrNoVersion = errors.New("state: version is not stored")
	// ErrWrongRoot says that the stored version has another root.
	ErrWrongRoot = errors.New("state: version has another root")
	errMissing   = errors.New("state: node record is missing")
)

// DefaultResidentBytes bounds what a tree keeps of its durable nodes in memory:
// those of about a million keys.
const DefaultResidentBytes = 128 << 20

// Tree is one version of the state, immutable. Versions ascend along a branch,
// with gaps if need be.
type Tree struct {
	reader NodeReader
	arena  *Arena
	hold   *hold // of the version's nodes; nil: there is no version
	mark   Mark
	top    kidSlot // the root node, which exists in every version but the empty one
	memory memory
	// positions computes where keys are in the tree: tests choose what they need.
	positions func(out []crypto.Digest, keys [][]byte)

	// durable is the last version of the branch that is known to be on disk;
	// before any, isDurable is false. Layers are the versions after it, up to
	// this one.
	durable   Mark
	isDurable bool
	layers    []*layer
}

// layer is what one version changed, kept until it is on disk.
type layer struct {
	mark    Mark
	changes ChangeList
	// The leaves that it changed, by ascending position: for each the index of its change,
	// and the version of the record that is stale, MaxUint64 if there is none. Where they
	// are is not kept: see Tree.places.
	written     []int32
	staleLeaves []uint64
	// The nodes' records that it superseded; once it is settled, those on disk.
	staleNodes []staleNode
	staleDeep  []staleDeep
}

// memory decides which durable nodes stay in memory. As long as they take more
// than the limit, those that were not written lately may go: they go when
// a node above them is copied, which for a cold subtree is soon, since its root
// hangs on a warm node.
type memory struct {
	limit    int    // bytes
	resident int    // bytes of the nodes in memory, by node.size
	written  int    // bytes, since the period began
	kept     uint64 // nodes of earlier versions may go
	period   uint64 // first version of the current period
}

// after accounts for one version. A period ends, and what was not written in
// the one before it may go, when the nodes are too many and an eighth of the
// limit was written: time enough for the last period's end to take effect.
func (m memory) after(version uint64, written, grown int) memory {
	m.resident += grown
	m.written += written
	if m.resident > m.limit && m.written > m.limit/8 {
		m.kept, m.period, m.written = m.period, version+1, 0
	}
	return m
}

// ArenaReader is a NodeReader whose trees share the memory of an arena. The trees of
// any other have one for themselves.
type ArenaReader interface {
	NodeReader
	Arena() *Arena
}

// NewTree returns the empty state, before any version. About residentBytes of
// durable nodes stay in memory; 0 means DefaultResidentBytes.
func NewTree(reader NodeReader, residentBytes int) *Tree {
	if residentBytes <= 0 {
		residentBytes = DefaultResidentBytes
	}
	t := &Tree{reader: reader, memory: memory{limit: residentBytes}, positions: crypto.DomainStateKey.HashMany}
	if r, ok := reader.(ArenaReader); ok {
		t.arena = r.Arena()
	} else {
		t.arena = NewArena(nil, nil)
	}
	return t
}

// OpenTree returns a stored version. It is ErrNoVersion or ErrWrongRoot if the
// reader does not have this one.
func OpenTree(reader NodeReader, mark Mark, residentBytes int) (*Tree, error) {
	if mark.Version > MaxVersion {
		return nil, fmt.Errorf("%w: %d is beyond the last", ErrNoVersion, mark.Version)
	}
	t := NewTree(reader, residentBytes)
	t.mark, t.durable, t.isDurable = mark, mark, true
	t.top = kidSlot{hash: mark.Root, version: stamp(mark.Version)}
	l := t.loader()
	var top node
	err := l.load(&top, &t.top, 0, &crypto.Digest{})
	if errors.Is(err, errMissing) {
		return nil, fmt.Errorf("%w: %d", ErrNoVersion, mark.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("state: opening version %d: %w", mark.Version, err)
	}
	if top.page() {
		return nil, fmt.Errorf("%w: the root of version %d is a page", errRecord, mark.Version)
	}
	if root := top.seal(); root != mark.Root {
		return nil, fmt.Errorf("%w: version %d has %v, want %v", ErrWrongRoot, mark.Version, root, mark.Root)
	}
	p := t.arena.pocket()
	at, own := p.newNode(mark.Version, top.used, top.leaves)
	t.arena.give(p)
	copy(own.leafs, top.leafs)
	copy(own.kids, top.kids)
	t.top.node, t.memory.resident = at, own.size()
	t.hold = newHold(t.arena, mark.Version, at, nil, nil)
	return t, nil
}

// Root returns the commitment to every pair. The empty state's is zero.
func (t *Tree) Root() crypto.Digest { return t.mark.Root }

// Version returns the tree's version; 0 also before any.
func (t *Tree) Version() uint64 { return t.mark.Version }

// Mark returns version and root.
func (t *Tree) Mark() Mark { return t.mark }

// started reports whether the tree is a version, and not the state before any.
func (t *Tree) started() bool { return t.hold != nil }

// root returns the root node, one without slots if there is no version.
func (t *Tree) root() *node {
	if !t.started() {
		return &node{head: &head{}}
	}
	n := t.arena.node(t.top.node, t.mark.Version)
	return &n
}

// Persisted returns the same tree, knowing that the version of that mark is on
// disk: batches begin after it, and it lets go of its copies. A mark that is
// not among this tree's own versions changes nothing, so that a caller may
// apply the latest durable mark to every branch.
func (t *Tree) Persisted(durable Mark) *Tree {
	for i, l := range t.layers {
		if l.mark == durable {
			same := *t
			same.durable, same.isDurable = durable, true
			same.layers = t.layers[i+1 : len(t.layers) : len(t.layers)]
			return &same
		}
	}
	return t
}

// Durable returns the last version of the branch that the tree knows to be on
// disk, and false if there is none.
func (t *Tree) Durable() (Mark, bool) { return t.durable, t.isDurable }

// fresh returns the first version that is not known to be on disk.
func (t *Tree) fresh() uint64 {
	if !t.isDurable {
		return 0
	}
	return t.durable.Version + 1
}

// kept returns the first version whose nodes must stay in memory.
func (t *Tree) kept() uint64 { return min(t.memory.kept, t.fresh()) }

// Get returns the value of key in this version.
func (t *Tree) Get(key []byte) ([]byte, bool, error) {
	if err := t.hold.use(); err != nil {
		return nil, false, err
	}
	defer t.hold.done()
	position := Position(key)
	leaf, ok, err := t.find(&position, nil)
	if err != nil || !ok || leaf.position != position {
		return nil, false, err
	}
	e, err := t.entry(&leaf)
	return e.Value, err == nil, err
}

// find walks toward a position and returns the leaf it ends at, or false if it
// ends at an empty slot. It calls visit with every node on the way. Without visit
// the leaf is that of the position, or none.
func (t *Tree) find(position *crypto.Digest, visit func(n *node, nibble int)) (leafSlot, bool, error) {
	if !t.started() {
		return leafSlot{}, false, nil
	}
	l := t.loader()
	var n node
	if err := l.load(&n, &t.top, 0, position); err != nil {
		return leafSlot{}, false, err
	}
	for depth := 0; ; depth++ {
		if n.page() && visit == nil {
			if i := n.inPage(position); i < len(n.places) && n.places[i] == *position {
				return n.leafAt(i), true, nil
			}
			return leafSlot{}, false, nil
		}
		open := n.open(depth)
		i := nibble(position, depth)
		if visit != nil {
			visit(open, i)
		}
		if open.kid(i) == nil {
			leaf := open.leaf(i)
			if leaf == nil {
				return leafSlot{}, false, nil
			}
			return *leaf, true, nil
		}
		if err := l.child(&n, open, i, depth+1, position); err != nil {
			return leafSlot{}, false, err
		}
	}
}

// entry returns the key and value of a leaf, from memory if its version is not
// on disk yet.
func (t *Tree) entry(leaf *leafSlot) (Entry, error) {
	if i := t.layerOf(leaf.version); i >= 0 {
		return t.entryOf(t.layers[i], &leaf.position)
	}
	l := t.loader()
	record, err := l.read(leaf.version, leafDepth, &leaf.position)
	if err != nil {
		return Entry{}, err
	}
	key, value, err := decodeLeaf(record)
	return Entry{Position: leaf.position, Key: key, Value: value}, err
}

// Changes returns what led to the version, and false if that is on disk, or nothing did.
func (t *Tree) Changes() (ChangeList, bool) {
	i := t.layerOf(t.mark.Version)
	if i < 0 {
		return ChangeList{}, false
	}
	return t.layers[i].changes, true
}

// layerOf returns the index of a version's layer, or −1 if the version is on
// disk.
func (t *Tree) layerOf(version uint64) int {
	i := sort.Search(len(t.layers), func(i int) bool { return t.layers[i].mark.Version >= version })
	if i == len(t.layers) || t.layers[i].mark.Version != version {
		return -1
	}
	return i
}

// entryOf returns what a layer wrote at a position.
func (t *Tree) entryOf(l *layer, position *crypto.Digest) (Entry, error) {
	var at [1]crypto.Digest
	var key [1][]byte
	compare := func(i int) int {
		key[0] = l.changes.Key(int(l.written[i]))
		t.positions(at[:], key[:])
		return at[0].Compare(*position)
	}
	i := sort.Search(len(l.written), func(i int) bool { return compare(i) >= 0 })
	if i < len(l.written) && compare(i) == 0 {
		if c := l.changes.At(int(l.written[i])); !c.Deleted {
			return Entry{Position: *position, Key: c.Key, Value: c.Value}, nil
		}
	}
	return Entry{}, fmt.Errorf("%w: leaf %v of version %d", errMissing, position, l.mark.Version)
}

// places hands out where the leaves are that a layer changed, those that are wanted, in
// ascending order, until do returns false, and reports whether it did not. It hashes
// their keys again: many at a time cost less than to keep the digests, in whose memory
// more changes can wait.
func (t *Tree) places(l *layer, wanted func(i int) bool, do func(i int, position *crypto.Digest) bool) bool {
	var which [hashChunk]int
	var keys [hashChunk][]byte
	var positions [hashChunk]crypto.Digest
	for i := 0; i < len(l.written); {
		n := 0
		for ; n < hashChunk && i < len(l.written); i++ {
			if wanted(i) {
				which[n], keys[n] = i, l.changes.Key(int(l.written[i]))
				n++
			}
		}
		t.positions(positions[:n], keys[:n])
		for k := range n {
			if !do(which[k], &positions[k]) {
				return false
			}
		}
	}
	return true
}

// Settle says that the version is final, and which one before it was the last to be
// written, though the writing may be under way; false: none was. It lets go of the
// names of records that so never were on disk, which are most of what the version made
// stale, and returns how many bytes it keeps beside the changes. Nobody may ask for the
// version's batch meanwhile.
func (t *Tree) Settle(written uint64, some bool) (bytes int) {
	i := t.layerOf(t.mark.Version)
	if i < 0 {
		return 0
	}
	l := t.layers[i]
	l.staleNodes = settled(l.staleNodes, func(s *staleNode) bool { return some && s.made <= written })
	l.staleDeep = settled(l.staleDeep, func(s *staleDeep) bool { return some && s.version <= written })
	return l.noted()
}

// noted returns how many bytes a layer takes beside its changes.
func (l *layer) noted() int {
	const perLeaf, perNode, perDeep = 4 + 8, int(unsafe.Sizeof(staleNode{})), int(unsafe.Sizeof(staleDeep{}))
	return perLeaf*len(l.written) + perNode*len(l.staleNodes) + perDeep*len(l.staleDeep)
}

// settled returns those of all that are kept, in memory of their own.
func settled[S any](all []S, kept func(*S) bool) []S {
	n := 0
	for i := range all {
		if kept(&all[i]) {
			n++
		}
	}
	out := make([]S, 0, n)
	for i := range all {
		if kept(&all[i]) {
			out = append(out, all[i])
		}
	}
	return out
}

// Iterate yields every leaf at or after a position, in ascending order of
// positions. It ends after the first error.
func (t *Tree) Iterate(from crypto.Digest) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if !t.started() {
			return
		}
		w := walk{t: t, l: t.loader(), from: &from, yield: yield}
		if err := t.hold.use(); err != nil {
			w.fail(err)
			return
		}
		defer t.hold.done()
		w.below(&t.top, 0, &crypto.Digest{}, true)
	}
}

// walk is one iteration over a tree.
type walk struct {
	t     *Tree
	l     loader
	from  *crypto.Digest
	yield func(Entry, error) bool
}

// below yields the leaves under a node and reports whether to go on. While
// edge holds, the path so far is a prefix of from.
func (w *walk) below(at *kidSlot, depth int, path *crypto.Digest, edge bool) bool {
	var n node
	if err := w.l.load(&n, at, depth, path); err != nil {
		return w.fail(err)
	}
	if n.page() {
		for i := range n.places {
			if leaf := n.leafAt(i); leaf.position.Compare(*w.from) >= 0 && !w.leaf(&leaf) {
				return false
			}
		}
		return true
	}
	first := 0
	if edge {
		first = nibble(w.from, depth)
	}
	for i := first; i < fanout; i++ {
		if kid := n.kid(i); kid != nil {
			next := childPath(path, depth, i)
			if !w.below(kid, depth+1, &next, edge && i == first) {
				return false
			}
		}
		if leaf := n.leaf(i); leaf != nil && leaf.position.Compare(*w.from) >= 0 && !w.leaf(leaf) {
			return false
		}
	}
	return true
}

func (w *walk) leaf(leaf *leafSlot) bool {
	e, err := w.t.entry(leaf)
	if err != nil {
		return w.fail(err)
	}
	return w.yield(e, nil)
}

func (w *walk) fail(err error) bool {
	w.yield(Entry{}, err)
	return false
}

// loader reads records through a buffer of its own.
type loader struct {
	arena  *Arena
	reader NodeReader
	key    []byte
	record []byte
}

func (t *Tree) loader() loader { return loader{arena: t.arena, reader: t.reader} }

// load sets n to the node of a slot, from memory or from the reader. Position is
// any under the node.
func (l *loader) load(n *node, at *kidSlot, depth int, position *crypto.Digest) error {
	if at.node != 0 {
		*n = l.arena.node(at.node, uint64(at.version))
		return nil
	}
	l.key = appendNodeKey(l.key[:0], uint64(at.version), depth, position)
	record, ok, err := l.reader.AppendNode(l.record[:0], l.key)
	l.record = record
	if err := l.check(ok, err); err != nil {
		return err
	}
	read, err := decodeNode(record, uint64(at.version), depth)
	if err != nil {
		return fmt.Errorf("%w: %x", err, l.key)
	}
	*n = *read
	return nil
}

// child sets n to the i-th child, which is a node at some depth, of one that was loaded
// and may be opened since.
func (l *loader) child(n, above *node, i, depth int, position *crypto.Digest) error {
	if above.opened != nil {
		*n = *above.opened[rank(above.used&^above.leaves, i)]
		return nil
	}
	return l.load(n, above.kid(i), depth, position)
}

// read returns a record that the caller may keep.
func (l *loader) read(version uint64, depth int, position *crypto.Digest) ([]byte, error) {
	l.key = appendNodeKey(l.key[:0], version, depth, position)
	record, ok, err := l.reader.AppendNode(nil, l.key)
	return record, l.check(ok, err)
}

func (l *loader) check(ok bool, err error) error {
	if err != nil {
		return fmt.Errorf("state: reading node %x: %w", l.key, err)
	}
	if !ok {
		return fmt.Errorf("%w: %x", errMissing, l.key)
	}
	return nil
}
