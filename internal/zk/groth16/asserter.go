package groth16

import (
	"math/big"
	"slices"

	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/rangecheck"
)

// asserter makes a circuit's assertions, each under the name of a group. Every
// value that a prover could choose freely is a private input of the circuit and
// held by such assertions, so that leaving a group out shows what it is for.
type asserter struct {
	api    frontend.API
	ranges frontend.Rangechecker
	lacks  *omission
}

// omission is what a circuit leaves out, for the tests that show what each
// group of assertions is for. Nil, as in every circuit that define returns, is
// nothing.
type omission struct {
	groups []string
	met    map[string]bool // every group that was asked for
}

func (o *omission) has(group string) bool {
	if o == nil {
		return false
	}
	o.met[group] = true
	return slices.Contains(o.groups, group)
}

// newAsserter must come before anything that defers work of its own: the range
// checker's values have to be in the commitment when that closes.
func newAsserter(api frontend.API, lacks *omission) *asserter {
	return &asserter{api: api, ranges: rangecheck.New(api), lacks: lacks}
}

func (a *asserter) asserts(group string) bool { return !a.lacks.has(group) }

// equal asserts x = y.
func (a *asserter) equal(group string, x, y frontend.Variable) {
	if a.asserts(group) {
		a.api.AssertIsEqual(x, y)
	}
}

// product asserts x · y = z.
func (a *asserter) product(group string, x, y, z frontend.Variable) {
	if a.asserts(group) {
		a.api.AssertIsEqual(a.api.Mul(x, y), z)
	}
}

// boolean asserts that each is 0 or 1.
func (a *asserter) boolean(group string, values ...frontend.Variable) {
	if a.asserts(group) {
		for _, v := range values {
			a.api.AssertIsBoolean(v)
		}
	}
}

// below asserts 0 ≤ v < 2^bits.
func (a *asserter) below(group string, v frontend.Variable, bits int) {
	if a.asserts(group) {
		a.ranges.Check(v, bits)
	}
}

// signed asserts −2^(bits−1) ≤ v < 2^(bits−1) and returns v + 2^(bits−1).
func (a *asserter) signed(group string, v frontend.Variable, bits int) frontend.Variable {
	shifted := a.api.Add(v, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
	a.below(group, shifted, bits)
	return shifted
}

// pack lays values of bits each into elements, per of them each, lowest first.
// It is linear and costs no constraint.
func pack(api frontend.API, values []frontend.Variable, per, bits int) []frontend.Variable {
	var elements []frontend.Variable
	for at := 0; at < len(values); at += per {
		chunk := values[at:min(at+per, len(values))]
		terms := make([]frontend.Variable, len(chunk))
		for i, v := range chunk {
			terms[i] = shiftLeft(api, v, i*bits)
		}
		elements = append(elements, sum(api, terms))
	}
	return elements
}

func shiftLeft(api frontend.API, v frontend.Variable, bits int) frontend.Variable {
	return api.Mul(v, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
}
