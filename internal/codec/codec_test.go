package codec_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/golden"
)

// record has a field of every kind that the project's formats use.
type record struct {
	_      struct{} `cbor:",toarray"`
	Count  uint64
	Delta  int64
	Digest [4]byte
	Body   []byte
	Name   string
	Flag   bool
	List   []uint16
	Index  map[string]uint64
	Inner  *inner
	Raw    codec.Raw
}

type inner struct {
	_    struct{} `cbor:",toarray"`
	Note string
}

func full() record {
	return record{
		Count: math.MaxUint64, Delta: math.MinInt64, Digest: [4]byte{1, 2, 3, 4}, Body: []byte{0xff},
		Name: "häus", Flag: true, List: []uint16{0, 24, 256},
		Index: map[string]uint64{"b": 1, "a": 2, "aa": 3}, Inner: &inner{Note: "in"}, Raw: codec.Raw{0x18, 0x2a},
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	out, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unsupported are well-formed encodings of Appendix A that this codec refuses
// although they are shortest: tags, the undefined value, NaN, and the one entry
// that RFC 8949 §3.3 itself declared malformed after RFC 7049.
func unsupported(data []byte) bool {
	tag := data[0]>>5 == 6
	undefined := data[0] == 0xf7
	nan := bytes.Equal(data, []byte{0xf9, 0x7e, 0x00})
	reservedSimple := bytes.Equal(data, []byte{0xf8, 0x18})
	return tag || undefined || nan || reservedSimple
}

func TestAppendixA(t *testing.T) {
	text, err := os.ReadFile("testdata/cbor_rfc8949_appendix_a.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Hex       string `json:"hex"`
		Roundtrip bool   `json:"roundtrip"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, v := range vectors {
		data := unhex(t, v.Hex)
		var value any
		err := codec.Unmarshal(data, &value, len(data))
		if want := v.Roundtrip && !unsupported(data); (err == nil) != want {
			t.Errorf("%s: error %v, want accepted = %v", v.Hex, err, want)
		}
		if err != nil {
			continue
		}
		accepted++
		if again := codec.Marshal(value); !bytes.Equal(again, data) {
			t.Errorf("%s: encoded again as %x", v.Hex, again)
		}
	}
	if len(vectors) != 82 || accepted != 54 {
		t.Errorf("%d vectors, %d accepted; want 82 and 54", len(vectors), accepted)
	}
}

func TestGolden(t *testing.T) {
	encoded := codec.Marshal(full())
	golden.CheckHex(t, "testdata/golden.hex", encoded)
	var back record
	if err := codec.Unmarshal(encoded, &back, 1<<10); err != nil {
		t.Errorf("golden value refused: %v", err)
	}
}

func TestNilContainersAreEmpty(t *testing.T) {
	type lists struct {
		_    struct{} `cbor:",toarray"`
		Body []byte
		List []uint64
		Map  map[string]bool
	}
	nils := codec.Marshal(lists{})
	empties := codec.Marshal(lists{Body: []byte{}, List: []uint64{}, Map: map[string]bool{}})
	if want := unhex(t, "834080a0"); !bytes.Equal(nils, want) || !bytes.Equal(empties, want) {
		t.Errorf("nil %x, empty %x, want %x", nils, empties, want)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	nested := func(depth int) []byte { return append(bytes.Repeat([]byte{0x81}, depth), 0x00) }
	bigMap := func() []byte {
		m := map[uint64]bool{}
		for i := range uint64(1<<10 + 1) {
			m[i] = true
		}
		return codec.Marshal(m)
	}
	long := append([]byte{0x9a, 0, 2, 0, 1}, make([]byte, 1<<17+1)...)
	cases := []struct {
		name      string
		data      []byte
		into      any
		canonical bool // whether the refusal is by something else than the comparison
	}{
		{"nothing", nil, new(uint64), true},
		{"trailing byte", []byte{1, 1}, new(uint64), true},
		{"cut short", []byte{0x82, 1}, new([]uint64), true},
		{"length prefix beyond the buffer", []byte{0x5b, 0, 0, 0, 1, 0, 0, 0, 0, 1}, new([]byte), true},
		{"long form of 1", []byte{0x18, 1}, new(uint64), false},
		{"long length of bytes", []byte{0x58, 1, 7}, new([]byte), false},
		{"indefinite bytes", []byte{0x5f, 0x41, 1, 0xff}, new([]byte), true},
		{"indefinite array", []byte{0x9f, 1, 0xff}, new([]uint64), true},
		{"duplicate key", unhex(t, "a2616101616102"), new(map[string]uint64), true},
		{"unsorted keys", unhex(t, "a2616201616102"), new(map[string]uint64), false},
		{"tag", unhex(t, "c11a514b67b0"), new(uint64), true},
		{"invalid UTF-8", []byte{0x61, 0xff}, new(string), true},
		{"17 levels", nested(17), new(any), true},
		{"131,073 elements", long, new([]uint64), true},
		{"1,025 map pairs", bigMap(), new(map[uint64]bool), true},
		{"short fixed array", []byte{0x43, 1, 2, 3}, new([4]byte), false},
		{"long fixed array", []byte{0x45, 1, 2, 3, 4, 5}, new([4]byte), false},
		{"array for fixed bytes", []byte{0x84, 1, 2, 3, 4}, new([4]byte), false},
		{"null for bytes", []byte{0xf6}, new([]byte), false},
		{"null for a number", []byte{0xf6}, new(uint64), false},
		{"null for a struct", []byte{0xf6}, new(inner), false},
		{"text for bytes", []byte{0x61, 'a'}, new([]byte), true},
		{"bytes for text", []byte{0x41, 'a'}, new(string), true},
		{"float for a number", unhex(t, "f93c00"), new(uint64), true},
		{"number for a float", []byte{1}, new(float64), false},
		{"NaN", unhex(t, "f97e00"), new(float64), true},
		{"NaN as a key", unhex(t, "a1f97e0001"), new(map[any]any), true},
		{"wide float", unhex(t, "fb3ff8000000000000"), new(float64), false},
		{"negative for unsigned", []byte{0x20}, new(uint64), true},
		{"number too wide", unhex(t, "190100"), new(uint8), true},
		{"too few fields", []byte{0x80}, new(inner), true},
		{"too many fields", []byte{0x82, 0x60, 0}, new(inner), true},
		{"named fields", unhex(t, "a1644e6f746560"), new(inner), true},
	}
	for _, c := range cases {
		err := codec.Unmarshal(c.data, c.into, 1<<20)
		if err == nil {
			t.Errorf("%s: %x accepted as %v", c.name, c.data[:min(16, len(c.data))], c.into)
		} else if byComparison := errors.Is(err, codec.ErrNotCanonical); byComparison == c.canonical {
			t.Errorf("%s: refused with %q, want ErrNotCanonical = %v", c.name, err, !c.canonical)
		}
	}
	var ok any
	if err := codec.Unmarshal(nested(16), &ok, 64); err != nil {
		t.Errorf("16 levels refused: %v", err)
	}
}

func TestUnmarshalNamesTheLimit(t *testing.T) {
	data := codec.Marshal(strings.Repeat("a", 100))
	var s string
	err := codec.Unmarshal(data, &s, len(data)-1)
	if !errors.Is(err, codec.ErrTooLarge) || !strings.Contains(err.Error(), "102 bytes, limit 101") {
		t.Errorf("error %v, want ErrTooLarge that names 102 and 101", err)
	}
	if s != "" {
		t.Error("an input that is too large was looked at")
	}
	if err := codec.Unmarshal(data, &s, len(data)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func TestUnmarshalIntoUsedValue(t *testing.T) {
	used := full()
	data := codec.Marshal(record{Raw: codec.Raw{0x00}})
	if err := codec.Unmarshal(data, &used, len(data)); err == nil && !bytes.Equal(codec.Marshal(used), data) {
		t.Error("remains of the old value survived an accepted decode")
	}
}

func TestMarshalPanicsOnWhatCannotBeEncoded(t *testing.T) {
	for _, value := range []any{make(chan int), math.NaN(), map[float64]int{math.NaN(): 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T %v was encoded", value, value)
				}
			}()
			codec.Marshal(value)
		}()
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := record{
			Count: rapid.Uint64().Draw(t, "count"),
			Delta: rapid.Int64().Draw(t, "delta"),
			Body:  rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body"),
			Name:  rapid.String().Draw(t, "name"),
			Flag:  rapid.Bool().Draw(t, "flag"),
			List:  rapid.SliceOf(rapid.Uint16()).Draw(t, "list"),
			Index: rapid.MapOf(rapid.String(), rapid.Uint64()).Draw(t, "index"),
			Raw:   codec.Marshal(rapid.Uint64().Draw(t, "raw")),
		}
		data := codec.Marshal(want)
		var got record
		if err := codec.Unmarshal(data, &got, len(data)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(codec.Marshal(got), data) {
			t.Fatalf("%x decodes to %+v", data, got)
		}
		if got.Count != want.Count || got.Delta != want.Delta || !bytes.Equal(got.Body, want.Body) || got.Name != want.Name {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// FuzzCodec: no input panics, and whatever is accepted has exactly one
// encoding: the input.
func FuzzCodec(f *testing.F) {
	f.Add(codec.Marshal(full()))
	f.Add(codec.Marshal(map[string]any{"a": []any{1, -1, 1.5, nil, true, "x", []byte{1}}}))
	f.Add(unhex(f, "bf61610161629f0203ffff"))
	f.Add(unhex(f, "a2f97e0001f97e0002"))
	f.Add(unhex(f, "3bffffffffffffffff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{new(any), new(record), new([]inner), new(map[string]uint64), new(map[any]any), new([32]byte)} {
			if err := codec.Unmarshal(data, into, 1<<16); err != nil {
				continue
			}
			if again := codec.Marshal(into); !bytes.Equal(again, data) {
				t.Fatalf("%x accepted as %T, encoded again as %x", data, into, again)
			}
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	data := codec.Marshal(full())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var r record
		if err := codec.Unmarshal(data, &r, 1<<10); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWritersAgreeWithTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 23, 24, 255, 256, 65_535, 65_536, math.MaxUint32, math.MaxUint32 + 1})).Draw(t, "n")
		body, text := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body"), rapid.String().Draw(t, "text")
		list := rapid.SliceOfN(rapid.Uint16(), 0, 300).Draw(t, "list")
		got := codec.AppendText(codec.AppendBytes(codec.AppendUint([]byte("before"), n), body), text)
		truth := rapid.Bool().Draw(t, "truth")
		got = codec.AppendArray(codec.AppendBool(got, truth), len(list))
		for _, x := range list {
			var err error
			if got, err = codec.Append(got, x); err != nil {
				t.Fatal(err)
			}
		}
		want := bytes.Join([][]byte{[]byte("before"), codec.Marshal(n), codec.Marshal(body), codec.Marshal(text), codec.Marshal(truth), codec.Marshal(list)}, nil)
		if !bytes.Equal(got, want) {
			t.Fatalf("wrote %x, want %x", got, want)
		}
		if length, err := codec.ArrayLength(codec.Marshal(list)); err != nil || length != uint64(len(list)) {
			t.Fatalf("array of %d has length %d, %v", len(list), length, err)
		}
	})
	if _, err := codec.Append(nil, func() {}); err == nil {
		t.Error("a function was encoded")
	}
	for _, bad := range []string{"", "f6", "00", "60", "9c", "9f", "98", "9900", "9b00000000000000"} {
		if n, err := codec.ArrayLength(unhex(t, bad)); err == nil {
			t.Errorf("%q is an array of %d", bad, n)
		}
	}
}
