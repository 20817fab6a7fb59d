package meter_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

var offered = []string{"cosmwasm_1_1", "iterator"}

func prepare(code []byte) (*meter.Module, error) {
	return meter.Prepare(code, offered, meter.WeightsV1())
}

// refusals are contracts that are refused: by which rule, and a word of why.
var refusals = []struct {
	name string
	code []byte
	rule meter.Rule
	why  string
}{
	{"nothing", nil, meter.RuleFormat, "magic"},
	{"another format", []byte("\x7fELF0123456789"), meter.RuleFormat, "magic"},
	{"another version", []byte("\x00asm\x02\x00\x00\x00"), meter.RuleFormat, "version 2"},
	{"a component", []byte("\x00asm\x0d\x00\x01\x00"), meter.RuleFormat, "version"},
	{"too large", make([]byte, 800<<10+1), meter.RuleSize, "819201 bytes"},
	{"nothing in it", []byte("\x00asm\x01\x00\x00\x00"), meter.RuleMemory, "no memory"},
	{"trailing bytes", append(contract().bytes(), 1), meter.RuleFormat, "too early"},
	{"an unknown section", contract().with(13, []byte{0}).bytes(), meter.RuleFormat, "section 13"},
	{"a section twice", append(contract().bytes(), 10, 1, 0), meter.RuleFormat, "section 10 after section 10"},
	{"bytes behind a section's elements", contract().with(wasm.SectionMemory, []byte{1, 0, 1, 0}).bytes(), meter.RuleFormat, "1 bytes too many"},
	{"a custom section without a name", contract().with(wasm.SectionCustom, []byte{}).bytes(), meter.RuleFormat, "too early"},
	{"a name that is not UTF-8", contract().with(wasm.SectionCustom, []byte{1, 0xff}).bytes(), meter.RuleFormat, "UTF-8"},
	{"a section of 2^32-1 elements", contract().with(wasm.SectionType, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}).bytes(), meter.RuleSize, "4294967295 types"},
	{"a long number", contract().with(wasm.SectionType, []byte{0xff, 0xff, 0xff, 0xff, 0x1f}).bytes(), meter.RuleFormat, "number"},
	{"fewer bodies than functions", contract().with(wasm.SectionCode, vec(body())).bytes(), meter.RuleFormat, "4 functions have 1 bodies"},
	{"a start function", contract().with(wasm.SectionStart, []byte{3}).bytes(), meter.RuleStart, "start"},
	{"two memories", contract().with(wasm.SectionMemory, vec([]byte{0, 1}, []byte{0, 1})).bytes(), meter.RuleMemory, "2 memories"},
	{"a memory of 64 bits", contract().with(wasm.SectionMemory, vec([]byte{4, 1})).bytes(), meter.RuleMemory, "flags"},
	{"a shared memory", contract().with(wasm.SectionMemory, vec([]byte{3, 1, 2})).bytes(), meter.RuleThreads, "shared"},
	{"a large memory", contract().with(wasm.SectionMemory, vec([]byte{0, 0x81, 4})).bytes(), meter.RuleSize, "513 pages"},
	{"a memory that shrinks", contract().with(wasm.SectionMemory, vec([]byte{1, 2, 1})).bytes(), meter.RuleInvalid, "2 to 1"},
	{"a memory beyond its addresses", contract().with(wasm.SectionMemory, vec([]byte{1, 1, 0x81, 0x80, 4})).bytes(), meter.RuleInvalid, "65537 pages"},
	{"an imported memory", contract().with(wasm.SectionImport, vec(append(named("env"), named("memory", 2, 0, 1)...))).bytes(), meter.RuleMemory, "imported"},
	{"an imported global", contract().with(wasm.SectionImport, vec(append(named("env"), named("g", 3, 0x7f, 0)...))).bytes(), meter.RuleImport, "kind 3"},
	{"an unknown import", contract().with(wasm.SectionImport, vec(append(named("env"), named("open_file", 0, 0)...))).bytes(), meter.RuleImport, `"open_file" is not there`},
	{"an import from elsewhere", contract().with(wasm.SectionImport, vec(append(named("wasi_snapshot_preview1"), named("db_read", 0, 0)...))).bytes(), meter.RuleImport, "wasi_snapshot"},
	{"an import of another type", contract().with(wasm.SectionImport, vec(append(named("env"), named("db_read", 0, 1)...))).bytes(), meter.RuleImport, "another type"},
	{"too many imports", contract().with(wasm.SectionImport, binary.AppendUvarint(nil, 101)).bytes(), meter.RuleSize, "101 imports"},
	{"100,000 functions", contract().with(wasm.SectionFunction, binary.AppendUvarint(nil, 100_000)).bytes(), meter.RuleSize, "100000 functions"},
	{"a function of no type", contract().with(wasm.SectionFunction, vec([]byte{9})).bytes(), meter.RuleInvalid, "type 9 of 4"},
	{"a function of two results", contract().with(wasm.SectionType, vec(fn("", "\x7f\x7f"))).with(wasm.SectionFunction, vec([]byte{0})).bytes(), meter.RuleSize, "2 results"},
	{"101 parameters", contract().with(wasm.SectionType, vec(fn(strings.Repeat("\x7f", 101), ""))).bytes(), meter.RuleSize, "101 values"},
	{"10,100 parameters", manyParameters().bytes(), meter.RuleSize, "parameters of all functions"},
	{"a parameter of a vector", contract().with(wasm.SectionType, vec(fn("\x7b", ""))).bytes(), meter.RuleSIMD, "v128"},
	{"a parameter of a reference", contract().with(wasm.SectionType, vec(fn("\x6f", ""))).bytes(), meter.RuleReferences, "0x6f"},
	{"two tables", contract().with(wasm.SectionTable, vec([]byte{0x70, 0, 1}, []byte{0x70, 0, 1})).bytes(), meter.RuleTable, "2 tables"},
	{"a large table", contract().with(wasm.SectionTable, vec([]byte{0x70, 0, 0xc5, 0x13})).bytes(), meter.RuleSize, "2501 elements"},
	{"a table of host references", contract().with(wasm.SectionTable, vec([]byte{0x6f, 0, 1})).bytes(), meter.RuleReferences, "0x6f"},
	{"a global that is no constant", contract().with(wasm.SectionGlobal, vec([]byte{0x7f, 0, 0x23, 0, 0x0b})).bytes(), meter.RuleInvalid, "refers to global 0"},
	{"a global of another type", contract().with(wasm.SectionGlobal, vec([]byte{0x7e, 0, 0x41, 0, 0x0b})).bytes(), meter.RuleInvalid, "0x7e"},
	{"too many globals", contract().with(wasm.SectionGlobal, binary.AppendUvarint(nil, 1001)).bytes(), meter.RuleSize, "1001 globals"},
	{"elements outside of the table", contract().with(wasm.SectionTable, vec([]byte{0x70, 0, 1})).with(wasm.SectionElement, vec([]byte{0, 0x41, 1, 0x0b, 1, 0})).bytes(), meter.RuleInvalid, "do not fit the table"},
	{"elements without a table", contract().with(wasm.SectionElement, vec([]byte{0, 0x41, 0, 0x0b, 0})).bytes(), meter.RuleInvalid, "do not fit the table"},
	{"passive elements", contract().with(wasm.SectionElement, vec([]byte{1, 0, 0})).bytes(), meter.RuleBulkMemory, "flags 1"},
	{"data outside of the memory", contract().with(wasm.SectionData, vec([]byte{0, 0x41, 0x7f, 0x0b, 1, 'x'})).bytes(), meter.RuleInvalid, "do not fit a memory"},
	{"passive data", contract().with(wasm.SectionData, vec([]byte{1, 1, 'x'})).bytes(), meter.RuleBulkMemory, "flags 1"},
	{"a count of data", contract().with(wasm.SectionDataCount, []byte{0}).bytes(), meter.RuleBulkMemory, "section 12"},
	{"no memory exported", contract().with(wasm.SectionExport, vec(named("interface_version_8", 0, 2))).bytes(), meter.RuleExport, "no memory is exported"},
	{"no allocate", contract().with(wasm.SectionExport, vec(named("memory", 2, 0), named("interface_version_8", 0, 2))).bytes(), meter.RuleExport, "allocate"},
	{"an allocate of another type", contract().with(wasm.SectionExport, vec(named("memory", 2, 0), named("interface_version_8", 0, 2), named("allocate", 0, 1))).bytes(), meter.RuleExport, `"allocate" has another type`},
	{"no deallocate", contract().with(wasm.SectionExport, vec(named("memory", 2, 0), named("interface_version_8", 0, 2), named("allocate", 0, 0))).bytes(), meter.RuleExport, "deallocate"},
	{"an export twice", contract().with(wasm.SectionExport, contractExports(named("allocate", 0, 0))).bytes(), meter.RuleInvalid, "twice"},
	{"a reserved export", contract().with(wasm.SectionExport, contractExports(named("hypermesh.points", 0, 0))).bytes(), meter.RuleExport, "reserved"},
	{"an export of nothing", contract().with(wasm.SectionExport, contractExports(named("more", 0, 4))).bytes(), meter.RuleInvalid, "4 of 4"},
	{"interface version 7", contract().with(wasm.SectionExport, vec(named("memory", 2, 0), named("interface_version_7", 0, 2))).bytes(), meter.RuleInterface, "interface_version_7"},
	{"no interface version", contract().with(wasm.SectionExport, vec(named("memory", 2, 0))).bytes(), meter.RuleInterface, "not exported"},
	{"an execute of another type", contract().with(wasm.SectionExport, contractExports(named("execute", 0, 0))).bytes(), meter.RuleExport, `"execute" has another type`},
	{"an import as allocate", importer(named("allocate", 0, 0), named("deallocate", 0, 2)).bytes(), meter.RuleExport, `"allocate" is an import`},
	{"an import as deallocate", importer(named("allocate", 0, 1), named("deallocate", 0, 0)).bytes(), meter.RuleExport, `"deallocate" is an import`},
	{"an import as query", importer(named("allocate", 0, 1), named("deallocate", 0, 2), named("query", 0, 0)).bytes(), meter.RuleExport, `"query" is an import`},
	{"stargate required", contract().with(wasm.SectionExport, contractExports(named("requires_stargate", 0, 2))).bytes(), meter.RuleCapability, `"stargate" is not offered`},

	{"code without end", contract().with(wasm.SectionCode, vec(body(0x20, 0), body(), body(), sized([]byte{0, 0x01}))).bytes(), meter.RuleFormat, "function 3: 1 blocks are not closed"},
	{"code behind the end", contract(0x0b).bytes(), meter.RuleFormat, "after the end"},
	{"too many locals", contract().with(wasm.SectionCode, vec(body(0x20, 0), body(), body(), sized([]byte{1, 0xe9, 0x07, 0x7f, 0x0b}))).bytes(), meter.RuleSize, "1000 locals"},
	{"4 billion locals", contract().with(wasm.SectionCode, vec(body(0x20, 0), body(), body(), sized([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b}))).bytes(), meter.RuleSize, "1000 locals"},
	{"a vector", contract(append([]byte{0xfd, 12}, make([]byte, 16)...)...).bytes(), meter.RuleSIMD, "function 3: instruction 0xfd0c"},
	{"a relaxed vector", contract(0xfd, 0x80, 2).bytes(), meter.RuleSIMD, "0xfd 256"},
	{"memory.fill", contract(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0).bytes(), meter.RuleBulkMemory, "0xfc0b"},
	{"table.copy", contract(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 14, 0, 0).bytes(), meter.RuleReferences, "0xfc0e"},
	{"ref.null", contract(0xd0, 0x70, 0x1a).bytes(), meter.RuleReferences, "0xd0"},
	{"select with a type", contract(0x41, 0, 0x41, 0, 0x41, 0, 0x1c, 1, 0x7f, 0x1a).bytes(), meter.RuleReferences, "0x1c"},
	{"an atomic", contract(0xfe, 3, 0).bytes(), meter.RuleThreads, "0xfe"},
	{"a tail call", contract(0x12, 2).bytes(), meter.RuleTailCalls, "0x12"},
	{"a throw", contract(0x08, 0).bytes(), meter.RuleExceptions, "0x08"},
	{"no instruction", contract(0xff).bytes(), meter.RuleInstructions, "0xff"},
	{"an operand that is missing", contract(0x1a).bytes(), meter.RuleInvalid, "lacks an operand"},
	{"an operand of another type", contract(0x42, 0, 0x45, 0x1a).bytes(), meter.RuleInvalid, "0x7e, want 0x7f"},
	{"a value that is left", contract(0x41, 0).bytes(), meter.RuleInvalid, "1 values too many"},
	{"a local that is not there", contract(0x20, 0, 0x1a).bytes(), meter.RuleInvalid, "local 0 of 0"},
	{"a global that is not there", contract(0x23, 0, 0x1a).bytes(), meter.RuleInvalid, "global 0 of 0"},
	{"a global that is set and constant", contract(0x41, 0, 0x24, 0).with(wasm.SectionGlobal, vec([]byte{0x7f, 0, 0x41, 0, 0x0b})).bytes(), meter.RuleInvalid, "is a constant"},
	{"a function that is not there", contract(0x10, 4).bytes(), meter.RuleInvalid, "a call of 4"},
	{"an indirect call without table", contract(0x41, 0, 0x11, 2, 0).bytes(), meter.RuleInvalid, "a call of 2"},
	{"a branch to nowhere", contract(0x0c, 1).bytes(), meter.RuleInvalid, "label 1 of 1"},
	{"a branch table to nowhere", contract(0x41, 0, 0x0e, 1, 0, 1).bytes(), meter.RuleInvalid, "label 1 of 1"},
	{"a branch table that ends", contract(0x41, 0, 0x0e, 0xff, 0xff, 0x7f).bytes(), meter.RuleFormat, "too early"},
	{"an else without if", contract(0x02, 0x40, 0x05, 0x0b).bytes(), meter.RuleInvalid, "without its if"},
	{"an if without else that gives something", contract(0x41, 0, 0x04, 0x7f, 0x41, 0, 0x0b, 0x1a).bytes(), meter.RuleInvalid, "without else"},
	{"a block of no type in two bytes", contract(0x02, 0xc0, 0x7f, 0x01, 0x0b).bytes(), meter.RuleFormat, "type of 2 bytes"},
	{"a loop of no type in three bytes", contract(0x03, 0xc0, 0xff, 0x7f, 0x01, 0x0b).bytes(), meter.RuleFormat, "type of 3 bytes"},
	{"an if of i32 in two bytes", contract(0x41, 0, 0x04, 0xff, 0x7f, 0x41, 0, 0x05, 0x41, 0, 0x0b, 0x1a).bytes(), meter.RuleFormat, "type of 2 bytes"},
	{"a block of no type", contract(0x02, 9, 0x0b).bytes(), meter.RuleInvalid, "type 9 of 4"},
	{"an access that is aligned too far", contract(0x41, 0, 0x28, 3, 0, 0x1a).bytes(), meter.RuleInvalid, "2^3"},
	{"a second memory", contract(0x3f, 1, 0x1a).bytes(), meter.RuleInvalid, "memory 1"},
	{"too deep blocks", contract(append(bytes.Repeat([]byte{0x02, 0x40}, 4001), bytes.Repeat([]byte{0x0b}, 4001)...)...).bytes(), meter.RuleSize, "nest deeper"},
	{"too many operands", contract(append(bytes.Repeat([]byte{0x41, 0}, 4001), bytes.Repeat([]byte{0x1a}, 4001)...)...).bytes(), meter.RuleSize, "operand stack"},
	{"a large function", contract(bytes.Repeat([]byte{0x01}, 128<<10)...).bytes(), meter.RuleSize, "body of"},
	{"101 loops in each other", contract(nested(101, []byte{0x03, 0x40}, nil)...).bytes(), meter.RuleSize, "loops nest deeper than 100"},
	{"loops over locals", manyFunctions(1, 800, nested(38, []byte{0x03, 0x40}, locals(800))).bytes(), meter.RuleSize, "30000 values meet"},
	{"ifs over locals", manyFunctions(1, 100, nested(301, []byte{0x41, 0, 0x04, 0x40}, locals(100))).bytes(), meter.RuleSize, "30000 values meet"},
	{"blocks that are left over locals", manyFunctions(1, 800, nested(38, []byte{0x02, 0x40, 0x41, 0, 0x0d, 0}, locals(800))).bytes(), meter.RuleSize, "30000 values meet"},
	{"loops over locals in all functions", manyFunctions(11, 800, nested(36, []byte{0x03, 0x40}, locals(800))).bytes(), meter.RuleSize, "meet in all"},
	{"branches past locals", manyFunctions(1, 1000, branches(944)).bytes(), meter.RuleSize, "944 ways past 1000 locals"},
	{"loops past locals", manyFunctions(1, 1000, bytes.Repeat([]byte{0x03, 0x40, 0x0b}, 944)).bytes(), meter.RuleSize, "944 ways past 1000 locals"},
	{"arms past locals", manyFunctions(1, 1000, bytes.Repeat([]byte{0x41, 0, 0x04, 0x40, 0x05, 0x0b}, 472)).bytes(), meter.RuleSize, "944 ways past 1000 locals"},
	{"a table past locals", manyFunctions(1, 1000, table(944)).bytes(), meter.RuleSize, "944 ways past 1000 locals"},
	{"branches past locals in all functions", manyFunctions(4, 1000, branches(800)).bytes(), meter.RuleSize, "ways past locals in all"},
	{"branches that take values", carriers(1_500).bytes(), meter.RuleSize, "more than 150000 values are moved"},
	{"a loop that moves its locals", manyFunctions(1, 900, turning(900, 1000)).bytes(), meter.RuleSize, "more than 150000 values are moved"},
	{"a loop that moves a few often", manyFunctions(1, 20, turning(20, 7_499)).bytes(), meter.RuleSize, "more than 150000 values are moved"},
	{"loops that move locals in all functions", manyFunctions(7, 20, turning(20, 4_400)).bytes(), meter.RuleSize, "more than 600000 values are moved in all"},
	{"branches past values", manyFunctions(1, 0, heightened(3_900, 253)).bytes(), meter.RuleSize, "253 ways past 0 locals, 60 and what is on the operand stack"},
	{"branches alone", manyFunctions(1, 0, branches(16_667)).bytes(), meter.RuleSize, "16667 ways past 0 locals, 60 "},
	{"branches alone in all functions", manyFunctions(6, 0, branches(8_400)).bytes(), meter.RuleSize, "ways past locals in all"},
	{"indirect calls", withTable(manyFunctions(1, 0, indirect(4_167))).bytes(), meter.RuleSize, "16668 ways past 0 locals, 60 "},
	{"indirect calls in all functions", withTable(manyFunctions(4, 0, indirect(3_200))).bytes(), meter.RuleSize, "ways past locals in all"},
	{"many floats", manyFunctions(3, 0, floats(16_667)).bytes(), meter.RuleSize, "50000 instructions on floats"},
	{"large functions", manyFunctions(5, 0, bytes.Repeat([]byte{0x01}, 60<<10)).bytes(), meter.RuleSize, "squares"},
}

