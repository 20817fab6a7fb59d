package vm_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// manyType is a block's, of 16 values that come and go.
var manyType = "(type $many (func (param" + strings.Repeat(" i64", 16) + ") (result" + strings.Repeat(" i64", 16) + "))) "

// past is a function with code while so many locals have values that differ, which are used at its end.
func past(locals int, code string) string {
	return "(func (param i32) (local" + strings.Repeat(" i64", locals) + ") " + each(locals, "local.get 0 i64.load offset=%d local.set %d", 8, 1) +
		code + " " + each(locals, "local.get 0 local.get %d i64.store offset=%d", 1, 8) + ")"
}

// turn moves each of so many locals to the one before.
func turn(locals int) string {
	return "local.get 1 " + each(locals-1, "local.get %d local.set %d", 2, 1) + fmt.Sprintf("local.set %d ", locals)
}

// turning is a function with a loop that moves each of its locals to the one before, and has so many
// branches back.
func turning(locals, branches int) string {
	return past(locals, "loop $to "+turn(locals)+strings.Repeat("local.get 0 i32.load br_if $to ", branches)+"end")
}

// heightened is a function with code while so many values are on the operand stack.
func heightened(values int, code string) string {
	return "(func (param i32) (local i64) " + each(values, "local.get 0 i64.load offset=%d", 8) + code + " " +
		strings.Repeat("local.set 1 local.get 0 local.get 1 i64.store ", values) + ")"
}

// branching is a block that so many branches leave.
func branching(branches int) string {
	return "block " + strings.Repeat("local.get 0 br_if 0 ", branches) + "end "
}

// nests are blocks in each other, so deep, so often, each of which a branch leaves: locals turn in the innermost.
func nests(locals, depth, times int) string {
	leave := ""
	for i := range depth {
		leave += fmt.Sprintf("local.get 0 br_if %d ", i)
	}
	return past(locals, strings.Repeat(strings.Repeat("block ", depth)+leave+turn(locals)+strings.Repeat("end ", depth), times))
}

// among is code so often, with numbers of locals that differ, below so many.
func among(locals, times int, format string, strides ...int) string {
	var out strings.Builder
	for i := range times {
		numbers := make([]any, len(strides))
		for j, stride := range strides {
			numbers[j] = 1 + (i*stride+j)%locals
		}
		fmt.Fprintf(&out, format+" ", numbers...)
	}
	return out.String()
}

// windows are ifs, so many, each of which turns some of the locals, others than the one before.
func windows(locals, turned, ifs int) string {
	var out strings.Builder
	for i := range ifs {
		out.WriteString("local.get 0 if ")
		for _, format := range []string{"local.get %d ", "local.set %d "} {
			for j := range turned {
				fmt.Fprintf(&out, format, 1+(7*i+j)%locals)
			}
		}
		out.WriteString("end ")
	}
	return past(locals, out.String())
}

// shape is code that takes a compiler long for what it is.
type shape struct {
	name, function string
	times          int
}

