package vm_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// dense are what becomes much native code for its length.
func dense(times int) map[string]string {
	function := func(before, code, after string) string {
		return "(func (param $i i32) (local $l i64) (local $d f64) " + before + " " + strings.Repeat(code+" ", times) + after + ")"
	}
	double := func(code string) string { return function("i32.const 0 local.get $d", code, "f64.store") }
	names, elements := "", ""
	for i := range times / 2 {
		names += fmt.Sprintf("(func $n%d)", i)
		elements += fmt.Sprintf(" $n%d", i)
	}
	return map[string]string{
		"divisions":           function("local.get $i", "local.get $i i32.div_s", "drop"),
		"remainders":          function("local.get $l", "local.get $l i64.rem_s", "drop"),
		"conversions":         double("i64.trunc_f64_s f64.convert_i64_s"),
		"saturating":          double("i64.trunc_sat_f64_u f64.convert_i64_u"),
		"roots":               double("f64.sqrt"),
		"least of":            double("local.get $d f64.min"),
		"loads":               function("local.get $i", "i32.load", "drop"),
		"stores":              function("", "local.get $i local.get $i i32.store", ""),
		"numbers":             function("", "i32.const 0 i64.const 0x7edcba9876543210 i64.store", ""),
		"bits":                function("i32.const 0 local.get $l", "i64.popcnt local.get $l i64.rotl", "i64.store"),
		"comparisons":         function("i32.const 0 local.get $l", "local.get $l i64.gt_s i64.extend_i32_u", "i64.store"),
		"selections":          function("i32.const 0 local.get $i", "local.get $i local.get $i select", "i32.store"),
		"indirect calls":      function("", "i32.const 0 call_indirect (type $nothing)", ""),
		"calls":               function("", "call $nothing", ""),
		"calls with much":     function("", strings.Repeat("global.get $next ", 10)+"call $ten", ""),
		"branches":            function("", "local.get $i br_if 0", ""),
		"tables":              function("", "block local.get $i br_table 0 0 end", ""),
		"loads that branch":   function("", "local.get $i i32.load br_if 0", ""),
		"calls and loads":     function("", "call $nothing local.get $i i32.load drop", ""),
		"loops":               function("", "loop end", ""),
		"arms":                function("", "local.get $i if else end", ""),
		"growth":              function("", "local.get $i memory.grow drop", ""),
		"globals":             function("", "i32.const 7 global.set $next", ""),
		"functions":           strings.Repeat("(func)", times),
		"functions that call": strings.Repeat("(func call $nothing)", times),
		"moves in loops":      rotated("i64", times/10, "loop $to", "", "end"),
		"moves of floats":     rotated("f64", times/10, "loop $to", "", "end"),
		"moves in arms":       rotated("i64", times/20, "local.get 0 if $to", "else", "end"),
		"moves of others":     rotated("i64", times/10, "local.get 0 if $to", "", "else", "end"),
		"values of loops":     carried(times / 8),
		"functions in tables": names + "(elem (i32.const 0) func" + elements + ")",
	}
}

// rotated is a function whose ways may each move 150 locals: within is what opens a block, and what
// ends its parts. Of four the last part alone changes the locals.
func rotated(of string, times int, within ...string) string {
	const locals = 150
	before, turn, after := "", "local.get 1 ", ""
	for i := 1; i <= locals; i++ {
		before += fmt.Sprintf("local.get 0 %s.load offset=%d local.tee %d local.set %d ", of, 8*i, i, locals+i)
		if i < locals {
			turn += fmt.Sprintf("local.get %d local.set %d ", i+1, i)
		}
		after += fmt.Sprintf("local.get 0 local.get %d %s.store offset=%d local.get 0 local.get %d %s.store offset=%d ", i, of, 8*i, locals+i, of, 8*(locals+i))
	}
	turn += fmt.Sprintf("local.set %d ", locals)
	ways := strings.Repeat("local.get 0 i32.load br_if $to ", times)
	body := within[0] + " " + turn + ways + within[1] + " " + turn + within[len(within)-1] + " "
	if len(within) == 4 {
		body = within[0] + " " + ways + within[2] + " " + turn + within[3] + " "
	}
	return "(func (param i32) (local" + strings.Repeat(" "+of, 2*locals) + ") " + before + body + after + ")"
}