// importer is a contract whose function 0 is an import; it exports what is said.
func importer(exports ...[]byte) *built {
	exports = append(exports, named("memory", wasm.KindMemory, 0), named("interface_version_8", wasm.KindFunction, 3))
	return contract().with(wasm.SectionImport, vec(append(named("env"), named("addr_validate", wasm.KindFunction, 0)...))).with(wasm.SectionExport, vec(exports...))
}

// nested is code in blocks that begin alike.
func nested(count int, begin, code []byte) []byte {
	return slices.Concat(bytes.Repeat(begin, count), code, bytes.Repeat([]byte{0x0b}, count))
}

// branches leaves the function, or does not, so often.
func branches(count int) []byte { return bytes.Repeat([]byte{0x41, 0, 0x0d, 0}, count) }

// table leaves the function by a table of so many labels.
func table(count int) []byte {
	return slices.Concat(binary.AppendUvarint([]byte{0x41, 0, 0x0e}, uint64(count-1)), make([]byte, count))
}

// carriers is a contract with a loop of 100 values, which so many branches give it.
func carriers(count int) *built {
	loop := slices.Concat(bytes.Repeat([]byte{0x41, 0}, 100), []byte{0x03, 4}, branches(count), bytes.Repeat([]byte{0x1a}, 100), []byte{0x0b})
	return manyFunctions(1, 0, loop).with(wasm.SectionType, vec(fn("\x7f", "\x7f"), fn("\x7f", ""), fn("", ""), fn("", "\x7f"), fn(strings.Repeat("\x7f", 100), "")))
}

