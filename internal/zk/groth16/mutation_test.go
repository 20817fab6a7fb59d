package groth16

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	gnark "github.com/consensys/gnark/backend/groth16/bn254"
)

// matmulForgeries are witnesses that are right in everything but what their groups hold.
func matmulForgeries(rng *rand.Rand) []forgery {
	forged, honest := forgeries(rng), honestWitness(rng)
	var out []forgery
	for _, f := range []struct {
		groups  []string
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
		out = append(out, forgery{f.groups, f.witness.circuit()})
	}
	return out
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
	c := compileCircuit(testKernel, lacking(testKernel, []string{groupBind}, map[string]bool{}))
	var pk gnark.ProvingKey
	var vk gnark.VerifyingKey
	if err := gnark.Setup(c.system, &pk, &vk); err != nil {
		t.Fatal(err)
	}
	if _, err := newKeys(c, &pk, encodeVerifyingKey(c, &vk)); err == nil || !strings.Contains(err.Error(), "K 4: is the point at infinity") {
		t.Errorf("keys of a circuit that ignores bind: %v", err)
	}
}
