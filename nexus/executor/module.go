package executor

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

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
func screen(module []byte, functionBytes int) (screened, error) {
	sc := &screening{functionBytes: functionBytes, out: slices.Clone(module[:wasm.HeaderBytes]), exports: map[string]byte{}}
	var sections []wasm.Section
	for r := wasm.NewReader(module[wasm.HeaderBytes:]); !r.Done(); {
		next := r.Section()
		if err := r.Err(); err != nil {
			return screened{}, refusef("module: %v", err)
		}
		if next.ID == wasm.SectionStart {
			sc.start = next.Body
			continue
		}
		sections = append(sections, next)
	}
	for _, next := range sections {
		if err := sc.section(next); err != nil {
			if _, ok := errors.AsType[*refusal](err); !ok {
				err = refusef("section %d: %v", next.ID, err)
			}
			return screened{}, err
		}
	}
	if kind, ok := sc.exports["_start"]; !ok || kind != wasm.KindFunction {
		return screened{}, refusef("module exports no function _start")
	}
	if kind, ok := sc.exports["memory"]; !ok || kind != wasm.KindMemory {
		return screened{}, refusef("module exports no memory named memory")
	}
	if !sc.hasCode {
		return screened{}, refusef("module has no functions")
	}
	return screened{wasm: sc.out, minMemoryBytes: sc.minMemory}, nil
}

func (sc *screening) section(section wasm.Section) error {
	id, body := section.ID, section.Body
	if id == wasm.SectionCustom {
		return sc.custom(body)
	}
	if id > wasm.SectionDataCount {
		return refusef("section %d is not supported", id)
	}
	// The data count section, 12, stands before the code section, 10.
	if sc.last < wasm.SectionGlobal && (id > wasm.SectionGlobal) {
		sc.emit(wasm.SectionGlobal, sc.globals(nil))
	}
	sc.last = max(sc.last, id)
	r := wasm.NewReader(body)
	switch id {
	case wasm.SectionType:
		sc.addedType = r.U32()
		body = wasm.AppendElement(body, []byte{0x60, 1, 0x7f, 1, 0x7f})
	case wasm.SectionImport:
		sc.imports(r)
	case wasm.SectionFunction:
		sc.growFunc = sc.imported + r.U32()
		for range addedFunctions {
			body = wasm.AppendElement(body, binary.AppendUvarint(nil, uint64(sc.addedType)))
		}
	case wasm.SectionTable:
		tables(r)
	case wasm.SectionMemory:
		sc.memory(r)
	case wasm.SectionGlobal:
		body = sc.globals(body)
	case wasm.SectionExport:
		body = sc.export(body, r)
	case wasm.SectionCode:
		body = sc.code(r)
	}
	if r.Err() != nil {
		return r.Err()
	}
	sc.emit(id, body)
	return nil
}

// custom keeps the names, which make a trap readable, and drops the rest.
func (sc *screening) custom(body []byte) error {
	r := wasm.NewReader(body)
	if name := r.Bytes(); r.Err() == nil && string(name) == "name" {
		sc.emit(wasm.SectionCustom, body)
	}
	return r.Err()
}

func (sc *screening) emit(id byte, body []byte) {
	sc.out = wasm.AppendSection(sc.out, id, body)
}

func (sc *screening) imports(r *wasm.Reader) {
	for n := r.U32(); n > 0 && r.Err() == nil; n-- {
		module, name := string(r.Bytes()), string(r.Bytes())
		if r.Err() != nil {
			return
		}
		kind := r.Byte()
		if kind != wasm.KindFunction || module != wasiModule || !isHostCall(name) {
			r.Fail(refusef("import %q %q is not part of WASI preview 1", clipName(module), clipName(name)))
			return
		}
		r.U32() // of which type
		sc.imported++
	}
}

func clipName(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), 64)], "?")
}

