package executor

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// Section ids of the binary format (WebAssembly 2.0 §5.5.2).
const (
	secCustom   = 0
	secType     = 1
	secImport   = 2
	secFunction = 3
	secTable    = 4
	secMemory   = 5
	secGlobal   = 6
	secExport   = 7
	secStart    = 8
	secCode     = 10
	secLast     = 12
)

const (
	kindFunction = 0
	kindMemory   = 2
	kindGlobal   = 3
)

// pageBytes is the size of a page of linear memory.
const pageBytes = 64 << 10

// refusedGlobal is the export that screening adds: an i32 that turns 1 when
// memory.grow fails.
const refusedGlobal = "hypermesh.memory_refused"

// startExport is the name under which screening exports the start function, so
// that it runs as _start does and not while the module is being instantiated.
const startExport = "hypermesh.start"

// maxTableElements bounds all tables of a module, now and after growth.
const (
	maxTableElements = 1 << 18
	maxTables        = 4
)

// screened is a module that this executor runs: valid, within bounds, asking
// for nothing but preview 1, and rewritten in three ways. Every memory.grow goes
// through one added function, which notes a refusal in an added global: the
// engine tells a host nothing of refused growth, and StatusOutOfMemory needs it.
// Instructions that move many bytes or elements at once, for which the engine
// counts one unit, first use up fuel by their length in another added function.
// And the start function is exported instead of started.
type screened struct {
	wasm           []byte
	minMemoryBytes uint64
}

// section is one section of the binary format.
type section struct {
	id   byte
	body []byte
}

// screening is the state of one pass over a module's sections.
type screening struct {
	functionBytes int // limit of one function's body
	out           []byte
	start         []byte // the start section's body: a function index
	imported      uint32 // functions
	growFunc      uint32 // index of the first added function; see added
	addedType     uint32 // of every added function: (param i32) (result i32)
	flag          uint32 // index of the added global
	last          byte   // the last section written that is not custom
	minMemory     uint64
	hasCode       bool
	exports       map[string]byte // kinds by name
}

// screen checks and rewrites a module that the engine has found valid.
// functionBytes bounds each function's body, because compile time grows faster
// than a function does. The error is a *refusal.
func screen(wasm []byte, functionBytes int) (screened, error) {
	sc := &screening{functionBytes: functionBytes, out: slices.Clone(wasm[:8]), exports: map[string]byte{}}
	var sections []section
	for s := (scanner{data: wasm, pos: 8}); !s.done(); {
		next := section{s.byte(), s.bytes()}
		if s.err != nil {
			return screened{}, refusef("module: %v", s.err)
		}
		if next.id == secStart {
			sc.start = next.body
			continue
		}
		sections = append(sections, next)
	}
	for _, next := range sections {
		if err := sc.section(next.id, next.body); err != nil {
			if _, ok := errors.AsType[*refusal](err); !ok {
				err = refusef("section %d: %v", next.id, err)
			}
			return screened{}, err
		}
	}
	if kind, ok := sc.exports["_start"]; !ok || kind != kindFunction {
		return screened{}, refusef("module exports no function _start")
	}
	if kind, ok := sc.exports["memory"]; !ok || kind != kindMemory {
		return screened{}, refusef("module exports no memory named memory")
	}
	if !sc.hasCode {
		return screened{}, refusef("module has no functions")
	}
	return screened{wasm: sc.out, minMemoryBytes: sc.minMemory}, nil
}

func (sc *screening) section(id byte, body []byte) error {
	if id == secCustom {
		return sc.custom(body)
	}
	if id > secLast {
		return refusef("section %d is not supported", id)
	}
	// The data count section, 12, stands before the code section, 10.
	if sc.last < secGlobal && (id > secGlobal) {
		sc.emit(secGlobal, sc.globals(nil))
	}
	sc.last = max(sc.last, id)
	s := &scanner{data: body}
	switch id {
	case secType:
		sc.addedType = s.u32()
		body = appendElement(body, []byte{0x60, 1, 0x7f, 1, 0x7f})
	case secImport:
		sc.imports(s)
	case secFunction:
		sc.growFunc = sc.imported + s.u32()
		for range addedFunctions {
			body = appendElement(body, binary.AppendUvarint(nil, uint64(sc.addedType)))
		}
	case secTable:
		tables(s)
	case secMemory:
		sc.memory(s)
	case secGlobal:
		body = sc.globals(body)
	case secExport:
		body = sc.export(body, s)
	case secCode:
		body = sc.code(s)
	}
	if s.err != nil {
		return s.err
	}
	sc.emit(id, body)
	return nil
}

