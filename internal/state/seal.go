package state

import (
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// making is a node that a version made. A page's digest is computed soon, a few pages
// together while the processor has them at hand; the others' when all below them are there.
type making struct {
	at     ref
	digest *crypto.Digest // of a page: where it will be
}

// finishPage makes a page at some depth one of the version's, to be hashed soon, and returns
// its slot.
func (w *worker) finishPage(r ref, n *node, depth int) slot {
	if len(w.digests) == cap(w.digests) {
		w.digests = make([]crypto.Digest, 0, max(cap(w.changes), pageLeaves)) // who has a place in the full one keeps it
	}
	w.digests = w.digests[:len(w.digests)+1]
	to := &w.digests[len(w.digests)-1]
	w.pocket.sealer.addPage(n, depth, to)
	return w.add(making{r, to}, n, depth)
}

// finish makes a built node one of the version's, to be hashed later, and returns
// its slot.
func (w *worker) finish(r ref, n *node, depth int) slot { return w.add(making{at: r}, n, depth) }

func (w *worker) add(m making, n *node, depth int) slot {
	w.count(n)
	for len(w.made) <= depth {
		w.made = append(w.made, nil)
	}
	if w.made[depth] == nil {
		w.made[depth] = make([]making, 0, cap(w.changes))
	}
	w.made[depth] = append(w.made[depth], m)
	return slot{kind: isKid, kid: kidSlot{version: stamp(w.version), node: m.at}}
}

// home notes where the digest of the next node at some depth goes that has no home yet.
func (w *worker) home(depth int, to *crypto.Digest) {
	for len(w.homes) <= depth {
		w.homes = append(w.homes, nil)
	}
	if w.homes[depth] == nil {
		w.homes[depth] = make([]*crypto.Digest, 0, cap(w.changes))
	}
	w.homes[depth] = append(w.homes[depth], to)
}

// hash computes the digests of the nodes that the worker made, the deepest
// first, each into the slot that it is in. The nodes of one depth go
// together, because many hashes at a time cost less each.
func (w *worker) hash(s *sealer) {
	for depth := len(w.made) - 1; depth > 0; depth-- {
		if len(w.made[depth]) == 0 {
			continue
		}
		homes := w.homes[depth]
		if len(homes) != len(w.made[depth]) {
			panic("state: a node was made that is in no other")
		}
		for i, m := range w.made[depth] {
			if m.digest != nil {
				*homes[i] = *m.digest
				continue
			}
			n := w.loader.arena.node(m.at, w.version)
			s.add(&n, homes[i])
		}
		s.end()
	}
}

// sealer computes the digests of several nodes at a time: what does not wait for
// another digest goes first, then what waits for that. It copies no digest, but names
// where each is.
type sealer struct {
	slotted []sealing // in work, of one depth
	folds   []fold
	joins   []crypto.Join

	paged  []*head // in work, of any depth
	rounds [][]crypto.Join
	inner  []crypto.Digest // that nothing keeps
}

// sealing is a node whose digest is to be computed, and where to.
type sealing struct {
	node node
	to   *crypto.Digest
}

// fold is room for the digests of a node's binary subtrees, and where those of the last
// row that was computed are.
type fold struct {
	pairs    [8]crypto.Digest
	quarters [4]crypto.Digest
	halves   [2]crypto.Digest
	at       [8]*crypto.Digest
}

// sealChunk is how many nodes are in work at a time.
const sealChunk = 64

// add takes a node of sixteen slots, whose digest goes to a place until end. So do those of
// the quarters that are not known.
func (s *sealer) add(n *node, to *crypto.Digest) {
	if s.folds == nil {
		s.slotted, s.folds, s.joins = make([]sealing, 0, sealChunk), make([]fold, sealChunk), make([]crypto.Join, 0, sealChunk*4)
	}
	if s.slotted = append(s.slotted, sealing{*n, to}); len(s.slotted) == sealChunk {
		s.end()
	}
}

// addPage is add for a page at a depth, until endPages. Nothing of it may change before.
func (s *sealer) addPage(n *node, depth int, to *crypto.Digest) {
	if s.rounds == nil {
		s.reserve()
	}
	s.plan(n, 4*depth, to)
	if s.paged = append(s.paged, n.head); len(s.paged) == sealChunk {
		s.endPages()
	}
}

// reserve makes room for what a chunk of pages usually comes to: of most one leaf changed.
func (s *sealer) reserve() {
	const rounds, each = 6, 4
	s.paged, s.inner = make([]*head, 0, sealChunk), make([]crypto.Digest, 0, sealChunk*2*each)
	joins := make([]crypto.Join, rounds*sealChunk*each)
	for i := range rounds {
		s.rounds = append(s.rounds, joins[i*sealChunk*each:][:0:sealChunk*each])
	}
}

// end computes the digests of the nodes in work.
func (s *sealer) end() {
	nodes := s.slotted
	s.slotted = nodes[:0]
	for i := range nodes {
		n, f := &nodes[i].node, &s.folds[i]
		for p := range f.pairs {
			if n.known>>(p/2)&1 == 0 {
				f.at[p] = s.join(n, 2*p, 2, crypto.Join{Left: n.digestAt(2 * p), Right: n.digestAt(2*p + 1), To: &f.pairs[p]})
			}
		}
	}
	s.run()
	for i := range nodes {
		n, f := &nodes[i].node, &s.folds[i]
		for q := range f.quarters {
			to := &f.quarters[q]
			if n.quarters != nil {
				to = &n.quarters[q]
			}
			if n.known>>q&1 != 0 {
				f.at[q] = to
				if lone := n.loneAt(4*q, 4); lone != nil {
					f.at[q] = lone
				}
				continue
			}
			f.at[q] = s.join(n, 4*q, 4, crypto.Join{Left: f.at[2*q], Right: f.at[2*q+1], To: to})
		}
	}
	s.run()
	for i := range nodes {
		n, f := &nodes[i].node, &s.folds[i]
		if n.quarters != nil {
			n.known = 15
		}
		for h := range f.halves {
			f.at[h] = s.join(n, 8*h, 8, crypto.Join{Left: f.at[2*h], Right: f.at[2*h+1], To: &f.halves[h]})
		}
	}
	s.run()
	for i := range nodes {
		s.joins = append(s.joins, crypto.Join{Left: s.folds[i].at[0], Right: s.folds[i].at[1], To: nodes[i].to})
	}
	s.run()
}

// join computes the digest of a subtree of a node, and returns where it is: where the
// join says, unless it is none's or a lone leaf's.
func (s *sealer) join(n *node, lo, width int, j crypto.Join) *crypto.Digest {
	if lone := n.loneAt(lo, width); lone != nil {
		return lone
	}
	s.joins = append(s.joins, j)
	return j.To
}

// loneAt returns where the digest of a subtree of a node is that has at most a leaf, and
// nil if it has more.
func (n *node) loneAt(lo, width int) *crypto.Digest {
	used := n.usedIn(lo, width)
	switch {
	case used == 0:
		return &noDigest
	case used&(used-1) == 0 && n.leaves>>lo&used != 0:
		return &n.leafs[rank(n.leaves, lo+bits.TrailingZeros16(used))].hash
	}
	return nil
}

func (s *sealer) run() {
	crypto.DomainStateInner.HashJoins(s.joins)
	s.joins = s.joins[:0]
}

// folded is a subtree of a page: how many leaves it has, where its digest will be, and
// after how many rounds.
type folded struct {
	leaves, round int
	at            *crypto.Digest
}

// endPages computes the digests of the pages in work.
func (s *sealer) endPages() {
	for i, joins := range s.rounds {
		crypto.DomainStateInner.HashJoins(joins)
		s.rounds[i] = joins[:0]
	}
	for _, h := range s.paged {
		if h.count > fewSlots {
			h.known = 15
		}
	}
	s.paged, s.inner = s.paged[:0], s.inner[:0]
}

// plan plans the digest of a page whose root is at a depth of so many bits.
func (s *sealer) plan(n *node, bit int, to *crypto.Digest) {
	var quarters [4]folded
	for q := range quarters {
		from, end := n.quarter(q)
		var at *crypto.Digest
		if len(n.places) > fewSlots {
			at = &n.digests[len(n.places)+q]
		}
		if n.known>>q&1 != 0 && end-from > 1 {
			quarters[q] = folded{end - from, 0, at}
			continue
		}
		quarters[q] = s.fold(n, from, end, bit+2, at)
	}
	s.joinTwo(s.joinTwo(quarters[0], quarters[1], nil), s.joinTwo(quarters[2], quarters[3], nil), to)
}

// joinTwo plans the subtree above two, with its digest at a place, nil: anywhere.
func (s *sealer) joinTwo(left, right folded, to *crypto.Digest) folded {
	switch {
	case left.leaves+right.leaves > 1:
	case right.leaves == 0:
		return left
	default:
		return right
	}
	if to == nil {
		to = s.room()
	}
	round := max(left.round, right.round)
	for len(s.rounds) <= round {
		s.rounds = append(s.rounds, nil)
	}
	s.rounds[round] = append(s.rounds[round], crypto.Join{Left: left.at, Right: right.at, To: to})
	return folded{left.leaves + right.leaves, round + 1, to}
}

// room returns a place for a digest until the end of the chunk.
func (s *sealer) room() *crypto.Digest {
	if len(s.inner) == cap(s.inner) {
		s.inner = make([]crypto.Digest, 0, 2*cap(s.inner)) // who has a place in the shorter one keeps it
	}
	s.inner = s.inner[:len(s.inner)+1]
	return &s.inner[len(s.inner)-1]
}

// fold plans the subtree at a depth of so many bits over the leaves [from, to) of a
// page, with its digest at a place, nil: anywhere.
func (s *sealer) fold(n *node, from, to, bit int, at *crypto.Digest) folded {
	switch to - from {
	case 0:
		return folded{at: &noDigest}
	case 1:
		return folded{leaves: 1, at: &n.digests[from]}
	}
	split := from
	for split < to && n.places[split][bit/8]>>(7-bit%8)&1 == 0 {
		split++
	}
	left := s.fold(n, from, split, bit+1, nil)
	return s.joinTwo(left, s.fold(n, split, to, bit+1, nil), at)
}
