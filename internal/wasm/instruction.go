package wasm

import (
	"encoding/binary"
	"fmt"
)

// Op is an opcode; one behind a prefix has the prefix in its high byte.
type Op uint16

// Opcodes (§5.4) that somebody asks for by name.
const (
	OpUnreachable  Op = 0x00
	OpNop          Op = 0x01
	OpBlock        Op = 0x02
	OpLoop         Op = 0x03
	OpIf           Op = 0x04
	OpElse         Op = 0x05
	OpEnd          Op = 0x0b
	OpBr           Op = 0x0c
	OpBrIf         Op = 0x0d
	OpBrTable      Op = 0x0e
	OpReturn       Op = 0x0f
	OpCall         Op = 0x10
	OpCallIndirect Op = 0x11
	OpDrop         Op = 0x1a
	OpSelect       Op = 0x1b
	OpSelectTyped  Op = 0x1c
	OpLocalGet     Op = 0x20
	OpLocalSet     Op = 0x21
	OpLocalTee     Op = 0x22
	OpGlobalGet    Op = 0x23
	OpGlobalSet    Op = 0x24
	OpTableGet     Op = 0x25
	OpTableSet     Op = 0x26
	OpI32Load      Op = 0x28
	OpI64Load32U   Op = 0x35
	OpI32Store     Op = 0x36
	OpI64Store32   Op = 0x3e
	OpMemorySize   Op = 0x3f
	OpMemoryGrow   Op = 0x40
	OpI32Const     Op = 0x41
	OpI64Const     Op = 0x42
	OpF32Const     Op = 0x43
	OpF64Const     Op = 0x44
	OpI32Eqz       Op = 0x45
	OpI32Eq        Op = 0x46
	OpI32LtS       Op = 0x48
	OpI32GtU       Op = 0x4b
	OpI64LtS       Op = 0x53
	OpI32Add       Op = 0x6a
	OpI32Sub       Op = 0x6b
	OpI32DivS      Op = 0x6d
	OpI32RemU      Op = 0x70
	OpI32ShrU      Op = 0x76
	OpI32Shl       Op = 0x74
	OpI64Sub       Op = 0x7d
	OpI64Mul       Op = 0x7e
	OpI64DivS      Op = 0x7f
	OpI64RemU      Op = 0x82
	OpI64ExtendU   Op = 0xad // i64.extend_i32_u
	OpI64Extend32S Op = 0xc4
	OpRefNull      Op = 0xd0
	OpRefIsNull    Op = 0xd1
	OpRefFunc      Op = 0xd2

	OpI64TruncSatF64U Op = 0xfc07
	OpMemoryInit      Op = 0xfc08
	OpDataDrop        Op = 0xfc09
	OpMemoryCopy      Op = 0xfc0a
	OpMemoryFill      Op = 0xfc0b
	OpTableInit       Op = 0xfc0c
	OpElemDrop        Op = 0xfc0d
	OpTableCopy       Op = 0xfc0e
	OpTableGrow       Op = 0xfc0f
	OpTableSize       Op = 0xfc10
	OpTableFill       Op = 0xfc11
)

// The prefixes of opcodes.
const (
	prefixMore   = 0xfc
	prefixVector = 0xfd
)

// Vector reports whether an instruction is one of 128-bit vectors.
func (op Op) Vector() bool { return op>>8 == prefixVector }

// Instruction is one instruction with its immediates.
type Instruction struct {
	Op Op
	// A is the first immediate: the bits of a constant, the index of a local,
	// global, function, type, label or segment, the type of a block as a signed
	// number, the exponent of an alignment, how many targets br_table has beside
	// the last.
	A uint64
	// B is the second: an offset, the index of a table or memory.
	B uint64
	// Raw is all of it as it was read.
	Raw []byte
	// Targets are the labels of br_table, the default the last, until the next
	// instruction is read.
	Targets []uint32
}

// Unsupported is an opcode of no instruction of WebAssembly 2.0.
type Unsupported struct {
	Prefix byte   // 0xfc, 0xfd or 0
	Code   uint32 // behind the prefix
}

func (e *Unsupported) Error() string {
	if e.Prefix == 0 {
		return fmt.Sprintf("instruction 0x%02x is not supported", e.Code)
	}
	return fmt.Sprintf("instruction 0x%02x %d is not supported", e.Prefix, e.Code)
}

