package store_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// BenchmarkProof builds and verifies proofs of random keys, one in two of them
// absent, of a tree of a million keys. Cold is a tree just opened: every node
// comes from the database.
func BenchmarkProof(b *testing.B) {
	s := must(store.Open(b.TempDir(), store.Options{}))(b)
	load := newTreeLoad(1_000_000)
	tree := load.fill(b, s)
	mark, _ := s.TreeMark()
	cold := must(s.OpenTree(chain.Height(mark.Version)))(b)
	build := func(tree *state.Tree) func(b *testing.B) {
		return func(b *testing.B) {
			size := 0
			for b.Loop() {
				key := load.proofKey()
				size += len(must(tree.Prove(key))(b).Encode())
			}
			b.ReportMetric(float64(size)/float64(b.N), "bytes/proof")
		}
	}
	b.Run("build", build(tree))
	b.Run("build-cold", build(cold))
	b.Run("verify", func(b *testing.B) {
		key := load.keys[77][:]
		value, _, err := tree.Get(key)
		check(b, err)
		encoded := must(tree.Prove(key))(b).Encode()
		for b.Loop() {
			proof := must(state.DecodeProof(encoded))(b)
			check(b, proof.Verify(tree.Root(), key, value, true))
		}
	})
	check(b, s.Close())
}

// proofKey returns a key of the load, or one that is not in it.
func (l *treeLoad) proofKey() []byte {
	key := l.keys[l.rng.IntN(len(l.keys))]
	if l.rng.IntN(2) == 0 {
		key[31] ^= 0x55
	}
	return key[:]
}
