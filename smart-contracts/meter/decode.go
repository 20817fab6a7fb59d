package meter

import (
	"errors"
	"math"
	"strings"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// functionType is the type of a function, one byte for each value.
type functionType struct{ params, results []byte }

func (t functionType) equal(o functionType) bool {
	return string(t.params) == string(o.params) && string(t.results) == string(o.results)
}

type global struct {
	of      byte
	mutable bool
}

type imported struct {
	from, name string
	of         uint32 // index of its type
}

type export struct {
	name  string
	kind  byte
	index uint32
}

// module is a decoded module of the dialect that contracts are written in:
// WebAssembly 1.0 with sign extension, saturating conversions and blocks of any
// type, at most one memory and one table, both its own.
type module struct {
	types     []functionType
	imports   []imported
	functions []uint32 // types, of the imported ones first
	hasTable  bool
	elements  uint32 // that the table has
	hasMemory bool
	pages     uint32 // that the memory begins with
	mostPages uint32 // that it may grow to
	globals   []global
	exports   []export
	bodies    [][]byte

	raw [wasm.SectionDataCount][]byte // bodies of sections
}

// decoder reads one module.
type decoder struct {
	module
	*wasm.Reader                 // of the section that is read
	entries      int             // of element segments
	reserved     bool            // whether exports may have names that the pass gives
	names        map[string]bool // of exports
}

// decode reads a module. The error is a *Refusal.
func decode(code []byte) (*module, error) { return decodeNamed(code, false) }

// decodeNamed is decode; reserved says whether exports may have names that the
// pass gives.
func decodeNamed(code []byte, reserved bool) (*module, error) {
	if len(code) > maxModuleBytes {
		return nil, refuse(RuleSize, "module has %d bytes, limit %d", len(code), maxModuleBytes)
	}
	if err := wasm.CheckHeader(code); err != nil {
		return nil, refuse(RuleFormat, "%v", err)
	}
	d := &decoder{reserved: reserved, names: map[string]bool{}}
	last, customs := byte(0), 0
	for r := wasm.NewReader(code[wasm.HeaderBytes:]); !r.Done(); {
		s := r.Section()
		if r.Err() != nil {
			return nil, refuse(RuleFormat, "section %d: %v", s.ID, r.Err())
		}
		switch {
		case s.ID == wasm.SectionCustom:
			customs++
		case s.ID == wasm.SectionDataCount:
			return nil, refuse(RuleBulkMemory, "section 12 counts data segments")
		case s.ID > wasm.SectionData:
			return nil, refuse(RuleFormat, "section %d is unknown", s.ID)
		case s.ID <= last:
			return nil, refuse(RuleFormat, "section %d after section %d", s.ID, last)
		default:
			last = s.ID
			d.raw[s.ID] = s.Body
		}
		if customs > maxCustom {
			return nil, refuse(RuleSize, "more than %d custom sections", maxCustom)
		}
		if err := d.section(s); err != nil {
			return nil, err
		}
	}
	if defined := len(d.functions) - len(d.imports); defined != len(d.bodies) {
		return nil, refuse(RuleFormat, "%d functions have %d bodies", defined, len(d.bodies))
	}
	return &d.module, checkParams(&d.module)
}

// checkParams bounds the parameters of all functions together.
func checkParams(m *module) error {
	all := 0
	for _, of := range m.functions {
		all += len(m.types[of].params)
	}
	if all > maxAllParams {
		return refuse(RuleSize, "%d parameters of all functions, limit %d", all, maxAllParams)
	}
	return nil
}

func (d *decoder) section(s wasm.Section) error {
	d.Reader = wasm.NewReader(s.Body)
	switch s.ID {
	case wasm.SectionCustom:
		d.Name()
		d.Take(len(d.Rest()))
	case wasm.SectionType:
		d.each(maxTypes, "types", d.functionType)
	case wasm.SectionImport:
		d.each(maxImports, "imports", d.imported)
	case wasm.SectionFunction:
		d.each(maxFunctions, "functions", func() { d.functions = append(d.functions, d.typeIndex()) })
	case wasm.SectionTable:
		d.table()
	case wasm.SectionMemory:
		d.memory()
	case wasm.SectionGlobal:
		d.each(maxGlobals, "globals", d.global)
	case wasm.SectionExport:
		d.each(maxExports, "exports", d.export)
	case wasm.SectionStart:
		d.Fail(refuse(RuleStart, "module has a start function"))
	case wasm.SectionElement:
		d.each(maxSegments, "element segments", d.element)
	case wasm.SectionCode:
		d.each(maxFunctions, "bodies", func() { d.bodies = append(d.bodies, d.Bytes()) })
	case wasm.SectionData:
		d.each(maxSegments, "data segments", d.data)
	}
	if d.Err() == nil && !d.Done() {
		return refuse(RuleFormat, "section %d has %d bytes too many", s.ID, len(d.Rest()))
	}
	return refusal(d.Err())
}

// refusal turns what a reader says into a *Refusal.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	if u, ok := errors.AsType[*wasm.Unsupported](err); ok {
		return unsupported(u)
	}
	return refuse(RuleFormat, "%v", err)
}

