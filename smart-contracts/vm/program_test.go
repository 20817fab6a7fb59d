package vm_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// A program is a random valid module that ends: functions of all types of values,
// which call those after them, and any through a table, as long as a global
// count that every function and every loop takes from is not used up.

const (
	i32, i64, f32, f64 = wasm.I32, wasm.I64, wasm.F32, wasm.F64

	globalCount = 0 // i32, what is left to do
	programs    = 200
)

var valueTypes = []byte{i32, i64, f32, f64}

// operators are the numeric instructions by what they give: opcode and operands.
type operator struct {
	code []byte
	of   []byte
}

type programFunction struct {
	params []byte
	result byte // 0: none
}

// program is what writes one.
type program struct {
	*rand.Rand
	functions []programFunction
	operators map[byte][]operator
	at        int    // the function that is written
	locals    []byte // its locals
	labels    []byte // innermost last: what a branch takes, 0 for nothing
	code      []byte
	last      bool // whether nothing may be called any more
	self      bool // whether functions call themselves for ever
}

// numericOperators is every numeric instruction of the dialect.
func numericOperators() map[byte][]operator {
	out := map[byte][]operator{}
	add := func(first, last byte, result byte, of ...byte) {
		for op := int(first); op <= int(last); op++ {
			out[result] = append(out[result], operator{[]byte{byte(op)}, of})
		}
	}
	add(0x45, 0x45, i32, i32)
	add(0x46, 0x4f, i32, i32, i32)
	add(0x50, 0x50, i32, i64)
	add(0x51, 0x5a, i32, i64, i64)
	add(0x5b, 0x60, i32, f32, f32)
	add(0x61, 0x66, i32, f64, f64)
	add(0x67, 0x69, i32, i32)
	add(0x6a, 0x78, i32, i32, i32)
	add(0x79, 0x7b, i64, i64)
	add(0x7c, 0x8a, i64, i64, i64)
	add(0x8b, 0x91, f32, f32)
	add(0x92, 0x98, f32, f32, f32)
	add(0x99, 0x9f, f64, f64)
	add(0xa0, 0xa6, f64, f64, f64)
	add(0xa7, 0xa7, i32, i64)
	add(0xa8, 0xa9, i32, f32)
	add(0xaa, 0xab, i32, f64)
	add(0xac, 0xad, i64, i32)
	add(0xae, 0xaf, i64, f32)
	add(0xb0, 0xb1, i64, f64)
	add(0xb2, 0xb3, f32, i32)
	add(0xb4, 0xb5, f32, i64)
	add(0xb6, 0xb6, f32, f64)
	add(0xb7, 0xb8, f64, i32)
	add(0xb9, 0xba, f64, i64)
	add(0xbb, 0xbb, f64, f32)
	add(0xbc, 0xbc, i32, f32)
	add(0xbd, 0xbd, i64, f64)
	add(0xbe, 0xbe, f32, i32)
	add(0xbf, 0xbf, f64, i64)
	add(0xc0, 0xc1, i32, i32)
	add(0xc2, 0xc4, i64, i64)
	for sub, of := range []byte{f32, f32, f64, f64, f32, f32, f64, f64} {
		result := byte(i32)
		if sub >= 4 {
			result = i64
		}
		out[result] = append(out[result], operator{[]byte{0xfc, byte(sub)}, []byte{of}})
	}
	return out
}

func (p *program) emit(code ...byte) { p.code = append(p.code, code...) }

func (p *program) emitU(op byte, n int) {
	p.code = binary.AppendUvarint(append(p.code, op), uint64(n))
}

func (p *program) someType() byte { return valueTypes[p.IntN(len(valueTypes))] }

