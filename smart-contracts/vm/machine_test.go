package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// world is a host in memory.
type world struct {
	values map[string]string
	fails  error
	query  func(request []byte, limit uint64) ([]byte, uint64, error)
	open   int // walks
}

func newWorld() *world { return &world{values: map[string]string{}} }

func (w *world) Read(key []byte) ([]byte, uint64, error) {
	if v, there := w.values[string(key)]; there {
		return []byte(v), 10, w.fails
	}
	return nil, 10, w.fails
}

func (w *world) Write(key, value []byte) (uint64, error) {
	w.values[string(key)] = string(value)
	return 10, w.fails
}

func (w *world) Remove(key []byte) (uint64, error) {
	delete(w.values, string(key))
	return 10, w.fails
}

func (w *world) Scan(start, end []byte, order vm.Order, _ uint64) (vm.Iterator, uint64, error) {
	var keys []string
	for key := range w.values {
		if key >= string(start) && (end == nil || key < string(end)) {
			keys = append(keys, key)
		}
	}
	if slices.Sort(keys); order == vm.Descending {
		slices.Reverse(keys)
	}
	w.open++
	return &steps{w, keys}, 10, w.fails
}

type steps struct {
	*world
	keys []string
}

func (s *steps) Next() ([]byte, []byte, uint64, error) {
	if len(s.keys) == 0 {
		return nil, nil, 10, s.fails
	}
	key := s.keys[0]
	s.keys = s.keys[1:]
	return []byte(key), []byte(s.values[key]), 10, s.fails
}

func (s *steps) Close() { s.open-- }

func (w *world) Canonical(address string) ([]byte, bool) {
	return []byte(strings.ToUpper(address)), len(address) > 2
}

func (w *world) Human(canonical []byte) (string, bool) {
	return strings.ToLower(string(canonical)), len(canonical) > 2
}

func (w *world) Query(request []byte, limit uint64) ([]byte, uint64, error) {
	if w.query != nil {
		return w.query(request, limit)
	}
	return append([]byte("answer to "), request...), 10, w.fails
}

// source is a contract whose execute, or query, is the given text. Its parameters
// are $env, $info and $msg; $allocate takes a length and gives a region.
func source(body, query string) string {
	var calls strings.Builder
	for _, c := range meter.HostCalls() {
		result := map[byte]string{0: "", i32: "(result i32)", i64: "(result i64)"}[c.Result]
		fmt.Fprintf(&calls, "(import \"env\" %q (func $%s (param %s) %s))\n", c.Name, c.Name, strings.Repeat("i32 ", c.Params), result)
	}
	return fmt.Sprintf(`(module %s
		(memory (export "memory") 2)
		(data (i32.const 64) "keyvaluerubbish")
		(global $next (mut i32) (i32.const 4096))
		(func (export "interface_version_8"))
		(func $allocate (export "allocate") (param $n i32) (result i32) (local $r i32)
			(local.set $r (global.get $next))
			(global.set $next (i32.add (global.get $next) (i32.add (local.get $n) (i32.const 12))))
			(call $region (local.get $r) (i32.add (local.get $r) (i32.const 12)) (local.get $n) (i32.const 0))
			(local.get $r))
		(func $region (param $r i32) (param $offset i32) (param $capacity i32) (param $length i32)
			(i32.store (local.get $r) (local.get $offset))
			(i32.store offset=4 (local.get $r) (local.get $capacity))
			(i32.store offset=8 (local.get $r) (local.get $length)))
		(func (export "deallocate") (param $r i32)
			(if (i32.eq (i32.load (local.get $r)) (i32.const 13)) (then unreachable)))
		(func $again (param i32) (result i32) (i32.add (i32.const 1) (call $again (local.get 0))))
		(func (export "execute") (param $env i32) (param $info i32) (param $msg i32) (result i32) (local $i i32) %s)
		(func (export "query") (param $env i32) (param $msg i32) (result i32) %s))`, calls.String(), body, query)
}

// key and value are regions at 16 and 32: "key", and "value" or what is told.
const key = "(call $region (i32.const 16) (i32.const 64) (i32.const 3) (i32.const 3))"
const value = "(call $region (i32.const 32) (i32.const 67) (i32.const 5) (i32.const 5))"

func at32(offset, capacity, length int) string {
	return fmt.Sprintf("(call $region (i32.const 32) (i32.const %d) (i32.const %d) (i32.const %d))", offset, capacity, length)
}

func codeOf(t testing.TB, text string) vm.Code {
	t.Helper()
	wasm, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	module, err := meter.Prepare(wasm, nil, meter.WeightsV1())
	if err != nil {
		t.Fatal(err)
	}
	return vm.Code{ID: crypto.DomainBlob.Hash(wasm), Load: func() (*meter.Module, error) { return module, nil }}
}

