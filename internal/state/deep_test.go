package state

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Keys cannot be chosen for their positions, but by those who hash many: 2³³ of
// them have a pair that shares 64 bits, sixteen levels of nodes. So these tests
// go in below the hashing, and take positions that share any number of bits.

// deepPositions returns n positions, most of which share a long way with an
// earlier one; crowded, one so long that there are more than a page holds.
func deepPositions(rng *rand.Rand, n int, crowded bool) []crypto.Digest {
	out := make([]crypto.Digest, 0, n)
	for len(out) < n {
		var p crypto.Digest
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		if len(out) > 0 && rng.IntN(4) > 0 {
			common := rng.IntN(8 * len(p)) // bits; the next one differs
			from := out[rng.IntN(len(out))]
			if crowded {
				common, from = 8*len(p)-1-rng.IntN(14), out[0]
			}
			copy(p[:], from[:common/8])
			mask := byte(0xff) >> (common % 8)
			p[common/8] = from[common/8]&^mask | p[common/8]&mask
			p[common/8] = p[common/8]&^(0x80>>(common%8)) | (from[common/8]^0xff)&(0x80>>(common%8))
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// deepState is what the tree should have, by position.
type deepState map[crypto.Digest]string

func (m deepState) leaves(r Range) (out []rangeLeaf) {
	positions := slices.SortedFunc(maps.Keys(m), func(a, b crypto.Digest) int { return a.Compare(b) })
	for i := range positions {
		if r.Contains(positions[i]) {
			out = append(out, rangeLeaf{&positions[i], leafHash(positions[i], []byte(m[positions[i]]))})
		}
	}
	return out
}

func wholeRange() (r Range) {
	for i := range r.To {
		r.To[i] = 0xff
	}
	return r
}

func (m deepState) root() crypto.Digest { return foldLeaves(m.leaves(wholeRange()), 0) }

// deepChanges draws changes, and what they hash to: key i is at position i.
func deepChanges(rng *rand.Rand, positions []crypto.Digest, m deepState) ([]Change, hashes) {
	var changes []Change
	var h hashes
	for i, p := range positions {
		if rng.IntN(3) > 0 {
			continue
		}
		c := Change{Key: []byte{byte(i)}}
		var leaf crypto.Digest
		if c.Deleted = rng.IntN(5) < 2; c.Deleted {
			delete(m, p)
		} else {
			c.Value = []byte{byte(rng.IntN(3))}
			leaf, m[p] = leafHash(p, c.Value), string(c.Value)
		}
		changes, h.positions, h.leaves = append(changes, c), append(h.positions, p), append(h.leaves, leaf)
	}
	return changes, h
}

// placed returns the tree with key i at position i.
func placed(tree *Tree, positions []crypto.Digest) *Tree {
	tree.positions = func(out []crypto.Digest, keys [][]byte) {
		for i := range keys {
			out[i] = positions[keys[i][0]]
		}
	}
	return tree
}

func TestDeepTreesAgreeWithModel(t *testing.T) {
	deepest := 0
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 5))
		crowded := seed%2 == 1
		n := 2 + rng.IntN(60)
		if crowded {
			n += 60
		}
		positions := deepPositions(rng, n, crowded)
		disk, m := NewMemoryBackend(), deepState{}
		tree := placed(NewTree(disk, 1), positions) // what is on the disk is read from there
		for version := range uint64(12) {
			changes, h := deepChanges(rng, positions, m)
			next, err := tree.next(version, changes, h, 1+rng.IntN(3))
			if err != nil {
				t.Fatal(err)
			}
			tree = next
			if root := m.root(); tree.Root() != root {
				t.Fatalf("seed %d, version %d: root %v, the model has %v", seed, version, tree.Root(), root)
			}
			if rng.IntN(3) > 0 {
				tree = persistDeep(t, tree, disk, m)
			}
			if rng.IntN(4) == 0 && tree.Batch().Empty() {
				if tree, err = OpenTree(disk, tree.Mark(), 1); err != nil {
					t.Fatal(err)
				}
				tree = placed(tree, positions)
			}
			checkDeepRanges(t, tree, positions, m, rng)
		}
		for key := range disk.nodes {
			if depth := int(key[8]); depth < leafDepth {
				deepest = max(deepest, depth)
			}
		}
	}
	if deepest < 60 {
		t.Fatalf("the deepest node was at %d of %d", deepest, leafDepth-1)
	}
}

