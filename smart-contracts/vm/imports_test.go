package vm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// Where the message of a caller lies in its memory, and how its parts lie in it: which
// import, how it allocates, the import's arguments, and what lies at patchAt.
const (
	messageHead = 24
	patchAt     = 256
	maxPatch    = 2 << 10
)

// callerSource is a contract whose execute and query call the import that the message
// says, with the arguments that it says, in a memory that it says, and answer with
// what the import gives. Its allocate misbehaves as the message says: it gives 0, what
// is beyond its memory, a region with too little room, a region over its own
// description, one over another's bytes, one with more bytes than room, or it asks
// the host before it answers.
func callerSource() string {
	var dispatch strings.Builder
	for i, c := range meter.HostCalls() {
		args := strings.Join([]string{"(local.get $a)", "(local.get $b)", "(local.get $c)", "(local.get $d)"}[:c.Params], " ")
		do := fmt.Sprintf("(call $%s %s)", c.Name, args)
		switch c.Result {
		case i32:
			do = "(local.set $r " + do + ")"
		case i64:
			do = "(local.set $r (i32.wrap_i64 " + do + "))"
		}
		fmt.Fprintf(&dispatch, "(if (i32.eq (local.get $which) (i32.const %d)) (then %s))\n", i, do)
	}
	call := fmt.Sprintf(`(local $at i32) (local $n i32) (local $i i32) (local $which i32)
		(local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $r i32)
		(local.set $at (i32.load (local.get $msg)))
		(local.set $n (i32.load offset=8 (local.get $msg)))
		(local.set $which (i32.load8_u (local.get $at)))
		(local.set $a (i32.load offset=4 (local.get $at)))
		(local.set $b (i32.load offset=8 (local.get $at)))
		(local.set $c (i32.load offset=12 (local.get $at)))
		(local.set $d (i32.load offset=16 (local.get $at)))
		(local.set $i (i32.const %d))
		(block $copied (loop $copy
			(br_if $copied (i32.ge_u (local.get $i) (local.get $n)))
			(i32.store8 offset=%d (i32.sub (local.get $i) (i32.const %d)) (i32.load8_u (i32.add (local.get $at) (local.get $i))))
			(local.set $i (i32.add (local.get $i) (i32.const 1)))
			(br $copy)))
		(global.set $mode (i32.load8_u offset=1 (local.get $at)))
		%s
		(if (result i32) (local.get $r) (then (local.get $r)) (else (local.get $msg)))`, messageHead, patchAt, messageHead, dispatch.String())
	text := strings.Replace(source(call, "unreachable"), "(local $i i32) (local $at", "(local $at", 1)
	text = strings.Replace(text, "(result i32) unreachable))", "(result i32) "+call+"))", 1)
	text = strings.Replace(text, "(global $next", "(global $mode (mut i32) (i32.const 0)) (global $next", 1)
	return strings.Replace(text, `(local.set $r (global.get $next))`, `
			(if (i32.eq (global.get $mode) (i32.const 1)) (then (return (i32.const 0))))
			(if (i32.eq (global.get $mode) (i32.const 2)) (then (return (i32.const -1))))
			(if (i32.eq (global.get $mode) (i32.const 3)) (then (call $region (i32.const 128) (i32.const 4000) (i32.const 1) (i32.const 0)) (return (i32.const 128))))
			(if (i32.eq (global.get $mode) (i32.const 4)) (then (call $region (i32.const 128) (i32.const 128) (i32.const 4096) (i32.const 0)) (return (i32.const 128))))
			(if (i32.eq (global.get $mode) (i32.const 5)) (then (call $region (i32.const 128) (i32.const 256) (i32.const 4096) (i32.const 0)) (return (i32.const 128))))
			(if (i32.eq (global.get $mode) (i32.const 6)) (then (call $region (i32.const 128) (i32.const 4000) (i32.const 16) (i32.const -1)) (return (i32.const 128))))
			(if (i32.eq (global.get $mode) (i32.const 7)) (then (drop (call $db_scan (i32.const 0) (i32.const 0) (i32.const 1)))))
			(if (i32.eq (global.get $mode) (i32.const 8)) (then (drop (memory.grow (i32.const 3)))))
			(local.set $r (global.get $next))`, 1)
}

