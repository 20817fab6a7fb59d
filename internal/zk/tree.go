package zk

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// The shape of a tree of state: a node is the sponge of its four children, an
// absent leaf is zero.
const (
	TreeArity = 4
	TreeDepth = 16 // levels of nodes above the leaves: 2³² leaves
	// MaxTreeLeaves is the most leaves in a tree's file.
	MaxTreeLeaves = 2048
)

// TreeLeaf is a leaf that is not zero.
type TreeLeaf struct {
	_     struct{} `cbor:",toarray"`
	Index uint32
	Value Field
}

// Tree is a sparse tree of 2³² leaves. The zero value is the empty tree.
type Tree struct{ leaves []TreeLeaf } // by index, none zero

// NewTree returns the tree with the given leaves: indexes strictly increasing,
// values below the order of the field and not zero, at most MaxTreeLeaves.
func NewTree(leaves []TreeLeaf) (Tree, error) {
	if len(leaves) > MaxTreeLeaves {
		return Tree{}, fmt.Errorf("zk: tree of %d leaves, limit %d", len(leaves), MaxTreeLeaves)
	}
	for i, leaf := range leaves {
		if i > 0 && leaves[i-1].Index >= leaf.Index {
			return Tree{}, fmt.Errorf("zk: leaf %d of the tree has index %d after %d", i, leaf.Index, leaves[i-1].Index)
		}
		if err := leaf.Value.Check(); err != nil {
			return Tree{}, fmt.Errorf("zk: leaf %d of the tree: %w", i, err)
		}
		if leaf.Value.IsZero() {
			return Tree{}, fmt.Errorf("zk: leaf %d of the tree is zero, which is written by leaving it out", i)
		}
	}
	return Tree{leaves: slices.Clone(leaves)}, nil
}

// DecodeTree reads what Encode wrote.
func DecodeTree(data []byte) (Tree, error) {
	var leaves []TreeLeaf
	if err := codec.Unmarshal(data, &leaves, MaxInputSize); err != nil {
		return Tree{}, fmt.Errorf("zk: tree: %w", err)
	}
	return NewTree(leaves)
}

// ParseTreeCSV reads a tree as text: a line for each leaf, its index in decimal digits, a comma, and its
// value, 64 hexadecimal digits. No line at all is the empty tree.
func ParseTreeCSV(data []byte) (Tree, error) {
	updates, err := parseLeaves(data, MaxTreeLeaves)
	if err != nil {
		return Tree{}, fmt.Errorf("zk: tree: %w", err)
	}
	leaves := make([]TreeLeaf, len(updates))
	for i, u := range updates {
		leaves[i] = TreeLeaf{Index: u.Index, Value: u.Value}
	}
	return NewTree(leaves)
}

// ParseTreeUpdatesCSV reads updates as ParseTreeCSV reads leaves; a value of zeros removes a leaf.
func ParseTreeUpdatesCSV(data []byte) ([]TreeUpdate, error) {
	updates, err := parseLeaves(data, slices.Max(sizes[MerkleState]))
	if err != nil {
		return nil, fmt.Errorf("zk: updates: %w", err)
	}
	return updates, nil
}

func parseLeaves(data []byte, limit int) (list []TreeUpdate, err error) {
	for line := range bytes.Lines(data) {
		if len(list) == limit {
			return nil, fmt.Errorf("more than %d lines", limit)
		}
		index, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ",")
		if !ok {
			return nil, fmt.Errorf("line %d: want an index, a comma and a value", len(list)+1)
		}
		at, err := strconv.ParseUint(index, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %d: index %.20q: want 0 to %d", len(list)+1, index, uint32(math.MaxUint32))
		}
		v, err := ParseField(value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", len(list)+1, err)
		}
		list = append(list, TreeUpdate{Index: uint32(at), Value: v})
	}
	return list, nil
}

// Encode returns the canonical encoding: the list of leaves.
func (t Tree) Encode() []byte { return codec.Marshal(t.leaves) }

