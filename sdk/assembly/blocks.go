package assembly

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// What the compiler lays into memory is blocks, one behind the other: how large the block is, eight bytes that are
// zero, what its class is, how large the object is, and the object. How large the block is concerns a runtime that gives memory
// back, and the kit's does not (kit/runtime.ts): nothing reads it, and each takes a segment of its own.
const (
	blockHead   = 20 // bytes before the object
	blockToRest = 12 // from the block's size to what follows the zeros
	blockAlign  = 16
)

// blockRule is part of what a module is built of, as the compiler's options are.
const blockRule = "without the sizes of blocks"

// segment is data of a module, and where in memory it goes.
type segment struct {
	at   uint32
	data []byte
	raw  []byte // as the module has it
}

// withoutBlockSizes leaves out of a module the segments that are the sizes of blocks. From what is no block on, everything
// stays as it is.
func withoutBlockSizes(module []byte) []byte {
	if wasm.CheckHeader(module) != nil {
		return module
	}
	out := module[:wasm.HeaderBytes:wasm.HeaderBytes]
	r := wasm.NewReader(module[wasm.HeaderBytes:])
	for !r.Done() {
		s := r.Section()
		if s.ID == wasm.SectionDataCount {
			return module // code names segments by their numbers
		}
		if s.ID == wasm.SectionData {
			segments, ok := segmentsOf(s.Body)
			if !ok {
				return module
			}
			kept := withoutSizes(segments)
			s.Body = binary.AppendUvarint(nil, uint64(len(kept)))
			for _, one := range kept {
				s.Body = append(s.Body, one.raw...)
			}
		}
		out = wasm.AppendSection(out, s.ID, s.Body)
	}
	if r.Err() != nil {
		return module
	}
	return out
}

// segmentsOf reads a data section whose segments all go to the one memory, at constants.
func segmentsOf(body []byte) (segments []segment, ok bool) {
	const atConstant, end = 0x41, 0x0b
	r := wasm.NewReader(body)
	for n := r.U32(); n > 0 && !r.Done(); n-- {
		from := r.Pos()
		if r.U32() != 0 || r.Byte() != atConstant {
			return nil, false
		}
		at := uint32(r.Signed(32))
		if r.Byte() != end {
			return nil, false
		}
		data := r.Bytes()
		segments = append(segments, segment{at, data, body[from:r.Pos()]})
	}
	return segments, r.Err() == nil && r.Done()
}

// withoutSizes walks over the blocks, which begin with the first segment.
func withoutSizes(segments []segment) []segment {
	var kept []segment
	for i := 0; i < len(segments); i++ {
		if i+1 == len(segments) || !isSize(segments[i], segments[i+1]) || i > 0 && segments[i].at < segments[i-1].at {
			return append(kept, segments[i:]...)
		}
		end := segments[i].at + 4 + size(segments[i].data)
		for i++; i < len(segments) && segments[i].at < end; i++ {
			kept = append(kept, segments[i])
		}
		i-- // the loop's
	}
	return kept
}

// isSize reports whether one segment is the size of a block, and nothing else, of which the next begins with the rest.
func isSize(one, next segment) bool {
	if len(one.data) > 4 || next.at != one.at+blockToRest {
		return false
	}
	object := size(next.data[min(4, len(next.data)):min(8, len(next.data))])
	return object < 1<<30 && size(one.data) == (object+blockHead+blockAlign-1)&^(blockAlign-1)-4
}

// size reads a number, of which bytes at the end that are zero are not there.
func size(data []byte) uint32 {
	var b [4]byte
	copy(b[:], data)
	return binary.LittleEndian.Uint32(b[:])
}