// caller makes the message of a caller.
func callerMessage(which, mode byte, args [4]uint32, patch []byte) []byte {
	head := make([]byte, messageHead)
	head[0], head[1] = which, mode
	for i, arg := range args {
		binary.LittleEndian.PutUint32(head[4+4*i:], arg)
	}
	return append(head, patch[:min(len(patch), maxPatch)]...)
}

// regionText is a region's description.
func regionText(offset, capacity, length uint32) (out []byte) {
	for _, n := range []uint32{offset, capacity, length} {
		out = binary.LittleEndian.AppendUint32(out, n)
	}
	return out
}

// hostileRegions are what contracts may say of where their bytes are.
var hostileRegions = [][3]uint32{
	{400, 8, 8}, {400, 0, 0}, {0, 8, 8}, {400, 8, 9}, {1 << 31, 8, 8}, {0xffff_fffc, 8, 8}, {400, 0xffff_ffff, 0xffff_ffff},
	{131072, 0, 0}, {131071, 1, 1}, {131071, 2, 2}, {256, 12, 12}, {patchAt, 4096, 4096}, {1, 131071, 131071}, {400, 0x8000_0000, 8},
}

// hostileArguments are pointers beside patchAt, at which a region lies.
var hostileArguments = []uint32{patchAt, 0, 1, 131060, 131061, 131072, 0x7fff_ffff, 0x8000_0000, 0xffff_fff4, 0xffff_ffff}

// attempt has a caller call an import, and holds the end to what ends may be.
func attempt(t *testing.T, m *vm.Machine, code vm.Code, entry meter.Entry, message []byte) vm.Outcome {
	t.Helper()
	args := [][]byte{[]byte("env"), []byte("info"), message}
	if entry == meter.Query {
		args = [][]byte{[]byte("env"), message}
	}
	call := vm.Call{Entry: entry, Args: args, Points: 60_000_000}
	var outcomes []vm.Outcome
	for range 2 {
		w := newWorld()
		w.values["key"] = "value"
		o, err := m.Run(code, call, w)
		if err != nil {
			t.Fatalf("%s %x: a fault: %v", entry, message, err)
		}
		if w.open != 0 {
			t.Fatalf("%s %x: %d walks are open", entry, message, w.open)
		}
		if entry == meter.Query && (len(w.values) != 1 || w.values["key"] != "value") {
			t.Fatalf("%x: a query has written %q", message, w.values)
		}
		for key, value := range w.values {
			if len(key) > 64<<10 || len(value) > 128<<10 || value == "" {
				t.Fatalf("%x: %d bytes are stored under %d", message, len(value), len(key))
			}
		}
		if o.End < vm.Returned || o.End > vm.Overflowed || o.Points > call.Points || o.End != vm.Returned && o.Data != nil {
			t.Fatalf("%s %x: %v, %d points, %d bytes", entry, message, o.End, o.Points, len(o.Data))
		}
		outcomes = append(outcomes, o)
	}
	one, other := outcomes[0], outcomes[1]
	if one.End != other.End || one.Points != other.Points || !bytes.Equal(one.Data, other.Data) || one.Detail != other.Detail {
		t.Fatalf("%s %x: %v %d %q, another time %v %d %q", entry, message, one.End, one.Points, one.Detail, other.End, other.Points, other.Detail)
	}
	return one
}

// TestHostileImports: every import with every pointer and region that is none, and
// every way to allocate, ends as a call of a contract does, never as a fault.
func TestHostileImports(t *testing.T) {
	m, code := newMachine(t, vm.Config{}), codeOf(t, callerSource())
	ends := map[vm.End]int{}
	for which, c := range meter.HostCalls() {
		for _, g := range hostileRegions {
			for place := range c.Params {
				for _, arg := range hostileArguments {
					args := [4]uint32{patchAt, patchAt, patchAt, patchAt}
					args[place] = arg
					ends[attempt(t, m, code, meter.Execute, callerMessage(byte(which), 0, args, regionText(g[0], g[1], g[2]))).End]++
					if g != hostileRegions[0] {
						break // the other pointers once
					}
				}
			}
		}
		for mode := range byte(9) {
			patch := append(regionText(400, 3, 3), bytes.Repeat([]byte{0}, 132)...)
			patch = append(patch, "key"...)
			for _, entry := range []meter.Entry{meter.Execute, meter.Query} {
				ends[attempt(t, m, code, entry, callerMessage(byte(which), mode, [4]uint32{patchAt, patchAt, 1, patchAt}, patch)).End]++
			}
		}
	}
	for _, end := range []vm.End{vm.Returned, vm.Misused, vm.Aborted} {
		if ends[end] < 20 {
			t.Errorf("%d are %v", ends[end], end)
		}
	}
	t.Log(ends)
}