// Leaf returns the value of a leaf, zero if it is absent.
func (t Tree) Leaf(index uint32) Field {
	at, ok := t.find(index)
	if !ok {
		return Field{}
	}
	return t.leaves[at].Value
}

func (t Tree) find(index uint32) (int, bool) {
	return slices.BinarySearchFunc(t.leaves, index, func(l TreeLeaf, i uint32) int { return cmp.Compare(l.Index, i) })
}

// set returns the tree with one leaf changed.
func (t Tree) set(index uint32, value Field) Tree {
	leaves := slices.Clone(t.leaves)
	at, ok := t.find(index)
	switch {
	case ok && value.IsZero():
		leaves = slices.Delete(leaves, at, at+1)
	case ok:
		leaves[at].Value = value
	case !value.IsZero():
		leaves = slices.Insert(leaves, at, TreeLeaf{Index: index, Value: value})
	}
	return Tree{leaves: leaves}
}

// Root returns the root of the tree, the plain reference of the circuit.
func (t Tree) Root() Field {
	levels := t.levels()
	return levels[TreeDepth][0]
}

// treeLevels are the nodes of each level that are not those of an empty
// subtree, the leaves first. Level TreeDepth holds the root at 0 always.
type treeLevels [TreeDepth + 1]map[uint32]Field

func (t Tree) levels() treeLevels {
	var levels treeLevels
	levels[0] = map[uint32]Field{}
	indexes := make([]uint32, 0, len(t.leaves))
	for _, leaf := range t.leaves {
		levels[0][leaf.Index] = leaf.Value
		indexes = append(indexes, leaf.Index)
	}
	for l := range TreeDepth {
		levels[l+1] = map[uint32]Field{}
		parents := indexes[:0:0]
		for _, index := range indexes {
			parent := index / TreeArity
			if _, done := levels[l+1][parent]; !done {
				levels[l+1][parent] = TreeNode(childrenOf(levels[l], l, parent))
				parents = append(parents, parent)
			}
		}
		indexes = parents
	}
	if len(t.leaves) == 0 {
		levels[TreeDepth][0] = emptySubtrees()[TreeDepth]
	}
	return levels
}

// childrenOf returns the four children of a node, of the level below it.
func childrenOf(level map[uint32]Field, l int, parent uint32) [TreeArity]Field {
	var children [TreeArity]Field
	for i := range children {
		node, ok := level[parent*TreeArity+uint32(i)]
		if !ok {
			node = emptySubtrees()[l]
		}
		children[i] = node
	}
	return children
}

// TreeNode is the digest of four children.
func TreeNode(children [TreeArity]Field) Field {
	var message [TreeArity]fr.Element
	for i, c := range children {
		message[i] = element(c)
	}
	return Sponge(SpongeTreeNode, message[:])
}

// empties is filled while package variables are initialised.
var empties = func() (nodes [TreeDepth + 1]Field) {
	for l := range TreeDepth {
		nodes[l+1] = TreeNode([TreeArity]Field{nodes[l], nodes[l], nodes[l], nodes[l]})
	}
	return nodes
}()

// emptySubtrees returns the node of an empty subtree at each level.
func emptySubtrees() *[TreeDepth + 1]Field { return &empties }

// TreePath is the children of each node from a leaf's parent to the root.
type TreePath [TreeDepth][TreeArity]Field

// Path returns the way from a leaf to the root.
func (t Tree) Path(index uint32) TreePath {
	levels := t.levels()
	return levels.path(index)
}

func (n *treeLevels) path(index uint32) TreePath {
	var path TreePath
	for l := range TreeDepth {
		index /= TreeArity
		path[l] = childrenOf(n[l], l, index)
	}
	return path
}

// set changes a leaf and the nodes above it.
func (n *treeLevels) set(index uint32, value Field) {
	n[0][index] = value
	for l := range TreeDepth {
		index /= TreeArity
		n[l+1][index] = TreeNode(childrenOf(n[l], l, index))
	}
}

