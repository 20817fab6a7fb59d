package state

import "github.com/hypermesh/hypermesh/internal/crypto"

// hash computes the digests of the nodes that the worker made, the deepest
// first, and gives that of the highest to its slot. The nodes of one depth go
// together, because many hashes at a time cost less each.
func (w *worker) hash(top *slot) {
	var below []crypto.Digest
	var s sealer
	for depth := len(w.made) - 1; depth > 0; depth-- {
		nodes := w.made[depth]
		rest := below
		for _, n := range nodes {
			for k := range n.kids {
				if kid := &n.kids[k]; kid.version == w.version {
					kid.hash, rest = rest[0], rest[1:]
				}
			}
		}
		if len(rest) != 0 {
			panic("state: a node was made that is in no other")
		}
		below = make([]crypto.Digest, len(nodes))
		s.seal(nodes, below)
		for _, n := range nodes {
			w.count(n)
		}
	}
	if top.kind == isKid {
		top.kid.hash = below[0]
	}
}

// sealer computes the digests of several nodes at a time.
type sealer struct {
	folds []fold
	in    []crypto.Pair
	out   []*crypto.Digest
}

// fold is the digests of a node's binary subtrees.
type fold struct {
	pairs    [8]crypto.Digest
	quarters [4]crypto.Digest
	halves   [2]crypto.Digest
}

// sealChunk is how many nodes are in work at a time.
const sealChunk = 16

// seal computes the nodes' quarters, and their digests. None of them is a lone
// leaf.
func (s *sealer) seal(nodes []*node, digests []crypto.Digest) {
	if s.folds == nil {
		s.folds = make([]fold, sealChunk)
	}
	for len(nodes) > 0 {
		n := min(len(nodes), sealChunk)
		s.chunk(nodes[:n], digests[:n])
		nodes, digests = nodes[n:], digests[n:]
	}
}

func (s *sealer) chunk(nodes []*node, digests []crypto.Digest) {
	for i, n := range nodes {
		f := &s.folds[i]
		for q := range 4 {
			if n.known>>q&1 != 0 {
				f.quarters[q] = n.quarters[q]
				continue
			}
			for p := 2 * q; p < 2*q+2; p++ {
				if s.needs(n, 2*p, 2, &f.pairs[p]) {
					s.add(n.hash(2*p), n.hash(2*p+1), &f.pairs[p])
				}
			}
		}
	}
	s.run()
	for i, n := range nodes {
		f := &s.folds[i]
		for q := range 4 {
			if n.known>>q&1 == 0 && s.needs(n, 4*q, 4, &f.quarters[q]) {
				s.add(f.pairs[2*q], f.pairs[2*q+1], &f.quarters[q])
			}
		}
	}
	s.run()
	for i, n := range nodes {
		f := &s.folds[i]
		n.keep(&f.quarters)
		for h := range 2 {
			if s.needs(n, 8*h, 8, &f.halves[h]) {
				s.add(f.quarters[2*h], f.quarters[2*h+1], &f.halves[h])
			}
		}
	}
	s.run()
	for i := range nodes {
		s.add(s.folds[i].halves[0], s.folds[i].halves[1], &digests[i])
	}
	s.run()
}

// needs reports whether the digest of a subtree of a node is that of a pair. If
// not, it is none's or a lone leaf's, and now known.
func (s *sealer) needs(n *node, lo, width int, known *crypto.Digest) bool {
	if used := n.usedIn(lo, width); used == 0 {
		*known = crypto.Digest{}
		return false
	}
	if leaf := n.loneIn(lo, width); leaf != nil {
		*known = leaf.hash
		return false
	}
	return true
}

func (s *sealer) add(left, right crypto.Digest, to *crypto.Digest) {
	s.in = append(s.in, crypto.Pair{Left: left, Right: right})
	s.out = append(s.out, to)
}

func (s *sealer) run() {
	crypto.DomainStateInner.HashPairs(s.out, s.in)
	s.in, s.out = s.in[:0], s.out[:0]
}