// constant writes one of the numbers at which something changes, or any.
func (p *program) constant(of byte) {
	p.emit(wasmConst(of))
	edges := []int64{0, 1, -1, 2, 31, 32, 63, 64, 1 << 31, -1 << 31, 1<<31 - 1, 1 << 62, -1 << 63, 1<<63 - 1, 0x7fc00000, 0x7f800001, 0x7ff8 << 48, 0x7ff1 << 48, 0x3ff0 << 48}
	n := edges[p.IntN(len(edges))]
	if p.IntN(2) == 0 {
		n = int64(p.Uint64() >> p.IntN(64))
	}
	switch of {
	case i32:
		p.code = wasm.AppendSigned(p.code, int64(int32(n)))
	case i64:
		p.code = wasm.AppendSigned(p.code, n)
	case f32:
		p.code = binary.LittleEndian.AppendUint32(p.code, uint32(n))
	case f64:
		p.code = binary.LittleEndian.AppendUint64(p.code, uint64(n))
	}
}

func wasmConst(of byte) byte { return 0x41 + i32 - of }

// local returns a local of a type, or −1.
func (p *program) local(of byte) int {
	from := p.IntN(len(p.locals))
	for i := range p.locals {
		if n := (from + i) % len(p.locals); p.locals[n] == of {
			return n
		}
	}
	return -1
}

// value writes an expression of a type.
func (p *program) value(of byte, depth int) {
	if depth <= 0 {
		if n := p.local(of); n >= 0 && p.IntN(2) == 0 {
			p.emitU(0x20, n)
		} else {
			p.constant(of)
		}
		return
	}
	switch p.IntN(12) {
	case 0:
		p.constant(of)
	case 1:
		p.blockOf(of, depth)
	case 2:
		p.value(i32, depth-1)
		p.emit(0x04, of)
		p.inside(of, func() { p.value(of, depth-1) })
		p.emit(0x05)
		p.inside(of, func() { p.value(of, depth-1) })
		p.emit(0x0b)
	case 3:
		p.load(of, depth)
	case 4:
		if !p.called(of, depth) {
			p.constant(of)
		}
	case 5:
		p.value(of, depth-1)
		if n := p.local(of); n >= 0 {
			p.emitU(0x22, n)
		}
	case 6:
		p.value(of, depth-1)
		p.value(of, depth-1)
		p.value(i32, depth-1)
		p.emit(0x1b)
	case 7:
		p.other(of, depth)
	default:
		all := p.operators[of]
		op := all[p.IntN(len(all))]
		for _, operand := range op.of {
			p.value(operand, depth-1)
		}
		p.emit(op.code...)
	}
}

// blockOf writes a block that gives a value, with ways out of its middle.
func (p *program) blockOf(of byte, depth int) {
	p.emit(0x02, of)
	p.inside(of, func() {
		if p.IntN(2) == 0 {
			p.statement(depth - 1)
		}
		p.value(of, depth-1)
		if p.IntN(2) == 0 {
			p.value(i32, depth-1)
			p.emit(0x0d, 0)
		}
		if p.IntN(8) == 0 { // what follows is never reached
			p.emit(0x0c, 0)
			p.statement(depth - 1)
			p.value(of, depth-1)
		}
	})
	p.emit(0x0b)
}

// other writes what there is of i32 beside numbers, or a global.
func (p *program) other(of byte, depth int) {
	switch {
	case of == i32 && p.IntN(4) == 0:
		p.emit(0x3f, 0)
	case of == i32 && p.IntN(4) == 0:
		p.emit(0x41, byte(p.IntN(4)), 0x40, 0)
	case of == i32 && p.IntN(8) == 0: // more than there may be
		p.value(i32, depth-1)
		p.emit(0x40, 0)
	default:
		p.emitU(0x23, 1+int(i32-of))
	}
}

// inside writes what is in a block, to whose end a branch takes a value.
func (p *program) inside(of byte, what func()) {
	p.labels = append(p.labels, of)
	what()
	p.labels = p.labels[:len(p.labels)-1]
}

// address writes an address, most of them inside of the memory.
func (p *program) address(depth int) {
	p.value(i32, depth-1)
	if p.IntN(24) != 0 {
		p.emit(0x41, 0xff, 0xff, 0x00, 0x71) // i32.and 0x3fff
	}
}

