package state

import (
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// hash computes the digests of the nodes that the worker made, the deepest
// first, and gives that of the highest to its slot. The nodes of one depth go
// together, because many hashes at a time cost less each.
func (w *worker) hash(s *sealer, top *slot) {
	var below []crypto.Digest
	for depth := len(w.made) - 1; depth > 0; depth-- {
		nodes := w.made[depth]
		rest := below
		for _, at := range nodes {
			n := w.loader.arena.node(at, w.version)
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
		s.all = s.all[:0]
		for _, at := range nodes {
			s.all = append(s.all, w.loader.arena.node(at, w.version))
			w.count(&s.all[len(s.all)-1])
		}
		s.seal(s.all, depth, below)
	}
	if top.kind == isKid {
		top.kid.hash = below[0]
	}
}

// sealer computes the digests of several nodes at a time.
type sealer struct {
	all   []node // of a depth
	folds []fold
	in    []crypto.Pair
	out   []*crypto.Digest
	pages pageSealer

	slotted, paged []sealing // in work
}

// sealing is a node whose digest is to be computed, and where to.
type sealing struct {
	node   *node
	digest *crypto.Digest
}

// fold is the digests of a node's binary subtrees.
type fold struct {
	pairs    [8]crypto.Digest
	quarters [4]crypto.Digest
	halves   [2]crypto.Digest
}

// sealChunk is how many nodes are in work at a time.
const sealChunk = 64

// seal computes the quarters of nodes at a depth, and their digests. None of them
// is a lone leaf.
func (s *sealer) seal(nodes []node, depth int, digests []crypto.Digest) {
	if s.folds == nil {
		s.folds = make([]fold, sealChunk)
	}
	for i := range nodes {
		n := &nodes[i]
		if n.page() {
			if s.paged = append(s.paged, sealing{n, &digests[i]}); len(s.paged) == sealChunk {
				s.endPages(depth)
			}
			continue
		}
		if s.slotted = append(s.slotted, sealing{n, &digests[i]}); len(s.slotted) == sealChunk {
			s.endSlotted()
		}
	}
	s.endPages(depth)
	s.endSlotted()
}

func (s *sealer) endPages(depth int) {
	s.pages.seal(s.paged, depth)
	s.paged = s.paged[:0]
}

func (s *sealer) endSlotted() {
	nodes := s.slotted
	s.slotted = s.slotted[:0]
	for i := range nodes {
		n, f := nodes[i].node, &s.folds[i]
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
	for i := range nodes {
		n, f := nodes[i].node, &s.folds[i]
		for q := range 4 {
			if n.known>>q&1 == 0 && s.needs(n, 4*q, 4, &f.quarters[q]) {
				s.add(f.pairs[2*q], f.pairs[2*q+1], &f.quarters[q])
			}
		}
	}
	s.run()
	for i := range nodes {
		n, f := nodes[i].node, &s.folds[i]
		n.keep(&f.quarters)
		for h := range 2 {
			if s.needs(n, 8*h, 8, &f.halves[h]) {
				s.add(f.quarters[2*h], f.quarters[2*h+1], &f.halves[h])
			}
		}
	}
	s.run()
	for i := range nodes {
		s.add(s.folds[i].halves[0], s.folds[i].halves[1], nodes[i].digest)
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

// pageSealer computes the digests of several pages at a time: what does not wait for
// another digest goes first, then what waits for that.
type pageSealer struct {
	digests []crypto.Digest // the first is zero; then leaves, and subtrees
	rounds  [][]pageFold
	in      []crypto.Pair
	out     []*crypto.Digest
}

// pageFold is one inner node of the binary tree, by indices of digests.
type pageFold struct{ left, right, to int32 }

// folded is a subtree: how many leaves it has, where its digest will be among the
// sealer's, and in how many rounds.
type folded struct {
	leaves int
	at     int32
	round  int
}

// pagePlan is where the digests of a page will be.
type pagePlan struct {
	quarters [4]folded
	top      int32
}

// seal computes the digests of pages at a depth.
func (s *pageSealer) seal(pages []sealing, depth int) {
	if s.digests == nil {
		s.reserve()
	}
	s.digests = append(s.digests[:0], crypto.Digest{})
	for i := range s.rounds {
		s.rounds[i] = s.rounds[i][:0]
	}
	var plans [sealChunk]pagePlan
	for i := range pages {
		s.plan(&plans[i], pages[i].node, 4*depth)
	}
	for _, folds := range s.rounds {
		for _, f := range folds {
			s.in = append(s.in, crypto.Pair{Left: s.digests[f.left], Right: s.digests[f.right]})
			s.out = append(s.out, &s.digests[f.to])
		}
		crypto.DomainStateInner.HashPairs(s.out, s.in)
		s.in, s.out = s.in[:0], s.out[:0]
	}
	for i := range pages {
		n, p := pages[i].node, &plans[i]
		*pages[i].digest = s.digests[p.top]
		if len(n.places) <= fewSlots {
			continue
		}
		for q := range p.quarters {
			n.sums[len(n.places)+q].hash = s.digests[p.quarters[q].at]
		}
		n.known = 15
	}
}

// reserve makes room for what a chunk of pages usually comes to, of which mostly one
// leaf changed.
func (s *pageSealer) reserve() {
	const known, rounds, each = 12, 6, 4
	s.digests = make([]crypto.Digest, 0, sealChunk*2*known)
	s.in, s.out = make([]crypto.Pair, 0, sealChunk*each), make([]*crypto.Digest, 0, sealChunk*each)
	folds := make([]pageFold, rounds*sealChunk*each)
	for i := range rounds {
		s.rounds = append(s.rounds, folds[i*sealChunk*each:][:0:sealChunk*each])
	}
}

// plan plans the digests of a page whose root is at a depth of so many bits.
func (s *pageSealer) plan(p *pagePlan, n *node, bit int) {
	for q := range p.quarters {
		from, to := n.quarter(q)
		if n.known>>q&1 != 0 && to-from > 1 {
			p.quarters[q] = folded{to - from, s.have(&n.sums[len(n.places)+q].hash), 0}
			continue
		}
		p.quarters[q] = s.fold(n, from, to, bit+2)
	}
	p.top = s.join(s.join(p.quarters[0], p.quarters[1]), s.join(p.quarters[2], p.quarters[3])).at
}

// have returns where a digest that is known is.
func (s *pageSealer) have(digest *crypto.Digest) int32 {
	s.digests = append(s.digests, *digest)
	return int32(len(s.digests) - 1)
}

// join plans the subtree above two.
func (s *pageSealer) join(left, right folded) folded {
	switch {
	case left.leaves+right.leaves > 1:
	case right.leaves == 0:
		return left
	default:
		return right
	}
	round := max(left.round, right.round)
	s.digests = append(s.digests, crypto.Digest{})
	at := int32(len(s.digests) - 1)
	for len(s.rounds) <= round {
		s.rounds = append(s.rounds, nil)
	}
	s.rounds[round] = append(s.rounds[round], pageFold{left.at, right.at, at})
	return folded{left.leaves + right.leaves, at, round + 1}
}

// fold plans the subtree at a depth of so many bits over the leaves [from, to) of a
// page.
func (s *pageSealer) fold(n *node, from, to, bit int) folded {
	switch to - from {
	case 0:
		return folded{}
	case 1:
		return folded{leaves: 1, at: s.have(&n.sums[from].hash)}
	}
	split := from
	for split < to && n.places[split][bit/8]>>(7-bit%8)&1 == 0 {
		split++
	}
	left := s.fold(n, from, split, bit+1)
	return s.join(left, s.fold(n, split, to, bit+1))
}