// custom keeps the names, which make a trap readable, and drops the rest.
func (sc *screening) custom(body []byte) error {
	s := scanner{data: body}
	if name := s.bytes(); s.err == nil && string(name) == "name" {
		sc.emit(secCustom, body)
	}
	return s.err
}

func (sc *screening) emit(id byte, body []byte) {
	sc.out = append(sc.out, id)
	sc.out = binary.AppendUvarint(sc.out, uint64(len(body)))
	sc.out = append(sc.out, body...)
}

// appendElement returns the body of a section that is a vector, with one more
// element.
func appendElement(body, element []byte) []byte {
	s := scanner{data: body}
	out := binary.AppendUvarint(nil, uint64(s.u32())+1)
	out = append(out, body[s.pos:]...)
	return append(out, element...)
}

func (sc *screening) imports(s *scanner) {
	for n := s.u32(); n > 0 && s.err == nil; n-- {
		module, name := string(s.bytes()), string(s.bytes())
		if s.err != nil {
			return
		}
		kind := s.byte()
		if kind != kindFunction || module != wasiModule || !isHostCall(name) {
			s.fail(refusef("import %q %q is not part of WASI preview 1", clipName(module), clipName(name)))
			return
		}
		s.leb()
		sc.imported++
	}
}

func clipName(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), 64)], "?")
}

func tables(s *scanner) {
	count := s.u32()
	if count > maxTables {
		s.fail(refusef("module has %d tables, limit %d", count, maxTables))
	}
	for ; count > 0 && s.err == nil; count-- {
		if element := s.byte(); element != 0x70 { // funcref
			s.fail(refusef("table of type 0x%02x is not supported", element))
		}
		flags := s.byte()
		if least := s.u32(); least > maxTableElements {
			s.fail(refusef("table of %d elements, limit %d", least, maxTableElements))
		}
		if flags&1 != 0 {
			s.leb()
		}
	}
}

func (sc *screening) memory(s *scanner) {
	if count := s.u32(); count != 1 {
		s.fail(refusef("module has %d memories, want 1", count))
		return
	}
	if flags := s.byte(); flags > 1 {
		s.fail(refusef("memory of type 0x%02x is not supported", flags))
	}
	sc.minMemory = uint64(s.u32()) * pageBytes
}

// globals returns the global section's body (nil means that there was none)
// with a mutable i32 of 0 at its end.
func (sc *screening) globals(body []byte) []byte {
	if body == nil {
		body = []byte{0}
	}
	s := scanner{data: body}
	sc.flag = s.u32()
	return appendElement(body, []byte{0x7f, 1, 0x41, 0, 0x0b})
}

func (sc *screening) export(body []byte, s *scanner) []byte {
	count := s.u32()
	for ; count > 0 && s.err == nil; count-- {
		name := string(s.bytes())
		sc.exports[name] = s.byte()
		s.leb()
	}
	for _, name := range []string{refusedGlobal, startExport} {
		if _, taken := sc.exports[name]; taken {
			s.fail(refusef("export %q is reserved", name))
		}
	}
	body = appendElement(body, exportEntry(refusedGlobal, kindGlobal, binary.AppendUvarint(nil, uint64(sc.flag))))
	if sc.start != nil {
		body = appendElement(body, exportEntry(startExport, kindFunction, sc.start))
	}
	return body
}

func exportEntry(name string, kind byte, index []byte) []byte {
	entry := binary.AppendUvarint(nil, uint64(len(name)))
	entry = append(entry, name...)
	return append(append(entry, kind), index...)
}

// The added functions, by their distance from growFunc.
const (
	addedGrow = iota
	addedBytes
	addedElements
	addedFunctions
)