// setting sets each of some locals.
func setting(locals int) (code []byte) {
	for i := range locals {
		code = binary.AppendUvarint(append(code, 0x41, 0, 0x21), uint64(i))
	}
	return code
}

// turning is a loop that sets so many locals, and has so many branches back.
func turning(locals, count int) []byte {
	return slices.Concat([]byte{0x03, 0x40}, setting(locals), branches(count), []byte{0x0b})
}

// heightened takes so many branches past so many values.
func heightened(values, count int) []byte {
	return slices.Concat(bytes.Repeat([]byte{0x41, 0}, values), []byte{0x02, 0x40}, branches(count), []byte{0x0b}, bytes.Repeat([]byte{0x1a}, values))
}

// stores stores so often.
func stores(times int) []byte { return bytes.Repeat([]byte{0x41, 0, 0x41, 0, 0x36, 2, 0}, times) }

// indirect calls what is at 0 of the table so often.
func indirect(count int) []byte { return bytes.Repeat([]byte{0x41, 0, 0x11, 2, 0}, count) }

func withTable(b *built) *built { return b.with(wasm.SectionTable, vec([]byte{0x70, 0, 1})) }

// floats takes so many roots.
func floats(count int) []byte {
	return slices.Concat([]byte{0x44}, make([]byte, 8), bytes.Repeat([]byte{0x9f}, count), []byte{0x1a})
}

