package cosmwasm_test

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// TestUint128 holds the text of integers against integers without bounds.
func TestUint128(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 18).Draw(t, "bytes"))
		u, canonical, fits := cosmwasm.ParseUint128(n.String())
		if !canonical || fits != (n.Cmp(limit) < 0) || fits && u.String() != n.String() {
			t.Fatalf("%s: %s, %v, %v", n, u, canonical, fits)
		}
		if low, ok := u.Uint64(); fits && (ok != n.IsUint64() || ok && (low != n.Uint64() || cosmwasm.Uint128Of(low) != u)) {
			t.Fatalf("%s: %d, %v", n, low, ok)
		}
	})
	for _, text := range []string{"18446744073709551615", "18446744073709551616", "99999999999999999999999999999999999999", "340282366920938463463374607431768211455"} {
		if u, canonical, fits := cosmwasm.ParseUint128(text); !canonical || !fits || u.String() != text {
			t.Errorf("%s: %s, %v, %v", text, u, canonical, fits)
		}
	}
}

// TestDecimal: what a decimal is written as is read as it.
func TestDecimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "bytes"))
		u, _, _ := cosmwasm.ParseUint128(n.String())
		coin := cosmwasm.DecCoin{Denom: "a", Amount: cosmwasm.Decimal{Atomics: u}}
		want, _ := new(big.Rat).SetString(coin.Amount.String())
		if want.Cmp(new(big.Rat).SetFrac(n, big.NewInt(1e18))) != 0 {
			t.Fatalf("%s atomics are %s", n, coin.Amount)
		}
		if again, err := cosmwasm.Decode[cosmwasm.DecCoin](cosmwasm.Encode(coin)); err != nil || again != coin {
			t.Fatalf("%s: %v, %v", coin.Amount, again, err)
		}
	})
}
