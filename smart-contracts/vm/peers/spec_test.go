package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// moduleDir is where the Go command has a module that go.mod requires.
func moduleDir(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil || strings.TrimSpace(string(out)) == "" {
		t.Fatalf("%s is not there: %q, %v", path, out, err)
	}
	return strings.TrimSpace(string(out))
}

// value is an argument or an expected result of a specification test.
type value struct{ Type, Value string }

// command is one line of a specification test.
type command struct {
	Type       string
	Line       int
	Filename   string
	ModuleType string `json:"module_type"`
	Text       string
	As, Name   string
	Action     struct {
		Type, Field, Module string
		Args                []value
	}
	Expected []value
}

// outside are the rules by which modules of the specification's tests are
// refused that are valid: they are not of the dialect.
var outside = map[meter.Rule]bool{
	meter.RuleImport: true, meter.RuleMemory: true, meter.RuleTable: true, meter.RuleStart: true, meter.RuleSize: true,
	meter.RuleSIMD: true, meter.RuleBulkMemory: true, meter.RuleReferences: true,
}

// divergences are the commands that come to something else, and why.
var divergences = map[string]string{
	"v1 memory_grow.json:45":        "a contract's memory has 512 pages at most",
	"v1 memory_grow.json:48":        "the same",
	"v2 memory_grow.json:45":        "the same",
	"v2 memory_grow.json:48":        "the same",
	"v1 type.json:53":               "WebAssembly 2.0 has types of several results",
	"v1 type.json:57":               "the same",
	"v1 unreached-invalid.json:539": "WebAssembly 2.0 has branch tables to several types where nothing is reached",
}

// tally is what was checked.
type tally struct{ modules, outside, returns, traps, refused, diverged int }

// script runs the commands of one file.
type script struct {
	t        *testing.T
	engine   *wasmtime.Engine
	dir      string
	file     string
	store    *wasmtime.Store
	instance *wasmtime.Instance
	tally
}