// code rewrites every function's body and appends the added functions.
func (sc *screening) code(s *scanner) []byte {
	sc.hasCode = true
	count := s.u32()
	out := binary.AppendUvarint(nil, uint64(count)+addedFunctions)
	for i := uint32(0); i < count && s.err == nil; i++ {
		body := s.bytes()
		if len(body) > sc.functionBytes {
			s.fail(refusef("function %d has %d bytes, limit %d", sc.imported+i, len(body), sc.functionBytes))
			return nil
		}
		body, err := sc.body(body)
		if err != nil {
			s.fail(err)
			return nil
		}
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	for _, added := range [addedFunctions][]byte{addedGrow: sc.growBody(), addedBytes: bytesBody(), addedElements: sc.elementsBody()} {
		out = binary.AppendUvarint(out, uint64(len(added)))
		out = append(out, added...)
	}
	return out
}

// body returns a function's body with each memory.grow replaced by a call, and
// with a call before each bulk instruction, whose length is on top of the stack
// and is what the called function takes and returns.
func (sc *screening) body(body []byte) ([]byte, error) {
	s := scanner{data: body}
	for groups := s.u32(); groups > 0 && s.err == nil; groups-- {
		s.leb() // how many locals
		s.leb() // of which type
	}
	if s.err != nil {
		return nil, s.err
	}
	var out []byte
	copied := 0
	for pos := s.pos; pos < len(body); {
		n, err := instructionLength(body[pos:])
		if err != nil {
			return nil, err
		}
		next := pos
		if body[pos] == opMemoryGrow {
			next += n
		}
		if added, found := addedBefore(body[pos : pos+n]); found {
			out = append(out, body[copied:pos]...)
			out = sc.call(out, added)
			copied = next
		}
		pos += n
	}
	if copied == 0 {
		return body, nil
	}
	return append(out, body[copied:]...), nil
}

// addedBefore returns the added function that an instruction needs, if any.
func addedBefore(instruction []byte) (added uint32, found bool) {
	switch instruction[0] {
	case opMemoryGrow:
		return addedGrow, true
	case 0xfc:
		s := scanner{data: instruction, pos: 1}
		switch s.u32() {
		case 8, 10, 11: // memory.init, memory.copy, memory.fill
			return addedBytes, true
		case 12, 14, 15, 17: // table.init, table.copy, table.grow, table.fill
			return addedElements, true
		}
	}
	return 0, false
}

func (sc *screening) call(out []byte, added uint32) []byte {
	return binary.AppendUvarint(append(out, 0x10), uint64(sc.growFunc+added))
}

// A bulk instruction costs bulkFuel units for every 1<<bulkShift bytes that it
// moves and, at 16 bytes each, for the elements of a table: about what the time
// it takes is worth.
const (
	bulkShift = 6
	bulkFuel  = 32
)

// bytesBody is (func (param i32) (result i32) (local i32)): return the parameter
// after a loop that uses bulkFuel units for each 64 of it. Constants that are
// dropped count and take no time.
func bytesBody() []byte {
	const ofLoop = 5 // instructions that count, beside the constants
	body := []byte{
		1, 1, 0x7f, // one local of type i32
		0x20, 0, 0x41, bulkShift, 0x76, 0x22, 1, // local.tee 1 (i32.shr_u (local.get 0) (i32.const 6))
		0x04, 0x40, 0x03, 0x40, // if, loop
	}
	for range bulkFuel - ofLoop {
		body = append(body, 0x41, 0, 0x1a) // drop (i32.const 0)
	}
	return append(body,
		0x20, 1, 0x41, 1, 0x6b, 0x22, 1, 0x0d, 0, // br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))
		0x0b, 0x0b, // end of loop and if
		0x20, 0, // local.get 0
		0x0b,
	)
}

// elementsBody is (func (param i32) (result i32)): what bytesBody does, for 16
// times the parameter. What a table cannot hold may wrap: such an instruction
// moves nothing.
func (sc *screening) elementsBody() []byte {
	body := []byte{0, 0x20, 0, 0x41, 4, 0x74} // i32.shl (local.get 0) (i32.const 4)
	return append(sc.call(body, addedBytes), 0x1a, 0x20, 0, 0x0b)
}

// growBody is (func (param i32) (result i32) (local i32)): grow, and set the
// flag if the answer is −1.
func (sc *screening) growBody() []byte {
	body := []byte{
		1, 1, 0x7f, // one local of type i32
		0x20, 0, // local.get 0
		opMemoryGrow, 0,
		0x22, 1, // local.tee 1
		0x41, 0x7f, // i32.const −1
		0x46,       // i32.eq
		0x04, 0x40, // if
		0x41, 1, // i32.const 1
		0x24, // global.set
	}
	body = binary.AppendUvarint(body, uint64(sc.flag))
	return append(body,
		0x0b,    // end of if
		0x20, 1, // local.get 1
		0x0b,
	)
}

// checkHeader refuses what is not a module at all, before the engine sees it.
func checkHeader(wasm []byte, limit uint64) error {
	if uint64(len(wasm)) > limit {
		return refusef("module has %d bytes, limit %d", len(wasm), limit)
	}
	if len(wasm) < 8 || string(wasm[:4]) != "\x00asm" {
		return refusef("module does not begin with the WebAssembly magic")
	}
	if version := binary.LittleEndian.Uint32(wasm[4:]); version != 1 {
		return refusef("module has version %d, want 1", version)
	}
	return nil
}
