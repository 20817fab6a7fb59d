package vm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// plenty is more than a random program uses.
const plenty = 1 << 40

// fueled returns an engine of the contracts' dialect that counts fuel too.
func fueled() *wasmtime.Engine { return wasmtime.NewEngineWithConfig(dialect()) }

// dialect is what contracts are written in, with fuel.
func dialect() *wasmtime.Config {
	c := version2()
	c.SetConsumeFuel(true)
	c.SetWasmSIMD(false)
	c.SetWasmBulkMemory(false)
	c.SetWasmReferenceTypes(false)
	return c
}

// version2 is WebAssembly 2.0 and nothing else.
func version2() *wasmtime.Config {
	c := wasmtime.NewConfig()
	c.SetCraneliftNanCanonicalization(true)
	c.SetMaxWasmStack(nativeStack)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmThreads(false)
	c.SetWasmTailCall(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmMemory64(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetWasmWideArithmetic(false)
	return c
}

// units weighs instructions as wasmtime's fuel does: one each, but for those that
// make no code, and one for each function that is called.
func units() *meter.Weights {
	w := &meter.Weights{Saturating: 1, Entry: 1}
	for op := range w.Plain {
		w.Plain[op] = 1
	}
	for _, op := range []byte{0x00, 0x01, 0x02, 0x03, 0x05, 0x0b, 0x0f, 0x1a} {
		w.Plain[op] = 0
	}
	return w
}

// effect is what a run of a program comes to.
type effect struct {
	value  string // results, or why it trapped
	memory string
	fuel   uint64
	points int64 // used
	stack  int32 // what is left of it
	reason meter.Reason
}

func (e effect) String() string { return fmt.Sprintf("%s, memory %s", e.value, e.memory) }

// runProgram calls main, with parameters of the given types.
func runProgram(t testing.TB, engine *wasmtime.Engine, code, params []byte) effect {
	t.Helper()
	module, err := wasmtime.NewModule(engine, code)
	if err != nil {
		t.Fatalf("%v\n%x", err, code)
	}
	defer module.Close()
	store := wasmtime.NewStore(engine)
	defer store.Close()
	if err := store.SetFuel(plenty); err != nil {
		t.Fatal(err)
	}
	instance, err := wasmtime.NewInstance(store, module, nil)
	if err != nil {
		t.Fatal(err)
	}
	global := func(name string) *wasmtime.Global {
		if e := instance.GetExport(store, name); e != nil {
			return e.Global()
		}
		return nil
	}
	points, stack := global(meter.GlobalPoints), global(meter.GlobalStack)
	if points != nil {
		if err := errors.Join(points.Set(store, wasmtime.ValI64(plenty)), stack.Set(store, wasmtime.ValI32(meter.StackBytes))); err != nil {
			t.Fatal(err)
		}
	}
	value, err := instance.GetFunc(store, "main").Call(store, arguments(params)...)
	e := effect{value: bits(value)}
	if err != nil {
		e.value = trapOf(t, err)
	}
	memory := instance.GetExport(store, "memory").Memory()
	e.memory = fmt.Sprint(memory.DataSize(store), " ", crypto.DomainBlob.Hash(memory.UnsafeData(store)))
	left, err := store.GetFuel()
	if err != nil {
		t.Fatal(err)
	}
	e.fuel = plenty - left
	if points != nil {
		e.points = plenty - points.Get(store).I64()
		e.stack, e.reason = stack.Get(store).I32(), meter.Reason(global(meter.GlobalReason).Get(store).I32())
	}
	return e
}

// arguments are some of the given types.
func arguments(params []byte) (args []any) {
	for i, of := range params {
		args = append(args, map[byte]any{i32: int32(i) - 1, i64: int64(i) << 40, f32: float32(i) / 3, f64: math.Inf(1)}[of])
	}
	return args
}

// bits writes a value with all its bits.
func bits(value any) string {
	switch v := value.(type) {
	case float32:
		return fmt.Sprintf("f32 %x", math.Float32bits(v))
	case float64:
		return fmt.Sprintf("f64 %x", math.Float64bits(v))
	default:
		return fmt.Sprintf("%T %v", v, v)
	}
}

func trapOf(t testing.TB, err error) string {
	trap, ok := errors.AsType[*wasmtime.Trap](err)
	if !ok || trap.Code() == nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("trap %d", *trap.Code())
}

// TestRandomProgramsMeterAsTheyRun runs random programs as they are and as they
// are rewritten: they come to the same results, traps and memories, they give
// back all of the stack, and at their end they have paid for each instruction
// once, by the count of wasmtime, which knows nothing of our pass.
func TestRandomProgramsMeterAsTheyRun(t *testing.T) {
	engine := fueled()
	defer engine.Close()
	trapped, deep := 0, 0
	for seed := range uint64(programs) {
		code, params := newProgram(rand.New(rand.NewPCG(seed, 1)), false)
		metered, err := meter.Rewrite(code, units())
		if err != nil {
			t.Fatalf("seed %d: %v\n%x", seed, err, code)
		}
		want, got := runProgram(t, engine, code, params), runProgram(t, engine, metered, params)
		switch {
		case got.reason == meter.ReasonOverflow || want.value == "trap 0":
			deep++
			continue
		case got.String() != want.String() || got.reason != meter.ReasonNone:
			t.Errorf("seed %d: %v with the pass (reason %d), %v without", seed, got, got.reason, want)
		case got.value[:4] == "trap":
			trapped++
		case uint64(got.points) != want.fuel:
			t.Errorf("seed %d: %d points are paid, %d instructions were run", seed, got.points, want.fuel)
		case got.stack != meter.StackBytes:
			t.Errorf("seed %d: %d bytes of stack are not given back", seed, meter.StackBytes-got.stack)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d trap, %d use up the stack", trapped, deep)
	if trapped < programs/20 || trapped > programs*3/4 || deep > programs/4 {
		t.Errorf("of %d programs %d trap and %d use up the stack: the others are too few", programs, trapped, deep)
	}
}

// FuzzPrograms is the same for any seed, and with the weights of version 1: what
// they come to does not depend on weights.
func FuzzPrograms(f *testing.F) {
	engine := fueled()
	f.Add(uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		code, params := newProgram(rand.New(rand.NewPCG(a, b)), false)
		metered, err := meter.Rewrite(code, meter.WeightsV1())
		if err != nil {
			t.Fatalf("%v\n%x", err, code)
		}
		want, got := runProgram(t, engine, code, params), runProgram(t, engine, metered, params)
		if got.String() != want.String() && got.reason != meter.ReasonOverflow && want.value != "trap 0" {
			t.Fatalf("%v with the pass, %v without\n%x", got, want, code)
		}
	})
}

// compare holds what the pass says of some bytes against what the engine says:
// what is taken is valid before and after, and what is refused as invalid is so.
// It reports whether the bytes were taken.
func compare(t *testing.T, dialect, whole *wasmtime.Engine, code []byte) bool {
	t.Helper()
	out, err := meter.Rewrite(code, meter.WeightsV1())
	valid := wasmtime.ModuleValidate(whole, code)
	if err == nil {
		if valid != nil {
			t.Errorf("the pass takes what the engine does not: %v\n%x", valid, code)
		}
		if valid := wasmtime.ModuleValidate(dialect, out); valid != nil {
			t.Errorf("%v\n%x\nbecame\n%x", valid, code, out)
		}
		return true
	}
	r, ok := errors.AsType[*meter.Refusal](err)
	if !ok {
		t.Fatal(err)
	}
	// Whether a segment fits is asked later, when a module is instantiated.
	if valid == nil && (r.Rule == meter.RuleInvalid || r.Rule == meter.RuleFormat) && !strings.Contains(r.Detail, "do not fit") {
		t.Errorf("the engine takes what the pass does not: %v\n%x", err, code)
	}
	return false
}

// FuzzRewrite: what the pass makes of any bytes is valid for the engine.
func FuzzRewrite(f *testing.F) {
	dialect, whole := fueled(), wasmtime.NewEngineWithConfig(version2())
	for seed := range uint64(8) {
		code, _ := newProgram(rand.New(rand.NewPCG(seed, 2)), false)
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code []byte) { compare(t, dialect, whole, code) })
}

// TestSpoiltPrograms changes a few bytes of random programs: the pass and the
// engine agree on which of them are still valid.
func TestSpoiltPrograms(t *testing.T) {
	dialect, whole := fueled(), wasmtime.NewEngineWithConfig(version2())
	defer dialect.Close()
	defer whole.Close()
	taken, all := 0, 0
	for seed := range uint64(programs) {
		r := rand.New(rand.NewPCG(seed, 4))
		code, _ := newProgram(r, false)
		for range 40 {
			spoilt := slices.Clone(code)
			for range 1 + r.IntN(2) {
				spoilt[8+r.IntN(len(spoilt)-8)] = byte(r.Uint32())
			}
			if all++; compare(t, dialect, whole, spoilt) {
				taken++
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d of %d are taken", taken, all)
	if taken < all/20 || taken > all*19/20 {
		t.Error("one of the two is hardly checked")
	}
}

// lengthened writes one number of an instruction in a byte more, if it has any that ends
// at that byte of its own.
func lengthened(in wasm.Instruction, at int) ([]byte, bool) {
	last := in.Raw[at]
	if last&0x80 != 0 || in.Op == wasm.OpF32Const || in.Op == wasm.OpF64Const {
		return nil, false
	}
	more := byte(0)
	if signed := in.Op >= wasm.OpBlock && in.Op <= wasm.OpIf || in.Op == wasm.OpI32Const || in.Op == wasm.OpI64Const; signed && last&0x40 != 0 {
		more = 0x7f
	}
	return slices.Concat(in.Raw[:at], []byte{last | 0x80, more}, in.Raw[at+1:]), true
}

// TestLongNumbers: the pass and the engine agree on which numbers in code may be
// written in more bytes than they need.
func TestLongNumbers(t *testing.T) {
	dialect, whole := fueled(), wasmtime.NewEngineWithConfig(version2())
	defer dialect.Close()
	defer whole.Close()
	const head, maxSeen = "\x00asm\x01\x00\x00\x00", 6
	seen, taken := map[wasm.Op]int{}, map[bool]int{}
	for seed := range uint64(10) {
		code, _ := newProgram(rand.New(rand.NewPCG(seed, 5)), false)
		var before, after []byte
		var bodies []byte
		for r := wasm.NewReader(code[len(head):]); !r.Done(); {
			s := r.Section()
			switch {
			case s.ID == wasm.SectionCode:
				bodies = s.Body
			case bodies == nil:
				before = wasm.AppendSection(before, s.ID, s.Body)
			default:
				after = wasm.AppendSection(after, s.ID, s.Body)
			}
		}
		r := wasm.NewReader(bodies)
		for range r.U32() {
			size := int(r.U32())
			start := r.Pos()
			for groups := r.U32(); groups > 0; groups-- {
				r.U32()
				r.Byte()
			}
			for end := start + size; r.Pos() < end; {
				from, in := r.Pos(), r.Instruction()
				for at := 1; at < len(in.Raw); at++ {
					long, ok := lengthened(in, at)
					if seen[in.Op] == maxSeen || !ok {
						continue
					}
					seen[in.Op]++
					body := slices.Concat(bodies[start:from], long, bodies[from+len(in.Raw):end])
					section := slices.Concat(bodies[:start-len(binary.AppendUvarint(nil, uint64(size)))], binary.AppendUvarint(nil, uint64(len(body))), body, bodies[end:])
					taken[compare(t, dialect, whole, slices.Concat([]byte(head), before, wasm.AppendSection(nil, wasm.SectionCode, section), after))]++
				}
			}
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	t.Logf("%d are taken, %d are not", taken[true], taken[false])
	if taken[true] < 100 || taken[false] < 10 {
		t.Error("that is too few")
	}
}
