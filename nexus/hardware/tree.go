package hardware

import (
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// tree is a level of a binary tree over leaves: the first level is the leaves, the last the
// root. A node without a neighbour goes up as it is.
type tree = []crypto.Digest

func newTree(leaves []crypto.Digest) []tree {
	levels := []tree{leaves}
	for last := leaves; len(last) > 1; {
		up := make(tree, (len(last)+1)/2)
		for i := range up {
			if 2*i+1 < len(last) {
				up[i] = crypto.DomainLaneTree.HashPair(last[2*i], last[2*i+1])
			} else {
				up[i] = last[2*i]
			}
		}
		levels, last = append(levels, up), up
	}
	return levels
}

// pathOf returns the neighbours on the way from a leaf to the root.
func pathOf(levels []tree, i uint64) (path []crypto.Digest) {
	for _, level := range levels[:len(levels)-1] {
		if n := i ^ 1; n < uint64(len(level)) {
			path = append(path, level[n])
		}
		i /= 2
	}
	return path
}

// leads reports whether a path leads from the i-th of n leaves to a root.
func leads(leaf crypto.Digest, path []crypto.Digest, i, n uint64, root crypto.Digest) bool {
	for ; n > 1; n, i = (n+1)/2, i/2 {
		if i^1 >= n {
			continue
		}
		if len(path) == 0 {
			return false
		}
		if i%2 == 0 {
			leaf = crypto.DomainLaneTree.HashPair(leaf, path[0])
		} else {
			leaf = crypto.DomainLaneTree.HashPair(path[0], leaf)
		}
		path = path[1:]
	}
	return len(path) == 0 && leaf == root
}

// maxPath is how long a path of n leaves is at most.
func maxPath(n uint64) int { return bits.Len64(n - 1) }
