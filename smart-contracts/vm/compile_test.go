package vm_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
	"github.com/hypermesh/hypermesh/tokens"
)

// withFunctions is a contract with a function so often.
func withFunctions(t testing.TB, text string, times int) []byte {
	t.Helper()
	const more = "(table 10 funcref) (type $nothing (func)) (func $nothing) "
	code, err := wasmtime.Wat2Wasm(strings.Replace(source(msg, "unreachable"), "(func $again", more+strings.Repeat(text+" ", times)+" (func $again", 1))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// each is text for each number from 0, below n.
func each(n int, format string, args ...int) string {
	var out strings.Builder
	for i := range n {
		numbers := make([]any, len(args))
		for j, a := range args {
			numbers[j] = i*8 + a
			if a < 8 {
				numbers[j] = i + a
			}
		}
		fmt.Fprintf(&out, format+" ", numbers...)
	}
	return out.String()
}

// turning is a function with a loop that moves each of its locals to the one before, and has so many
// branches back.
func turning(locals, branches int) string {
	return "(func (param i32) (local" + strings.Repeat(" i64", locals) + ")" + each(locals, "local.get 0 i64.load offset=%d local.set %d", 8, 1) +
		"loop $to local.get 1 " + each(locals-1, "local.get %d local.set %d", 2, 1) + fmt.Sprintf("local.set %d ", locals) +
		strings.Repeat("local.get 0 i32.load br_if $to ", branches) + "end " + each(locals, "local.get 0 local.get %d i64.store offset=%d", 1, 8) + ")"
}

// heightened is a function with so many branches past values on the operand stack.
func heightened(values, branches int) string {
	return "(func (param i32) (local i64) " + each(values, "local.get 0 i64.load offset=%d", 8) + "block " + strings.Repeat("local.get 0 br_if 0 ", branches) + "end " +
		strings.Repeat("local.set 1 local.get 0 local.get 1 i64.store ", values) + ")"
}

// slow is code that takes a compiler long for what it is, at the limits.
var slow = []struct {
	name, function string
	times          int
}{
	{"a loop of 10 locals, 5,990 branches", turning(10, 5_990), 7},
	{"a loop of 30 locals, 1,990 branches", turning(30, 1_990), 15},
	{"a loop of 100 locals, 590 branches", turning(100, 590), 30},
	{"a loop of 900 locals, 60 branches", turning(900, 60), 30},
	{"250 branches past 3,900 values", heightened(3_900, 250), 2},
	{"2,400 branches past 350 values", heightened(350, 2_400), 3},
	{"16,600 loops", "(func " + strings.Repeat("loop end ", 16_600) + ")", 3},
	{"1,000 loops past 900 locals", "(func (param i32) (local" + strings.Repeat(" i64", 900) + ")" + each(900, "local.get 0 i64.load offset=%d local.set %d", 8, 1) +
		strings.Repeat("loop end ", 1_000) + each(900, "local.get 0 local.get %d i64.store offset=%d", 1, 8) + ")", 3},
	{"8,150 arms", "(func (param i32) " + strings.Repeat("local.get 0 if nop else end ", 8_150) + ")", 3},
	{"4,050 indirect calls", "(func " + strings.Repeat("i32.const 0 call_indirect (type $nothing) ", 4_050) + ")", 3},
	{"49,000 roots", "(func (result f64) f64.const 2 " + strings.Repeat("f64.sqrt ", 49_000) + ")", 1},
	{"19,900 functions", "(func)", 19_900},
	{"16,300 branches", "(func (param i32) " + strings.Repeat("local.get 0 br_if 0 ", 16_300) + ")", 3},
}

// TestSlowCode: what takes a compiler seconds is refused by name; what comes next to it, and whatever else is slow, is
// charged by what makes it so, and not by its length.
func TestSlowCode(t *testing.T) {
	for name, c := range map[string]struct{ function, why string }{
		"a loop of 900 locals, 1,000 branches": {turning(900, 1_000), "values are moved where ways meet"},
		"a loop of 100 locals, 5,000 branches": {turning(100, 5_000), "values are moved where ways meet"},
		"10,000 branches past 3,900 values":    {heightened(3_900, 10_000), "ways past 2 locals, 60 and what is on the operand stack"},
	} {
		_, err := meter.Prepare(withFunctions(t, c.function, 1), meter.Capabilities(), meter.WeightsV1())
		if refusal, ok := errors.AsType[*meter.Refusal](err); !ok || refusal.Rule != meter.RuleSize || !strings.Contains(refusal.Detail, c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range slow {
		code := withFunctions(t, c.function, c.times)
		length := uint64(len(code)) * contract.PricesV1().CodeByte
		if gas := uploadGas(t, code); gas < 3*length || gas > chain.DefaultParams().BlockGas.Units() {
			t.Errorf("%s: %d bytes cost %d gas, by their length alone %d", c.name, len(code), gas, length)
		}
	}
}

// uploadGas is what it costs to store code, but for what the state costs.
func uploadGas(t testing.TB, code []byte) uint64 {
	t.Helper()
	kv, from := state.NewOverlay(state.NewMemoryBackend()), chain.ModuleAddress("somebody")
	tokens.Credit(kv, from, chain.Hyper(1_000))
	tokens.Mint(kv, chain.Hyper(1_000))
	env := contract.Env{ChainID: "a-chain", Height: 1, Now: 1, Payer: from, Prices: contract.PricesV1(), Tx: &contract.Tx{}}
	did := contract.Do(kv, &env, from, chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}, 1<<40)
	if did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	return did.Gas
}

// BenchmarkCompileSlow is what compiling takes of a processor for the gas that an upload costs: of people's contracts,
// and of code that is made to take long.
func BenchmarkCompileSlow(b *testing.B) {
	type upload struct {
		name string
		code []byte
	}
	var all []upload
	for _, name := range []string{"hackatom.wasm", "cyberpunk.wasm", "floaty_2.0.wasm"} {
		all = append(all, upload{name, contractOf(b, name)})
	}
	for _, name := range []string{"cw20", "voucher"} {
		code, err := os.ReadFile("../templates/" + name + "/" + name + ".wasm")
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, upload{name, code})
	}
	for _, c := range slow {
		all = append(all, upload{c.name, withFunctions(b, c.function, c.times)})
	}
	m := newMachine(b, vm.Config{CacheBytes: 1})
	for i, c := range all {
		b.Run(c.name, func(b *testing.B) {
			code := preparedCode(b, c.code)
			gas := uploadGas(b, c.code)
			before := processor(b)
			for n := 0; b.Loop(); n++ {
				code.ID[0], code.ID[1], code.ID[2] = byte(i), byte(n), byte(n>>8)
				if err := m.Compile(code); err != nil {
					b.Fatal(err)
				}
			}
			took := (processor(b) - before).Nanoseconds() / int64(b.N)
			b.ReportMetric(float64(took)/1e6, "processor-ms")
			b.ReportMetric(float64(len(c.code))/1e3, "KB")
			b.ReportMetric(float64(gas)/1e6, "Mgas")
			b.ReportMetric(float64(took)/float64(gas), "ns/gas")
		})
	}
}