// carried is a loop whose branches each take 16 values, in another order than it began with.
func carried(times int) string {
	load, set, get := "", "", ""
	for i := 1; i <= 16; i++ {
		load += fmt.Sprintf("local.get 0 i64.load offset=%d ", 8*i)
		set += fmt.Sprintf("local.set %d ", i)
		get += fmt.Sprintf("local.get %d ", i)
	}
	return "(func (param i32) (local" + strings.Repeat(" i64", 16) + ") " + load + "loop $to (type $many) " + set + get +
		strings.Repeat("local.get 0 i32.load br_if $to ", times) + strings.Repeat("drop ", 16) + "end)"
}

// TestNativeBytes: what Module.Native says a module becomes is no less than a machine counts for it, of code that is
// as dense as it can be, of the least, and of CosmWasm's own contracts.
func TestNativeBytes(t *testing.T) {
	m := newMachine(t, vm.Config{})
	become := func(name string, code []byte) (native, held int) {
		t.Helper()
		module, err := meter.Prepare(code, meter.Capabilities(), meter.WeightsV1())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, kept, err := vm.Images(m, module)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%s: %d bytes become %d, held to be %d", name, len(code), len(kept), module.Native())
		return len(kept) + vm.ModuleBytes, int(module.Native())
	}
	with := func(name, text string) (native, held int) {
		code, err := wasmtime.Wat2Wasm(strings.Replace(source(msg, "unreachable"), "(func $again", `
			(table 2000 funcref) (type $nothing (func)) (type $many (func (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64))) (func $nothing) (func $ten (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)) `+text+" (func $again", 1))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return become(name, code)
	}
	native, held := with("nothing", "")
	if native > held {
		t.Errorf("nothing: %d bytes are counted for it, held to be %d at most", native, held)
	}
	for name, text := range dense(3900) {
		// What all have in common hides nothing.
		if more, heldMore := with(name, text); more-native > heldMore-held {
			t.Errorf("%s: become %d bytes, held to be %d at most", name, more-native, heldMore-held)
		}
	}
	for _, name := range []string{"hackatom.wasm", "floaty_2.0.wasm"} {
		if native, held := become(name, contractOf(t, name)); native > held {
			t.Errorf("%s: becomes %d bytes, held to be %d at most", name, native, held)
		}
	}
}

// TestPointsAreTheSameWhateverIsKept: what a call comes to, and takes, does not show whether its code
// was in memory, on disk, or nowhere.
func TestPointsAreTheSameWhateverIsKept(t *testing.T) {
	codes := []vm.Code{
		codeOf(t, source(key+value+"(call $db_write (i32.const 16) (i32.const 32)) (call $db_read (i32.const 16))", "unreachable")),
		codeOf(t, source(trail(1)+"(loop $c (local.set $i (i32.load (local.get $i))) (br_if $c (i32.ne (local.get $i) (i32.const 131072))))"+msg, "unreachable")),
	}
	var want []vm.Outcome
	for name, config := range map[string]vm.Config{
		"memory": {}, "disk": {Dir: t.TempDir(), CacheBytes: 1}, "nowhere": {CacheBytes: 1},
	} {
		m := newMachine(t, config)
		var got []vm.Outcome
		for range 3 {
			for _, code := range codes {
				o, err := m.Run(code, execute, newWorld())
				if err != nil || o.End != vm.Returned {
					t.Fatalf("%s: %v %s, %v", name, o.End, o.Detail, err)
				}
				got = append(got, o)
			}
		}
		if want == nil {
			want = got
		}
		if !reflect.DeepEqual(got, want) || got[0].Points != got[2].Points || got[1].Points != got[5].Points {
			t.Errorf("from %s: %+v, elsewhere %+v", name, got, want)
		}
	}
}