// slow are the dearest shapes that are known, next to the limits or where they are dearest. A new one is a line.
var slow = []shape{
	{"15,000 loads that wait", "(func (param i32) (result i64) i64.const 0 " + each(15_000, "local.get 0 i64.load offset=%d i64.add", 8) + ")", 1},
	{"8,000 calls that wait", "(func (param i32) (result i64) i64.const 0 " + each(8_000, "i64.const %d call $one i64.add", 8) + ")", 1},
	{"4,000 sums twice", "(func (param i32 i64) " + strings.Repeat(each(4_000, "local.get 0 local.get 1 i64.const %d i64.xor i64.store", 8), 2) + ")", 1},
	{"a loop of 10 locals, 4,000 branches", turning(10, 4_000), 7},
	{"a loop of 30 locals, 1,990 branches", turning(30, 1_990), 6},
	{"a loop of 100 locals, 590 branches", turning(100, 590), 6},
	{"a loop of 900 locals, 60 branches", turning(900, 60), 6},
	{"250 branches past 3,900 values", heightened(3_900, branching(250)), 2},
	{"2,400 branches past 350 values", heightened(350, branching(2_400)), 3},
	{"4,000 loads past 3,900 values", heightened(3_900, strings.Repeat("local.get 0 i32.load local.set 0 ", 4_000)), 2},
	{"16,000 loads past 1,000 values", heightened(1_000, strings.Repeat("local.get 0 i32.load local.set 0 ", 16_000)), 1},
	{"8,000 divisions among 900 locals", past(900, among(900, 8_000, "local.get %d local.get %d i64.div_u local.set %d", 7, 13, 29)), 1},
	{"8,000 stores among 900 locals", past(900, among(900, 8_000, "local.get 0 local.get %d i64.store", 7)), 1},
	{"8,000 calls among 900 locals", past(900, among(900, 8_000, "local.get %d call $one local.set %d", 7, 11)), 1},
	{"16,600 loops", "(func " + strings.Repeat("loop end ", 16_600) + ")", 3},
	{"1,000 loops past 900 locals", past(900, strings.Repeat("loop end ", 1_000)), 3},
	{"4,000 loops of 16 values", "(func (param i32 i64) " + strings.Repeat("local.get 1 ", 16) + strings.Repeat("loop (type $many) end ", 4_000) + strings.Repeat("drop ", 16) + ")", 2},
	{"1,000 ifs of 16 values", heightened(16, strings.Repeat("local.get 0 if (type $many) "+strings.Repeat("drop ", 16)+strings.Repeat("local.get 0 i64.load ", 16)+"else end ", 1_000)), 1},
	{"2,000 ifs that turn 10 locals", past(10, strings.Repeat("local.get 0 if "+turn(10)+"end ", 2_000)), 1},
	{"1,900 ifs in each other, of 10 locals", past(10, strings.Repeat("local.get 0 if ", 1_900)+strings.Repeat(turn(10)+"end ", 1_900)), 1},
	{"600 nested blocks of 30 locals", nests(30, 100, 6), 1},
	{"300 nested blocks of 90 locals", nests(90, 100, 3), 1},
	{"1,500 nested blocks of 10 locals", nests(10, 100, 15), 1},
	{"900 nested blocks of 30 locals", nests(30, 100, 9), 1},
	{"4,000 copies among 100 locals", past(100, among(100, 4_000, "local.get 0 if local.get %d local.set %d end", 1, 1)), 1},
	{"2,000 copies among 400 locals", past(400, among(400, 2_000, "local.get 0 if local.get %d local.set %d end", 1, 1)), 1},
	{"900 ifs that turn 30 of 100 locals", windows(100, 30, 900), 1},
	{"2,780 ifs that turn 10 of 100 locals", windows(100, 10, 2_780), 1},
	{"450 ifs that turn 20 of 900 locals", windows(900, 20, 450), 1},
	{"300 calls that take 100 sizes of memory", "(func " + strings.Repeat(strings.Repeat("memory.size ", 100)+"call $hundred ", 300) + ")", 1},
	{"8,150 arms", "(func (param i32) " + strings.Repeat("local.get 0 if nop else end ", 8_150) + ")", 3},
	{"4,050 indirect calls", "(func " + strings.Repeat("i32.const 0 call_indirect (type $nothing) ", 4_050) + ")", 3},
	{"49,000 roots", "(func (result f64) f64.const 2 " + strings.Repeat("f64.sqrt ", 49_000) + ")", 1},
	{"19,900 functions", "(func)", 19_900},
	{"16,300 branches", "(func (param i32) " + strings.Repeat("local.get 0 br_if 0 ", 16_300) + ")", 3},
}

// compiling is what compiling takes of a processor, for the gas that the upload costs.
type compiling struct {
	took time.Duration
	gas  uint64
}

// perGas is in nanoseconds a unit of gas.
func (c compiling) perGas() float64 { return float64(c.took.Nanoseconds()) / float64(c.gas) }

// compilings is the machine that shapes are compiled on, each as if it were new.
type compilings struct {
	*vm.Machine
	count int
}

func (m *compilings) compile(t testing.TB, wasm []byte) compiling {
	t.Helper()
	code, gas := preparedCode(t, wasm), uploadGas(t, wasm)
	m.count++
	code.ID[0], code.ID[1], code.ID[2] = byte(m.count), byte(m.count>>8), byte(m.count>>16)
	before := processor(t)
	if err := m.Compile(code); err != nil {
		t.Fatal(err)
	}
	return compiling{processor(t) - before, gas}
}

// slowest is how many times longer for its gas code may take than a contract that people wrote.
const slowest = 17

// soon are shapes that are compiled soon, and how many times longer than hackatom each may take for its gas: all take
// longer if what bounds them, an engine that does not optimize or a price, is taken away.
var soon = map[string]float64{
	"15,000 loads that wait":                  6,
	"16,000 loads past 1,000 values":          7,
	"900 ifs that turn 30 of 100 locals":      14,
	"300 calls that take 100 sizes of memory": 14,
	"49,000 roots":                            11,
}

