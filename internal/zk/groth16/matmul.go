package groth16

import (
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/multicommit"

	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	groupRangeA    = "range of A"
	groupRangeB    = "range of B"
	groupRangeC    = "range of C"
	groupFreivalds = "Freivalds"
	groupLeft      = "left digest"
	groupRight     = "right digest"
	groupProduct   = "product digest"
)

// matmulCircuit states: there are integer matrices A and B of 16-bit entries
// and C of 40-bit entries with C = A · B, whose digests are Left, Right and
// Product.
//
// Soundness, step by step:
//
//  1. The range checks make the packing injective, so that each digest fixes
//     its matrix up to a collision of the sponge.
//  2. One commitment covers every entry of A, B and C (and the range checks'
//     own witnesses); its hash is the challenge r. The prover has therefore
//     chosen the matrices before r.
//  3. Freivalds (1977): A · (B · x) = C · x with x_j = r^j is n equations of
//     degree below n in r. Were C ≠ A · B modulo the field's order, one of them
//     would be a nonzero polynomial and hold for at most n − 1 of 2²⁵³ values.
//  4. A · B is below 2³⁷ in size at n = 128, so equality modulo the order is
//     equality of integers. (C's range check then follows from A's and B's; it
//     is kept so that C's digest is injective by itself.)
//
// The commitment is only the challenge: gnark masks it, so it could not bind
// anything public. Its bases are linearly independent, as Pedersen's binding
// needs: every committed entry has a recomposition constraint with limbs of
// its own.
type matmulCircuit struct {
	Left    frontend.Variable `gnark:",public"`
	Right   frontend.Variable `gnark:",public"`
	Product frontend.Variable `gnark:",public"`
	Bind    frontend.Variable `gnark:",public"`

	A, B, C []frontend.Variable // n · n entries each, row by row, signed

	n     int
	lacks *omission
}

// newMatmulCircuit returns an unassigned circuit of size n.
func newMatmulCircuit(n int) *matmulCircuit {
	return &matmulCircuit{
		A: make([]frontend.Variable, n*n),
		B: make([]frontend.Variable, n*n),
		C: make([]frontend.Variable, n*n),
		n: n,
	}
}

// assignMatmul returns the circuit with its witness: the statement's publics
// and the matrices.
func assignMatmul(statement zk.Statement, left, right zk.Matrix, product zk.Product) *matmulCircuit {
	c := newMatmulCircuit(left.Size())
	for i, v := range left.Cells() {
		c.A[i] = int64(v)
	}
	for i, v := range right.Cells() {
		c.B[i] = int64(v)
	}
	for i, v := range product.Cells() {
		c.C[i] = v
	}
	c.Left = statement.Inputs[0][:]
	c.Right = statement.Inputs[1][:]
	c.Product = statement.Output[0][:]
	c.Bind = statement.Bind[:]
	return c
}

// Define builds the constraints.
func (c *matmulCircuit) Define(api frontend.API) error {
	// The range checker defers its work and so does multicommit. It must come
	// first, so that its values are in the commitment when that closes.
	a := newAsserter(api, c.lacks)
	constrainPublics(api, c.Left, c.Right, c.Product)
	if a.asserts(groupBind) {
		constrainPublics(api, c.Bind)
	}
	for _, o := range []operand{
		{c.Left, c.A, zk.SpongeMatmulLeft, zk.MatmulFactorBits, zk.MatmulFactorPack, groupLeft, groupRangeA},
		{c.Right, c.B, zk.SpongeMatmulRight, zk.MatmulFactorBits, zk.MatmulFactorPack, groupRight, groupRangeB},
		{c.Product, c.C, zk.SpongeMatmulProduct, zk.MatmulProductBits, zk.MatmulProductPack, groupProduct, groupRangeC},
	} {
		if err := o.constrain(a); err != nil {
			return err
		}
	}

	committed := make([]frontend.Variable, 0, 3*len(c.A))
	committed = append(committed, c.A...)
	committed = append(committed, c.B...)
	committed = append(committed, c.C...)
	multicommit.WithCommitment(api, func(_ frontend.API, challenge frontend.Variable) error {
		c.freivalds(a, challenge)
		return nil
	}, committed...)
	return nil
}

// freivalds asserts A · (B · x) = C · x for x_j = challenge^j: 3n² + O(n)
// constraints.
func (c *matmulCircuit) freivalds(a *asserter, challenge frontend.Variable) {
	api := a.api
	x := make([]frontend.Variable, c.n)
	x[0] = 1
	for j := 1; j < c.n; j++ {
		x[j] = api.Mul(x[j-1], challenge)
	}
	left := c.times(api, c.A, c.times(api, c.B, x))
	right := c.times(api, c.C, x)
	for i := range c.n {
		a.equal(groupFreivalds, left[i], right[i])
	}
}

// times returns matrix · vector.
func (c *matmulCircuit) times(api frontend.API, matrix, vector []frontend.Variable) []frontend.Variable {
	out := make([]frontend.Variable, c.n)
	terms := make([]frontend.Variable, c.n)
	for i := range c.n {
		for j := range c.n {
			terms[j] = api.Mul(matrix[i*c.n+j], vector[j])
		}
		out[i] = sum(api, terms)
	}
	return out
}

// operand is a matrix with its public digest and how it is packed.
type operand struct {
	digest  frontend.Variable
	entries []frontend.Variable
	use     zk.SpongeUse
	bits    int // of an entry, signed
	per     int // entries in one field element

	digestGroup, rangeGroup string
}

// constrain asserts that the entries are within their bits and have the digest. It lays them into
// field elements, as zk does outside the circuit; that is linear and costs no constraint.
func (o operand) constrain(a *asserter) error {
	shifted := make([]frontend.Variable, len(o.entries))
	for i, entry := range o.entries {
		shifted[i] = a.signed(o.rangeGroup, entry, o.bits)
	}
	digest, err := sponge(a.api, o.use, pack(a.api, shifted, o.per, o.bits))
	if err != nil {
		return err
	}
	a.equal(o.digestGroup, o.digest, digest)
	return nil
}

// sum adds one or more terms at once: one pass over the linear expressions.
func sum(api frontend.API, terms []frontend.Variable) frontend.Variable {
	if len(terms) == 1 {
		return terms[0]
	}
	return api.Add(terms[0], terms[1], terms[2:]...)
}

// constrainPublics squares each public into a wire of its own. A public input
// that no constraint mentions can be changed freely in a finished proof, and
// one whose column depends on the private ones' may be shifted; the square
// gives each a row in which it alone stands on the left, which is the condition
// of Baghery, Kohlweiss, Siim and Volkhov (eprint 2020/811, theorem 1) under
// which a Groth16 proof can be re-randomized but not moved to other publics.
func constrainPublics(api frontend.API, publics ...frontend.Variable) {
	for _, p := range publics {
		api.Mul(p, p)
	}
}