// FuzzImports is the same with anything.
func FuzzImports(f *testing.F) {
	for which := range meter.HostCalls() {
		for i, g := range hostileRegions {
			f.Add(byte(which), byte(i%9), uint32(patchAt), hostileArguments[i%len(hostileArguments)], uint32(patchAt), uint32(i), i%2 == 0, regionText(g[0], g[1], g[2]))
		}
	}
	m, code := newMachine(f, vm.Config{}), codeOf(f, callerSource())
	f.Fuzz(func(t *testing.T, which, mode byte, a, b, c, d uint32, query bool, patch []byte) {
		entry := meter.Execute
		if query {
			entry = meter.Query
		}
		attempt(t, m, code, entry, callerMessage(which, mode, [4]uint32{a, b, c, d}, patch))
	})
}

// TestMisuseOfTheHost: what the chain says is the contract's mistake ends the call, and
// is no fault.
func TestMisuseOfTheHost(t *testing.T) {
	m, w := newMachine(t, vm.Config{}), newWorld()
	w.fails = fmt.Errorf("reading: %w", &contract.Misuse{Why: "too much"})
	o, err := m.Run(codeOf(t, source(key+"(call $db_read (i32.const 16))", "unreachable")), execute, w)
	if err != nil || o.End != vm.Misused || !strings.Contains(o.Detail, "too much") {
		t.Errorf("%v %s, %v", o.End, o.Detail, err)
	}
}

// TestLimitsOfImports: what a contract hands in is as long as the interface says at most, and a byte more ends the call.
func TestLimitsOfImports(t *testing.T) {
	m := newMachine(t, vm.Config{})
	call := execute
	call.Points = 1 << 32
	for _, c := range []struct {
		what  string
		limit int
		with  string // the import, of what is described at 32; at 16 is a key
	}{
		{"a key that is read", 64 << 10, "(drop (call $db_read (i32.const 32)))"},
		{"a key that is removed", 64 << 10, "(call $db_remove (i32.const 32))"},
		{"a key that is written", 64 << 10, "(call $db_write (i32.const 32) (i32.const 16))"},
		{"a value", 128 << 10, "(call $db_write (i32.const 16) (i32.const 32))"},
		{"the beginning of a walk", 64 << 10, "(drop (call $db_scan (i32.const 32) (i32.const 0) (i32.const 1)))"},
		{"the end of a walk", 64 << 10, "(drop (call $db_scan (i32.const 0) (i32.const 32) (i32.const 2)))"},
		{"an address to validate", 256, "(drop (call $addr_validate (i32.const 32)))"},
		{"an address to canonicalize", 256, "(drop (call $addr_canonicalize (i32.const 32) (i32.const 48)))"},
		{"a query", 64 << 10, "(drop (call $query_chain (i32.const 32)))"},
		{"a message of Ed25519", 128 << 10, "(drop (call $ed25519_verify (i32.const 32) (i32.const 16) (i32.const 16)))"},
		{"a batch of Ed25519", 256 * 4, "(drop (call $ed25519_batch_verify (i32.const 32) (i32.const 32) (i32.const 32)))"}, // of nothing each
	} {
		more := 1
		if strings.Contains(c.what, "batch") {
			more = 4
		}
		for length, end := range map[int]vm.End{c.limit: vm.Returned, c.limit + more: vm.Misused} {
			body := "(drop (memory.grow (i32.const 30)))" + key + at32(1<<20, length, length) + "(call $region (i32.const 48) (i32.const 1500000) (i32.const 300) (i32.const 0))" + c.with + msg
			o, err := m.Run(codeOf(t, source(body, "unreachable")), call, newWorld())
			if err != nil || o.End != end {
				t.Errorf("%s of %d bytes: %v %s, %v; want %v", c.what, length, o.End, o.Detail, err, end)
			}
		}
	}
}