var loads = map[byte][]byte{i32: {0x28, 0x2c, 0x2d, 0x2e, 0x2f}, i64: {0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35}, f32: {0x2a}, f64: {0x2b}}
var stores = map[byte][]byte{i32: {0x36, 0x3a, 0x3b}, i64: {0x37, 0x3c, 0x3d, 0x3e}, f32: {0x38}, f64: {0x39}}

func (p *program) load(of byte, depth int) {
	p.address(depth)
	p.emit(loads[of][p.IntN(len(loads[of]))], 0, byte(p.IntN(100)))
}

// called writes a call that gives a value, if there is a function for it.
func (p *program) called(of byte, depth int) bool {
	for range 8 {
		if p.last {
			break
		}
		n := p.IntN(len(p.functions))
		f := p.functions[n]
		direct := p.IntN(2) == 0
		if f.result != of || direct && n <= p.at {
			continue
		}
		for _, param := range f.params {
			p.value(param, depth-1)
		}
		if direct {
			p.emitU(0x10, n)
			return true
		}
		if p.emit(0x41, byte(n)); p.IntN(24) == 0 { // one that may be of another type, or none
			p.code = p.code[:len(p.code)-2]
			p.value(i32, 0)
		}
		p.emitU(0x11, n) // types are in the order of functions
		p.emit(0)
		return true
	}
	return false
}

// statement writes what leaves the stack as it was.
func (p *program) statement(depth int) {
	if depth <= 0 {
		p.emit(0x01)
		return
	}
	switch p.IntN(14) {
	case 0, 1:
		of := p.someType()
		if n := p.local(of); n >= 0 {
			p.value(of, depth-1)
			p.emitU(0x21, n)
		}
	case 2:
		of := p.someType()
		p.address(depth)
		p.value(of, depth-1)
		p.emit(stores[of][p.IntN(len(stores[of]))], 0, byte(p.IntN(100)))
	case 3:
		of := p.someType()
		p.value(of, depth-1)
		p.emitU(0x24, 1+int(i32-of))
	case 4:
		p.value(p.someType(), depth-1)
		p.emit(0x1a)
	case 5, 6:
		p.value(i32, depth-1)
		p.emit(0x04, 0x40)
		p.inside(0, func() { p.statements(depth - 1) })
		if p.IntN(2) == 0 {
			p.emit(0x05)
			p.inside(0, func() { p.statements(depth - 1) })
		}
		p.emit(0x0b)
	case 7:
		p.emit(0x02, 0x40)
		p.inside(0, func() { p.statements(depth - 1) })
		p.emit(0x0b)
	case 8, 9:
		p.loop(depth)
	case 10:
		p.called(0, depth)
	case 11, 12:
		p.branch(depth)
	case 13:
		if p.IntN(40) == 0 {
			p.emit(0x00)
		}
	}
}

func (p *program) statements(depth int) {
	for range 1 + p.IntN(3) {
		p.statement(depth)
	}
}

// take counts down and goes to a label, or returns, when nothing is left.
func (p *program) take(label int) {
	p.emit(0x23, globalCount, 0x41, 1, 0x6b, 0x24, globalCount, 0x23, globalCount, 0x41, 0, 0x48)
	p.emitU(0x0d, label)
}

func (p *program) loop(depth int) {
	p.emit(0x02, 0x40, 0x03, 0x40)
	p.inside(0, func() {
		p.inside(0, func() {
			p.take(1)
			p.statements(depth - 1)
			p.value(i32, depth-1)
			p.emit(0x0d, 0)
		})
	})
	p.emit(0x0b, 0x0b)
}

// branch writes a way out: to one label, to one of some, or out of the function.
func (p *program) branch(depth int) {
	label := p.IntN(len(p.labels))
	of := p.labels[len(p.labels)-1-label]
	give := func(of byte) {
		if of != 0 {
			p.value(of, depth-1)
		}
	}
	switch p.IntN(4) {
	case 0:
		give(of)
		p.emitU(0x0c, label)
	case 1:
		give(of)
		p.value(i32, depth-1)
		p.emitU(0x0d, label)
		if of != 0 {
			p.emit(0x1a)
		}
	case 2:
		give(of)
		p.value(i32, depth-1)
		var same []byte
		for i, other := range p.labels {
			if other == of {
				same = binary.AppendUvarint(same, uint64(len(p.labels)-1-i))
			}
		}
		p.emitU(0x0e, len(same)-1) // one byte each: there are few labels
		p.emit(same...)
	case 3:
		give(p.functions[p.at].result)
		p.emit(0x0f)
	}
}

