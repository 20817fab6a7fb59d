package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

var (
	// ErrTruncated says that something runs past the end of what holds it.
	ErrTruncated = errors.New("wasm: the bytes end too early")
	// ErrNumber says that a number does not fit its field.
	ErrNumber = errors.New("wasm: a number is longer than its field")
	// ErrName says that a name is not UTF-8.
	ErrName = errors.New("wasm: a name is not UTF-8")
)

// Reader reads the binary format. After the first failure it returns zeros, and
// Err says why. The zero value has nothing to read.
type Reader struct {
	data    []byte
	pos     int
	err     error
	targets []uint32 // of the last br_table
}

// NewReader reads data, which is not copied.
func NewReader(data []byte) *Reader { return &Reader{data: data} }

// Err is the first failure.
func (r *Reader) Err() error { return r.err }

// Fail notes a failure, if there was none before.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Done reports whether nothing is left, or reading failed.
func (r *Reader) Done() bool { return r.err != nil || r.pos >= len(r.data) }

// Pos is how many bytes were read.
func (r *Reader) Pos() int { return r.pos }

// Rest is what was not read yet.
func (r *Reader) Rest() []byte { return r.data[r.pos:] }

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if r.Done() {
		r.Fail(ErrTruncated)
		return 0
	}
	r.pos++
	return r.data[r.pos-1]
}

// Take reads n bytes, which it does not copy.
func (r *Reader) Take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.data)-r.pos {
		r.Fail(ErrTruncated)
		return nil
	}
	r.pos += n
	return r.data[r.pos-n : r.pos : r.pos]
}

// U32 reads an unsigned LEB128 number of 32 bits.
func (r *Reader) U32() uint32 {
	var n uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.Byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if n > 1<<32-1 {
				break
			}
			return uint32(r.settled(int64(n)))
		}
	}
	r.Fail(ErrNumber)
	return 0
}

// Signed reads a signed LEB128 number of 32, 33 or 64 bits.
func (r *Reader) Signed(bits int) int64 {
	var n int64
	for shift := 0; shift < bits; shift += 7 {
		b := r.Byte()
		n |= int64(b&0x7f) << shift
		if b >= 0x80 {
			continue
		}
		if left := bits - shift; left < 7 {
			// What is beyond the width repeats the sign.
			if high := int8(b<<1) >> left; high != 0 && high != -1 {
				break
			}
		}
		if shift+7 < 64 && b&0x40 != 0 {
			n |= -1 << (shift + 7)
		}
		return r.settled(n)
	}
	r.Fail(ErrNumber)
	return 0
}

// settled is n, unless its last byte was missing.
func (r *Reader) settled(n int64) int64 {
	if r.err != nil {
		return 0
	}
	return n
}

// Bytes reads a length and that many bytes, which it does not copy.
func (r *Reader) Bytes() []byte { return r.Take(int(r.U32())) }

// Name reads a name.
func (r *Reader) Name() string {
	name := r.Bytes()
	if !utf8.Valid(name) {
		r.Fail(ErrName)
		return ""
	}
	return string(name)
}

// HeaderBytes is the length of what every module begins with.
const HeaderBytes = 8

var errMagic = errors.New("module does not begin with the WebAssembly magic")

// CheckHeader refuses what is not a module at all.
func CheckHeader(module []byte) error {
	if len(module) < HeaderBytes || string(module[:4]) != "\x00asm" {
		return errMagic
	}
	if version := binary.LittleEndian.Uint32(module[4:]); version != 1 {
		return fmt.Errorf("module has version %d, want 1", version)
	}
	return nil
}

// Section ids of the binary format (§5.5.2).
const (
	SectionCustom    = 0
	SectionType      = 1
	SectionImport    = 2
	SectionFunction  = 3
	SectionTable     = 4
	SectionMemory    = 5
	SectionGlobal    = 6
	SectionExport    = 7
	SectionStart     = 8
	SectionElement   = 9
	SectionCode      = 10
	SectionData      = 11
	SectionDataCount = 12
)

// Kinds of imports and exports (§5.5.5, §5.5.10).
const (
	KindFunction = 0
	KindTable    = 1
	KindMemory   = 2
	KindGlobal   = 3
)

// Types of values (§5.3).
const (
	I32       = 0x7f
	I64       = 0x7e
	F32       = 0x7d
	F64       = 0x7c
	FuncRef   = 0x70
	FuncType  = 0x60
	EmptyType = 0x40 // of a block without result
)

// PageBytes is the size of a page of linear memory.
const PageBytes = 64 << 10

// Section is one section of a module.
type Section struct {
	ID   byte
	Body []byte
}

// Section reads one section, whose body it does not copy.
func (r *Reader) Section() Section { return Section{r.Byte(), r.Bytes()} }

// AppendSection appends a section to a module.
func AppendSection(out []byte, id byte, body []byte) []byte {
	out = append(out, id)
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...)
}

// AppendElement returns the body of a section that is a vector, with one more
// element.
func AppendElement(body, element []byte) []byte {
	r := NewReader(body)
	out := binary.AppendUvarint(nil, uint64(r.U32())+1)
	out = append(out, r.Rest()...)
	return append(out, element...)
}

// AppendSigned appends a signed LEB128 number.
func AppendSigned(out []byte, n int64) []byte {
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}