func tables(r *wasm.Reader) {
	count := r.U32()
	if count > maxTables {
		r.Fail(refusef("module has %d tables, limit %d", count, maxTables))
	}
	for ; count > 0 && r.Err() == nil; count-- {
		if element := r.Byte(); element != 0x70 { // funcref
			r.Fail(refusef("table of type 0x%02x is not supported", element))
		}
		flags := r.Byte()
		if least := r.U32(); least > maxTableElements {
			r.Fail(refusef("table of %d elements, limit %d", least, maxTableElements))
		}
		if flags&1 != 0 {
			r.U32() // how far it grows
		}
	}
}

func (sc *screening) memory(r *wasm.Reader) {
	if count := r.U32(); count != 1 {
		r.Fail(refusef("module has %d memories, want 1", count))
		return
	}
	if flags := r.Byte(); flags > 1 {
		r.Fail(refusef("memory of type 0x%02x is not supported", flags))
	}
	sc.minMemory = uint64(r.U32()) * wasm.PageBytes
}

// globals returns the global section's body (nil means that there was none)
// with a mutable i32 of 0 at its end.
func (sc *screening) globals(body []byte) []byte {
	if body == nil {
		body = []byte{0}
	}
	r := wasm.NewReader(body)
	sc.flag = r.U32()
	return wasm.AppendElement(body, []byte{0x7f, 1, 0x41, 0, 0x0b})
}

func (sc *screening) export(body []byte, r *wasm.Reader) []byte {
	count := r.U32()
	for ; count > 0 && r.Err() == nil; count-- {
		name := string(r.Bytes())
		sc.exports[name] = r.Byte()
		r.U32() // which
	}
	for _, name := range []string{refusedGlobal, startExport} {
		if _, taken := sc.exports[name]; taken {
			r.Fail(refusef("export %q is reserved", name))
		}
	}
	body = wasm.AppendElement(body, exportEntry(refusedGlobal, wasm.KindGlobal, binary.AppendUvarint(nil, uint64(sc.flag))))
	if sc.start != nil {
		body = wasm.AppendElement(body, exportEntry(startExport, wasm.KindFunction, sc.start))
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
func (sc *screening) code(r *wasm.Reader) []byte {
	sc.hasCode = true
	count := r.U32()
	out := binary.AppendUvarint(nil, uint64(count)+addedFunctions)
	for i := uint32(0); i < count && r.Err() == nil; i++ {
		body := r.Bytes()
		if len(body) > sc.functionBytes {
			r.Fail(refusef("function %d has %d bytes, limit %d", sc.imported+i, len(body), sc.functionBytes))
			return nil
		}
		body, err := sc.body(body)
		if err != nil {
			r.Fail(err)
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
	r := wasm.NewReader(body)
	for groups := r.U32(); groups > 0 && r.Err() == nil; groups-- {
		r.U32()  // how many locals
		r.Byte() // of which type
	}
	var out []byte
	copied := 0
	for !r.Done() {
		pos := r.Pos()
		in := r.Instruction()
		if r.Err() != nil {
			break
		}
		if added, found := addedBefore(in.Op); found {
			out = append(out, body[copied:pos]...)
			out = sc.call(out, added)
			copied = pos
			if in.Op == wasm.OpMemoryGrow {
				copied = r.Pos()
			}
		}
	}
	if err := r.Err(); err != nil {
		return nil, refusef("%v", err)
	}
	if copied == 0 {
		return body, nil
	}
	return append(out, body[copied:]...), nil
}

// addedBefore returns the added function that an instruction needs, if any.
func addedBefore(op wasm.Op) (added uint32, found bool) {
	switch op {
	case wasm.OpMemoryGrow:
		return addedGrow, true
	case wasm.OpMemoryInit, wasm.OpMemoryCopy, wasm.OpMemoryFill:
		return addedBytes, true
	case wasm.OpTableInit, wasm.OpTableCopy, wasm.OpTableGrow, wasm.OpTableFill:
		return addedElements, true
	default:
		return 0, false
	}
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
		byte(wasm.OpMemoryGrow), 0,
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
func checkHeader(module []byte, limit uint64) error {
	if uint64(len(module)) > limit {
		return refusef("module has %d bytes, limit %d", len(module), limit)
	}
	if err := wasm.CheckHeader(module); err != nil {
		return refusef("%v", err)
	}
	return nil
}
