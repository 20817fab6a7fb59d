package vm_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

const nativeStack = 1 << 20

// frames are functions, as text, that call $f again for ever and keep something
// of every sort over the call. Each takes one i32.
func frames() map[string]string {
	many := func(n int, format string) string {
		var out strings.Builder
		for i := range n {
			out.WriteString(strings.ReplaceAll(format, "@", fmt.Sprint(i)))
		}
		return out.String()
	}
	const again = "(call $f (i32.add (local.get 0) (i32.const 1)))"
	all := map[string]string{
		"nothing":          again,
		"a result":         "(i32.add " + again + " (local.get 0))",
		"the stack":        many(500, "(i32.load offset=@ (local.get 0))") + again + many(500, "(i32.add)"),
		"parameters":       "(drop (call $wide " + many(99, "(i64.load offset=@ (local.get 0))") + ")) (i32.const 1)",
		"float parameters": "(drop (call $floats " + many(99, "(f64.load offset=@ (local.get 0))") + ")) (i32.const 1)",
		"floats":           many(300, "(f64.load offset=@ (local.get 0))") + "(drop " + again + ")" + many(299, "(f64.add)") + "(i32.trunc_sat_f64_s)",
		"through table":    "(call_indirect (type $t) (i32.add (local.get 0) (i32.const 1)) (i32.const 0))",
	}
	// What is computed before the call and again after it is kept, if the
	// compiler sees that it is the same.
	for name, value := range map[string]string{
		"sums":      "(i32.store offset=@ (i32.const 0) (i32.mul (local.get 0) (i32.const 1@7)))",
		"addresses": "(i64.store offset=@ (i32.and (i32.mul (local.get 0) (i32.const 1@7)) (i32.const 4095)) (i64.const 1))",
		"squares":   "(i32.store offset=@ (i32.clz (i32.add (local.get 0) (i32.const @))) (i32.popcnt (i32.xor (local.get 0) (i32.const @))))",
		"chains":    "(i64.store (i32.const 8) (i64.mul (i64.load offset=@ (i32.const 0)) (i64.extend_i32_u (i32.rotl (local.get 0) (i32.const @)))))",
		"doubles":   "(f64.store offset=@ (i32.const 0) (f64.sqrt (f64.convert_i32_u (i32.add (local.get 0) (i32.const @)))))",
		"roots":     "(f64.store offset=@ (i32.const 0) (f64.sqrt (f64.convert_i32_s (i32.const 1@7))))",
		"rounded":   "(f64.store offset=@ (i32.const 0) (f64.ceil (f64.mul (f64.load offset=@ (i32.const 0)) (f64.const @.3))))",
		"divisions": "(i32.store offset=@ (i32.const 0) (i32.div_u (i32.const 1@) (i32.or (local.get 0) (i32.const 1@))))",
		"choices":   "(i32.store offset=@ (i32.const 0) (select (i32.const @) (local.get 0) (i32.eq (local.get 0) (i32.const @))))",
	} {
		for _, n := range []int{20, 400} {
			all[fmt.Sprint(n, " ", name)] = many(n, value) + again + many(n, value)
		}
	}
	locals := many(300, "(local $l@ i64)")
	all["locals"] = locals + many(300, "(local.set $l@ (i64.load offset=@ (local.get 0)))") + again + many(300, "(i64.store offset=@ (i32.const 0) (local.get $l@))")
	all["a loop"] = locals + many(300, "(local.set $l@ (i64.load offset=@ (local.get 0)))") + "(loop " +
		many(300, "(local.set $l@ (i64.mul (local.get $l@) (i64.load offset=@ (i32.const 0))))") +
		"(drop " + again + ") (br_if 0 (i64.eqz (local.get $l1))))" + many(300, "(i64.store offset=@ (i32.const 0) (local.get $l@))") + "(i32.const 1)"
	// A chain in which each link stays, to be stored or computed again after the call.
	for _, n := range []int{100, 400} {
		link := []string{"clz", "popcnt", "ctz"}
		chain := "(local i32) (loop (local.set 1 (local.get 0)) "
		for i := range n {
			chain += "local.get 1 i32." + link[i%len(link)] + " local.tee 1 local.get 1 i32.store "
		}
		all[fmt.Sprint(n, " links")] = chain + "(br_if 0 (i32.eqz " + again + "))) (i32.const 1)"
	}
	return all
}

