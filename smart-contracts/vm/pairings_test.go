package vm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fp"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// ask is a call of an import: its arguments are numbers and bytes, and regions
// with room for what it writes.
type ask struct {
	name string
	args []any // int: a number; []byte: a region; room: one to write into
}

type room int

// run has a contract make the call with some points, and returns what it answers
// and what it has written.
func (a ask) run(t *testing.T, m *vm.Machine, points uint64) (vm.Outcome, uint32, []byte) {
	t.Helper()
	var text []byte
	var regions, operands strings.Builder
	for i, arg := range a.args {
		at := 16 + 16*i
		switch arg := arg.(type) {
		case int:
			fmt.Fprintf(&operands, "(i32.const %d)", arg)
			continue
		case []byte:
			fmt.Fprintf(&regions, "(call $region (i32.const %d) (i32.add (i32.load (local.get $msg)) (i32.const %d)) (i32.const %d) (i32.const %[3]d))", at, len(text), len(arg))
			text = append(text, arg...)
		case room:
			fmt.Fprintf(&regions, "(call $region (i32.const %d) (i32.const 1028) (i32.const %d) (i32.const 0))", at, arg)
		}
		fmt.Fprintf(&operands, "(i32.const %d)", at)
	}
	body := regions.String() + fmt.Sprintf("(i32.store (i32.const 1024) (call $%s %s))", a.name, operands.String()) +
		"(call $region (i32.const 96) (i32.const 1024) (i32.const 100) (i32.const 100)) (i32.const 96)"
	o, err := m.Run(codeOf(t, source(body, "unreachable")), vm.Call{Entry: meter.Execute, Args: [][]byte{{1}, {1}, text}, Points: points}, newWorld())
	if err != nil {
		t.Fatalf("%s: %v", a.name, err)
	}
	if o.End != vm.Returned {
		return o, 0, nil
	}
	return o, binary.LittleEndian.Uint32(o.Data), o.Data[4:]
}

const enough = 1_000_000_000

func (a ask) expect(t *testing.T, m *vm.Machine, what string, want uint32, written []byte) {
	t.Helper()
	o, code, out := a.run(t, m, enough)
	if o.End != vm.Returned || code != want || !bytes.HasPrefix(out, written) || written == nil && !bytes.Equal(out, make([]byte, 96)) {
		t.Errorf("%s of %s: %v %s, %d and %x, want %d and %x", a.name, what, o.End, o.Detail, code, out, want, written)
	}
}

func g1(n int64) (p bls.G1Affine) {
	_, _, base, _ := bls.Generators()
	p.ScalarMultiplication(&base, big.NewInt(n))
	return p
}

func g2(n int64) (p bls.G2Affine) {
	_, _, _, base := bls.Generators()
	p.ScalarMultiplication(&base, big.NewInt(n))
	return p
}

func g1s(numbers ...int64) (out []byte) {
	for _, n := range numbers {
		p := g1(n)
		text := p.Bytes()
		out = append(out, text[:]...)
	}
	return out
}

func g2s(numbers ...int64) (out []byte) {
	for _, n := range numbers {
		p := g2(n)
		text := p.Bytes()
		out = append(out, text[:]...)
	}
	return out
}

// outsideG1 is a point of the curve that is not of the subgroup.
func outsideG1(t *testing.T) []byte {
	t.Helper()
	var p bls.G1Affine
	for x := uint64(1); ; x++ {
		p.X.SetUint64(x)
		var square, four fp.Element
		square.Square(&p.X).Mul(&square, &p.X).Add(&square, four.SetUint64(4))
		if p.Y.Sqrt(&square) != nil && p.IsOnCurve() && !p.IsInSubGroup() {
			text := p.Bytes()
			return text[:]
		}
	}
}

func outsideG2(t *testing.T) []byte {
	t.Helper()
	var p bls.G2Affine
	for x := uint64(1); ; x++ {
		p.X.A0.SetUint64(x)
		var square, four bls.E2
		four.A0.SetUint64(4)
		four.A1.SetUint64(4)
		square.Square(&p.X).Mul(&square, &p.X).Add(&square, &four)
		if square.Legendre() != 1 {
			continue
		}
		if p.Y.Sqrt(&square); p.IsOnCurve() && !p.IsInSubGroup() {
			text := p.Bytes()
			return text[:]
		}
	}
}

