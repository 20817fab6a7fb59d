package vm_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// priced measures what a point takes in a call of a body, in picoseconds of the
// processor: prices are right where this is alike, and safe where it is low.
func priced(b *testing.B, m *vm.Machine, body string, message []byte) {
	b.Helper()
	code, w := codeOf(b, source(body, "unreachable")), newWorld()
	for i := range 1000 {
		w.values[fmt.Sprintf("key%03d", i)] = strings.Repeat("v", 100)
	}
	w.values["key"] = strings.Repeat("v", 100)
	call := vm.Call{Entry: execute.Entry, Args: [][]byte{{1}, {1}, message}, Points: 1 << 40}
	used, before := uint64(0), processor(b)
	for b.Loop() {
		o, err := m.Run(code, call, w)
		if err != nil || o.End != vm.Returned {
			b.Fatalf("%v %s, %v", o.End, o.Detail, err)
		}
		used += o.Points
	}
	b.ReportMetric(float64((processor(b)-before).Nanoseconds())*1e3/float64(used), "ps/point")
	b.ReportMetric(float64(used)/float64(b.N), "points/op")
}

// often is a loop that does something so many times.
func often(times int, do string) string {
	return fmt.Sprintf("(local.set $i (i32.const %d)) (loop $often (global.set $next (i32.const 65536)) %s (br_if $often (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))", times, do)
}

// BenchmarkInstructions is what a point takes in runs of one kind of instruction.
func BenchmarkInstructions(b *testing.B) {
	m := newMachine(b, vm.Config{})
	const locals = "(local $a i32) (local $l i64) (local $d f64) (local.set $a (i32.const 7)) (local.set $l (i64.const 7)) (local.set $d (f64.const 1.5))"
	for _, c := range []struct{ name, step string }{
		{"add", "(local.set $a (i32.add (local.get $a) (i32.const 5)))"},
		{"multiply", "(local.set $l (i64.mul (local.get $l) (i64.const 0x5851f42d4c957f2d)))"},
		{"divide", "(local.set $a (i32.add (i32.const 3) (i32.div_u (i32.const 0x7fffffff) (local.get $a))))"},
		{"divide 64", "(local.set $l (i64.add (i64.const 3) (i64.rem_u (i64.const 0x7fffffffffffffff) (local.get $l))))"},
		{"popcnt", "(local.set $l (i64.add (i64.const 3) (i64.popcnt (local.get $l))))"},
		{"load", "(local.set $a (i32.load offset=8192 (i32.and (local.get $a) (i32.const 0xfffc))))"},
		{"store", "(i32.store offset=8192 (i32.and (local.tee $a (i32.add (local.get $a) (i32.const 68))) (i32.const 0xfffc)) (local.get $a))"},
		{"float", "(local.set $d (f64.add (local.get $d) (f64.const 0.25)))"},
		{"float divide", "(local.set $d (f64.div (f64.const 3.5) (local.get $d)))"},
		{"float root", "(local.set $d (f64.add (f64.const 2) (f64.sqrt (local.get $d))))"},
		{"branch", "(block (br_if 0 (i32.and (local.tee $a (i32.add (i32.mul (local.get $a) (i32.const 1103515245)) (i32.const 12345))) (i32.const 65536))) (local.set $l (i64.add (local.get $l) (i64.const 1))))"},
		{"call", "(call $region (i32.const 16) (i32.const 1) (i32.const 2) (i32.const 3))"},
	} {
		b.Run(c.name, func(b *testing.B) {
			priced(b, m, locals+often(5000, strings.Repeat(c.step, 100))+msg, []byte("message"))
		})
	}
}

// BenchmarkImports is what a point takes in calls of each import, with what takes it
// longest. The world's own prices are next to nothing, and so is what it does.
func BenchmarkImports(b *testing.B) {
	m := newMachine(b, vm.Config{})
	hash := sha256.Sum256([]byte("message"))
	both := curves(b)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	long := make([]byte, 48<<10)
	for _, c := range []struct {
		name string
		args []any // bytes, or numbers
	}{
		{"debug", []any{make([]byte, 2<<10)}},
		{"db_read", []any{[]byte("key")}},
		{"db_write", []any{[]byte("key"), make([]byte, 100)}},
		{"db_remove", []any{[]byte("no")}},
		{"addr_validate", []any{[]byte("message")}},
		{"addr_canonicalize", []any{[]byte("message"), room(64)}},
		{"query_chain", []any{make([]byte, 100)}},
		{"secp256k1_verify", []any{hash[:], both[0].sign(hash[:]), both[0].whole}},
		{"secp256r1_verify", []any{hash[:], both[1].sign(hash[:]), both[1].whole}},
		{"secp256k1_recover_pubkey", []any{hash[:], both[0].sign(hash[:]), 0}},
		{"ed25519_verify", []any{hash[:], ed25519.Sign(key, hash[:]), []byte(key.Public().(ed25519.PublicKey))}},
		{"ed25519_verify", []any{long, ed25519.Sign(key, long), []byte(key.Public().(ed25519.PublicKey))}},
		{"bls12_381_aggregate_g1", []any{g1s(2, 3, 4, 5), room(48)}},
		{"bls12_381_aggregate_g2", []any{g2s(2, 3, 4, 5), room(96)}},
		{"bls12_381_hash_to_g1", []any{0, []byte("message"), []byte("domain"), room(48)}},
		{"bls12_381_hash_to_g2", []any{0, []byte("message"), []byte("domain"), room(96)}},
		{"bls12_381_pairing_equality", []any{g1s(2), g2s(3), g1s(6), g2s(1)}},
	} {
		var regions, args strings.Builder
		var message []byte
		size := 0
		for i, arg := range c.args {
			at := 16 + 16*i
			switch arg := arg.(type) {
			case int:
				fmt.Fprintf(&args, "(i32.const %d) ", arg)
				continue
			case room:
				fmt.Fprintf(&regions, "(call $region (i32.const %d) (i32.const 1024) (i32.const %d) (i32.const 0))", at, arg)
			case []byte:
				fmt.Fprintf(&regions, "(call $region (i32.const %d) (i32.add (i32.load (local.get $msg)) (i32.const %d)) (i32.const %d) (i32.const %d))", at, len(message), len(arg), len(arg))
				message = append(message, arg...)
				size += len(arg)
			}
			fmt.Fprintf(&args, "(i32.const %d) ", at)
		}
		do := fmt.Sprintf("(call $%s %s)", c.name, args.String())
		if c.name != "db_write" && c.name != "db_remove" && c.name != "debug" {
			do = "(drop " + do + ")"
		}
		body := "(drop (memory.grow (i32.const 6)))" + regions.String() + strings.ReplaceAll(often(200, do), "(i32.const 65536)", "(i32.const 262144)") + "(call $region (i32.const 8) (i32.const 1024) (i32.const 1) (i32.const 1)) (i32.const 8)"
		b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) { priced(b, m, body, message) })
	}
}