// TreeUpdate sets one leaf; a zero value removes it.
type TreeUpdate struct {
	_     struct{} `cbor:",toarray"`
	Index uint32
	Value Field
}

// DecodeTreeUpdates reads a list of updates as codec writes it.
func DecodeTreeUpdates(data []byte) ([]TreeUpdate, error) {
	var updates []TreeUpdate
	if err := codec.Unmarshal(data, &updates, MaxInputSize); err != nil {
		return nil, fmt.Errorf("zk: updates: %w", err)
	}
	return updates, nil
}

// EncodeTreeUpdates writes what DecodeTreeUpdates reads.
func EncodeTreeUpdates(updates []TreeUpdate) []byte { return codec.Marshal(updates) }

// UpdatesDigest returns the digest of updates in their order, input 1 of the
// statement.
func UpdatesDigest(updates []TreeUpdate) Field {
	message := make([]fr.Element, 0, 2*len(updates))
	for _, u := range updates {
		var index fr.Element
		index.SetUint64(uint64(u.Index))
		message = append(message, index, element(u.Value))
	}
	return Sponge(SpongeTreeUpdates, message)
}

// TreeStep is one update as the circuit follows it: the leaf before, and the
// children on its way before.
type TreeStep struct {
	TreeUpdate
	Old  Field
	Path TreePath
}

// TreeWork is a number of updates of a tree, one after another.
type TreeWork struct {
	kernel  Kernel
	updates []TreeUpdate
	steps   []TreeStep
	before  Field
	after   Field
	tree    Tree // after
}

// NewTreeWork applies exactly as many updates as a kernel has. An update that
// sets a leaf to what it is fills up.
func NewTreeWork(tree Tree, updates []TreeUpdate) (*TreeWork, error) {
	kernel, err := MerkleState.of(len(updates))
	if err != nil {
		return nil, err
	}
	levels := tree.levels()
	w := &TreeWork{kernel: kernel, updates: slices.Clone(updates), before: levels[TreeDepth][0]}
	for i, u := range updates {
		if err := u.Value.Check(); err != nil {
			return nil, fmt.Errorf("zk: update %d: %w", i, err)
		}
		w.steps = append(w.steps, TreeStep{TreeUpdate: u, Old: tree.Leaf(u.Index), Path: levels.path(u.Index)})
		tree = tree.set(u.Index, u.Value)
		levels.set(u.Index, u.Value)
	}
	w.after, w.tree = levels[TreeDepth][0], tree
	if len(tree.leaves) > MaxTreeLeaves {
		return nil, fmt.Errorf("zk: tree of %d leaves after the updates, limit %d", len(tree.leaves), MaxTreeLeaves)
	}
	return w, nil
}

func readTree(size int, files [][]byte) (Work, error) {
	tree, err := DecodeTree(files[0])
	if err != nil {
		return nil, refused(0, err)
	}
	updates, err := DecodeTreeUpdates(files[1])
	if err != nil {
		return nil, refused(1, err)
	}
	if len(updates) != size {
		return nil, refused(1, fmt.Errorf("%d updates, want %d", len(updates), size))
	}
	w, err := NewTreeWork(tree, updates)
	if err != nil {
		return nil, refused(1, err)
	}
	return w, nil
}

// Kernel implements Work.
func (w *TreeWork) Kernel() Kernel { return w.kernel }

// Steps returns the updates as the circuit follows them.
func (w *TreeWork) Steps() []TreeStep { return slices.Clone(w.steps) }

// Inputs implements Work: the root before and the digest of the updates.
func (w *TreeWork) Inputs() []Field { return []Field{w.before, UpdatesDigest(w.updates)} }

// Outputs implements Work: the root after.
func (w *TreeWork) Outputs() []Field { return []Field{w.after} }

// Output implements Work: the tree after the updates.
func (w *TreeWork) Output() []byte { return w.tree.Encode() }

// OutputName implements Work.
func (*TreeWork) OutputName() string { return "tree.cbor" }

func (*TreeWork) sealedWork() {}
