package state

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

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
		s.seal(nodes, depth, below)
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
const sealChunk = 16

// seal computes the quarters of nodes at a depth, and their digests. None of them
// is a lone leaf.
func (s *sealer) seal(nodes []*node, depth int, digests []crypto.Digest) {
	if s.folds == nil {
		s.folds = make([]fold, sealChunk)
	}
	for i, n := range nodes {
		if n.page {
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
	bits    [pageLeaves]uint64 // of the leaves' positions, the first
}

// pageFold is one inner node of the binary tree, by indices of digests.
type pageFold struct{ left, right, to int32 }

// seal computes the digests of pages at a depth.
func (s *pageSealer) seal(pages []sealing, depth int) {
	s.digests = append(s.digests[:0], crypto.Digest{})
	for i := range s.rounds {
		s.rounds[i] = s.rounds[i][:0]
	}
	var plans [sealChunk]pagePlan
	for i := range pages {
		n := pages[i].node
		p := &plans[i]
		*p = pagePlan{s: s, n: n, base: 4 * depth, first: int32(len(s.digests))}
		for k := range n.leafs {
			s.digests = append(s.digests, n.leafs[k].hash)
			s.bits[k] = binary.BigEndian.Uint64(n.leafs[k].position[:])
		}
		p.top, _ = p.fold(0, len(n.leafs), p.base)
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
		p := &plans[i]
		*pages[i].digest = s.digests[p.top]
		var quarters [4]crypto.Digest
		for q, at := range p.quarters {
			quarters[q] = s.digests[at]
		}
		p.n.keep(&quarters)
	}
}

// pagePlan plans the digests of one page.
type pagePlan struct {
	s        *pageSealer
	n        *node
	base     int      // depth of the page, in bits
	first    int32    // the first leaf's index among the digests
	quarters [4]int32 // indices of their digests, zero if they have not two leaves
	top      int32
}

// fold plans the subtree at a depth of so many bits over the leaves [lo, hi), and
// returns the index of its digest and in how many rounds it is there.
func (p *pagePlan) fold(lo, hi, bit int) (at int32, round int) {
	switch hi - lo {
	case 0:
		return 0, 0
	case 1:
		return p.first + int32(lo), 0
	}
	if bit == p.base+2 {
		q := pageQuarter(&p.n.leafs[lo].position, p.base/4)
		if p.n.known>>q&1 != 0 {
			p.s.digests = append(p.s.digests, p.n.quarters[q])
			at = int32(len(p.s.digests) - 1)
		} else {
			at, round = p.halves(lo, hi, bit)
		}
		p.quarters[q] = at
		return at, round
	}
	return p.halves(lo, hi, bit)
}

func (p *pagePlan) halves(lo, hi, bit int) (at int32, round int) {
	split := lo
	if bit < 64 {
		for split < hi && p.s.bits[split]>>(63-bit)&1 == 0 {
			split++
		}
	} else {
		for split < hi && p.n.leafs[split].position[bit/8]>>(7-bit%8)&1 == 0 {
			split++
		}
	}
	left, before := p.fold(lo, split, bit+1)
	right, also := p.fold(split, hi, bit+1)
	round = max(before, also)
	at = int32(len(p.s.digests))
	p.s.digests = append(p.s.digests, crypto.Digest{})
	for len(p.s.rounds) <= round {
		p.s.rounds = append(p.s.rounds, nil)
	}
	p.s.rounds[round] = append(p.s.rounds[round], pageFold{left, right, at})
	return at, round + 1
}
