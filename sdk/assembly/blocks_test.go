package assembly_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/sdk/assembly"
)

// data is a segment.
func data(at int64, bytes ...byte) []byte {
	out := wasm.AppendSigned([]byte{0, 0x41}, at)
	out = append(out, 0x0b)
	out = binary.AppendUvarint(out, uint64(len(bytes)))
	return append(out, bytes...)
}

// laid is a module with segments, and another section behind them.
func laid(segments ...[]byte) []byte {
	body := binary.AppendUvarint(nil, uint64(len(segments)))
	out := wasm.AppendSection([]byte("\x00asm\x01\x00\x00\x00"), wasm.SectionMemory, []byte{1, 0, 1})
	out = wasm.AppendSection(out, wasm.SectionData, append(body, slices.Concat(segments...)...))
	return wasm.AppendSection(out, wasm.SectionCustom, []byte("\x01x"))
}

// TestBlockSizes: the segments that are the sizes of blocks are not there, and all others are.
func TestBlockSizes(t *testing.T) {
	long := append([]byte{4, 0, 0, 0, 0x2c, 1, 0, 0}, make([]byte, 300)...) // an object of 300 bytes
	ab := []byte{2, 0, 0, 0, 4, 0, 0, 0, 'a', 0, 'b'}
	cd := []byte{2, 0, 0, 0, 4, 0, 0, 0, 'c', 0, 'd'}
	split := data(1052, 2, 0, 0, 0, 30, 0, 0, 0, 'x') // whose zeros are left out in the middle
	for name, c := range map[string]struct{ in, want []byte }{
		"two":             {laid(data(1036, 28), data(1048, ab...), data(1068, 28), data(1080, cd...)), laid(data(1048, ab...), data(1080, cd...))},
		"a long one":      {laid(data(1036, 0x3c, 1), data(1048, long...), data(1356, 28), data(1368, cd...)), laid(data(1048, long...), data(1368, cd...))},
		"in parts":        {laid(data(1040, 60), split, data(1080, 'y'), data(1104, 28), data(1116, cd...)), laid(split, data(1080, 'y'), data(1116, cd...))},
		"an empty one":    {laid(data(1036, 28), data(1048, 2), data(1068, 28), data(1080, cd...)), laid(data(1048, 2), data(1080, cd...))},
		"nothing":         {laid(), laid()},
		"an end":          {laid(data(1036, 28), data(1048, ab...), data(1068, 28)), laid(data(1048, ab...), data(1068, 28))},
		"another size":    {laid(data(1036, 44), data(1048, ab...), data(1068, 28), data(1080, cd...)), laid(data(1036, 44), data(1048, ab...), data(1068, 28), data(1080, cd...))},
		"another place":   {laid(data(1036, 28), data(1044, ab...)), laid(data(1036, 28), data(1044, ab...))},
		"then no block":   {laid(data(1036, 28), data(1048, ab...), data(1068, 5), data(2000, 28), data(2012, cd...)), laid(data(1048, ab...), data(1068, 5), data(2000, 28), data(2012, cd...))},
		"somewhere else":  {laid(append([]byte{0, 0x23, 0, 0x0b, 1}, 28), data(1048, ab...)), laid(append([]byte{0, 0x23, 0, 0x0b, 1}, 28), data(1048, ab...))},
		"no module":       {[]byte("\x00asm"), []byte("\x00asm")},
		"cut off":         {laid(data(1036, 28), data(1048, ab...))[:30], laid(data(1036, 28), data(1048, ab...))[:30]},
		"by their number": {wasm.AppendSection(laid(data(1036, 28), data(1048, ab...)), wasm.SectionDataCount, []byte{2}), wasm.AppendSection(laid(data(1036, 28), data(1048, ab...)), wasm.SectionDataCount, []byte{2})},
	} {
		before := slices.Clone(c.in)
		if got := assembly.WithoutBlockSizes(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %x\nwant %x", name, got, c.want)
		}
		if !slices.Equal(before, c.in) {
			t.Errorf("%s: what was given is changed", name)
		}
	}
}
