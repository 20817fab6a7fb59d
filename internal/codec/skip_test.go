package codec_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// nestedValue is what values are made of that Skip passes over.
func nestedValue(t *rapid.T, depth int) any {
	kinds := 6
	if depth == 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds).Draw(t, "kind") {
	case 0:
		return rapid.Uint64().Draw(t, "uint")
	case 1:
		return -rapid.Int64Range(1, 1<<62).Draw(t, "negative")
	case 2:
		return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
	case 3:
		return rapid.String().Draw(t, "text")
	case 4:
		return rapid.Bool().Draw(t, "bool")
	case 5:
		return nil
	default:
		out := make([]any, rapid.IntRange(0, 30).Draw(t, "length"))
		for i := range out {
			out[i] = nestedValue(t, depth-1)
		}
		return out
	}
}

// TestSkip: of two values behind each other the first is passed over, and of what is cut nothing.
func TestSkip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := codec.Marshal(nestedValue(t, 3))
		r := codec.NewReader(append(append([]byte{}, raw...), 7))
		if r.Skip(); r.At() != len(raw) || r.Uint() != 7 || !r.Done() {
			t.Fatalf("%x: at %d of %d", raw, r.At(), len(raw))
		}
		cut := codec.NewReader(raw[:rapid.IntRange(0, len(raw)-1).Draw(t, "cut")])
		if cut.Skip(); cut.Done() {
			t.Fatalf("%x is passed over though it is cut", raw)
		}
	})
	for _, odd := range []string{"\xa0", "\xc0\x00", "\xf9\x00\x00", "\x9f\xff", "\x18\x05", "\xbb", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"} {
		r := codec.NewReader([]byte(odd))
		if r.Skip(); r.Done() {
			t.Errorf("%x is passed over", odd)
		}
	}
}
