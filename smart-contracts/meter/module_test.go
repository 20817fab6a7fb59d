package meter_test

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// built is a module in the making: the bodies of its sections, as bytes.
type built struct {
	sections [wasm.SectionDataCount + 2][]byte
	tail     []byte
}

func vec(elements ...[]byte) []byte {
	out := binary.AppendUvarint(nil, uint64(len(elements)))
	for _, e := range elements {
		out = append(out, e...)
	}
	return out
}

func sized(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

func named(name string, rest ...byte) []byte { return append(sized([]byte(name)), rest...) }

func fn(params, results string) []byte {
	return append([]byte{wasm.FuncType}, append(sized([]byte(params)), sized([]byte(results))...)...)
}

func body(code ...byte) []byte { return sized(append([]byte{0}, append(code, 0x0b)...)) }

// contract is the least that a contract is: function 0 is allocate, 1 is
// deallocate, 2 the marker, 3 does what code says and is of no type.
func contract(code ...byte) *built {
	b := &built{}
	b.sections[wasm.SectionType] = vec(fn("\x7f", "\x7f"), fn("\x7f", ""), fn("", ""), fn("\x7f\x7f\x7f", "\x7f"))
	b.sections[wasm.SectionFunction] = vec([]byte{0}, []byte{1}, []byte{2}, []byte{2})
	b.sections[wasm.SectionMemory] = vec([]byte{0, 1})
	b.sections[wasm.SectionExport] = contractExports()
	b.sections[wasm.SectionCode] = vec(body(0x20, 0), body(), body(), body(code...))
	return b
}

func contractExports(more ...[]byte) []byte {
	return vec(append([][]byte{
		named("memory", wasm.KindMemory, 0), named("allocate", wasm.KindFunction, 0),
		named("deallocate", wasm.KindFunction, 1), named("interface_version_8", wasm.KindFunction, 2),
	}, more...)...)
}

func (b *built) with(id byte, body []byte) *built {
	b.sections[id] = body
	return b
}

func (b *built) bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	order := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11, 13, 0}
	for _, id := range order {
		if b.sections[id] != nil {
			out = wasm.AppendSection(out, byte(id), b.sections[id])
		}
	}
	return append(out, b.tail...)
}