func newMachine(t testing.TB, config vm.Config) *vm.Machine {
	t.Helper()
	return opened(t)(vm.New(config))
}

// opened has a machine closed in the end.
func opened(t testing.TB) func(*vm.Machine, error) *vm.Machine {
	return func(m *vm.Machine, err error) *vm.Machine {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
}

var execute = vm.Call{Entry: meter.Execute, Args: [][]byte{[]byte("env"), []byte("info"), []byte("message")}, Points: 20_000_000}

// behaviour is an execute and what becomes of it.
type behaviour struct {
	name, body string
	end        vm.End
	says       string // the answer, or the detail
}

const msg = "(local.get $msg)"

// behaviours are what contracts may do.
var behaviours = []behaviour{
	{"answers", msg, vm.Returned, "message"},
	{"answers nothing", at32(64, 0, 0) + "(i32.const 32)", vm.Returned, ""},
	{"stores and reads", key + value + "(call $db_write (i32.const 16) (i32.const 32)) (call $db_read (i32.const 16))", vm.Returned, "value"},
	{"reads what is not there", key + "(if (call $db_read (i32.const 16)) (then unreachable))" + msg, vm.Returned, "message"},
	{"removes", key + value + "(call $db_write (i32.const 16) (i32.const 32)) (call $db_remove (i32.const 16)) (if (call $db_read (i32.const 16)) (then unreachable))" + msg, vm.Returned, ""},
	{"walks", key + value + "(call $db_write (i32.const 16) (i32.const 32)) (call $db_next (call $db_scan (i32.const 0) (i32.const 0) (i32.const 1)))", vm.Returned, "key\x00\x00\x00\x03value\x00\x00\x00\x05"},
	{"walks to the end", "(call $db_next (call $db_scan (i32.const 0) (i32.const 0) (i32.const 2)))", vm.Returned, "\x00\x00\x00\x00\x00\x00\x00\x00"},
	{"walks over keys", "(if (call $db_next_key (call $db_scan (i32.const 0) (i32.const 0) (i32.const 2))) (then unreachable))" + msg, vm.Returned, ""},
	{"validates", "(if (call $addr_validate " + msg + ") (then unreachable))" + msg, vm.Returned, ""},
	{"validates nothing", at32(64, 3, 0) + "(call $addr_validate (i32.const 32))", vm.Returned, "Input is empty"},
	{"validates what is short", at32(64, 2, 2) + "(call $addr_validate (i32.const 32))", vm.Returned, "invalid address"},
	{"validates what is no text", "(i32.store (i32.const 64) (i32.const -1))" + at32(64, 4, 4) + "(call $addr_validate (i32.const 32))", vm.Returned, "not valid UTF-8"},
	{"validates capitals", "(i32.store (i32.const 64) (i32.const 0x41414141))" + at32(64, 4, 4) + "(call $addr_validate (i32.const 32))", vm.Returned, "not normalized"},
	{"canonicalizes", at32(1024, 64, 0) + "(if (call $addr_canonicalize " + msg + " (i32.const 32)) (then unreachable)) (i32.const 32)", vm.Returned, "MESSAGE"},
	{"humanizes", at32(1024, 64, 0) + "(if (call $addr_humanize " + msg + " (i32.const 32)) (then unreachable)) (i32.const 32)", vm.Returned, "message"},
	{"has no room for an address", at32(1024, 6, 0) + "(call $addr_canonicalize " + msg + " (i32.const 32))", vm.Misused, "room for 6 bytes of 7"},
	{"asks the chain", "(call $query_chain " + msg + ")", vm.Returned, "answer to message"},
	{"says something", "(call $debug " + msg + ")" + msg, vm.Returned, "message"},
	{"aborts", "(call $abort " + msg + ")" + msg, vm.Aborted, "message"},
	{"aborts with rubbish", "(call $abort (i32.const -4))" + msg, vm.Misused, "described at 4294967292"},
	{"gives up", "unreachable", vm.Aborted, "unreachable"},
	{"divides by zero", "(i32.div_u (i32.const 1) (i32.const 0))", vm.Trapped, "trap"},
	{"leaves its memory", "(i32.load (i32.const -8))", vm.Trapped, "trap"},
	{"goes on for ever", "(loop (br 0))" + msg, vm.Spent, ""},
	{"goes down for ever", "(call $again (i32.const 0))", vm.Overflowed, ""},
	{"takes all memory", "(loop (drop (memory.grow (i32.const 1))) (br 0))" + msg, vm.Spent, ""},
	{"asks for more memory than there is", "(if (i32.ne (memory.grow (i32.const 511)) (i32.const -1)) (then unreachable))" + msg, vm.Returned, ""},
	{"asks the host for ever", "(loop (drop (call $db_read " + msg + ")) (br 0))" + msg, vm.Spent, ""},
	{"opens walks for ever", "(loop (drop (call $db_scan (i32.const 0) (i32.const 0) (i32.const 1))) (br 0))" + msg, vm.Spent, ""},
	{"answers from 0", "(i32.const 0)", vm.Misused, "described at 0"},
	{"answers from beyond", "(i32.const 131068)", vm.Misused, "described at 131068"},
	{"answers from −1", "(i32.const -1)", vm.Misused, "described at 4294967295"},
	{"answers with nothing at 0", at32(0, 4, 4) + "(i32.const 32)", vm.Misused, "is at 0"},
	{"answers with more than its room", at32(64, 3, 4) + "(i32.const 32)", vm.Misused, "4 bytes of 3"},
	{"answers with all bytes that can be counted", at32(64, -1, -1) + "(i32.const 32)", vm.Misused, "is at 64"},
	{"answers with what begins too late", at32(131072, 1, 0) + "(i32.const 32)", vm.Misused, "is at 131072"},
	{"answers with its own description", at32(32, 12, 12) + "(i32.const 32)", vm.Returned, "\x20\x00\x00\x00\x0c"},
	{"stores nothing", key + at32(64, 0, 0) + "(call $db_write (i32.const 16) (i32.const 32))" + msg, vm.Misused, "empty value"},
	{"stores too much", key + at32(1, 131071, 131071) + "(call $db_write (i32.const 32) (i32.const 16))" + msg, vm.Misused, "a key has 131071 bytes, limit 65536"},
	{"has a long address", at32(64, 257, 257) + "(call $addr_validate (i32.const 32))", vm.Misused, "limit 256"},
	{"goes on with no walk", "(call $db_next (i32.const 1))", vm.Misused, "walk 1 of 0"},
	{"goes on with walk 0", "(call $db_next (i32.const 0))", vm.Misused, "walk 0 of 0"},
	{"walks sideways", "(call $db_scan (i32.const 0) (i32.const 0) (i32.const 3))", vm.Misused, "order 3"},
	{"lets go of nothing", "(call $region (i32.const 32) (i32.const 13) (i32.const 1) (i32.const 0)) (i32.const 32)", vm.Aborted, "unreachable"},
	{"verifies a batch that is none", "(call $ed25519_batch_verify " + msg + msg + msg + ")", vm.Misused, "no list of sections"},
	{"verifies nothing", at32(64, 0, 0) + "(if (call $ed25519_batch_verify (i32.const 32) (i32.const 32) (i32.const 32)) (then unreachable))" + msg, vm.Returned, ""},
	{"verifies a short hash", "(if (i32.ne (call $secp256k1_verify " + msg + msg + msg + ") (i32.const 3)) (then unreachable))" + msg, vm.Returned, ""},
}

// TestCalls: each behaviour has its end, twice alike, and has used all that it was
// given or a part that it needs to the last point.
func TestCalls(t *testing.T) {
	m := newMachine(t, vm.Config{})
	var points strings.Builder
	for _, c := range behaviours {
		t.Run(c.name, func(t *testing.T) {
			code, w := codeOf(t, source(c.body, "unreachable")), newWorld()
			o, err := m.Run(code, execute, w)
			if err != nil {
				t.Fatal(err)
			}
			if o.End != c.end || !strings.Contains(string(o.Data)+o.Detail, c.says) || o.Points > execute.Points {
				t.Errorf("%v %q %q, want %v %q", o.End, o.Data, o.Detail, c.end, c.says)
			}
			if all := o.End == vm.Spent || o.End == vm.Trapped || o.End == vm.Overflowed; all != (o.Points == execute.Points) {
				t.Errorf("%v, %d of %d points", o.End, o.Points, execute.Points)
			}
			if w.open != 0 {
				t.Errorf("%d walks are open", w.open)
			}
			fmt.Fprintf(&points, "%s: %v, %d\n", c.name, o.End, o.Points)
			again, err := m.Run(code, execute, newWorld())
			if err != nil || again.End != o.End || again.Points != o.Points || !bytes.Equal(again.Data, o.Data) {
				t.Errorf("another time %v %d %q, %v; was %d", again.End, again.Points, again.Data, err, o.Points)
			}
			less := execute
			less.Points = o.Points - 1
			if o, err := m.Run(code, less, newWorld()); err != nil || c.end == vm.Returned && o.End != vm.Spent {
				t.Errorf("with a point less it ends as %v, %v", o.End, err)
			}
		})
	}
	golden.Check(t, "testdata/points.txt", points.String())
}

// TestQueriesDoNotWrite: a query reads, and is stopped when it writes.
func TestQueriesDoNotWrite(t *testing.T) {
	m := newMachine(t, vm.Config{})
	call := vm.Call{Entry: meter.Query, Args: [][]byte{[]byte("env"), []byte("message")}, Points: execute.Points}
	for _, c := range []struct {
		body string
		end  vm.End
	}{
		{key + "(drop (call $db_read (i32.const 16))) (local.get $msg)", vm.Returned},
		{key + value + "(call $db_write (i32.const 16) (i32.const 32)) (local.get $msg)", vm.Misused},
		{key + "(call $db_remove (i32.const 16)) (local.get $msg)", vm.Misused},
	} {
		w := newWorld()
		w.values["key"] = "old"
		o, err := m.Run(codeOf(t, source("unreachable", c.body)), call, w)
		if err != nil || o.End != c.end || w.values["key"] != "old" {
			t.Errorf("%s: %v %s, %v; %v", c.body, o.End, o.Detail, err, w.values)
		}
	}
	call.Entry = meter.Sudo
	if o, err := m.Run(codeOf(t, source("unreachable", "unreachable")), call, newWorld()); err != nil || o.End != vm.Misused {
		t.Errorf("an entry that is not there: %v, %v", o, err)
	}
}

// TestFaults: what is not the contract's doing is an error, and no outcome.
func TestFaults(t *testing.T) {
	m := newMachine(t, vm.Config{})
	broken := errors.New("the disk is gone")
	for _, body := range []string{
		key + "(call $db_read (i32.const 16))", key + value + "(call $db_write (i32.const 16) (i32.const 32)) (local.get $msg)",
		key + "(call $db_remove (i32.const 16)) (local.get $msg)", "(call $db_scan (i32.const 0) (i32.const 0) (i32.const 1))",
		"(call $query_chain (local.get $msg))",
	} {
		w := newWorld()
		w.fails = broken
		if o, err := m.Run(codeOf(t, source(body, "unreachable")), execute, w); !errors.Is(err, broken) {
			t.Errorf("%s: %v, %v", body, o, err)
		}
	}
	code := codeOf(t, source("(local.get $msg)", "unreachable"))
	for name, call := range map[string]vm.Call{
		"no arguments": {Entry: meter.Execute, Points: 1 << 30}, "points without bound": {Entry: meter.Execute, Args: execute.Args, Points: 1 << 63},
		"calls without bound": {Entry: meter.Execute, Args: execute.Args, Points: 1 << 30, Depth: vm.MaxDepth + 1},
	} {
		if o, err := m.Run(code, call, newWorld()); err == nil {
			t.Errorf("%s: %v", name, o)
		}
	}
	w := newWorld()
	w.query = func([]byte, uint64) ([]byte, uint64, error) { panic("out of gas") }
	raised := func() (raised any) {
		defer func() { raised = recover() }()
		o, err := m.Run(codeOf(t, source("(call $query_chain (local.get $msg))", "unreachable")), execute, w)
		return fmt.Sprint(o, err)
	}()
	if raised != "out of gas" {
		t.Errorf("a panic of the host came out as %v", raised)
	}
}

// TestNestedQueries: a contract that asks itself, as deep as it may, each time
// down a whole stack of its own.
func TestNestedQueries(t *testing.T) {
	m := newMachine(t, vm.Config{})
	code := codeOf(t, strings.Replace(source("(call $down (i32.const 2000) (local.get $msg))", "(call $down (i32.const 2000) (local.get $msg))"), "(func $again",
		`(func $down (param $n i32) (param $msg i32) (result i32)
			(if (result i32) (local.get $n) (then (call $down (i32.sub (local.get $n) (i32.const 1)) (local.get $msg))) (else (call $query_chain (local.get $msg)))))
		(func $again`, 1))
	asked := 0
	var ask func(depth int) func([]byte, uint64) ([]byte, uint64, error)
	ask = func(depth int) func([]byte, uint64) ([]byte, uint64, error) {
		return func(request []byte, limit uint64) ([]byte, uint64, error) {
			asked++
			if depth > vm.MaxDepth {
				return []byte("deep enough"), 10, nil
			}
			w := newWorld()
			w.query = ask(depth + 1)
			o, err := m.Run(code, vm.Call{Entry: meter.Query, Args: [][]byte{[]byte("env"), request}, Points: limit, Depth: depth}, w)
			if err != nil || o.End != vm.Returned {
				return nil, 0, fmt.Errorf("%v %s at depth %d, %w", o.End, o.Detail, depth, err)
			}
			return o.Data, o.Points, nil
		}
	}
	w := newWorld()
	w.query = ask(1)
	o, err := m.Run(code, vm.Call{Entry: meter.Execute, Args: execute.Args, Points: 1 << 40}, w)
	if err != nil || string(o.Data) != "deep enough" || asked != vm.MaxDepth+1 {
		t.Errorf("%v %q, %v after %d queries", o.End, o.Data, err, asked)
	}
}
