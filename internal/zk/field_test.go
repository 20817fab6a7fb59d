package zk_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// order is the order of the BN254 scalar field, from EIP-197.
var order, _ = new(big.Int).SetString("21888242871839275222246405745257275088548364400416034343698204186575808495617", 10)

func fieldOf(v *big.Int) zk.Field { return zk.Field(v.FillBytes(make([]byte, zk.FieldSize))) }

func TestFieldIsCanonicalBelowTheOrder(t *testing.T) {
	one := big.NewInt(1)
	all := new(big.Int).Sub(new(big.Int).Lsh(one, 256), one)
	for _, c := range []struct {
		name  string
		value *big.Int
		ok    bool
	}{
		{"zero", new(big.Int), true},
		{"order minus one", new(big.Int).Sub(order, one), true},
		{"order", order, false},
		{"order plus one", new(big.Int).Add(order, one), false},
		{"all bits", all, false},
	} {
		f := fieldOf(c.value)
		if err := f.Check(); (err == nil) != c.ok || (err != nil && !errors.Is(err, zk.ErrNotCanonical)) {
			t.Errorf("%s: Check says %v", c.name, err)
		}
		if _, err := zk.ParseField(f.String()); (err == nil) != c.ok {
			t.Errorf("%s: ParseField says %v", c.name, err)
		}
		var back zk.Field
		err := codec.Unmarshal(codec.Marshal(f), &back, 64)
		if (err == nil) != c.ok || (c.ok && back != f) {
			t.Errorf("%s: decoding gives %s, %v", c.name, back, err)
		}
	}
}

func TestFieldRefusesOtherShapes(t *testing.T) {
	for _, s := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("0", 63) + "A", strings.Repeat("0", 63) + "g"} {
		if f, err := zk.ParseField(s); err == nil {
			t.Errorf("ParseField(%q) = %s", s, f)
		}
	}
	for _, v := range []any{make([]byte, 31), make([]byte, 33), "text", 7} {
		var f zk.Field
		if err := codec.Unmarshal(codec.Marshal(v), &f, 64); err == nil {
			t.Errorf("decoded %v as field element %s", v, f)
		}
	}
}

func TestReduceIsTheRemainder(t *testing.T) {
	rng := seeded(t)
	for range 200 {
		var d crypto.Digest
		for i := range d {
			d[i] = byte(rng.Uint32())
		}
		want := fieldOf(new(big.Int).Mod(new(big.Int).SetBytes(d[:]), order))
		if got := zk.Reduce(d); got != want || got.Check() != nil {
			t.Fatalf("Reduce(%s) = %s, want %s", d, got, want)
		}
	}
}