// locals uses each of some locals, which are i32.
func locals(count int) (code []byte) {
	for i := range count {
		code = append(binary.AppendUvarint(append(code, 0x20), uint64(i)), 0x1a)
	}
	return code
}

// manyFunctions is a contract with some functions alike, of so many locals.
func manyFunctions(count, locals int, code []byte) *built {
	one := append(binary.AppendUvarint([]byte{1}, uint64(locals)), 0x7f)
	one = sized(append(append(one, code...), 0x0b))
	functions, bodies := [][]byte{{0}, {1}, {2}}, [][]byte{body(0x20, 0), body(), body()}
	for range count {
		functions, bodies = append(functions, []byte{2}), append(bodies, one)
	}
	return contract().with(wasm.SectionFunction, vec(functions...)).with(wasm.SectionCode, vec(bodies...))
}

// TestWhatIsNotTooMuch: just below the limits on what compilers take long for.
func TestWhatIsNotTooMuch(t *testing.T) {
	for name, b := range map[string]*built{
		"loops":                     contract(nested(100, []byte{0x03, 0x40}, nil)...),
		"loops of locals":           manyFunctions(1, 800, nested(37, []byte{0x03, 0x40}, locals(800))),
		"ifs of locals":             manyFunctions(1, 100, nested(300, []byte{0x41, 0, 0x04, 0x40}, locals(100))),
		"blocks that nobody leaves": manyFunctions(1, 800, nested(3000, []byte{0x02, 0x40}, locals(800))),
		"large functions":           manyFunctions(4, 0, bytes.Repeat([]byte{0x01}, 64<<10-64)),
		"a large function":          manyFunctions(1, 0, bytes.Repeat([]byte{0x01}, 128<<10-64)),
		"branches past locals":      manyFunctions(3, 1000, branches(943)),
		"a table past locals":       manyFunctions(1, 1000, table(942)),
		"branches that take values": carriers(1_499),
		"a loop that moves locals":  manyFunctions(1, 20, turning(20, 7_498)),
		"branches past values":      manyFunctions(1, 0, heightened(3_900, 252)),
		"branches alone":            manyFunctions(3, 0, branches(16_666)),
		"indirect calls":            withTable(manyFunctions(3, 0, indirect(4_166))),
		"many floats":               manyFunctions(2, 0, floats(25_000)),
	} {
		if _, err := prepare(b.bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyParameters() *built {
	b := contract()
	types := vec(fn("\x7f", "\x7f"), fn("\x7f", ""), fn("", ""), fn(strings.Repeat("\x7f", 100), ""))
	functions, bodies := [][]byte{{0}, {1}, {2}}, [][]byte{body(0x20, 0), body(), body()}
	for range 101 {
		functions, bodies = append(functions, []byte{3}), append(bodies, body())
	}
	return b.with(wasm.SectionType, types).with(wasm.SectionFunction, vec(functions...)).with(wasm.SectionCode, vec(bodies...))
}

func TestRefusals(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			_, err := prepare(c.code)
			r, ok := errors.AsType[*meter.Refusal](err)
			if !ok || r.Rule != c.rule || !strings.Contains(r.Detail, c.why) {
				t.Errorf("%v, want rule %s and %q", err, c.rule, c.why)
			}
		})
	}
}

