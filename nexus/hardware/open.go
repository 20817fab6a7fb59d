package hardware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MinOpenings and MaxOpenings are how many blocks, and steps of walks, are opened to whoever
// checks: one of each lane that was shown, within these.
const (
	MinOpenings = 8
	MaxOpenings = 32
)

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

// Shown lists the lanes whose roots are there: who has no time for one gives none.
func Shown(roots []Roots) (lanes []uint64) {
	for i, r := range roots {
		if r != (Roots{}) {
			lanes = append(lanes, uint64(i))
		}
	}
	return lanes
}

// Openings is how many openings are asked for of so many lanes that were shown.
func Openings(shown int) int {
	if shown == 0 {
		return 0
	}
	return min(max(shown, MinOpenings), MaxOpenings)
}

// places draws what is opened: of a nonce that was made after the roots. Of the lanes that were
// shown all are opened alike, from a random one on.
func (t *Task) places(nonce crypto.Digest, roots []Roots) []place {
	shown := Shown(roots)
	data := slices.Clone(nonce[:])
	for _, r := range roots {
		data = append(append(data, r.Fill[:]...), r.Walk[:]...)
	}
	seed := crypto.DomainLane.Hash(data)
	list := make([]place, Openings(len(shown)))
	first := scale(binary.BigEndian.Uint64(seed[:]), uint64(len(shown)))
	for n := range list {
		d := crypto.DomainLane.Hash(binary.BigEndian.AppendUint64(seed[:], uint64(n)))
		lot := func(i int) uint64 { return binary.BigEndian.Uint64(d[8*i:]) }
		// The first block is made of nothing, and its key is known: all others are opened.
		list[n] = place{
			lane: shown[(first+uint64(n))%uint64(len(shown))], block: 1 + scale(lot(1), t.Blocks-1), step: 1 + scale(lot(2), t.walked()-1),
		}
	}
	return list
}

// LaneOf returns the lane that the n-th opening is of.
func (t *Task) LaneOf(nonce crypto.Digest, roots []Roots, n int) uint64 {
	return t.places(nonce, roots)[n].lane
}

// RootsOf returns what a machine gives that ran some of the lanes; the others are nil.
func RootsOf(lanes []*Lane) []Roots {
	roots := make([]Roots, len(lanes))
	for i, l := range lanes {
		if l != nil {
			roots[i] = l.Roots()
		}
	}
	return roots
}

// Open shows what a nonce draws, of the lanes that are not nil.
func Open(t Task, lanes []*Lane, nonce crypto.Digest) []Opening {
	places := t.places(nonce, RootsOf(lanes))
	list := make([]Opening, len(places))
	for n, p := range places {
		list[n] = lanes[p.lane].open(p)
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

// Check returns how many lanes are missing: those that have no roots, or all of them if anything
// that a nonce draws is wrong, or is not there, as err says. So nobody gains by showing roots of
// what it did not run.
func Check(t Task, roots []Roots, nonce crypto.Digest, list []Opening) (missing uint64, err error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	if uint64(len(roots)) != t.Lanes {
		return t.Lanes, fmt.Errorf("%w: %d roots, want %d", ErrWrong, len(roots), t.Lanes)
	}
	places := t.places(nonce, roots)
	if len(list) != len(places) {
		return t.Lanes, fmt.Errorf("%w: %d openings, want %d", ErrWrong, len(list), len(places))
	}
	for n, p := range places {
		if err := t.check(&list[n], p, roots[p.lane]); err != nil {
			return t.Lanes, fmt.Errorf("lane %d: %w", p.lane, err)
		}
	}
	return t.Lanes - uint64(len(Shown(roots))), nil
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
