package meter

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// Module is a contract's code as it runs: of the dialect, within limits, made
// for the interface, and rewritten to count what it uses. Only Prepare makes
// one.
type Module struct {
	code     []byte
	entries  map[Entry]int // how many parameters each takes
	requires []string
	pages    uint32
	native   uint64
	spans    uint64
}

// Code is the rewritten module.
func (m *Module) Code() []byte { return m.code }

// Params is how many parameters an entry takes, 0 if it is not exported.
func (m *Module) Params(e Entry) int { return m.entries[e] }

// Requires are the capabilities that it asks for, in the order of their names.
func (m *Module) Requires() []string { return m.requires }

// Pages is how large its memory is when a call begins.
func (m *Module) Pages() uint32 { return m.pages }

// Native is more than the bytes that compilers make of it, and keep.
func (m *Module) Native() uint64 { return m.native }

// Spans is what beside its length compilers take time for: for each function, and each way that it may
// take, its locals, what is on the operand stack, and 60; more for instructions on floats, and on the size of memory; values
// that are moved where ways meet, more the more ways there are past more values; and what instructions go past more values than processors hold.
func (m *Module) Spans() uint64 { return m.spans }

// Prepare checks a contract's code and rewrites it. offered are the capabilities
// that contracts may require, without the prefix "requires_". It is a pure
// function of its arguments; the error is a *Refusal. What it returns is a valid
// module.
func Prepare(code []byte, offered []string, w *Weights) (*Module, error) {
	m, err := decode(code)
	if err != nil {
		return nil, err
	}
	out := &Module{pages: m.pages}
	if out.entries, out.requires, err = checkContract(m, offered); err != nil {
		return nil, err
	}
	shapes, err := validateAll(m)
	if err != nil {
		return nil, err
	}
	for i := range shapes {
		out.spans += uint64(shapes[i].effort())
	}
	out.native = nativeBytes(len(code), shapes)
	out.code = m.rewrite(shapes, w)
	return out, nil
}

// Rewrite checks and rewrites a module whatever it imports and exports.
func Rewrite(code []byte, w *Weights) ([]byte, error) {
	m, err := decode(code)
	if err != nil {
		return nil, err
	}
	return m.metered(w)
}

func (m *module) metered(w *Weights) ([]byte, error) {
	shapes, err := validateAll(m)
	if err != nil {
		return nil, err
	}
	return m.rewrite(shapes, w), nil
}

func validateAll(m *module) ([]shape, error) {
	shapes := make([]shape, len(m.bodies))
	joins, spans, moves, computed, square := 0, 0, 0, 0, 0
	for i, body := range m.bodies {
		of := m.types[m.functions[len(m.imports)+i]]
		s, err := validate(m, of, body)
		if err != nil {
			return nil, within(len(m.imports)+i, err)
		}
		shapes[i] = s
		joins += s.joins
		spans += s.spans
		moves += s.moves + s.carried
		computed += s.computed
		square += len(body) * len(body)
		switch {
		case joins > maxAllJoins:
			return nil, refuse(RuleSize, "more than %d values meet in all functions", maxAllJoins)
		case spans > maxAllSpans:
			return nil, refuse(RuleSize, "more than %d ways past locals in all functions", maxAllSpans)
		case moves > maxAllMoves:
			return nil, refuse(RuleSize, "more than %d values are moved in all functions", maxAllMoves)
		case computed > maxAllFloats:
			return nil, refuse(RuleSize, "more than %d instructions on floats in all functions", maxAllFloats)
		case square > maxAllSquare:
			return nil, refuse(RuleSize, "the squares of the functions' lengths are more than %d", maxAllSquare)
		}
	}
	return shapes, nil
}

// rewrite writes a module anew, without its custom sections.
func (m *module) rewrite(shapes []shape, w *Weights) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	put := func(id byte, body []byte) {
		if body != nil {
			out = wasm.AppendSection(out, id, body)
		}
	}
	stops := uint64(len(m.types)) // the types of the added functions
	types := wasm.AppendElement(m.section(wasm.SectionType), []byte{wasm.FuncType, 0, 0})
	put(wasm.SectionType, wasm.AppendElement(types, []byte{wasm.FuncType, 1, wasm.I32, 1, wasm.I32}))
	put(wasm.SectionImport, m.raw[wasm.SectionImport])
	functions := m.section(wasm.SectionFunction)
	for _, of := range [addedFunctions]uint64{addedSpent: stops, addedOverflow: stops, addedGrow: stops + 1} {
		functions = wasm.AppendElement(functions, binary.AppendUvarint(nil, of))
	}
	put(wasm.SectionFunction, functions)
	put(wasm.SectionTable, m.raw[wasm.SectionTable])
	if m.hasMemory {
		memory := binary.AppendUvarint([]byte{1, 1}, uint64(m.pages))
		put(wasm.SectionMemory, binary.AppendUvarint(memory, uint64(m.mostPages)))
	}
	globals := m.section(wasm.SectionGlobal)
	for i, of := range [addedGlobals]byte{addedPoints: wasm.I64, addedStack: wasm.I32, addedReason: wasm.I32, addedFar: wasm.I64} {
		first := int64(0)
		if i == addedFar {
			first = w.Far.of(m.pages)
		}
		global := wasm.AppendSigned([]byte{of, 1, byte(wasm.OpI32Const) + wasm.I32 - of}, first)
		globals = wasm.AppendElement(globals, append(global, byte(wasm.OpEnd)))
	}
	put(wasm.SectionGlobal, globals)
	exports := m.section(wasm.SectionExport)
	for i, name := range addedNames {
		entry := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
		entry = append(entry, wasm.KindGlobal)
		exports = wasm.AppendElement(exports, binary.AppendUvarint(entry, uint64(len(m.globals)+i)))
	}
	put(wasm.SectionExport, exports)
	put(wasm.SectionElement, m.raw[wasm.SectionElement])
	put(wasm.SectionCode, m.code(shapes, w))
	put(wasm.SectionData, m.raw[wasm.SectionData])
	return out
}

// section is the body of a section, of none if it is not there.
func (m *module) section(id byte) []byte {
	if body := m.raw[id]; body != nil {
		return body
	}
	return []byte{0}
}

func (m *module) code(shapes []shape, w *Weights) []byte {
	out := binary.AppendUvarint(nil, uint64(len(m.bodies)+addedFunctions))
	put := func(body []byte) {
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	pass := func(s shape, results []byte) *meter {
		return &meter{shape: s, weights: w, globals: uint32(len(m.globals)), added: uint32(len(m.functions)), results: results}
	}
	for i, body := range m.bodies {
		of := m.types[m.functions[len(m.imports)+i]]
		put(pass(shapes[i], of.results).rewrite(body))
	}
	put(pass(shape{}, nil).stopBody(ReasonSpent))
	put(pass(shape{}, nil).stopBody(ReasonOverflow))
	if m.hasMemory {
		put(pass(shape{}, nil).growBody(m.mostPages))
	} else {
		put([]byte{0, byte(wasm.OpUnreachable), byte(wasm.OpEnd)}) // nobody calls it
	}
	return out
}
