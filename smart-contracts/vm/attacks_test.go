package vm_test

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// resident is how much memory this process has.
func resident(t testing.TB) int {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// attacks are contracts that take what they can: of the processor, of memory, of the
// stack, of the host.
var attacks = []behaviour{
	{"loop", "(loop (br 0))" + msg, vm.Spent, ""},
	{"loop of divisions", "(local.set $i (i32.const 1)) (loop (local.set $i (i32.div_s (i32.const 2147483647) (local.get $i))) (br 0))" + msg, vm.Spent, ""},
	{"loop of loads", "(loop (local.set $i (i32.load (i32.and (i32.mul (local.get $i) (i32.const 1103515245)) (i32.const 0x1fff0)))) (br 0))" + msg, vm.Spent, ""},
	{"loop that traps", "(local.set $i (i32.const 1000000)) (loop (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if 0 (local.get $i))) (i32.div_u (i32.const 1) (i32.const 0))", vm.Trapped, ""},
	{"memory", `(loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
		(loop $use (i64.store (local.get $i) (i64.const -1)) (local.set $i (i32.add (local.get $i) (i32.const 4096)))
			(br_if $use (i32.lt_u (local.get $i) (i32.const 33554432)))) (unreachable)`, vm.Aborted, ""},
	{"memory that is filled", `(drop (memory.grow (i32.const 510))) (local.set $i (i32.const 8192))
		(loop $use (i64.store (local.get $i) (i64.const -1)) (local.set $i (i32.add (local.get $i) (i32.const 8)))
			(br_if $use (i32.lt_u (local.get $i) (i32.const 33554432)))) (unreachable)`, vm.Spent, ""},
	{"loads far from each other", trail(16) + "(loop $chase " + strings.Repeat("(local.set $i (i32.load (local.get $i)))", 40) + "(br $chase))" + msg, vm.Spent, ""},
	{"recursion", "(call $again (i32.const 0))", vm.Overflowed, ""},
	{"answer", "(drop (memory.grow (i32.const 510))) (call $region (i32.const 32) (i32.const 4096) (i32.const 33000000) (i32.const 33000000)) (i32.const 32)", vm.Returned, ""},
	{"host calls", key + "(loop (drop (call $db_read (i32.const 16))) (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))" + msg, vm.Returned, ""},
	{"host calls for ever", key + "(loop (drop (call $db_read (i32.const 16))) (br 0))" + msg, vm.Spent, ""},
	{"storage", at32(4096, 100_000, 100_000) + "(loop (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1))) " + key + "(call $db_write (i32.const 16) (i32.const 32)) (br 0))" + msg, vm.Spent, ""},
	{"walks", "(loop (global.set $next (i32.const 65536)) (drop (call $db_next (call $db_scan (i32.const 0) (i32.const 0) (i32.const 1)))) (br 0))" + msg, vm.Spent, ""},
	{"hashes to a curve", at32(65536, 48, 0) + "(loop (drop (call $bls12_381_hash_to_g1 (i32.const 0) " + msg + msg + "(i32.const 32))) (br 0))" + msg, vm.Spent, ""},
	{"signatures", at32(4096, 64, 64) + "(call $region (i32.const 16) (i32.const 4096) (i32.const 32) (i32.const 32)) (call $region (i32.const 48) (i32.const 4096) (i32.const 33) (i32.const 33)) (loop (drop (call $secp256k1_verify (i32.const 16) (i32.const 32) (i32.const 48))) (br 0))" + msg, vm.Spent, ""},
}

// attackPoints are what an attack may use: some tens of milliseconds.
const attackPoints = 150_000_000

// TestAttacks: each is stopped where it should be, and leaves nothing behind: the node's
// memory does not grow with them.
func TestAttacks(t *testing.T) {
	m := newMachine(t, vm.Config{})
	var codes []vm.Code
	for _, c := range attacks {
		codes = append(codes, codeOf(t, source(c.body, "unreachable")))
	}
	call := execute
	call.Points = attackPoints
	round := func() {
		for i, c := range attacks {
			o, err := m.Run(codes[i], call, newWorld())
			if err != nil || o.End != c.end || o.Points > call.Points {
				t.Errorf("%s: %v %s, %d points, %v; want %v", c.name, o.End, o.Detail, o.Points, err, c.end)
			}
			if all := c.end == vm.Spent || c.end == vm.Trapped || c.end == vm.Overflowed; all && o.Points != call.Points {
				t.Errorf("%s: %v at %d points", c.name, o.End, o.Points)
			}
		}
	}
	// What a first round leaves is kept for the next: it stops growing.
	round()
	before := resident(t)
	for windows := 0; ; windows++ {
		for range 4 {
			round()
		}
		grown := resident(t) - before
		if grown < 16<<20 {
			break
		}
		if windows == 8 {
			t.Fatalf("%d bytes more are used after every four rounds", grown)
		}
		before += grown
	}
}

// attackContract is a contract that does what the first byte of its message says: the attack of that number.
func attackContract() string {
	var cases strings.Builder
	for i, attack := range attacks {
		fmt.Fprintf(&cases, "(if (i32.eq (i32.load8_u (i32.load (local.get $msg))) (i32.const %d)) (then (return (block (result i32) %s))))\n", i, attack.body)
	}
	return made(source(cases.String()+msg, "unreachable"))
}

// TestAttackContract: the module with which tests of networks attack is of these attacks.
func TestAttackContract(t *testing.T) {
	module, err := wasmtime.Wat2Wasm(attackContract())
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/attacks.wasm", module)
	if len(attacks) != 15 {
		t.Errorf("%d attacks: cmd/hypermesh knows 15", len(attacks))
	}
}

// TestFillsAreRefused: what takes long in one instruction is refused at upload.
func TestFillsAreRefused(t *testing.T) {
	for _, body := range []string{
		"(memory.fill (i32.const 0) (i32.const 0) (i32.const 33554432))", "(memory.copy (i32.const 0) (i32.const 8) (i32.const 33554432))",
	} {
		wasm, err := wasmtime.Wat2Wasm(source(body+msg, "unreachable"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = meter.Prepare(wasm, nil, meter.WeightsV1())
		if r, ok := errors.AsType[*meter.Refusal](err); !ok || r.Rule != meter.RuleBulkMemory {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// processor is how much of the processor this process has used.
func processor(b testing.TB) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkAttacks is what a point takes at most, in picoseconds: what a chain's blocks
// may hold follows from the largest.
func BenchmarkAttacks(b *testing.B) {
	m := newMachine(b, vm.Config{})
	for _, c := range attacks {
		code := codeOf(b, source(c.body, "unreachable"))
		b.Run(c.name, func(b *testing.B) {
			call := execute
			call.Points = attackPoints
			used, before := uint64(0), processor(b)
			for b.Loop() {
				o, err := m.Run(code, call, newWorld())
				if err != nil || o.End != c.end {
					b.Fatalf("%v %s, %v", o.End, o.Detail, err)
				}
				used += o.Points
			}
			b.ReportMetric(float64((processor(b)-before).Nanoseconds())*1e3/float64(used), "ps/point")
		})
	}
}