// refused are texts of a point's length that are no point.
func refused(size int, outside, point []byte) map[string][]byte {
	off := bytes.Clone(point)
	for { // the next x that is none of the curve's
		off[len(off)-1]++
		var p bls.G1Affine
		var q bls.G2Affine
		if _, err := p.SetBytes(off); size == bls.SizeOfG1AffineCompressed && err != nil && !strings.Contains(err.Error(), "subgroup") {
			break
		}
		if _, err := q.SetBytes(append(off, make([]byte, 96-len(off))...)); size != bls.SizeOfG1AffineCompressed && err != nil && !strings.Contains(err.Error(), "subgroup") {
			break
		}
	}
	with := func(first byte, rest byte) []byte {
		text := bytes.Repeat([]byte{rest}, size)
		text[0] = first
		return text
	}
	uncompressed := bytes.Clone(point)
	uncompressed[0] &= 0x7f
	return map[string][]byte{
		"a point of no subgroup":          outside,
		"an x off the curve":              off,
		"an x beyond the field":           with(0x9f, 0xff),
		"a point that is not compressed":  uncompressed,
		"infinity not compressed":         with(0x40, 0),
		"infinity with more than zeros":   with(0xc0, 1),
		"infinity with a sign":            with(0xe0, 0),
		"zeros":                           with(0, 0),
		"every flag":                      with(0xff, 0xff),
		"no flag but that of the sign":    with(0x20, 0),
		"flags of infinity, uncompressed": with(0x60, 0),
	}
}

func TestSumsOfPoints(t *testing.T) {
	m := newMachine(t, vm.Config{})
	infinity1, infinity2 := append([]byte{0xc0}, make([]byte, 47)...), append([]byte{0xc0}, make([]byte, 95)...)
	one := func(list []byte) ask { return ask{"bls12_381_aggregate_g1", []any{list, room(48)}} }
	two := func(list []byte) ask { return ask{"bls12_381_aggregate_g2", []any{list, room(96)}} }
	one(g1s(5)).expect(t, m, "one point", 0, g1s(5))
	one(g1s(5, 7, 7)).expect(t, m, "three", 0, g1s(19))
	one(g1s(5, -5)).expect(t, m, "a point and its negative", 0, infinity1)
	one(append(g1s(3), infinity1...)).expect(t, m, "a point and infinity", 0, g1s(3))
	one(infinity1).expect(t, m, "infinity", 0, infinity1)
	one(nil).expect(t, m, "nothing", 16, nil)
	one(g1s(5, 7)[:95]).expect(t, m, "a point and a half", 17, nil)
	two(g2s(5)).expect(t, m, "one point", 0, g2s(5))
	two(g2s(5, 7, 7)).expect(t, m, "three", 0, g2s(19))
	two(g2s(5, -5)).expect(t, m, "a point and its negative", 0, infinity2)
	two(append(g2s(3), infinity2...)).expect(t, m, "a point and infinity", 0, g2s(3))
	two(nil).expect(t, m, "nothing", 16, nil)
	two(g2s(5)[:95]).expect(t, m, "a point that is short", 17, nil)
	for what, text := range refused(48, outsideG1(t), g1s(5)) {
		one(append(g1s(2), text...)).expect(t, m, what, 8, nil)
	}
	for what, text := range refused(96, outsideG2(t), g2s(5)) {
		two(append(g2s(2), text...)).expect(t, m, what, 8, nil)
	}
}

func TestPairings(t *testing.T) {
	m := newMachine(t, vm.Config{})
	infinity1, infinity2 := append([]byte{0xc0}, make([]byte, 47)...), append([]byte{0xc0}, make([]byte, 95)...)
	for _, c := range []struct {
		what             string
		ps, qs, one, two []byte
		want             uint32
	}{
		{"6 = 2·3", g1s(2), g2s(3), g1s(6), g2s(1), 0},
		{"6 = 3·2", g1s(2), g2s(3), g1s(3), g2s(2), 0},
		{"6 ≠ 7", g1s(2), g2s(3), g1s(7), g2s(1), 1},
		{"2·3 + 4·5 = 26", g1s(2, 4), g2s(3, 5), g1s(13), g2s(2), 0},
		{"2·3 + 4·5 ≠ 25", g1s(2, 4), g2s(3, 5), g1s(5), g2s(5), 1},
		{"2·3 − 2·3 = 0", g1s(2, -2), g2s(3, 3), infinity1, g2s(5), 0},
		{"0 = 0·5", nil, nil, infinity1, g2s(5), 0},
		{"0 = 5·0", nil, nil, g1s(5), infinity2, 0},
		{"0 ≠ 5", nil, nil, g1s(5), g2s(1), 1},
		{"∞ among the pairs", append(g1s(2), infinity1...), g2s(3, 9), g1s(6), g2s(1), 0},
		{"half a point of G1", g1s(2)[:47], g2s(3), g1s(6), g2s(1), 11},
		{"half a point of G2", g1s(2), g2s(3)[:95], g1s(6), g2s(1), 12},
		{"two of G1 and one of G2", g1s(2, 2), g2s(3), g1s(6), g2s(1), 13},
		{"nothing with one of G2", nil, g2s(3), g1s(6), g2s(1), 13},
		{"a short point to compare", g1s(2), g2s(3), g1s(6)[:47], g2s(1), 8},
		{"another", g1s(2), g2s(3), g1s(6), nil, 8},
		{"no subgroup of G1", outsideG1(t), g2s(3), g1s(6), g2s(1), 8},
		{"no subgroup of G2", g1s(2), outsideG2(t), g1s(6), g2s(1), 8},
		{"no subgroup to compare", g1s(2), g2s(3), outsideG1(t), g2s(1), 8},
		{"no subgroup of G2 to compare", g1s(2), g2s(3), g1s(6), outsideG2(t), 8},
	} {
		ask{"bls12_381_pairing_equality", []any{c.ps, c.qs, c.one, c.two}}.expect(t, m, c.what, c.want, nil)
	}
}

