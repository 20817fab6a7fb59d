package executor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

// signatures are preview 1's functions as the WebAssembly text format has them.
var signatures = map[string]string{
	"args_get": "i32 i32", "args_sizes_get": "i32 i32", "environ_get": "i32 i32", "environ_sizes_get": "i32 i32",
	"clock_res_get": "i32 i32", "clock_time_get": "i32 i64 i32", "random_get": "i32 i32",
	"poll_oneoff": "i32 i32 i32 i32", "sched_yield": "", "proc_raise": "i32",
	"fd_advise": "i32 i64 i64 i32", "fd_allocate": "i32 i64 i64", "fd_close": "i32", "fd_datasync": "i32",
	"fd_fdstat_get": "i32 i32", "fd_fdstat_set_flags": "i32 i32", "fd_fdstat_set_rights": "i32 i64 i64",
	"fd_filestat_get": "i32 i32", "fd_filestat_set_size": "i32 i64", "fd_filestat_set_times": "i32 i64 i64 i32",
	"fd_pread": "i32 i32 i32 i64 i32", "fd_prestat_dir_name": "i32 i32 i32", "fd_prestat_get": "i32 i32",
	"fd_pwrite": "i32 i32 i32 i64 i32", "fd_read": "i32 i32 i32 i32", "fd_readdir": "i32 i32 i32 i64 i32",
	"fd_renumber": "i32 i32", "fd_seek": "i32 i64 i32 i32", "fd_sync": "i32", "fd_tell": "i32 i32",
	"fd_write": "i32 i32 i32 i32", "path_create_directory": "i32 i32 i32", "path_filestat_get": "i32 i32 i32 i32 i32",
	"path_filestat_set_times": "i32 i32 i32 i32 i64 i64 i32", "path_link": "i32 i32 i32 i32 i32 i32 i32",
	"path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32", "path_readlink": "i32 i32 i32 i32 i32 i32",
	"path_remove_directory": "i32 i32 i32", "path_rename": "i32 i32 i32 i32 i32 i32", "path_symlink": "i32 i32 i32 i32 i32",
	"path_unlink_file": "i32 i32 i32", "sock_accept": "i32 i32 i32", "sock_recv": "i32 i32 i32 i32 i32 i32",
	"sock_send": "i32 i32 i32 i32 i32", "sock_shutdown": "i32 i32",
}