// deepest runs main until the native stack is used up, and returns what of the
// stack had been counted by then, −1 if it ended before.
func deepest(t *testing.T, engine *wasmtime.Engine, code []byte, fuel uint64, args ...any) int64 {
	t.Helper()
	metered, err := meter.Rewrite(code, meter.WeightsV1())
	if err != nil {
		t.Fatal(err)
	}
	module, err := wasmtime.NewModule(engine, metered)
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	store := wasmtime.NewStore(engine)
	defer store.Close()
	instance, err := wasmtime.NewInstance(store, module, nil)
	if err != nil {
		t.Fatal(err)
	}
	points, stack := instance.GetExport(store, meter.GlobalPoints).Global(), instance.GetExport(store, meter.GlobalStack).Global()
	if err := errors.Join(store.SetFuel(fuel), points.Set(store, wasmtime.ValI64(math.MaxInt64)), stack.Set(store, wasmtime.ValI32(math.MaxInt32))); err != nil {
		t.Fatal(err)
	}
	_, err = instance.GetFunc(store, "main").Call(store, args...)
	if err == nil || trapOf(t, err) != fmt.Sprint("trap ", wasmtime.StackOverflow) {
		return -1
	}
	return math.MaxInt32 - int64(stack.Get(store).I32())
}

// TestFramesAreCountedForMoreThanTheyAre lets functions recurse until the native
// stack is used up: by then more was counted than there is of it, and so a call
// that has less is stopped before.
func TestFramesAreCountedForMoreThanTheyAre(t *testing.T) {
	engine, portable := fueled(), fueledPortable(t)
	defer engine.Close()
	defer portable.Close()
	if meter.StackBytes >= nativeStack {
		t.Fatal("a call may have more than there is")
	}
	for name, body := range frames() {
		code, err := wasmtime.Wat2Wasm(fmt.Sprintf(`(module (memory 1) (type $t (func (param i32) (result i32))) (table 1 funcref) (elem (i32.const 0) $f)
			(func $f (export "main") (param i32) (result i32) %s)
			(func $wide (param %s) (result i32) (call $f (i32.wrap_i64 (local.get 98))))
			(func $floats (param %s) (result i32) (call $f (i32.trunc_sat_f64_s (f64.add (local.get 98) %s)))))`,
			body, strings.Repeat("i64 ", 99), strings.Repeat("f64 ", 99), "(f64.convert_i32_s (call $f (i32.const 1)))"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		counted := deepest(t, engine, code, plenty, int32(0))
		t.Logf("%s: %.2f times what it takes", name, float64(counted)/nativeStack)
		if counted < nativeStack {
			t.Errorf("%s: %d bytes are counted when %d are used up", name, counted, nativeStack)
		}
		// What a call that has all of its count takes natively, and half as much again.
		if takes := meter.StackBytes * nativeStack / counted; takes*3/2 > vm.StackBytes {
			t.Errorf("%s: a call that has %d bytes takes %d of %d", name, meter.StackBytes, takes, vm.StackBytes)
		}
		counted = deepest(t, portable, code, plenty, int32(0))
		t.Logf("%s: %.2f times what it takes without a processor", name, float64(counted)/nativeStack)
		if counted < nativeStack {
			t.Errorf("%s: %d bytes are counted when %d are used up without a processor", name, counted, nativeStack)
		}
	}
}

// TestFramesOfRandomPrograms is the same for random programs whose functions call
// themselves in their middle.
func TestFramesOfRandomPrograms(t *testing.T) {
	engine := fueled()
	defer engine.Close()
	deep := 0
	for seed := range uint64(200) {
		code, params := newProgram(rand.New(rand.NewPCG(seed, 3)), true)
		counted := deepest(t, engine, code, 10_000_000, arguments(params)...)
		if counted >= 0 && counted < nativeStack {
			t.Errorf("seed %d: %d bytes are counted when %d are used up", seed, counted, nativeStack)
		}
		if counted >= 0 {
			deep++
		}
	}
	t.Logf("%d programs use up the stack", deep)
	if deep < 60 {
		t.Error("that is too few")
	}
}