func TestHashesToCurve(t *testing.T) {
	m := newMachine(t, vm.Config{})
	file, err := os.ReadFile("testdata/hash_to_bls12381.txt")
	if err != nil {
		t.Fatal(err)
	}
	vectors := 0
	for line := range strings.Lines(string(file)) {
		words := strings.Fields(line)
		if words[0] == "#" {
			continue
		}
		message, err1 := hex.DecodeString(words[1])
		point, err2 := hex.DecodeString(words[3])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		ask{"bls12_381_hash_to_" + words[0], []any{0, message, []byte(words[2]), room(len(point))}}.expect(t, m, words[1], 0, point)
		vectors++
	}
	if vectors != 2 {
		t.Errorf("%d vectors, want 2", vectors)
	}
	long := bytes.Repeat([]byte("domain"), 43)
	short := sha256.Sum256(append([]byte("H2C-OVERSIZE-DST-"), long...))
	for name, size := range map[string]room{"bls12_381_hash_to_g1": 48, "bls12_381_hash_to_g2": 96} {
		_, _, want := ask{name, []any{0, []byte("m"), short[:], size}}.run(t, m, enough)
		ask{name, []any{0, []byte("m"), long, size}}.expect(t, m, "a message in a long domain", 0, want)
		_, _, other := ask{name, []any{0, []byte("m"), long[:255], size}}.run(t, m, enough)
		if bytes.Equal(want, other) {
			t.Errorf("%s: two domains give one point", name)
		}
		ask{name, []any{1, []byte("m"), short[:], size}}.expect(t, m, "another function", 9, nil)
	}
}

// TestPairingsAreBounded: what is longer than it may be stops the contract, and
// what a call cannot pay is not done.
func TestPairingsAreBounded(t *testing.T) {
	m := newMachine(t, vm.Config{})
	for _, c := range []struct {
		what   string
		ask    ask
		points uint64
		want   vm.End
	}{
		{"a long domain", ask{"bls12_381_hash_to_g1", []any{0, []byte("m"), make([]byte, 5<<10+1), room(48)}}, enough, vm.Misused},
		{"a long point", ask{"bls12_381_pairing_equality", []any{g1s(2), g2s(3), append(g1s(6), 0), g2s(1)}}, enough, vm.Misused},
		{"no room", ask{"bls12_381_aggregate_g1", []any{g1s(2), room(47)}}, enough, vm.Misused},
		{"no room for a hash", ask{"bls12_381_hash_to_g2", []any{0, []byte("m"), []byte("d"), room(95)}}, enough, vm.Misused},
		{"a sum for less", ask{"bls12_381_aggregate_g1", []any{g1s(2, 2, 2), room(48)}}, 1_900_000, vm.Spent},
		{"a sum of G2 for less", ask{"bls12_381_aggregate_g2", []any{g2s(2, 2), room(96)}}, 1_900_000, vm.Spent},
		{"a pairing for less", ask{"bls12_381_pairing_equality", []any{g1s(2), g2s(3), g1s(6), g2s(1)}}, 10_000_000, vm.Spent},
		{"a hash for less", ask{"bls12_381_hash_to_g1", []any{0, []byte("m"), []byte("d"), room(48)}}, 1_000_000, vm.Spent},
		{"a hash to G2 for less", ask{"bls12_381_hash_to_g2", []any{0, []byte("m"), []byte("d"), room(96)}}, 3_300_000, vm.Spent},
	} {
		if o, _, _ := c.ask.run(t, m, c.points); o.End != c.want {
			t.Errorf("%s: %v %s, want %v", c.what, o.End, o.Detail, c.want)
		}
	}
}