// script is a module that makes the calls in order, given as "name arg arg …",
// where an argument in quotes becomes a pointer and a length. It exits with 0
// when every call but the last returned 0 and the last returned want, else
// with 1000 × the call's number + its answer.
func script(t *testing.T, want int, calls ...string) []byte {
	t.Helper()
	var head, data, start strings.Builder
	next := 8192
	for name, params := range signatures {
		fmt.Fprintf(&head, "(import \"wasi_snapshot_preview1\" %q (func $%s (param %s) (result i32)))\n", name, name, params)
	}
	for i, call := range calls {
		fields := strings.Fields(call)
		types := strings.Fields(signatures[fields[0]])
		var operands []string
		for _, f := range fields[1:] {
			if text, ok := strings.CutPrefix(f, "'"); ok {
				text = strings.TrimSuffix(text, "'")
				fmt.Fprintf(&data, "(data (i32.const %d) \"%s\")\n", next, text)
				operands = append(operands, fmt.Sprint(next), fmt.Sprint(len(text)-2*strings.Count(text, `\`)))
				next += len(text)
				continue
			}
			operands = append(operands, f)
		}
		for k, o := range operands {
			operands[k] = fmt.Sprintf("(%s.const %s)", types[k], o)
		}
		expect := 0
		if i == len(calls)-1 {
			expect = want
		}
		fmt.Fprintf(&start, "(if (i32.ne (local.tee 0 (call $%s %s)) (i32.const %d)) (then (call $exit (i32.add (i32.const %d) (local.get 0)))))\n",
			fields[0], strings.Join(operands, " "), expect, 1000*(i+1))
	}
	return wat(t, `(module `+head.String()+`(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
	(memory (export "memory") 2)
	(data (i32.const 0) "\00\04\00\00\10\00\00\00")`+data.String()+`(func (export "_start") (local i32) `+start.String()+`))`)
}

// Error codes of the witx file of preview 1.
const (
	eBadf, eExist, eFault, eIlseq, eInval, eIsdir, eMfile           = 8, 20, 21, 25, 28, 31, 33
	eNametoolong, eNoent, eNotdir, eNotempty, eNotsock, eNotsup     = 37, 44, 54, 55, 57, 58
	eOverflow, eRofs, eSpipe, eXdev, eNotcapable                int = 61, 69, 70, 75, 76
)

// openW opens or creates /out/f to read and write.
const openW = "path_open 4 0 'f' 1 66 0 0 16"

var longName = "'" + strings.Repeat("n", 256) + "'"

// answers are scripts with the answer to their last call. The first file
// opened is descriptor 5; memory holds an iovec of 16 bytes at 0.
var answers = []struct {
	name  string
	want  int
	calls []string
}{
	{"descriptor that is not open", eBadf, []string{"fd_close 9"}},
	{"descriptor beyond all", eBadf, []string{"fd_fdstat_get -1 16"}},
	{"closed twice", eBadf, []string{openW, "fd_close 5", "fd_close 5"}},
	{"reading a log", eBadf, []string{"fd_read 1 0 1 16"}},
	{"writing to stdin", eBadf, []string{"fd_write 0 0 1 16"}},
	{"stdin is empty", 0, []string{"fd_read 0 0 1 16"}},
	{"reading a directory", eIsdir, []string{"fd_read 4 0 1 16"}},
	{"seeking a log", eSpipe, []string{"fd_seek 1 0 0 16"}},
	{"reading without the right", eBadf, []string{"path_open 4 0 'f' 1 64 0 0 16", "fd_read 5 0 1 20"}},
	{"writing without the right", eBadf, []string{"path_open 4 0 'f' 1 2 0 0 16", "fd_write 5 0 1 20"}},
	{"rights that grow", eNotcapable, []string{openW, "fd_fdstat_set_rights 5 0 0", "fd_fdstat_set_rights 5 2 0"}},
	{"unknown flags", eInval, []string{openW, "fd_fdstat_set_flags 5 32"}},
	{"pointer out of memory", eFault, []string{"fd_fdstat_get 1 131072"}},
	{"result out of memory", eFault, []string{"path_open 4 0 'f' 1 66 0 0 131070"}},
	{"iovec list out of memory", eFault, []string{"fd_write 1 131071 1 16"}},
	{"too many iovecs", eInval, []string{"fd_write 1 0 1025 16"}},
	{"seek before the beginning", eInval, []string{openW, "fd_seek 5 -1 1 24"}},
	{"seek to the end and on", 0, []string{openW, "fd_write 5 0 1 16", "fd_seek 5 100 2 24", "fd_tell 5 24"}},
	{"seek from nowhere", eInval, []string{openW, "fd_seek 5 0 3 24"}},
	{"allocate past all offsets", eOverflow, []string{openW, "fd_allocate 5 -1 2"}},
	{"allocate and shrink", 0, []string{openW, "fd_allocate 5 0 1000", "fd_filestat_set_size 5 3", "fd_sync 5", "fd_datasync 5", "fd_advise 5 0 0 0"}},
	{"absolute path", eNotcapable, []string{"path_open 3 0 '/etc' 0 2 0 0 16"}},
	{"above the mount", eNotcapable, []string{"path_open 4 0 '..' 0 2 0 0 16"}},
	{"above a mount with a directory", eNotcapable, []string{"path_create_directory 4 'd'", "path_open 4 0 'd/../../in' 0 2 0 0 16"}},
	{"empty path", eNoent, []string{"path_filestat_get 4 0 '' 16"}},
	{"NUL in a path", eIlseq, []string{`path_create_directory 4 'a\00b'`}},
	{"path that is not UTF-8", eIlseq, []string{`path_create_directory 4 '\ff'`}},
	{"name too long", eNametoolong, []string{"path_create_directory 4 " + longName}},
	{"path too long", eNametoolong, []string{"path_create_directory 4 0 4097"}},
	{"path from a file", eNotdir, []string{openW, "path_create_directory 5 'd'"}},
	{"path through a file", eNotdir, []string{openW, "path_create_directory 4 'f/d'"}},
	{"file with a slash", eNotdir, []string{openW, "path_filestat_get 4 0 'f/' 16"}},
	{"creating with a slash", eInval, []string{"path_open 4 0 'g/' 1 2 0 0 16"}},
	{"exclusive twice", eExist, []string{openW, "path_open 4 0 'f' 5 2 0 0 16"}},
	{"a file as a directory", eNotdir, []string{openW, "path_open 4 0 'f' 2 2 0 0 16"}},
	{"truncating a directory", eIsdir, []string{"path_open 4 0 '.' 8 2 0 0 16"}},
	{"unknown open flags", eInval, []string{"path_open 4 0 'f' 16 2 0 0 16"}},
	{"directory made twice", eExist, []string{"path_create_directory 4 'd'", "path_create_directory 4 'd/'"}},
	{"unlinking a directory", eIsdir, []string{"path_create_directory 4 'd'", "path_unlink_file 4 'd'"}},
	{"removing a file as a directory", eNotdir, []string{openW, "path_remove_directory 4 'f'"}},
	{"removing a full directory", eNotempty, []string{"path_create_directory 4 'd'", "path_create_directory 4 'd/e'", "path_remove_directory 4 'd'"}},
	{"removing the mount", eInval, []string{"path_remove_directory 4 '.'"}},
	{"creating in a removed directory", eNoent, []string{"path_create_directory 4 'd'", "path_open 4 0 'd' 2 2 0 0 16", "path_remove_directory 4 'd'", "path_create_directory 5 'e'"}},
	{"renaming into itself", eInval, []string{"path_create_directory 4 'd'", "path_rename 4 'd' 4 'd/e'"}},
	{"renaming over a full directory", eNotempty, []string{"path_create_directory 4 'd'", "path_create_directory 4 'e'", "path_create_directory 4 'e/g'", "path_rename 4 'd' 4 'e'"}},
	{"renaming over an empty directory", 0, []string{"path_create_directory 4 'd'", "path_create_directory 4 'e'", "path_rename 4 'd' 4 'e'"}},
	{"renaming a file over a directory", eIsdir, []string{openW, "path_create_directory 4 'd'", "path_rename 4 'f' 4 'd'"}},
	{"renaming a directory over a file", eNotdir, []string{openW, "path_create_directory 4 'd'", "path_rename 4 'd' 4 'f'"}},
	{"renaming a file over an open file", 0, []string{openW, "path_open 4 0 'g' 1 66 0 0 16", "path_rename 4 'f' 4 'g'", "fd_write 6 0 1 24"}},
	{"renaming to itself", 0, []string{openW, "path_rename 4 'f' 4 './f'"}},
	{"renaming out of the input", eNoent, []string{"path_rename 3 'f' 4 'f'"}},
	{"renaming into the input", eXdev, []string{openW, "path_rename 4 'f' 3 'f'"}},
	{"creating in the input", eRofs, []string{"path_open 3 0 'f' 1 64 0 0 16"}},
	{"making a directory in the input", eRofs, []string{"path_create_directory 3 'd'"}},
	{"touching the input", eRofs, []string{"fd_filestat_set_times 3 0 0 1"}},
	{"setting times", 0, []string{openW, "fd_filestat_set_times 5 7 0 9", "path_filestat_set_times 4 0 'f' 7 7 5"}},
	{"contradicting times", eInval, []string{openW, "fd_filestat_set_times 5 7 0 3"}},
	{"hard link", eNotsup, []string{openW, "path_link 4 0 'f' 4 'g'"}},
	{"symbolic link", eNotsup, []string{"path_symlink '/etc' 4 'g'"}},
	{"reading no link", eInval, []string{openW, "path_readlink 4 'f' 100 10 16"}},
	{"a file as a socket", eNotsock, []string{openW, "sock_shutdown 5 3"}},
	{"no socket", eBadf, []string{"sock_accept 9 0 16"}},
	{"signals", eNotsup, []string{"proc_raise 9"}},
	{"yielding", 0, []string{"sched_yield"}},
	{"unknown clock", eInval, []string{"clock_time_get 4 0 16"}},
	{"known clocks", 0, []string{"clock_res_get 0 16", "clock_time_get 0 0 16", "clock_time_get 1 0 16", "clock_time_get 2 0 16", "clock_time_get 3 0 16"}},
	{"waiting for nothing", eInval, []string{"poll_oneoff 0 4096 0 16"}},
	{"waiting for too much", eInval, []string{"poll_oneoff 0 4096 4097 16"}},
	{"no prestat of a log", eBadf, []string{"fd_prestat_get 1 16"}},
	{"prestat name cut off", eNametoolong, []string{"fd_prestat_dir_name 4 16 3"}},
	{"listing a file", eNotdir, []string{openW, "fd_readdir 5 100 100 0 16"}},
	{"listing from a wild cookie", eInval, []string{"fd_readdir 4 100 100 99 16"}},
	{"renumbering", 0, []string{openW, "fd_renumber 5 1", "fd_write 1 0 1 16"}},
	{"renumbered away", eBadf, []string{openW, "fd_renumber 5 1", "fd_close 5"}},
	{"renumbering to itself", 0, []string{openW, "fd_renumber 5 5", "fd_sync 5"}},
	{"renumbering to nothing", eBadf, []string{openW, "fd_renumber 5 9"}},
}

func TestHostCallAnswers(t *testing.T) {
	for _, c := range answers {
		t.Run(c.name, func(t *testing.T) {
			o, _ := run(t, executor.Task{Module: script(t, c.want, c.calls...)})
			if o.Status != executor.StatusOK {
				t.Errorf("status %s: call %d answered %d, want %d at the end (%s)", o.Status, o.ExitCode/1000, o.ExitCode%1000, c.want, o.Detail)
			}
		})
	}
}

func TestEveryHostCallSurvivesWildArguments(t *testing.T) {
	for name, params := range signatures {
		for _, wild := range []string{"-1", "0", "4", "131071", "1048576"} {
			call := name + strings.Repeat(" "+wild, len(strings.Fields(params)))
			o, _ := run(t, executor.Task{Module: script(t, -1, call)})
			if o.Status != executor.StatusExited && o.Status != executor.StatusOutputLimit {
				t.Errorf("%s: %s %s", call, o.Status, o.Detail)
			}
		}
	}
}

// What replicas must agree on, and what orders are paid by: the engine's count
// of instructions and the prices of host calls.
func TestFuelIsFrozen(t *testing.T) {
	for _, c := range []struct {
		name   string
		module []byte
		fuel   uint64
	}{
		{"an empty program", wat(t, body("nop")), 1},
		{"a loop of a thousand", wat(t, body(`(local i32) (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))`)), 7001},
		{"a growth of memory", wat(t, body(`(drop (memory.grow (i32.const 1)))`)), 11},
		{"a fill of 64 KiB", wat(t, body(`(memory.fill (i32.const 0) (i32.const 7) (i32.const 65536))`)), 32781},
		{"a copy of 63 bytes", wat(t, body(`(memory.copy (i32.const 0) (i32.const 99) (i32.const 63))`)), 13},
		{"100 random bytes", wat(t, body(`(drop (call $random_get (i32.const 0) (i32.const 100)))`)), 5404},
		{"a file", script(t, 0, "path_open 4 0 'f' 1 66 0 0 16", "fd_write 5 0 1 16"), 25092},
	} {
		o, _ := run(t, executor.Task{Module: c.module, Seed: crypto.Digest{1}})
		if o.Usage.Fuel != c.fuel {
			t.Errorf("%s used %d, want %d", c.name, o.Usage.Fuel, c.fuel)
		}
	}
}

// One instruction may move gigabytes, and one call list or move a hundred
// thousand files: what it costs follows what it does.
func TestNothingLargeIsCheap(t *testing.T) {
	limits := generous()
	limits.OutputFiles = 10_000
	const tables = `(module (memory (export "memory") 256) (table $t 200000 funcref) (data $d "` + "%s" + `")
	 (elem $e funcref (ref.null func)) (func (export "_start") `
	data := strings.Repeat("x", 64<<10)
	for instruction, least := range map[string]uint64{
		`(memory.fill (i32.const 0) (i32.const 7) (i32.const 16777216))`:    8 << 20,
		`(memory.copy (i32.const 0) (i32.const 1) (i32.const 16777215))`:    8<<20 - 64,
		`(memory.init $d (i32.const 0) (i32.const 0) (i32.const 65536))`:    32 << 10,
		`(table.fill $t (i32.const 0) (ref.null func) (i32.const 200000))`:  1_600_000,
		`(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 199999))`: 1_599_968,
		`(drop (table.grow $t (ref.null func) (i32.const 60000)))`:          480_000,
		`(memory.fill (i32.const 0) (i32.const 7) (i32.const 64))`:          32,
		`(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))`:      0,
	} {
		o, _ := run(t, executor.Task{Limits: limits, Module: wat(t, fmt.Sprintf(tables, data)+instruction+`))`)})
		wantStatus(t, o, executor.StatusOK, "")
		if o.Usage.Fuel < least || o.Usage.Fuel > least+1000+least/16 {
			t.Errorf("%s used %d, want %d and little more", instruction, o.Usage.Fuel, least)
		}
	}
	var calls []string
	for i := range 1_000 {
		calls = append(calls, fmt.Sprintf("path_create_directory 4 'd/%d'", i))
	}
	fuel := func(calls ...string) uint64 {
		o, _ := run(t, executor.Task{Limits: limits, Module: script(t, 0, calls...)})
		wantStatus(t, o, executor.StatusOK, "")
		return o.Usage.Fuel
	}
	calls = append([]string{"path_create_directory 4 'd'"}, calls...)
	made := fuel(calls...)
	if moved := fuel(append(calls, "path_rename 4 'd' 4 'e'")...) - made; moved < 1_000_000 {
		t.Errorf("moving 1,001 directories used %d", moved)
	}
	if listed := fuel(append(calls, "path_open 4 0 'd' 2 2 0 0 16", "fd_readdir 5 100 100 0 16")...) - made; listed < 1_000_000 {
		t.Errorf("listing 1,000 directories used %d", listed)
	}
}

// What a program's descriptors remember of directories is memory of the host
// that its own limit does not count.
func TestListingsAreBounded(t *testing.T) {
	limits := generous()
	limits.OutputFiles, limits.Fuel = 10_000, 1e12
	o, _ := run(t, executor.Task{Limits: limits, Module: wat(t, `(module `+imports+`
	 (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
	 (import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
	 (memory (export "memory") 1) (data (i32.const 0) ".")
	 (func (export "_start") (local $i i32) (local $fd i32)
	  (loop $make (i32.store (i32.const 8) (i32.add (i32.const 0x30303030) (i32.or (i32.or (i32.and (local.get $i) (i32.const 63)) (i32.shl (i32.and (local.get $i) (i32.const 4032)) (i32.const 2))) (i32.shl (i32.shr_u (local.get $i) (i32.const 12)) (i32.const 16)))))
	   (drop (call $mkdir (i32.const 4) (i32.const 8) (i32.const 4)))
	   (br_if $make (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))
	  (loop $list
	   (drop (call $path_open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
	   (br_if $list (i32.eqz (call $readdir (i32.load (i32.const 16)) (i32.const 32) (i32.const 64) (i64.const 0) (i32.const 24)))))
	  (call $proc_exit (i32.load (i32.const 16)))))`)})
	// Descriptors 5 to 30 hold 10,002 entries each, and 31 is refused.
	wantStatus(t, o, executor.StatusExited, "")
	if o.ExitCode != 31 {
		t.Errorf("descriptor %d was the first whose listing was refused, want 31", o.ExitCode)
	}
}

// Instructions of every form stand before the growth that must be found.
func TestScreeningKnowsEveryInstructionForm(t *testing.T) {
	limits := generous()
	limits.MemoryBytes = 1 << 20
	o, _ := run(t, executor.Task{Limits: limits, Module: wat(t, `(module (memory (export "memory") 1) (table $t 4 funcref) (elem $e func $f) (elem declare func $f) (data $d "@@@@")
	 (global $g (mut i64) (i64.const 0x4040404040404040)) (type $v (func)) (func $f)
	 (func (export "_start") (local v128 f32)
	  (block (loop (if (i32.const 0) (then (br 2)))) (block (result i32 i64) (i32.const 1) (i64.const -64)) drop drop)
	  (block (block (br_table 0 1 0 (i32.const 64))))
	  (table.set $t (i32.const 0) (ref.func $f)) (call_indirect (type $v) (i32.const 0)) (drop (ref.is_null (table.get $t (i32.const 0))))
	  (drop (table.grow $t (ref.null func) (i32.const 64))) (drop (table.size $t)) (table.fill $t (i32.const 0) (ref.null func) (i32.const 1))
	  (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1)) (elem.drop $e)
	  (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) (data.drop $d) (memory.copy (i32.const 0) (i32.const 64) (i32.const 4)) (memory.fill (i32.const 0) (i32.const 64) (i32.const 64))
	  (drop (select (result f32) (f32.const 3.0) (local.get 1) (i32.const 1))) (drop (select (i32.const 64) (i32.const 64) (i32.const 64)))
	  (drop (f64.const 0x1.0404040404040p+5)) (drop (i32.trunc_sat_f64_s (f64.const 1e99))) (drop (i64.extend32_s (global.get $g)))
	  (local.set 0 (v128.const i32x4 0x40404040 0x40404040 0x40404040 0x40404040))
	  (local.set 0 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 0) (local.get 0)))
	  (local.set 0 (i32x4.add (v128.load offset=64 (i32.const 0)) (i16x8.replace_lane 3 (local.get 0) (i32.const 64))))
	  (local.set 0 (v128.load64_lane offset=64 1 (i32.const 0) (local.get 0))) (v128.store32_lane offset=64 2 (i32.const 0) (local.get 0)) (drop (v128.load32_zero (i32.const 64)))
	  (drop (f64x2.sqrt (local.get 0))) (i64.store8 offset=64 (i32.const 0) (i64.const 64)) (drop (memory.size))
	  (drop (memory.grow (i32.const 64))) unreachable))`)})
	wantStatus(t, o, executor.StatusOutOfMemory, "memory_bytes")
}

// Whatever the bytes of a module, running it is no fault of the executor.
func FuzzModules(f *testing.F) {
	for _, text := range []string{body("nop"), body("(drop (memory.grow (i32.const 1)))"), `(module (memory (export "memory") 1) (table 3 funcref) (func $s) (start $s) (global i64 (i64.const 3)) (func (export "_start") (drop (v128.const i64x2 1 2))))`} {
		f.Add(wat(f, text))
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		limits := generous()
		limits.Fuel, limits.MemoryBytes = 1e6, 1<<20
		o, _ := run(t, executor.Task{Module: module, Limits: limits})
		if o.Status == executor.StatusRefused && strings.Contains(o.Detail, "does not compile") {
			t.Errorf("screening broke a valid module: %s", o.Detail)
		}
	})
}
