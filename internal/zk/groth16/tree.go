package groth16

import (
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/multicommit"

	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	groupPosition = "position bits"
	groupChild    = "child on the way"
	groupBefore   = "root before"
	groupUpdates  = "updates digest"
	groupAfter    = "root after"
)

// treeBits are the bits of a child's number among its siblings.
const treeBits = 2

// treeStep is one update: the bits of the leaf's index, two a level from the
// leaf up, its old and new value, and the children of each node on the way to
// the root as they were before.
type treeStep struct {
	Bits     [zk.TreeDepth][treeBits]frontend.Variable
	Old, New frontend.Variable
	Path     [zk.TreeDepth][zk.TreeArity]frontend.Variable
}

// treeCircuit states: there is a tree with root Before, and setting leaves in
// order as the updates say, whose digest is Updates, makes its root After.
//
// For each step the children on the way, hashed, must lead from the old leaf to
// the root before it; the same children with the changed one replaced lead from
// the new leaf to the root after it. A collision of the sponge aside, there is
// one such path, so nothing but the leaf changes.
type treeCircuit struct {
	Before  frontend.Variable `gnark:",public"`
	Updates frontend.Variable `gnark:",public"`
	After   frontend.Variable `gnark:",public"`
	Bind    frontend.Variable `gnark:",public"`

	Steps []treeStep

	lacks *omission
}

func newTreeCircuit(steps int) *treeCircuit { return &treeCircuit{Steps: make([]treeStep, steps)} }

func assignTree(s zk.Statement, w *zk.TreeWork) *treeCircuit {
	steps := w.Steps()
	c := newTreeCircuit(len(steps))
	c.Before, c.Updates, c.After, c.Bind = s.Inputs[0][:], s.Inputs[1][:], s.Output[0][:], s.Bind[:]
	for i, step := range steps {
		to := &c.Steps[i]
		to.Old, to.New = step.Old[:], step.Value[:]
		for l := range zk.TreeDepth {
			for b := range treeBits {
				to.Bits[l][b] = step.Index >> (treeBits*l + b) & 1
			}
			for child, value := range step.Path[l] {
				to.Path[l][child] = value[:]
			}
		}
	}
	return c
}

// Define builds the constraints.
func (c *treeCircuit) Define(api frontend.API) error {
	a := &asserter{api: api, lacks: c.lacks}
	constrainPublics(api, c.Before, c.Updates, c.After)
	if a.asserts(groupBind) {
		constrainPublics(api, c.Bind)
	}
	root := c.Before
	var message, committed []frontend.Variable
	for i := range c.Steps {
		step := &c.Steps[i]
		var terms []frontend.Variable
		for l := range zk.TreeDepth {
			for b, bit := range step.Bits[l] {
				terms = append(terms, shiftLeft(api, bit, treeBits*l+b))
			}
		}
		message = append(message, sum(api, terms), step.New)
		committed = append(committed, step.Old)
		before, after, err := step.roots(a)
		if err != nil {
			return err
		}
		a.equal(groupBefore, before, root)
		root = after
	}
	a.equal(groupAfter, root, c.After)
	digest, err := sponge(api, zk.SpongeTreeUpdates, message)
	if err != nil {
		return err
	}
	a.equal(groupUpdates, digest, c.Updates)
	multicommit.WithCommitment(api, idleChallenge, committed...)
	return nil
}

// roots returns the root that the old leaf leads to and the one that the new
// leaf leads to.
func (s *treeStep) roots(a *asserter) (before, after frontend.Variable, err error) {
	before, after = s.Old, s.New
	for l := range zk.TreeDepth {
		a.boolean(groupPosition, s.Bits[l][:]...)
		at := oneHot(a.api, s.Bits[l])
		change := a.api.Sub(after, before)
		var held [zk.TreeArity]frontend.Variable
		changed := make([]frontend.Variable, zk.TreeArity)
		for i, child := range s.Path[l] {
			held[i] = a.api.Mul(at[i], child)
			changed[i] = a.api.Add(child, a.api.Mul(at[i], change))
		}
		a.equal(groupChild, sum(a.api, held[:]), before)
		if before, err = sponge(a.api, zk.SpongeTreeNode, s.Path[l][:]); err != nil {
			return nil, nil, err
		}
		if after, err = sponge(a.api, zk.SpongeTreeNode, changed); err != nil {
			return nil, nil, err
		}
	}
	return before, after, nil
}

// oneHot returns four values of which the one of the number in the bits is 1.
func oneHot(api frontend.API, bits [treeBits]frontend.Variable) [zk.TreeArity]frontend.Variable {
	both := api.Mul(bits[0], bits[1])
	return [zk.TreeArity]frontend.Variable{
		api.Add(api.Sub(1, bits[0], bits[1]), both), api.Sub(bits[0], both), api.Sub(bits[1], both), both,
	}
}
