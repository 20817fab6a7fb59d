package state

import (
	"fmt"
	"sort"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MaxRangeProofBytes bounds an encoded RangeProof. The deepest possible one has
// a sibling on each of 256 levels of both edges; at 10⁸ keys a proof takes about
// 2 KB.
const MaxRangeProofBytes = 20 << 10

const maxRangeSteps = 4*maxProofDepth + 1

// Range is the positions from From to To, both included.
type Range struct{ From, To crypto.Digest }

// Contains reports whether a position is in the range.
func (r Range) Contains(position crypto.Digest) bool {
	return r.From.Compare(position) <= 0 && position.Compare(r.To) <= 0
}

// After returns the position after one that is not the last.
func After(position crypto.Digest) crypto.Digest {
	for b := len(position) - 1; b >= 0; b-- {
		if position[b]++; position[b] != 0 {
			break
		}
	}
	return position
}

// RangeProof shows every leaf that a state with a known root has in a range:
// with a list of leaves, it is what is beside the range on the way from the root
// to the range's two edges.
//
// A subtree of the binary tree lies inside the range, outside of it, or
// straddles an edge. Starting at the root, and left before right, the proof has
// one step for every subtree that is not inside and whose parent straddles:
//
//   - none: the subtree has no leaf outside the range;
//   - leaf: it has one leaf, outside the range, and straddles; the leaf follows;
//   - node: it is outside, and its digest follows; or it straddles and has more
//     leaves than one, of which one is outside, and the steps of both halves
//     follow.
//
// The encoding is canonical, and for one root and range there is one proof.
type RangeProof struct {
	steps   []byte
	digests []crypto.Digest // for a leaf its position, then its value's digest
}

const (
	stepNone = 0
	stepLeaf = 1
	stepNode = 2
)

// relation is how a subtree lies to a range.
type relation int

const (
	inside relation = iota
	outside
	straddles
)

// relate returns how the subtree at some depth of the binary tree, whose path is
// filled up with zeros, lies to the range.
func (r *Range) relate(path *crypto.Digest, depth int) relation {
	last := *path
	if depth%8 != 0 {
		last[depth/8] |= 0xff >> (depth % 8)
	}
	for i := (depth + 7) / 8; i < len(last); i++ {
		last[i] = 0xff
	}
	switch {
	case last.Compare(r.From) < 0 || path.Compare(r.To) > 0:
		return outside
	case path.Compare(r.From) >= 0 && last.Compare(r.To) <= 0:
		return inside
	}
	return straddles
}

// ProveRange returns the proof of all leaves that this version has in a range,
// which Iterate yields. An empty range (From above To) panics.
func (t *Tree) ProveRange(r Range) (RangeProof, error) {
	if r.From.Compare(r.To) > 0 {
		panic("state: proof of an empty range")
	}
	if err := t.hold.use(); err != nil {
		return RangeProof{}, err
	}
	defer t.hold.done()
	w := rangeProver{t: t, l: t.loader(), r: &r}
	if _, err := w.part(t.root(), 0, slots{0, fanout}, &crypto.Digest{}); err != nil {
		return RangeProof{}, fmt.Errorf("state: proving a range: %w", err)
	}
	return w.p, nil
}

type rangeProver struct {
	t *Tree
	l loader
	r *Range
	p RangeProof
}

// slots is the slots [lo, lo+width) of a node: one subtree of the binary tree.
type slots struct{ lo, width int }

// depth returns the depth in the binary tree of slots of a node.
func (s slots) depth(node int) int {
	depth := 4*node + 4
	for w := s.width; w > 1; w /= 2 {
		depth--
	}
	return depth
}

// part adds the steps of the subtree that is some slots of the node at some depth,
// and reports whether there is a leaf outside the range in it.
func (w *rangeProver) part(n *node, depth int, s slots, above *crypto.Digest) (bool, error) {
	path := childPath(above, depth, s.lo)
	switch w.r.relate(&path, s.depth(depth)) {
	case inside:
		return false, nil
	case outside:
		d := n.fold(s.lo, s.width)
		if d.IsZero() {
			return w.step(stepNone), nil
		}
		return w.step(stepNode, d), nil
	case straddles:
	}
	if n.usedIn(s.lo, s.width) == 0 {
		return w.step(stepNone), nil
	}
	if leaf := n.loneIn(s.lo, s.width); leaf != nil {
		if w.r.Contains(leaf.position) {
			return w.step(stepNone), nil
		}
		e, err := w.t.entry(leaf)
		if err != nil {
			return false, err
		}
		return w.step(stepLeaf, e.Position, crypto.DomainStateValue.Hash(e.Value)), nil
	}
	if s.width == 1 {
		var child node
		if err := w.l.child(&child, n, s.lo, depth+1, &path); err != nil {
			return false, err
		}
		return w.part(child.open(depth+1), depth+1, slots{0, fanout}, &path)
	}
	begin := len(w.p.steps)
	w.step(stepNode)
	half := s.width / 2
	left, err := w.part(n, depth, slots{s.lo, half}, above)
	if err != nil {
		return false, err
	}
	right, err := w.part(n, depth, slots{s.lo + half, half}, above)
	if err != nil {
		return false, err
	}
	if !left && !right {
		w.p.steps = w.p.steps[:begin]
		return w.step(stepNone), nil
	}
	return true, nil
}

// step adds one step and reports whether it shows a leaf outside the range.
func (w *rangeProver) step(kind byte, digests ...crypto.Digest) bool {
	w.p.steps = append(w.p.steps, kind)
	w.p.digests = append(w.p.digests, digests...)
	return len(digests) > 0
}

// Verify returns nil if p shows that the state with that root has exactly these
// leaves in the range, in ascending order of positions. Else the error is
// ErrProof, with the reason. It does not bound the leaves.
func (p RangeProof) Verify(root crypto.Digest, r Range, leaves []Entry) error {
	if r.From.Compare(r.To) > 0 {
		return fmt.Errorf("%w: the range is empty: it ends before it begins", ErrProof)
	}
	hashed := make([]rangeLeaf, len(leaves))
	for i := range leaves {
		e := &leaves[i]
		switch {
		case len(e.Key) == 0 || len(e.Key) > MaxKeyBytes:
			return fmt.Errorf("%w: leaf %d has a key of %d bytes, want 1 to %d", ErrProof, i, len(e.Key), MaxKeyBytes)
		case len(e.Value) > MaxValueBytes:
			return fmt.Errorf("%w: leaf %d has a value of %d bytes, limit %d", ErrProof, i, len(e.Value), MaxValueBytes)
		case e.Position != Position(e.Key):
			return fmt.Errorf("%w: leaf %d is not at its key's position", ErrProof, i)
		case !r.Contains(e.Position):
			return fmt.Errorf("%w: leaf %d is outside the range", ErrProof, i)
		case i > 0 && leaves[i-1].Position.Compare(e.Position) >= 0:
			return fmt.Errorf("%w: leaf %d is not above the one before it", ErrProof, i)
		}
		hashed[i] = rangeLeaf{&e.Position, leafHash(e.Position, e.Value)}
	}
	return p.verifyHashed(root, r, hashed)
}

// verifyHashed is Verify of leaves that are in the range and ascend.
func (p RangeProof) verifyHashed(root crypto.Digest, r Range, hashed []rangeLeaf) error {
	c := rangeCheck{p: &p, r: &r}
	at, _, err := c.subtree(crypto.Digest{}, 0, hashed)
	switch {
	case err != nil:
		return err
	case c.step != len(p.steps) || c.digest != len(p.digests):
		return fmt.Errorf("%w: it has more steps or digests than the range needs", ErrProof)
	case at != root:
		return fmt.Errorf("%w: it leads to root %v, not %v", ErrProof, at, root)
	}
	return nil
}

// rangeLeaf is a leaf inside the range.
type rangeLeaf struct {
	position *crypto.Digest
	hash     crypto.Digest
}

// rangeCheck is a proof being read.
type rangeCheck struct {
	p            *RangeProof
	r            *Range
	step, digest int // next
}

// subtree returns the digest of a subtree, which has these leaves inside the
// range, and whether it has any outside.
func (c *rangeCheck) subtree(path crypto.Digest, depth int, leaves []rangeLeaf) (crypto.Digest, bool, error) {
	lies := c.r.relate(&path, depth)
	if lies == inside {
		return foldLeaves(leaves, depth), false, nil
	}
	if c.step == len(c.p.steps) {
		return crypto.Digest{}, false, fmt.Errorf("%w: it ends after %d steps", ErrProof, c.step)
	}
	kind := c.p.steps[c.step]
	c.step++
	switch {
	case kind == stepNone:
		return foldLeaves(leaves, depth), false, nil
	case kind == stepNode && lies == straddles:
		return c.halves(path, depth, leaves)
	case kind == stepNode:
		d, err := c.take()
		return d, true, err
	case kind == stepLeaf && lies == straddles && len(leaves) == 0:
		d, err := c.leaf(path, depth)
		return d, true, err
	}
	return crypto.Digest{}, false, fmt.Errorf("%w: step %d, of kind %d, does not fit", ErrProof, c.step-1, kind)
}

func (c *rangeCheck) halves(path crypto.Digest, depth int, leaves []rangeLeaf) (crypto.Digest, bool, error) {
	split := splitBit(leaves, depth)
	left, some, err := c.subtree(path, depth+1, leaves[:split])
	if err != nil {
		return crypto.Digest{}, false, err
	}
	path[depth/8] |= 0x80 >> (depth % 8)
	right, more, err := c.subtree(path, depth+1, leaves[split:])
	if err != nil {
		return crypto.Digest{}, false, err
	}
	if !some && !more {
		return crypto.Digest{}, false, fmt.Errorf("%w: a node at depth %d has nothing outside the range", ErrProof, depth)
	}
	return crypto.DomainStateInner.HashPair(left, right), true, nil
}

// leaf returns the digest of the one leaf of a subtree, which is outside.
func (c *rangeCheck) leaf(path crypto.Digest, depth int) (crypto.Digest, error) {
	position, err := c.take()
	if err != nil {
		return crypto.Digest{}, err
	}
	value, err := c.take()
	switch {
	case err != nil:
		return crypto.Digest{}, err
	case commonBits(position, path) < depth:
		return crypto.Digest{}, fmt.Errorf("%w: a leaf is not under its subtree at depth %d", ErrProof, depth)
	case c.r.Contains(position):
		return crypto.Digest{}, fmt.Errorf("%w: a leaf inside the range is said to be outside", ErrProof)
	}
	return crypto.DomainStateLeaf.HashPair(position, value), nil
}

func (c *rangeCheck) take() (crypto.Digest, error) {
	if c.digest == len(c.p.digests) {
		return crypto.Digest{}, fmt.Errorf("%w: it ends after %d digests", ErrProof, c.digest)
	}
	d := c.p.digests[c.digest]
	c.digest++
	if d.IsZero() {
		return crypto.Digest{}, fmt.Errorf("%w: digest %d is zero", ErrProof, c.digest-1)
	}
	return d, nil
}

// foldLeaves returns the digest of the subtree at a depth that has these leaves
// and no more.
func foldLeaves(leaves []rangeLeaf, depth int) crypto.Digest {
	switch {
	case len(leaves) == 0:
		return crypto.Digest{}
	case len(leaves) == 1:
		return leaves[0].hash
	}
	split := splitBit(leaves, depth)
	return crypto.DomainStateInner.HashPair(foldLeaves(leaves[:split], depth+1), foldLeaves(leaves[split:], depth+1))
}

// splitBit returns how many of the leaves have a zero at a bit of their
// positions. They are sorted and share the bits before.
func splitBit(leaves []rangeLeaf, bit int) int {
	return sort.Search(len(leaves), func(i int) bool { return leaves[i].position[bit/8]>>(7-bit%8)&1 == 1 })
}

// wireRangeProof is the encoding of a RangeProof.
type wireRangeProof struct {
	_       struct{} `cbor:",toarray"`
	Steps   []byte   // one byte each, at most 1,025
	Digests []byte   // 32 bytes each
}

// Encode returns the canonical encoding.
func (p RangeProof) Encode() []byte {
	w := wireRangeProof{Steps: p.steps, Digests: make([]byte, 0, len(p.digests)*crypto.DigestSize)}
	for i := range p.digests {
		w.Digests = append(w.Digests, p.digests[i][:]...)
	}
	return codec.Marshal(w)
}

// DecodeRangeProof reads the canonical encoding of a proof of at most
// MaxRangeProofBytes bytes.
func DecodeRangeProof(data []byte) (RangeProof, error) {
	var w wireRangeProof
	if err := codec.Unmarshal(data, &w, MaxRangeProofBytes); err != nil {
		return RangeProof{}, fmt.Errorf("%w: %w", ErrProofFormat, err)
	}
	switch {
	case len(w.Steps) > maxRangeSteps:
		return RangeProof{}, fmt.Errorf("%w: %d steps, limit %d", ErrProofFormat, len(w.Steps), maxRangeSteps)
	case len(w.Digests)%crypto.DigestSize != 0:
		return RangeProof{}, fmt.Errorf("%w: %d bytes of digests, of %d each", ErrProofFormat, len(w.Digests), crypto.DigestSize)
	}
	p := RangeProof{steps: w.Steps, digests: make([]crypto.Digest, len(w.Digests)/crypto.DigestSize)}
	for i := range p.digests {
		copy(p.digests[i][:], w.Digests[i*crypto.DigestSize:])
	}
	return p, nil
}

// MarshalCBOR is Encode.
func (p RangeProof) MarshalCBOR() ([]byte, error) { return p.Encode(), nil }

// UnmarshalCBOR is DecodeRangeProof.
func (p *RangeProof) UnmarshalCBOR(data []byte) error {
	got, err := DecodeRangeProof(data)
	*p = got
	return err
}
