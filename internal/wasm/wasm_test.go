package wasm_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		hex  string
		bits int // 0: U32
		want int64
		err  error
	}{
		{"00", 0, 0, nil},
		{"ffffffff0f", 0, math.MaxUint32, nil},
		{"ffffffff1f", 0, 0, wasm.ErrNumber},
		{"808080808000", 0, 0, wasm.ErrNumber},
		{"8000", 0, 0, nil}, // longer than it has to be, but within the field
		{"80", 0, 0, wasm.ErrTruncated},
		{"", 0, 0, wasm.ErrTruncated},
		{"7f", 32, -1, nil},
		{"3f", 32, 63, nil},
		{"8080808078", 32, math.MinInt32, nil},
		{"ffffffff07", 32, math.MaxInt32, nil},
		{"ffffffff0f", 32, 0, wasm.ErrNumber},
		{"8080808070", 32, 0, wasm.ErrNumber},
		{"808080808000", 32, 0, wasm.ErrNumber},
		{"40", 33, -64, nil},
		{"ffffffff0f", 33, math.MaxUint32, nil},
		{"8080808070", 33, -1 << 32, nil},
		{"ffffffff1f", 33, 0, wasm.ErrNumber},
		{"8080808080808080807f", 64, math.MinInt64, nil},
		{"ffffffffffffffffff00", 64, math.MaxInt64, nil},
		{"ffffffffffffffffff01", 64, 0, wasm.ErrNumber},
		{"8080808080808080807e", 64, 0, wasm.ErrNumber},
		{"808080", 64, 0, wasm.ErrTruncated},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		r := wasm.NewReader(data)
		var got int64
		if c.bits == 0 {
			got = int64(r.U32())
		} else {
			got = r.Signed(c.bits)
		}
		if got != c.want || !errors.Is(r.Err(), c.err) {
			t.Errorf("%s as %d bits is %d, %v; want %d, %v", c.hex, c.bits, got, r.Err(), c.want, c.err)
		}
	}
}

func TestSignedNumbersComeBack(t *testing.T) {
	for shift := range 64 {
		for _, n := range []int64{1 << shift, -1 << shift, 1<<shift - 1, 3 << shift / 2} {
			r := wasm.NewReader(wasm.AppendSigned(nil, n))
			if got := r.Signed(64); got != n || r.Err() != nil || !r.Done() {
				t.Errorf("%d came back as %d, %v", n, got, r.Err())
			}
		}
	}
}

func TestInstructions(t *testing.T) {
	for _, c := range []struct {
		hex  string
		op   wasm.Op
		a, b uint64
	}{
		{"00", wasm.OpUnreachable, 0, 0},
		{"0240", wasm.OpBlock, 1<<64 - 64, 0},
		{"0305", wasm.OpLoop, 5, 0},
		{"0e0200010c", wasm.OpBrTable, 2, 0},
		{"110300", wasm.OpCallIndirect, 3, 0},
		{"1c017f", wasm.OpSelectTyped, 1, 0},
		{"2802ffffffff0f", wasm.OpI32Load, 2, math.MaxUint32},
		{"4000", wasm.OpMemoryGrow, 0, 0},
		{"417f", wasm.OpI32Const, math.MaxUint32, 0},
		{"427f", wasm.OpI64Const, math.MaxUint64, 0},
		{"430000803f", wasm.OpF32Const, 0x3f800000, 0},
		{"44000000000000f03f", wasm.OpF64Const, 0x3ff << 52, 0},
		{"d070", wasm.OpRefNull, 0x70, 0},
		{"fc07", wasm.OpI64TruncSatF64U, 0, 0},
		{"fc0a0000", wasm.OpMemoryCopy, 0, 0},
		{"fd0c000102030405060708090a0b0c0d0e0f", 0xfd0c, 0, 0},
		{"fd15ff", 0xfd15, 0, 0},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		r := wasm.NewReader(append(data, 0x0b))
		in := r.Instruction()
		if r.Err() != nil || in.Op != c.op || in.A != c.a || in.B != c.b || !bytes.Equal(in.Raw, data) {
			t.Errorf("%s is %+v, %v", c.hex, in, r.Err())
		}
		for n := range data {
			short := wasm.NewReader(data[:n])
			if in := short.Instruction(); short.Err() == nil || in.Raw != nil {
				t.Errorf("%s of %s is %+v", c.hex[:2*n], c.hex, in)
			}
		}
	}
	for _, code := range []string{"06", "12", "c5", "fe00", "ff", "fc12", "fd8002"} {
		data, err := hex.DecodeString(code)
		if err != nil {
			t.Fatal(err)
		}
		r := wasm.NewReader(data)
		r.Instruction()
		if _, ok := errors.AsType[*wasm.Unsupported](r.Err()); !ok {
			t.Errorf("%s: %v", code, r.Err())
		}
	}
}

// FuzzReader: any bytes give instructions and sections or an error, in as many
// steps as there are bytes at most.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0x0e, 2, 0, 1, 12, 0x42, 0x7f, 0xfc, 0, 0x0b})
	f.Add([]byte{1, 3, 0x60, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func(*wasm.Reader){
			func(r *wasm.Reader) { r.Instruction() },
			func(r *wasm.Reader) { r.Section() },
			func(r *wasm.Reader) { r.Name() },
		} {
			r, steps := wasm.NewReader(data), 0
			for ; !r.Done(); steps++ {
				before := r.Pos()
				if read(r); r.Err() == nil && r.Pos() <= before {
					t.Fatal("nothing was read")
				}
			}
			if steps > len(data) || len(r.Rest()) > len(data) {
				t.Fatalf("%d steps for %d bytes", steps, len(data))
			}
		}
	})
}