// body writes a function.
func (p *program) body(at int) []byte {
	f := p.functions[at]
	p.at, p.code, p.locals, p.labels = at, nil, append([]byte(nil), f.params...), []byte{f.result}
	locals := []byte{4}
	for _, of := range valueTypes {
		count := 1 + p.IntN(2)
		locals = append(locals, byte(count), of)
		for range count {
			p.locals = append(p.locals, of)
		}
	}
	p.emit(0x02, 0x40)
	p.inside(0, func() {
		p.take(0)
		p.statements(4)
		if p.self {
			p.callSelf()
			p.statements(4)
		}
	})
	p.emit(0x0b)
	p.last = true // what is here runs even if nothing is left to do
	if f.result != 0 {
		p.value(f.result, 3)
	}
	p.last = false
	p.emit(0x0b)
	return append(locals, p.code...)
}

func (p *program) callSelf() {
	f := p.functions[p.at]
	for _, param := range f.params {
		p.value(param, 2)
	}
	if p.emitU(0x10, p.at); f.result != 0 {
		p.emit(0x1a)
	}
}

// newProgram returns a module; function 0 is exported as "main". Without self it
// ends.
func newProgram(r *rand.Rand, self bool) (code []byte, params []byte) {
	p := &program{Rand: r, operators: numericOperators(), self: self}
	for range 2 + p.IntN(6) {
		f := programFunction{}
		for range p.IntN(4) {
			f.params = append(f.params, p.someType())
		}
		if p.IntN(4) != 0 {
			f.result = p.someType()
		}
		p.functions = append(p.functions, f)
	}
	count := slices.Clip([]byte{byte(len(p.functions))})
	types, functions, bodies, elements := count, count, count, append([]byte{1, 0, 0x41, 0, 0x0b}, count...)
	for i, f := range p.functions {
		types = append(append(types, 0x60, byte(len(f.params))), f.params...)
		if f.result == 0 {
			types = append(types, 0)
		} else {
			types = append(types, 1, f.result)
		}
		functions, elements = append(functions, byte(i)), append(elements, byte(i))
		body := p.body(i)
		bodies = append(binary.AppendUvarint(bodies, uint64(len(body))), body...)
	}
	globals := []byte{5, i32, 1, 0x41, 0xac, 2, 0x0b} // 300 to do
	if self {
		globals = []byte{5, i32, 1, 0x41, 0xac, 0xac, 0xac, 2, 0x0b}
	}
	for _, of := range valueTypes {
		globals = append(globals, of, 1, wasmConst(of))
		globals = append(globals, map[byte][]byte{i32: {5}, i64: {6}, f32: make([]byte, 4), f64: make([]byte, 8)}[of]...)
		globals = append(globals, 0x0b)
	}
	exports := []byte{2, 4, 'm', 'a', 'i', 'n', 0, 0, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0}
	memory := []byte{1, 1, 1, byte(1 + p.IntN(8))}
	code = []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []wasm.Section{
		{ID: wasm.SectionType, Body: types}, {ID: wasm.SectionFunction, Body: functions},
		{ID: wasm.SectionTable, Body: []byte{1, 0x70, 0, byte(len(p.functions) + 1)}}, {ID: wasm.SectionMemory, Body: memory},
		{ID: wasm.SectionGlobal, Body: globals}, {ID: wasm.SectionExport, Body: exports},
		{ID: wasm.SectionElement, Body: elements}, {ID: wasm.SectionCode, Body: bodies},
		{ID: wasm.SectionData, Body: []byte{1, 0, 0x41, 16, 0x0b, 3, 'a', 'b', 'c'}},
	} {
		code = wasm.AppendSection(code, s.ID, s.Body)
	}
	return code, p.functions[0].params
}