func (s *script) read(c command) []byte {
	code, err := os.ReadFile(filepath.Join(s.dir, c.Filename))
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

// module rewrites and instantiates a module; the commands after it are for it.
func (s *script) module(c command) {
	s.instance = nil
	if strings.HasSuffix(c.Filename, ".wat") {
		return
	}
	code, err := meter.Rewrite(s.read(c), meter.WeightsV1())
	if err != nil {
		refusal, ok := errors.AsType[*meter.Refusal](err)
		// A global or segment may refer to an imported global, and nothing else
		// can be told apart about it here.
		imported := ok && refusal.Rule == meter.RuleInvalid && strings.Contains(refusal.Detail, "a constant refers to global")
		bounds := ok && refusal.Rule == meter.RuleInvalid && strings.Contains(refusal.Detail, "do not fit")
		if !ok || !outside[refusal.Rule] && !imported && !bounds {
			s.t.Errorf("%s:%d: %v", s.file, c.Line, err)
		}
		s.outside++
		return
	}
	module, err := wasmtime.NewModule(s.engine, code)
	if err != nil {
		s.t.Errorf("%s:%d: %v", s.file, c.Line, err)
		return
	}
	s.store = wasmtime.NewStore(s.engine)
	linker := wasmtime.NewLinker(s.engine)
	if err := linker.DefineUnknownImportsAsDefaultValues(s.store, module); err != nil {
		s.t.Fatal(err)
	}
	if s.instance, err = linker.Instantiate(s.store, module); err != nil {
		s.t.Errorf("%s:%d: %v", s.file, c.Line, err)
		return
	}
	s.modules++
}

func (s *script) invoke(c command) (results []wasmtime.Val, err error) {
	stack := s.instance.GetExport(s.store, meter.GlobalStack).Global()
	for name, v := range map[string]wasmtime.Val{
		meter.GlobalPoints: wasmtime.ValI64(1 << 40), meter.GlobalStack: wasmtime.ValI32(meter.StackBytes), meter.GlobalReason: wasmtime.ValI32(0),
	} {
		if err := s.instance.GetExport(s.store, name).Global().Set(s.store, v); err != nil {
			s.t.Fatal(err)
		}
	}
	f := s.instance.GetFunc(s.store, c.Action.Field)
	if f == nil {
		s.t.Fatalf("%s:%d: no function %q", s.file, c.Line, c.Action.Field)
	}
	var args []any
	for _, arg := range c.Action.Args {
		args = append(args, number(s.t, arg))
	}
	out, err := f.Call(s.store, args...)
	if err != nil {
		return nil, err
	}
	if left := stack.Get(s.store).I32(); left != meter.StackBytes {
		s.t.Errorf("%s:%d: %d bytes of stack are not given back", s.file, c.Line, meter.StackBytes-left)
	}
	switch v := out.(type) {
	case nil:
		return nil, nil
	case []wasmtime.Val:
		return v, nil
	case int32:
		return []wasmtime.Val{wasmtime.ValI32(v)}, nil
	case int64:
		return []wasmtime.Val{wasmtime.ValI64(v)}, nil
	case float32:
		return []wasmtime.Val{wasmtime.ValF32(v)}, nil
	default:
		return []wasmtime.Val{wasmtime.ValF64(v.(float64))}, nil
	}
}

// number is an argument; floats are written as the bits they have.
func number(t *testing.T, v value) any {
	n, err := strconv.ParseUint(v.Value, 10, 64)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	switch v.Type {
	case "i32":
		return int32(n)
	case "i64":
		return int64(n)
	case "f32":
		return math.Float32frombits(uint32(n))
	case "f64":
		return math.Float64frombits(n)
	}
	t.Fatalf("a value of type %s", v.Type)
	return nil
}

// matches compares a result. The dialect has one NaN, which is of both kinds.
func matches(t *testing.T, got wasmtime.Val, want value) bool {
	nan := strings.HasPrefix(want.Value, "nan:")
	switch want.Type {
	case "f32":
		b := math.Float32bits(got.F32())
		return nan && b&0x7fffffff == 0x7fc00000 || !nan && b == math.Float32bits(number(t, want).(float32))
	case "f64":
		b := math.Float64bits(got.F64())
		return nan && b&(1<<63-1) == 0x7ff8<<48 || !nan && b == math.Float64bits(number(t, want).(float64))
	case "i32":
		return got.I32() == number(t, want).(int32)
	default:
		return got.I64() == number(t, want).(int64)
	}
}

func (s *script) run(c command) {
	switch c.Type {
	case "module":
		s.module(c)
	case "assert_invalid", "assert_malformed":
		if c.ModuleType == "text" {
			return
		}
		if _, err := meter.Rewrite(s.read(c), meter.WeightsV1()); err == nil {
			s.t.Errorf("%s:%d: %s is taken: %s", s.file, c.Line, c.Filename, c.Text)
		}
		s.refused++
	case "assert_return", "action":
		if s.instance == nil || c.Action.Type != "invoke" || c.Action.Module != "" {
			return
		}
		got, err := s.invoke(c)
		if err != nil || c.Type == "assert_return" && len(got) != len(c.Expected) {
			s.t.Errorf("%s:%d: %v, %v; want %v", s.file, c.Line, got, err, c.Expected)
			return
		}
		for i, want := range c.Expected {
			if !matches(s.t, got[i], want) {
				s.t.Errorf("%s:%d: result %v, want %v", s.file, c.Line, got[i].Get(), want)
			}
		}
		s.returns++
	case "assert_trap", "assert_exhaustion":
		if s.instance == nil || c.Action.Type != "invoke" || c.Action.Module != "" {
			return
		}
		_, err := s.invoke(c)
		trap, ok := errors.AsType[*wasmtime.Trap](err)
		reason := meter.Reason(s.instance.GetExport(s.store, meter.GlobalReason).Global().Get(s.store).I32())
		want := meter.ReasonNone
		if c.Type == "assert_exhaustion" {
			want = meter.ReasonOverflow
		}
		if !ok || !traps(trap, c.Text, want) || reason != want {
			s.t.Errorf("%s:%d: %v, reason %d, want %s", s.file, c.Line, err, reason, c.Text)
		}
		s.traps++
	}
}

// traps compares a trap with what the specification calls it. An exhausted stack
// is found by the module, before the engine's is.
func traps(trap *wasmtime.Trap, text string, reason meter.Reason) bool {
	code := trap.Code()
	if code == nil {
		return false
	}
	names := map[wasmtime.TrapCode][]string{
		wasmtime.MemoryOutOfBounds: {"out of bounds memory access"}, wasmtime.TableOutOfBounds: {"undefined element", "out of bounds table access"},
		wasmtime.IndirectCallToNull: {"uninitialized element", "undefined element"}, wasmtime.BadSignature: {"indirect call type mismatch"},
		wasmtime.IntegerOverflow: {"integer overflow"}, wasmtime.IntegerDivisionByZero: {"integer divide by zero"},
		wasmtime.BadConversionToInteger: {"invalid conversion to integer"}, wasmtime.UnreachableCodeReached: {"unreachable"},
	}
	if reason != meter.ReasonNone {
		return *code == wasmtime.UnreachableCodeReached
	}
	for _, name := range names[*code] {
		if strings.HasPrefix(text, name) || strings.HasPrefix(name, text) {
			return true
		}
	}
	return false
}

func dialect() *wasmtime.Engine {
	c := wasmtime.NewConfig()
	c.SetCraneliftNanCanonicalization(true)
	c.SetWasmSIMD(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmBulkMemory(false)
	c.SetWasmReferenceTypes(false)
	c.SetMaxWasmStack(1 << 20)
	return wasmtime.NewEngineWithConfig(c)
}

// TestSpecification runs the tests of WebAssembly 1.0 and 2.0 on modules that the
// pass has rewritten: what is valid and of the dialect is taken and does what the
// specification says, and what is invalid or malformed is refused.
func TestSpecification(t *testing.T) {
	root := filepath.Join(moduleDir(t, "github.com/tetratelabs/wazero"), "internal", "integration_test", "spectest")
	engine := dialect()
	defer engine.Close()
	var all tally
	for _, version := range []string{"v1", "v2"} {
		files, err := filepath.Glob(filepath.Join(root, version, "testdata", "*.json"))
		if err != nil || len(files) < 70 {
			t.Fatalf("%d scripts of %s, %v", len(files), version, err)
		}
		for _, file := range files {
			if strings.HasPrefix(filepath.Base(file), "simd_") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var parsed struct{ Commands []command }
			if err := json.Unmarshal(text, &parsed); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			s := &script{t: t, engine: engine, dir: filepath.Dir(file), file: fmt.Sprint(version, " ", filepath.Base(file))}
			for _, c := range parsed.Commands {
				if divergences[fmt.Sprint(s.file, ":", c.Line)] != "" {
					all.diverged++
				} else {
					s.run(c)
				}
			}
			all.modules += s.modules
			all.outside += s.outside
			all.returns += s.returns
			all.traps += s.traps
			all.refused += s.refused
		}
	}
	t.Logf("%d modules of the dialect and %d of others, %d results, %d traps, %d refusals", all.modules, all.outside, all.returns, all.traps, all.refused)
	if all.diverged != len(divergences) {
		t.Errorf("%d of %d divergences were met", all.diverged, len(divergences))
	}
	if all.modules < 500 || all.returns < 20_000 || all.traps < 500 || all.refused < 1000 {
		t.Error("that is too few")
	}
}