// each reads the elements of a section, of which there may be so many.
func (d *decoder) each(most uint32, what string, read func()) {
	count := d.U32()
	if count > most {
		d.Fail(refuse(RuleSize, "%d %s, limit %d", count, what, most))
	}
	for ; count > 0 && d.Err() == nil; count-- {
		read()
	}
}

func numeric(of byte) bool { return of >= wasm.F64 && of <= wasm.I32 }

// values reads the types of some values.
func (d *decoder) values(most uint32) []byte {
	count := d.U32()
	if count > most {
		d.Fail(refuse(RuleSize, "a function type of %d values, limit %d", count, most))
		return nil
	}
	values := d.Take(int(count))
	for _, of := range values {
		if !numeric(of) {
			d.Fail(badType(of))
		}
	}
	return values
}

func badType(of byte) error {
	switch of {
	case 0x7b:
		return refuse(RuleSIMD, "a value of type v128")
	case 0x70, 0x6f:
		return refuse(RuleReferences, "a value of type 0x%02x", of)
	default:
		return refuse(RuleFormat, "a value of type 0x%02x", of)
	}
}

func (d *decoder) functionType() {
	if form := d.Byte(); form != wasm.FuncType {
		d.Fail(refuse(RuleFormat, "type %d is of form 0x%02x", len(d.types), form))
	}
	d.types = append(d.types, functionType{d.values(maxParams), d.values(maxBlockResults)})
}

// typeIndex reads the type of a function.
func (d *decoder) typeIndex() uint32 {
	index := d.U32()
	switch {
	case d.Err() != nil:
	case index >= uint32(len(d.types)):
		d.Fail(refuse(RuleInvalid, "function %d is of type %d of %d", len(d.functions), index, len(d.types)))
	case len(d.types[index].results) > maxResults:
		d.Fail(refuse(RuleSize, "function %d has %d results, limit %d", len(d.functions), len(d.types[index].results), maxResults))
	}
	return index
}

func (d *decoder) imported() {
	in, kind := imported{from: d.Name(), name: d.Name()}, d.Byte()
	switch {
	case d.Err() != nil:
		return
	case kind == wasm.KindMemory:
		d.Fail(refuse(RuleMemory, "memory %s %s is imported", clipped(in.from), clipped(in.name)))
		return
	case kind != wasm.KindFunction:
		d.Fail(refuse(RuleImport, "%s %s is of kind %d, and not a function", clipped(in.from), clipped(in.name), kind))
		return
	}
	in.of = d.typeIndex()
	d.imports = append(d.imports, in)
	d.functions = append(d.functions, in.of)
}

// bounds reads how large something begins and how large it may become.
func (d *decoder) bounds(flags byte) (least, most uint32) {
	least, most = d.U32(), math.MaxUint32
	if flags&1 != 0 {
		if most = d.U32(); most < least {
			d.Fail(refuse(RuleInvalid, "limits of %d to %d", least, most))
		}
	}
	return least, most
}

func (d *decoder) table() {
	if count := d.U32(); count > 1 {
		d.Fail(refuse(RuleTable, "module has %d tables, limit 1", count))
		return
	} else if count == 0 {
		return
	}
	if of := d.Byte(); of != wasm.FuncRef {
		d.Fail(refuse(RuleReferences, "table of type 0x%02x", of))
		return
	}
	flags := d.Byte()
	if flags > 1 {
		d.Fail(refuse(RuleTable, "table with flags 0x%02x", flags))
		return
	}
	d.hasTable = true
	d.elements, _ = d.bounds(flags)
	if d.elements > MaxTableElements {
		d.Fail(refuse(RuleSize, "table of %d elements, limit %d", d.elements, MaxTableElements))
	}
}