// persistDeep writes the tree and drops what is stale, after which there are the
// records that it needs and no others, and the root is the one that the Builder makes of the
// same leaves.
func persistDeep(t *testing.T, tree *Tree, disk *MemoryBackend, m deepState) *Tree {
	t.Helper()
	var last []byte
	for key, record := range tree.Batch().Nodes() {
		if bytes.Compare(key, last) <= 0 {
			t.Fatalf("record %x after %x", key, last)
		}
		last = bytes.Clone(key)
		disk.PutNode(key, record)
	}
	var stale [][]byte
	for key, err := range NodeKeys(tree.Batch().StaleList()) {
		if err != nil {
			t.Fatal(err)
		}
		stale = append(stale, key)
	}
	if dropped := disk.DropNodes(slices.Values(stale)); dropped != len(stale) {
		t.Fatalf("version %d names %d stale records, %d of them exist", tree.Version(), len(stale), dropped)
	}
	builder := NewBuilder(0, func(_, _ []byte) error { return nil })
	for _, leaf := range m.leaves(wholeRange()) {
		if err := builder.add(*leaf.position, leaf.hash); err != nil {
			t.Fatal(err)
		}
	}
	if mark, err := builder.Finish(); err != nil || mark.Root != tree.Root() {
		t.Fatalf("version %d: built it has root %v: %v", tree.Version(), mark.Root, err)
	}
	opened, err := OpenTree(disk, tree.Mark(), 1)
	if err != nil {
		t.Fatal(err)
	}
	nodes, leaves := countDeep(t, opened, &opened.top, 0, &crypto.Digest{})
	if leaves != len(m) || nodes+leaves != len(disk.nodes) {
		t.Fatalf("version %d: %d nodes and %d leaves, want %d leaves, %d records", tree.Version(), nodes, leaves, len(m), len(disk.nodes))
	}
	return tree.Persisted(tree.Mark())
}

// countDeep counts the nodes and the leaves from a node on, and demands of each that it is
// a page where it has to be one.
func countDeep(t *testing.T, tree *Tree, at *kidSlot, depth int, path *crypto.Digest) (nodes, leaves int) {
	t.Helper()
	l := tree.loader()
	var n node
	if err := l.load(&n, at, depth, path); err != nil {
		t.Fatal(err)
	}
	if n.page() {
		return 1, len(n.places)
	}
	nodes, leaves = 1, len(n.leafs)
	pages := 0
	for i := range fanout {
		if kid := n.kid(i); kid != nil {
			next := childPath(path, depth, i)
			below, some := countDeep(t, tree, kid, depth+1, &next)
			if nodes, leaves = nodes+below, leaves+some; below == 1 {
				pages++
			}
		}
	}
	if depth > 0 && leaves <= pageLeaves && len(n.kids) <= fewKids && pages == len(n.kids) {
		t.Fatalf("%d leaves at depth %d, below %d slots, are no page", leaves, depth, len(n.kids))
	}
	return nodes, leaves
}

// checkDeepRanges proves ranges whose edges are at leaves and beside them, and
// tries each proof on what it does not show.
func checkDeepRanges(t *testing.T, tree *Tree, positions []crypto.Digest, m deepState, rng *rand.Rand) {
	t.Helper()
	for range 2 {
		r := Range{positions[rng.IntN(len(positions))], positions[rng.IntN(len(positions))]}
		if r.From.Compare(r.To) > 0 {
			r.From, r.To = r.To, r.From
		}
		p, err := tree.ProveRange(r)
		if err != nil {
			t.Fatal(err)
		}
		if p, err = DecodeRangeProof(p.Encode()); err != nil {
			t.Fatal(err)
		}
		leaves := m.leaves(r)
		lower, err := tree.Lower(r, len(positions), 1<<20)
		if err != nil || !slices.EqualFunc(lower, leaves, func(e Entry, l rangeLeaf) bool { return e.Position == *l.position }) {
			t.Fatalf("version %d, %v to %v: %d leaves, want %d: %v", tree.Version(), r.From, r.To, len(lower), len(leaves), err)
		}
		if err := p.verifyHashed(tree.Root(), r, leaves); err != nil {
			t.Fatalf("version %d, %v to %v with %d leaves: %v", tree.Version(), r.From, r.To, len(leaves), err)
		}
		for i := range leaves {
			if err := p.verifyHashed(tree.Root(), r, slices.Delete(slices.Clone(leaves), i, i+1)); !errors.Is(err, ErrProof) {
				t.Fatalf("version %d, %v to %v without leaf %d of %d: %v", tree.Version(), r.From, r.To, i, len(leaves), err)
			}
		}
	}
}
