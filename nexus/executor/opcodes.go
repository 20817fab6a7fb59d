package executor

import "errors"

var errBadCode = errors.New("executor: instruction runs past the end of its function")

// opMemoryGrow is the instruction that screening replaces.
const opMemoryGrow = 0x40

// instructionLength returns the length in bytes of the instruction at the head
// of code, opcode and immediates (WebAssembly 2.0 §5.4). Instructions of later
// proposals are refused, whatever the engine would say to them.
func instructionLength(code []byte) (int, error) {
	s := scanner{data: code}
	op := s.byte()
	switch {
	case op == 0x02 || op == 0x03 || op == 0x04: // block, loop, if
		s.leb()
	case op == 0x0c || op == 0x0d || op == 0x10: // br, br_if, call
		s.leb()
	case op == 0x0e: // br_table
		for n := s.u32(); n > 0 && s.err == nil; n-- {
			s.leb()
		}
		s.leb()
	case op == 0x11: // call_indirect
		s.leb()
		s.leb()
	case op == 0x1c: // select with types
		for n := s.u32(); n > 0 && s.err == nil; n-- {
			s.leb()
		}
	case op >= 0x20 && op <= 0x26: // locals, globals, table.get, table.set
		s.leb()
	case op >= 0x28 && op <= 0x3e: // loads and stores
		s.leb()
		s.leb()
	case op == 0x3f || op == opMemoryGrow || op == 0x41 || op == 0x42: // memory.size, grow, i32.const, i64.const
		s.leb()
	case op == 0x43: // f32.const
		s.skip(4)
	case op == 0x44: // f64.const
		s.skip(8)
	case op == 0xd0 || op == 0xd2: // ref.null, ref.func
		s.leb()
	case op == 0xfc:
		s.prefixedFC()
	case op == 0xfd:
		s.prefixedFD()
	case op <= 0x01 || op == 0x05 || op == 0x0b || op == 0x0f || op == 0x1a || op == 0x1b || op >= 0x45 && op <= 0xc4 || op == 0xd1:
		// no immediates
	default:
		return 0, refusef("instruction 0x%02x is not supported", op)
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.pos, nil
}

// prefixedFC skips saturating conversions, bulk memory and table instructions.
func (s *scanner) prefixedFC() {
	switch sub := s.u32(); {
	case sub <= 7: // saturating conversions
	case sub == 9 || sub == 11 || sub == 13 || sub >= 15 && sub <= 17:
		s.leb()
	case sub == 8 || sub == 10 || sub == 12 || sub == 14:
		s.leb()
		s.leb()
	default:
		s.fail(refusef("instruction 0xfc %d is not supported", sub))
	}
}

// prefixedFD skips 128-bit vector instructions.
func (s *scanner) prefixedFD() {
	switch sub := s.u32(); {
	case sub <= 11 || sub == 92 || sub == 93: // loads and stores
		s.leb()
		s.leb()
	case sub == 12 || sub == 13: // v128.const, shuffle
		s.skip(16)
	case sub >= 21 && sub <= 34: // lanes
		s.skip(1)
	case sub >= 84 && sub <= 91: // loads and stores of a lane
		s.leb()
		s.leb()
		s.skip(1)
	case sub <= 255: // no immediates
	default:
		s.fail(refusef("instruction 0xfd %d is not supported", sub))
	}
}

// scanner reads the binary format. After the first failure it returns zeros,
// and err says why.
type scanner struct {
	data []byte
	pos  int
	err  error
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *scanner) done() bool { return s.err != nil || s.pos >= len(s.data) }

func (s *scanner) byte() byte {
	if s.done() {
		s.fail(errBadCode)
		return 0
	}
	s.pos++
	return s.data[s.pos-1]
}

func (s *scanner) skip(n int) []byte {
	if s.err != nil || n < 0 || n > len(s.data)-s.pos {
		s.fail(errBadCode)
		return nil
	}
	s.pos += n
	return s.data[s.pos-n : s.pos]
}

// leb skips a LEB128 number of any sign and at most 10 bytes.
func (s *scanner) leb() {
	for range 10 {
		if s.byte() < 0x80 {
			return
		}
	}
	s.fail(errBadCode)
}

// u32 reads an unsigned LEB128 number of 32 bits.
func (s *scanner) u32() uint32 {
	var n uint64
	for shift := 0; shift < 35; shift += 7 {
		b := s.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if n > 1<<32-1 {
				break
			}
			return uint32(n)
		}
	}
	s.fail(errBadCode)
	return 0
}

// bytes reads a length and that many bytes.
func (s *scanner) bytes() []byte { return s.skip(int(s.u32())) }
