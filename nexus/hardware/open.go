package hardware

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Openings is how many blocks, and steps of walks, are opened to whoever checks.
const Openings = 8

// Leaf is a leaf of one of a lane's trees, and its way to the root.
type Leaf struct {
	_      struct{} `cbor:",toarray"`
	Digest crypto.Digest
	Path   []crypto.Digest
}

// Opening shows a block, how it was made, and a step of the walk, of one lane.
type Opening struct {
	_ struct{} `cbor:",toarray"`

	Before Leaf     // of the block before
	Made   Leaf     // of the block
	From   [][]byte // the blocks that it is made of
	Of     []Leaf   // and theirs

	Came Leaf   // of the step before
	Step Leaf   // of the step
	Seen []byte // the block that it looked at
	Saw  Leaf   // and its
}

// place is what is opened: a lane, a block and a step of the walk.
type place struct {
	lane, block, step uint64
}

// places draws what is opened: of a nonce that was made after the roots.
func (t *Task) places(nonce crypto.Digest, roots []Roots) []place {
	data := nonce[:]
	for _, r := range roots {
		data = append(append(data, r.Fill[:]...), r.Walk[:]...)
	}
	seed := crypto.DomainLane.Hash(data)
	list := make([]place, Openings)
	for n := range list {
		d := crypto.DomainLane.Hash(binary.BigEndian.AppendUint64(seed[:], uint64(n)))
		lot := func(i int) uint64 { return binary.BigEndian.Uint64(d[8*i:]) }
		// The first block is made of nothing, and its key is known: all others are opened.
		list[n] = place{lane: scale(lot(0), t.Lanes), block: 1 + scale(lot(1), t.Blocks-1), step: 1 + scale(lot(2), t.walked()-1)}
	}
	return list
}

// LaneOf returns the lane that the n-th opening is of.
func (t *Task) LaneOf(nonce crypto.Digest, roots []Roots, n int) uint64 {
	return t.places(nonce, roots)[n].lane
}

// Open shows what a nonce draws: Openings of all lanes together.
func Open(t Task, lanes []*Lane, nonce crypto.Digest) []Opening {
	roots := make([]Roots, len(lanes))
	for i, l := range lanes {
		roots[i] = l.Roots()
	}
	list := make([]Opening, 0, Openings)
	for _, p := range t.places(nonce, roots) {
		list = append(list, lanes[p.lane].open(p))
	}
	return list
}

func (l *Lane) open(p place) Opening {
	leaf := func(of []tree, i uint64) Leaf { return Leaf{Digest: of[0][i], Path: pathOf(of, i)} }
	o := Opening{Before: leaf(l.fill, p.block-1), Made: leaf(l.fill, p.block), Came: leaf(l.walk, p.step-1), Step: leaf(l.walk, p.step)}
	for _, r := range references(l.task.key(l.task.seedOf(p.lane), p.block, l.fill[0]), p.block) {
		o.From = append(o.From, l.block(r))
		o.Of = append(o.Of, leaf(l.fill, r))
	}
	seen := next(o.Came.Digest, l.task.Blocks)
	o.Seen, o.Saw = l.block(seen), leaf(l.fill, seen)
	return o
}

// ErrWrong says that openings do not show that the lanes were run.
var ErrWrong = errors.New("hardware: wrong")

// Check reports the lanes of which an opening is wrong. All of what a nonce draws has to be
// there.
func Check(t Task, roots []Roots, nonce crypto.Digest, list []Opening) (wrong map[uint64]error, err error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if uint64(len(roots)) != t.Lanes || len(list) != Openings {
		return nil, fmt.Errorf("%w: %d roots and %d openings, want %d and %d", ErrWrong, len(roots), len(list), t.Lanes, Openings)
	}
	wrong = map[uint64]error{}
	for n, p := range t.places(nonce, roots) {
		if err := t.check(&list[n], p, roots[p.lane]); err != nil {
			wrong[p.lane] = err
		}
	}
	return wrong, nil
}

func (t *Task) check(o *Opening, p place, roots Roots) error {
	for _, l := range append([]Leaf{o.Before, o.Made, o.Came, o.Step, o.Saw}, o.Of...) {
		if len(l.Path) > maxPath(t.walked()) {
			return fmt.Errorf("%w: a path of %d", ErrWrong, len(l.Path))
		}
	}
	filled := func(l *Leaf, i uint64) bool { return leads(l.Digest, l.Path, i, t.Blocks, roots.Fill) }
	stepped := func(l *Leaf, i uint64) bool { return leads(l.Digest, l.Path, i, t.walked(), roots.Walk) }
	seed := t.seedOf(p.lane)
	switch {
	case !filled(&o.Before, p.block-1) || !filled(&o.Made, p.block):
		return fmt.Errorf("%w: block %d is not in the lane's tree", ErrWrong, p.block)
	case !stepped(&o.Came, p.step-1) || !stepped(&o.Step, p.step):
		return fmt.Errorf("%w: step %d is not in the lane's tree", ErrWrong, p.step)
	case p.step == 1 && o.Came.Digest != start(seed, roots.Fill):
		return fmt.Errorf("%w: the walk begins elsewhere", ErrWrong)
	}
	if err := t.made(o, p, seed, filled); err != nil {
		return err
	}
	seen := next(o.Came.Digest, t.Blocks)
	step := crypto.DomainLane.Hash(append(o.Came.Digest[:], o.Seen...))
	if len(o.Seen) != BlockBytes || crypto.DomainLane.Hash(o.Seen) != o.Saw.Digest || !filled(&o.Saw, seen) || step != o.Step.Digest {
		return fmt.Errorf("%w: step %d did not see block %d", ErrWrong, p.step, seen)
	}
	return nil
}

// made checks that a block was made of those that its key names.
func (t *Task) made(o *Opening, p place, seed crypto.Digest, filled func(*Leaf, uint64) bool) error {
	key := keyOf(seed, p.block, o.Before.Digest)
	if p.block == 1 {
		first := make([]byte, BlockBytes)
		expand(first, keyOf(seed, 0, crypto.Digest{}))
		if crypto.DomainLane.Hash(first) != o.Before.Digest {
			return fmt.Errorf("%w: the first block", ErrWrong)
		}
	}
	refs := references(key, p.block)
	if len(o.From) != len(refs) || len(o.Of) != len(refs) {
		return fmt.Errorf("%w: block %d is made of %d blocks", ErrWrong, p.block, len(o.From))
	}
	block := make([]byte, BlockBytes)
	expand(block, key)
	for n, r := range refs {
		if len(o.From[n]) != BlockBytes || crypto.DomainLane.Hash(o.From[n]) != o.Of[n].Digest || !filled(&o.Of[n], r) {
			return fmt.Errorf("%w: block %d is not made of block %d", ErrWrong, p.block, r)
		}
		for i, b := range o.From[n] {
			block[i] ^= b
		}
	}
	if crypto.DomainLane.Hash(block) != o.Made.Digest {
		return fmt.Errorf("%w: block %d is another", ErrWrong, p.block)
	}
	return nil
}
