package groth16

import (
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"pgregory.net/rapid"
)

// TestMultiplesAgreeWithTheLibrary: additions of what was computed before make the product
// that doubling and adding makes, at the borders of windows and digits too, and are added to
// whatever the sum is.
func TestMultiplesAgreeWithTheLibrary(t *testing.T) {
	_, _, g, _ := bn254.Generators()
	var point bn254.G1Affine
	point.ScalarMultiplication(&g, big.NewInt(0x1234567))
	table := newMultiples(&point)
	check := func(fail func(string, ...any), x *big.Int, sum bn254.G1Jac) {
		var e fr.Element
		e.SetBigInt(x)
		var term bn254.G1Affine
		term.ScalarMultiplication(&point, e.BigInt(new(big.Int)))
		want := sum
		want.AddMixed(&term)
		table.addTo(&sum, &e)
		if !sum.Equal(&want) {
			fail("%v times the point is another point", x)
		}
	}
	order, one := fr.Modulus(), big.NewInt(1)
	for shift := range uint(fr.Bits) {
		for _, near := range []int64{-17, -16, -15, -1, 0, 1, 15, 16, 17} {
			x := new(big.Int).Lsh(one, shift)
			check(t.Errorf, x.Add(x, big.NewInt(near)), bn254.G1Jac{})
			check(t.Errorf, new(big.Int).Sub(order, x), bn254.G1Jac{})
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		x := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "scalar"))
		var sum bn254.G1Jac
		switch rapid.IntRange(0, 3).Draw(t, "onto") {
		case 1:
			sum.FromAffine(&point)
		case 2: // the sum is then nothing
			sum.FromAffine(&point)
			sum.ScalarMultiplication(&sum, new(big.Int).Neg(x))
		case 3:
			sum.FromAffine(&g)
		}
		check(t.Fatalf, x, sum)
	})
}
