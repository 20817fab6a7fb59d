package groth16

import (
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	gnark "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/multicommit"
	"github.com/consensys/gnark/std/rangecheck"
	"github.com/consensys/gnark/test"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// The groups of constraints that a weakened circuit can lack.
const (
	groupRangeA    = "range of A"
	groupRangeB    = "range of B"
	groupRangeC    = "range of C"
	groupFreivalds = "Freivalds"
	groupLeft      = "left digest"
	groupRight     = "right digest"
	groupProduct   = "product digest"
)

// weakCircuit is the matmul circuit without some groups of constraints.
type weakCircuit struct {
	matmulCircuit
	lacks []string
}

func (c *weakCircuit) has(group string) bool { return !slices.Contains(c.lacks, group) }

func (c *weakCircuit) Define(api frontend.API) error {
	constrainPublics(api, c.Left, c.Right, c.Product)
	if c.has(groupBind) {
		constrainPublics(api, c.Bind)
	}
	ranges := rangecheck.New(api)
	for _, o := range []struct {
		operand
		digestGroup, rangeGroup string
	}{
		{operand{c.Left, c.A, zk.SpongeMatmulLeft, zk.MatmulFactorBits, zk.MatmulFactorPack}, groupLeft, groupRangeA},
		{operand{c.Right, c.B, zk.SpongeMatmulRight, zk.MatmulFactorBits, zk.MatmulFactorPack}, groupRight, groupRangeB},
		{operand{c.Product, c.C, zk.SpongeMatmulProduct, zk.MatmulProductBits, zk.MatmulProductPack}, groupProduct, groupRangeC},
	} {
		checker := ranges
		if !c.has(o.rangeGroup) {
			checker = noRanges{}
		}
		if !c.has(o.digestGroup) {
			o.pack(api, checker)
		} else if err := o.constrain(api, checker); err != nil {
			return err
		}
	}
	freivalds := c.freivalds
	if !c.has(groupFreivalds) {
		freivalds = func(frontend.API, frontend.Variable) error { return nil }
	}
	multicommit.WithCommitment(api, freivalds, slices.Concat(c.A, c.B, c.C)...)
	return nil
}

type noRanges struct{}

func (noRanges) Check(frontend.Variable, int) {}

// TestEveryConstraintGroupIsNeeded drops groups of constraints: the forged
// witness made for them is then accepted, which shows both that the forgery is
// right in everything else and that the whole circuit catches it.
func TestEveryConstraintGroupIsNeeded(t *testing.T) {
	rng := seeded(t)
	forged := forgeries(rng)
	honest := honestWitness(rng)
	for _, c := range []struct {
		lacks   []string
		witness witness
	}{
		{[]string{groupRangeA}, forged["range of A"]},
		{[]string{groupRangeB}, forged["range of B"]},
		// C's range follows from the others, so two groups catch this one.
		{[]string{groupRangeC, groupFreivalds}, forged["range of C"]},
		{[]string{groupFreivalds}, forged["Freivalds"]},
		{[]string{groupFreivalds}, forged["Freivalds, two entries swapped"]},
		{[]string{groupLeft}, withOne(honest, groupLeft)},
		{[]string{groupRight}, withOne(honest, groupRight)},
		{[]string{groupProduct}, withOne(honest, groupProduct)},
	} {
		solved := func(lacks []string) error {
			shape := &weakCircuit{matmulCircuit: *newMatmulCircuit(testSize), lacks: lacks}
			return test.IsSolved(shape, &weakCircuit{matmulCircuit: *c.witness.circuit()}, ecc.BN254.ScalarField())
		}
		if err := solved(nil); err == nil {
			t.Errorf("%v: the whole circuit accepts the forgery", c.lacks)
		}
		if err := solved(c.lacks); err != nil {
			t.Errorf("%v: without them the forgery is still caught, so it shows nothing: %v", c.lacks, err)
		}
	}
}

// withOne returns the witness with the value 1 for a digest.
func withOne(w witness, group string) witness {
	w = w.clone()
	one := big.NewInt(1)
	switch group {
	case groupLeft:
		w.left = one
	case groupRight:
		w.right = one
	case groupProduct:
		w.product = one
	}
	return w
}

// TestUnconstrainedBindMakesNoKey: without its square, bind's point in the
// verifying key is at infinity and any value would do. Such a key is refused.
func TestUnconstrainedBindMakesNoKey(t *testing.T) {
	c := compileCircuit(testKernel, &weakCircuit{matmulCircuit: *newMatmulCircuit(testSize), lacks: []string{groupBind}})
	var pk gnark.ProvingKey
	var vk gnark.VerifyingKey
	if err := gnark.Setup(c.system, &pk, &vk); err != nil {
		t.Fatal(err)
	}
	if _, err := newKeys(c, &pk, encodeVerifyingKey(c, &vk)); err == nil || !strings.Contains(err.Error(), "K 4: is the point at infinity") {
		t.Errorf("keys of a circuit that ignores bind: %v", err)
	}
}