// TestTruncations cuts a contract after every byte: all that is shorter is
// refused, or has lost whole sections that it needs.
func TestTruncations(t *testing.T) {
	whole := contract(0x41, 1, 0x1a).with(wasm.SectionData, vec([]byte{0, 0x41, 0, 0x0b, 1, 'x'})).bytes()
	if _, err := prepare(whole); err != nil {
		t.Fatal(err)
	}
	taken := 0
	for n := range whole {
		if _, err := prepare(whole[:n]); err == nil {
			taken++
		} else if _, ok := errors.AsType[*meter.Refusal](err); !ok {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if taken != 1 { // without its data it is a contract still
		t.Errorf("%d truncations are taken", taken)
	}
}

func TestWhatAContractIs(t *testing.T) {
	m, err := prepare(contract().with(wasm.SectionExport, contractExports(
		named("requires_iterator", wasm.KindFunction, 2), named("requires_cosmwasm_1_1", wasm.KindFunction, 2),
	)).with(wasm.SectionCustom, named("name", 1, 2, 3)).bytes())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"cosmwasm_1_1", "iterator"}; !slices.Equal(m.Requires(), want) || m.Pages() != 1 || m.Params(meter.Execute) != 0 {
		t.Errorf("requires %v, pages %d", m.Requires(), m.Pages())
	}
	if bytes.Contains(m.Code(), []byte("\x04name")) {
		t.Error("the custom section is still there")
	}
	for _, name := range []string{meter.GlobalPoints, meter.GlobalStack, meter.GlobalReason} {
		if !bytes.Contains(m.Code(), []byte(name)) {
			t.Errorf("%s is not exported", name)
		}
	}
}

// FuzzPrepare: any bytes are refused or prepared; what is prepared is valid, and
// is the same twice. smart-contracts/vm has the engine check it.
func FuzzPrepare(f *testing.F) {
	for _, c := range refusals {
		if len(c.code) < 4096 {
			f.Add(c.code)
		}
	}
	f.Add(contract(0x41, 0, 0x04, 0x40, 0x03, 0x40, 0x0c, 0, 0x0b, 0x05, 0x0f, 0x0b, 0x10, 3).bytes())
	f.Fuzz(func(t *testing.T, code []byte) {
		for _, rewrite := range []func() ([]byte, error){
			func() ([]byte, error) { return meter.Rewrite(code, meter.WeightsV1()) },
			func() ([]byte, error) {
				m, err := prepare(code)
				if err != nil {
					return nil, err
				}
				return m.Code(), nil
			},
		} {
			out, err := rewrite()
			if err != nil {
				if _, ok := errors.AsType[*meter.Refusal](err); !ok {
					t.Fatalf("%v is no refusal", err)
				}
				continue
			}
			if err := meter.Valid(out); err != nil {
				t.Fatalf("what was made of %x is not valid: %v", code, err)
			}
			if again, err := rewrite(); err != nil || !bytes.Equal(out, again) {
				t.Fatalf("another time another module, %v", err)
			}
		}
	})
}

// TestCapabilities: contracts may require what this chain offers, if that is what
// Prepare is told.
func TestCapabilities(t *testing.T) {
	names := meter.Capabilities()
	if !slices.IsSorted(names) || len(slices.Compact(names)) != len(meter.Capabilities()) {
		t.Fatalf("%q, want each once and in order", names)
	}
	for _, name := range names {
		code := contract().with(wasm.SectionExport, contractExports(named("requires_"+name, 0, 2))).bytes()
		m, err := meter.Prepare(code, meter.Capabilities(), meter.WeightsV1())
		if err != nil || !slices.Equal(m.Requires(), []string{name}) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = meter.Prepare(code, nil, meter.WeightsV1())
		if r, refused := errors.AsType[*meter.Refusal](err); !refused || r.Rule != meter.RuleCapability {
			t.Errorf("%s without it: %v", name, err)
		}
	}
}

// TestSpans: what a compiler takes time for is counted: functions and ways with what they go past, and floats.
func TestSpans(t *testing.T) {
	spans := func(b *built) uint64 {
		t.Helper()
		m, err := prepare(b.bytes())
		if err != nil {
			t.Fatal(err)
		}
		return m.Spans()
	}
	for name, c := range map[string]struct {
		more, less *built
		want       uint64
	}{
		"a function":                  {manyFunctions(3, 7, nil), manyFunctions(2, 7, nil), 67},
		"a branch":                    {manyFunctions(1, 7, branches(3)), manyFunctions(1, 7, branches(2)), 67},
		"a branch past values":        {manyFunctions(1, 7, heightened(20, 3)), manyFunctions(1, 7, heightened(20, 2)), 87},
		"a loop":                      {manyFunctions(1, 7, []byte{0x03, 0x40, 0x0b}), manyFunctions(1, 7, nil), 67},
		"a block":                     {manyFunctions(1, 7, []byte{0x02, 0x40, 0x0b}), manyFunctions(1, 7, nil), 0},
		"an indirect call":            {withTable(manyFunctions(1, 7, indirect(2))), withTable(manyFunctions(1, 7, indirect(1))), 268},
		"an instruction on floats":    {manyFunctions(1, 7, floats(2)), manyFunctions(1, 7, floats(1)), 10},
		"a branch that takes 100, of": {carriers(3), carriers(2), 160 + 100 + (400*300-300*200)/6_000},
		"labels of a table":           {manyFunctions(1, 7, table(2)), manyFunctions(1, 7, []byte{0x41, 0, 0x1a, 0x00}), 2 * 67},
		"a loop of 100 values":        {carriers(0), manyFunctions(1, 0, nil), 60 + 100},
		"stores past 124 values":      {manyFunctions(1, 124, stores(10)), manyFunctions(1, 124, nil), 10 * 62 / 12},
		"stores past 62 values":       {manyFunctions(1, 62, stores(10)), manyFunctions(1, 62, nil), 0},
		"ways past 200 values":        {manyFunctions(1, 200, branches(600)), manyFunctions(1, 200, branches(599)), 260},
		"moves past ways":             {manyFunctions(1, 50, turning(20, 1_000)), manyFunctions(1, 50, nil), 1_001*110 + 1_002*20 + 1_002*20*1_001*50/6_000},
		"sizes of memory":             {manyFunctions(1, 7, bytes.Repeat([]byte{0x3f, 0, 0x1a}, 3)), manyFunctions(1, 7, nil), 3 * 16},
		"a block's end that is given": {manyFunctions(1, 7, []byte{0x02, 0x7f, 0x41, 0, 0x0b, 0x1a}), manyFunctions(1, 7, []byte{0x41, 0, 0x1a}), 1},
		"a local that is moved":       {manyFunctions(1, 7, turning(2, 1)), manyFunctions(1, 7, turning(1, 1)), 3},
	} {
		if got := spans(c.more) - spans(c.less); got != c.want {
			t.Errorf("%s: %d spans, want %d", name, got, c.want)
		}
	}
}