// Instruction reads one instruction. Those of later proposals than WebAssembly
// 2.0 fail with *Unsupported.
func (r *Reader) Instruction() Instruction {
	from := r.pos
	in := Instruction{Op: Op(r.Byte())}
	switch {
	case in.Op == prefixMore:
		r.more(&in)
	case in.Op == prefixVector:
		r.vector(&in)
	default:
		r.plain(&in)
	}
	if r.err != nil {
		return Instruction{}
	}
	in.Raw = r.data[from:r.pos:r.pos]
	return in
}

func (r *Reader) plain(in *Instruction) {
	switch op := in.Op; {
	case op >= OpBlock && op <= OpIf:
		in.A = uint64(r.Signed(33))
	case op == OpBr || op == OpBrIf || op == OpCall:
		in.A = uint64(r.U32())
	case op == OpBrTable:
		r.branchTable(in)
	case op == OpCallIndirect:
		in.A, in.B = uint64(r.U32()), uint64(r.U32())
	case op == OpSelectTyped:
		in.A = uint64(r.U32())
		r.Take(int(in.A))
	case op >= OpLocalGet && op <= OpTableSet:
		in.A = uint64(r.U32())
	case op >= OpI32Load && op <= OpI64Store32:
		in.A, in.B = uint64(r.U32()), uint64(r.U32())
	case op == OpMemorySize || op == OpMemoryGrow:
		in.B = uint64(r.U32())
	case op == OpI32Const:
		in.A = uint64(uint32(r.Signed(32)))
	case op == OpI64Const:
		in.A = uint64(r.Signed(64))
	case op == OpF32Const:
		if b := r.Take(4); b != nil {
			in.A = uint64(binary.LittleEndian.Uint32(b))
		}
	case op == OpF64Const:
		if b := r.Take(8); b != nil {
			in.A = binary.LittleEndian.Uint64(b)
		}
	case op == OpRefNull:
		in.A = uint64(r.Byte())
	case op == OpRefFunc:
		in.A = uint64(r.U32())
	case op <= OpNop || op == OpElse || op == OpEnd || op == OpReturn || op == OpDrop || op == OpSelect:
	case op >= OpI32Eqz && op <= OpI64Extend32S || op == OpRefIsNull:
	default:
		r.Fail(&Unsupported{Code: uint32(op)})
	}
}

func (r *Reader) branchTable(in *Instruction) {
	count := r.U32()
	if int64(count) > int64(len(r.data)-r.pos) { // each target takes a byte
		r.Fail(ErrTruncated)
		return
	}
	in.A = uint64(count)
	r.targets = r.targets[:0]
	for range int(count) + 1 {
		r.targets = append(r.targets, r.U32())
	}
	in.Targets = r.targets
}

// more reads saturating conversions, bulk memory and table instructions.
func (r *Reader) more(in *Instruction) {
	code := r.U32()
	in.Op = prefixMore<<8 | Op(code&0xff)
	switch {
	case code <= 7: // saturating conversions
	case code == 9 || code == 11 || code == 13 || code >= 15 && code <= 17:
		in.A = uint64(r.U32())
	case code == 8 || code == 10 || code == 12 || code == 14:
		in.A, in.B = uint64(r.U32()), uint64(r.U32())
	default:
		r.Fail(&Unsupported{Prefix: prefixMore, Code: code})
	}
}

// vector reads 128-bit vector instructions.
func (r *Reader) vector(in *Instruction) {
	code := r.U32()
	in.Op = prefixVector<<8 | Op(code&0xff)
	switch {
	case code <= 11 || code == 92 || code == 93: // loads and stores
		in.A, in.B = uint64(r.U32()), uint64(r.U32())
	case code == 12 || code == 13: // v128.const, shuffle
		r.Take(16)
	case code >= 21 && code <= 34: // lanes
		r.Take(1)
	case code >= 84 && code <= 91: // loads and stores of a lane
		in.A, in.B = uint64(r.U32()), uint64(r.U32())
		r.Take(1)
	case code <= 255: // no immediates
	default:
		r.Fail(&Unsupported{Prefix: prefixVector, Code: code})
	}
}