func (d *decoder) memory() {
	if count := d.U32(); count > 1 {
		d.Fail(refuse(RuleMemory, "module has %d memories, limit 1", count))
		return
	} else if count == 0 {
		return
	}
	d.hasMemory = true
	switch flags := d.Byte(); flags {
	case 0, 1:
		d.pages, d.mostPages = d.bounds(flags)
		if flags == 1 && d.mostPages > 1<<16 {
			d.Fail(refuse(RuleInvalid, "memory of up to %d pages", d.mostPages))
		}
		d.mostPages = min(d.mostPages, MaxPages)
	case 2, 3:
		d.Fail(refuse(RuleThreads, "memory is shared"))
	default:
		d.Fail(refuse(RuleMemory, "memory with flags 0x%02x", flags))
	}
	if d.pages > MaxPages {
		d.Fail(refuse(RuleSize, "memory of %d pages, limit %d", d.pages, MaxPages))
	}
}

// constant reads a constant expression: without imported globals, that is a
// constant.
func (d *decoder) constant(of byte) uint64 {
	value, end := d.Instruction(), wasm.Instruction{}
	switch {
	case value.Op == wasm.OpGlobalGet:
		d.Fail(refuse(RuleInvalid, "a constant refers to global %d", value.A))
	case value.Op == wasm.OpRefNull || value.Op == wasm.OpRefFunc:
		d.Fail(refuse(RuleReferences, "a constant refers to a function"))
	default:
		end = d.Instruction()
	}
	want := wasm.OpI32Const + wasm.Op(wasm.I32-of)
	if d.Err() == nil && (value.Op != want || end.Op != wasm.OpEnd) {
		d.Fail(refuse(RuleInvalid, "a constant of type 0x%02x is none", of))
	}
	return value.A
}

func (d *decoder) global() {
	of, mutable := d.Byte(), d.Byte()
	if d.Err() == nil && !numeric(of) {
		d.Fail(badType(of))
	}
	if mutable > 1 {
		d.Fail(refuse(RuleFormat, "global %d of mutability %d", len(d.globals), mutable))
	}
	if d.Err() == nil {
		d.constant(of)
	}
	d.globals = append(d.globals, global{of, mutable == 1})
}

func (d *decoder) export() {
	e := export{d.Name(), d.Byte(), d.U32()}
	var there int
	switch e.kind {
	case wasm.KindFunction:
		there = len(d.functions)
	case wasm.KindTable:
		if d.hasTable {
			there = 1
		}
	case wasm.KindMemory:
		if d.hasMemory {
			there = 1
		}
	case wasm.KindGlobal:
		there = len(d.globals)
	default:
		d.Fail(refuse(RuleFormat, "export %s of kind %d", clipped(e.name), e.kind))
	}
	switch {
	case d.Err() != nil:
	case len(e.name) > maxNameBytes:
		d.Fail(refuse(RuleSize, "the name of an export has %d bytes, limit %d", len(e.name), maxNameBytes))
	case int64(e.index) >= int64(there):
		d.Fail(refuse(RuleInvalid, "export %s refers to %d of %d", clipped(e.name), e.index, there))
	case d.names[e.name]:
		d.Fail(refuse(RuleInvalid, "%s is exported twice", clipped(e.name)))
	case !d.reserved && strings.HasPrefix(e.name, reservedPrefix):
		d.Fail(refuse(RuleExport, "%s is reserved", clipped(e.name)))
	}
	d.names[e.name] = true
	d.exports = append(d.exports, e)
}

func (d *decoder) element() {
	if flags := d.U32(); d.Err() == nil && flags != 0 {
		d.Fail(refuse(RuleBulkMemory, "an element segment with flags %d", flags))
		return
	}
	offset, count := d.constant(wasm.I32), d.U32()
	d.entries += int(count)
	switch {
	case d.Err() != nil:
		return
	case d.entries > maxElements:
		d.Fail(refuse(RuleSize, "element segments of %d entries, limit %d", d.entries, maxElements))
		return
	case !d.hasTable || offset+uint64(count) > uint64(d.elements):
		d.Fail(refuse(RuleInvalid, "%d elements at %d do not fit the table", count, offset))
		return
	}
	for ; count > 0 && d.Err() == nil; count-- {
		if index := d.U32(); index >= uint32(len(d.functions)) {
			d.Fail(refuse(RuleInvalid, "an element is function %d of %d", index, len(d.functions)))
		}
	}
}

func (d *decoder) data() {
	if flags := d.U32(); d.Err() == nil && flags != 0 {
		d.Fail(refuse(RuleBulkMemory, "a data segment with flags %d", flags))
		return
	}
	offset, bytes := d.constant(wasm.I32), d.Bytes()
	if end := offset + uint64(len(bytes)); d.Err() == nil && (!d.hasMemory || end > uint64(d.pages)*wasm.PageBytes) {
		d.Fail(refuse(RuleInvalid, "data to %d do not fit a memory of %d pages", end, d.pages))
	}
}