// TestSlowShapes: no shape that is known takes a compiler much longer for its gas than hackatom does, in the same run.
func TestSlowShapes(t *testing.T) {
	m := &compilings{Machine: newMachine(t, vm.Config{CacheBytes: 1})}
	hackatom := contractOf(t, "hackatom.wasm")
	m.compile(t, hackatom) // what the first of a machine takes is not the code's
	seen := 0
	for _, c := range slow {
		most, is := soon[c.name]
		if is {
			seen++
		} else if most = slowest; testing.Short() {
			continue
		}
		code := withFunctions(t, c.function, c.times)
		for try := 1; ; try++ { // what else the machine does may slow one and not the other
			usual, got := m.compile(t, hackatom).perGas(), m.compile(t, code).perGas()
			if got <= most*usual {
				break
			}
			if try == 3 {
				t.Errorf("%s: %.0f ns a unit of gas, %.1f times hackatom's %.0f, want %.0f times at most", c.name, got, got/usual, usual, most)
				break
			}
		}
	}
	if seen != len(soon) {
		t.Errorf("%d of %d shapes that are compiled soon are known", seen, len(soon))
	}
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
	m := &compilings{Machine: newMachine(b, vm.Config{CacheBytes: 1})}
	for _, c := range all {
		b.Run(c.name, func(b *testing.B) {
			sum := compiling{}
			for b.Loop() {
				one := m.compile(b, c.code)
				sum.took, sum.gas = sum.took+one.took, one.gas
			}
			took := sum.took / time.Duration(b.N)
			b.ReportMetric(float64(took.Nanoseconds())/1e6, "processor-ms")
			b.ReportMetric(float64(len(c.code))/1e3, "KB")
			b.ReportMetric(float64(sum.gas)/1e6, "Mgas")
			b.ReportMetric(compiling{took, sum.gas}.perGas(), "ns/gas")
		})
	}
}

// drawn is a shape of a seed: locals, values on the operand stack, and a few parts that are repeated, nested or follow
// each other.
func drawn(seed uint64) shape {
	r := rand.New(rand.NewPCG(seed, 7))
	locals := []int{1, 6, 12, 30, 60, 100, 300, 900}[r.IntN(8)]
	local := func() int { return 1 + r.IntN(locals) }
	part := func() string {
		switch r.IntN(14) {
		case 0:
			return fmt.Sprintf("local.get %d local.set %d ", local(), local())
		case 1:
			return fmt.Sprintf("local.get %d local.get %d i64.add local.set %d ", local(), local(), local())
		case 2:
			return fmt.Sprintf("local.get 0 i64.load offset=%d local.set %d ", 8*r.IntN(1000), local())
		case 3:
			return fmt.Sprintf("local.get 0 local.get %d i64.store offset=%d ", local(), 8*r.IntN(1000))
		case 4:
			return fmt.Sprintf("local.get %d call $one local.set %d ", local(), local())
		case 5:
			return "call $nothing "
		case 6:
			return fmt.Sprintf("local.get %d local.get %d local.get 0 select local.set %d ", local(), local(), local())
		case 7:
			return fmt.Sprintf("local.get %d local.get %d i64.div_u local.set %d ", local(), local(), local())
		case 8:
			return fmt.Sprintf("local.get 0 br_if %d ", r.IntN(2))
		case 9:
			return fmt.Sprintf("block local.get 0 br_table 0 %d 1 end ", r.IntN(2))
		case 10:
			return fmt.Sprintf("local.get 0 if local.get %d local.set %d end ", local(), local())
		case 11:
			return fmt.Sprintf("loop local.get %d local.set %d local.get 0 br_if 0 end ", local(), local())
		case 12:
			return turn(min(locals, 40))
		default:
			return fmt.Sprintf("local.get %d i64.const %d i64.xor local.set %d ", local(), r.Uint32(), local())
		}
	}
	var once, again strings.Builder
	for range 1 + r.IntN(5) {
		again.WriteString(part())
	}
	for range r.IntN(40) {
		once.WriteString(part())
	}
	times := []int{100, 400, 1_500, 3_000}[r.IntN(4)]
	open := []string{"block ", "loop ", "local.get 0 if "}[r.IntN(3)]
	var code string
	switch r.IntN(4) {
	case 0:
		code = strings.Repeat(open+again.String()+"end ", times)
	case 1:
		depth := min(times, 90)
		code = strings.Repeat(strings.Repeat(open+again.String(), depth)+once.String()+strings.Repeat("end ", depth), times/depth)
	case 2:
		depth := min(times, 90)
		code = strings.Repeat(strings.Repeat(open, depth)+once.String()+strings.Repeat(again.String()+"end ", depth), times/depth)
	default:
		code = open + once.String() + strings.Repeat(again.String(), times) + "end "
	}
	return shape{fmt.Sprint("seed ", seed), past(locals, "block block "+code+"end end"), 1}
}

// BenchmarkSearchSlow looks for shapes that are dearer than those that are known, and says which took longest for its gas.
func BenchmarkSearchSlow(b *testing.B) {
	m := &compilings{Machine: newMachine(b, vm.Config{CacheBytes: 1})}
	first, dearest := rand.Uint64N(1<<40), compiling{gas: 1}
	taken := 0
	for seed := first; b.Loop(); seed++ {
		c := drawn(seed)
		code := withFunctions(b, c.function, c.times)
		if _, err := meter.Prepare(code, meter.Capabilities(), meter.WeightsV1()); err != nil {
			continue // refused
		}
		taken++
		if got := m.compile(b, code); got.perGas() > dearest.perGas() {
			dearest = got
			b.Logf("%s: %.0f ns a unit of gas, %v", c.name, got.perGas(), got.took)
		}
	}
	b.ReportMetric(dearest.perGas(), "most-ns/gas")
	b.ReportMetric(float64(taken), "taken")
}
