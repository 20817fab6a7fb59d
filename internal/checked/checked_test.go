package checked_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/checked"
)

func anyUint(t *rapid.T, label string) uint64 {
	return rapid.OneOf(
		rapid.Uint64(),
		rapid.SampledFrom([]uint64{0, 1, 2, math.MaxUint32, math.MaxUint64 - 1, math.MaxUint64}),
	).Draw(t, label)
}

func big64(n uint64) *big.Int { return new(big.Int).SetUint64(n) }

// agree checks one checked result against the same operation on integers
// without bounds.
func agree(t *rapid.T, name string, got uint64, ok bool, want *big.Int) {
	t.Helper()
	fits := want != nil && want.IsUint64()
	if ok != fits {
		t.Fatalf("%s: ok = %v, want %v (exact %v)", name, ok, fits, want)
	}
	if !ok {
		want = new(big.Int)
	}
	if big64(got).Cmp(want) != 0 {
		t.Fatalf("%s = %d, want %v", name, got, want)
	}
}

func TestArithmeticAgreesWithUnboundedIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, d := anyUint(t, "a"), anyUint(t, "b"), anyUint(t, "d")
		got, ok := checked.Add(a, b)
		agree(t, "Add", got, ok, new(big.Int).Add(big64(a), big64(b)))
		got, ok = checked.Sub(a, b)
		agree(t, "Sub", got, ok, new(big.Int).Sub(big64(a), big64(b)))
		got, ok = checked.Mul(a, b)
		product := new(big.Int).Mul(big64(a), big64(b))
		agree(t, "Mul", got, ok, product)
		var floor, ceil *big.Int
		if d != 0 {
			var rem *big.Int
			floor, rem = new(big.Int).QuoRem(product, big64(d), new(big.Int))
			ceil = new(big.Int).Set(floor)
			if rem.Sign() != 0 {
				ceil.Add(ceil, big.NewInt(1))
			}
		}
		got, ok = checked.MulDivFloor(a, b, d)
		agree(t, "MulDivFloor", got, ok, floor)
		got, ok = checked.MulDivCeil(a, b, d)
		agree(t, "MulDivCeil", got, ok, ceil)
	})
}

func TestWideAgreesWithUnboundedIntegers(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 192)
	rapid.Check(t, func(t *rapid.T) {
		sum, exact := checked.Wide{}, new(big.Int)
		for i := range rapid.IntRange(1, 6).Draw(t, "terms") {
			term, exactTerm := checked.WideOf(1), big.NewInt(1)
			for range rapid.IntRange(0, 4).Draw(t, "factors") {
				n := anyUint(t, "n")
				exactTerm.Mul(exactTerm, big64(n))
				next, ok := term.Mul(n)
				if fits := exactTerm.Cmp(limit) < 0; ok != fits {
					t.Fatalf("term %d: Mul ok = %v, want %v", i, ok, fits)
				}
				if !ok {
					return
				}
				term = next
			}
			if less := exact.Cmp(exactTerm) < 0; sum.Less(term) != less {
				t.Fatalf("Less = %v, want %v", !less, less)
			}
			exact.Add(exact, exactTerm)
			next, ok := sum.Add(term)
			if fits := exact.Cmp(limit) < 0; ok != fits {
				t.Fatalf("Add ok = %v, want %v", ok, fits)
			}
			if !ok {
				return
			}
			sum = next
		}
		d := anyUint(t, "d")
		got, ok := sum.DivFloor(d)
		var want *big.Int
		if d != 0 {
			want = new(big.Int).Quo(exact, big64(d))
		}
		agree(t, "DivFloor", got, ok, want)
	})
}
