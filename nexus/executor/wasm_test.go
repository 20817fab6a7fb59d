package executor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

// shared is one executor for all tests, so that the two Go programs are
// compiled to native code once.
var shared = sync.OnceValue(func() *executor.Wasm {
	w, err := executor.NewWasm(executor.Config{})
	if err != nil {
		panic(err)
	}
	return w
})

// programs builds the Go programs of the tests for wasip1.
var programs = sync.OnceValues(func() (out map[string][]byte, err error) {
	dir, err := os.MkdirTemp("", "executor-test-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out = map[string][]byte{}
	for name, source := range map[string]string{"probe": "./testdata/probe", "fractal": "../../sdk/examples/fractal"} {
		file := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-o", file, source)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
		if said, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building %s: %w\n%s", source, err, said)
		}
		if out[name], err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return out, nil
})

func program(t *testing.T, name string) []byte {
	t.Helper()
	all, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return all[name]
}

func wat(t testing.TB, text string) []byte {
	t.Helper()
	wasm, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return wasm
}

func generous() executor.Limits {
	return executor.Limits{
		MemoryBytes: 256 << 20, Fuel: 20e9, WallTime: 10 * time.Minute,
		OutputBytes: 16 << 20, OutputFiles: 100, LogBytes: 64 << 10,
	}
}

// run runs a task with whatever the test left out filled in, and returns what
// it wrote to stdout and stderr.
func run(t *testing.T, task executor.Task) (executor.Outcome, string) {
	t.Helper()
	var log bytes.Buffer
	task.Stdout, task.Stderr = &log, &log
	if task.OutputDir == "" {
		task.OutputDir = t.TempDir()
	}
	if task.Limits == (executor.Limits{}) {
		task.Limits = generous()
	}
	o, err := shared().Run(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	within(t, o.Usage, task.Limits)
	checkPublished(t, o, task.OutputDir)
	return o, log.String()
}

// within is invariant 4.
func within(t *testing.T, u executor.Usage, l executor.Limits) {
	t.Helper()
	if u.Fuel > l.Fuel || u.PeakMemoryBytes > l.MemoryBytes || u.OutputBytes > l.OutputBytes || u.OutputFiles > l.OutputFiles || u.LogBytes > l.LogBytes {
		t.Errorf("usage %+v is beyond limits %+v", u, l)
	}
}

// checkPublished is invariant 5: the output directory holds what the outcome
// lists, or nothing.
func checkPublished(t *testing.T, o executor.Outcome, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !o.Status.Ended() && (len(entries) > 0 || len(o.Files) > 0) {
		t.Errorf("%s published %v", o.Status, entries)
	}
	for _, f := range o.Files {
		info, err := os.Lstat(filepath.Join(dir, f.Path))
		if err != nil || !info.Mode().IsRegular() || uint64(info.Size()) != f.Bytes {
			t.Errorf("%+v is published as %v, %v", f, info, err)
		}
	}
}

func wantStatus(t *testing.T, o executor.Outcome, want executor.Status, detail string) {
	t.Helper()
	if o.Status != want || !strings.Contains(o.Detail, detail) {
		t.Errorf("status %s, exit code %d, detail %q; want %s, %q", o.Status, o.ExitCode, o.Detail, want, detail)
	}
}

const imports = `
 (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
 (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))`

// body is a module whose _start has the given instructions. Memory holds an
// iovec of 4,096 bytes at 0 and the name "f" at 16.
func body(instructions string) string {
	return `(module ` + imports + ` (memory (export "memory") 1)
 (data (i32.const 0) "\00\04\00\00\00\10\00\00") (data (i32.const 16) "f")
 (func (export "_start") ` + instructions + `))`
}

const openF = `(drop (call $path_open (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1) (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 32)))`

func TestEndings(t *testing.T) {
	small := executor.Limits{
		MemoryBytes: 4 << 20, Fuel: 50e6, WallTime: 10 * time.Minute,
		OutputBytes: 100_000, OutputFiles: 3, LogBytes: 10_000,
	}
	for _, c := range []struct {
		name, start string
		status      executor.Status
		detail      string
	}{
		{"returns", `nop`, executor.StatusOK, ""},
		{"exits with 0", `(call $proc_exit (i32.const 0))`, executor.StatusOK, ""},
		{"exits with -1", `(call $proc_exit (i32.const -1))`, executor.StatusExited, ""},
		{"unreachable", `unreachable`, executor.StatusTrapped, "unreachable"},
		{"division by zero", `(drop (i32.div_u (i32.const 1) (i32.const 0)))`, executor.StatusTrapped, "division by zero"},
		{"out of bounds", `(drop (i32.load (i32.const 65536)))`, executor.StatusTrapped, "out of bounds"},
		{"endless loop", `(loop (br 0))`, executor.StatusOutOfFuel, "50000000"},
		{"endless growth, then a trap", `(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable`, executor.StatusOutOfMemory, "memory_bytes"},
		{"endless growth, then an exit", `(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (call $proc_exit (i32.const 3))`, executor.StatusOutOfMemory, "exit code 3"},
		{"refused growth taken well", `(drop (memory.grow (i32.const 1000)))`, executor.StatusOK, ""},
		{"endless log", `(loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))`, executor.StatusOutputLimit, "log_bytes"},
		{"endless error log", `(loop (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))`, executor.StatusOutputLimit, "log_bytes"},
		{"endless file", openF + `(loop (drop (call $fd_write (i32.const 5) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))`, executor.StatusOutputLimit, "output_bytes"},
		{"a file with a hole", openF + `(drop (call $fd_pwrite (i32.const 5) (i32.const 0) (i32.const 1) (i64.const 0x7fffffffffffffff) (i32.const 8)))`, executor.StatusOutputLimit, "output_bytes"},
		{"a file at the end of all offsets", openF + `(drop (call $fd_pwrite (i32.const 5) (i32.const 0) (i32.const 1) (i64.const -1) (i32.const 8)))`, executor.StatusOutputLimit, "output_bytes"},
		{"endless files", `(loop ` + openF + ` (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1))) (br 0))`, executor.StatusOutputLimit, "output_files"},
		{"endless host calls", `(loop (drop (call $random_get (i32.const 0) (i32.const 65536))) (br 0))`, executor.StatusOutOfFuel, ""},
		{"pointers out of memory", `(drop (call $random_get (i32.const -1) (i32.const -1))) (drop (call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 8)))`, executor.StatusOK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _ := run(t, executor.Task{Module: wat(t, body(c.start)), Limits: small})
			wantStatus(t, o, c.status, c.detail)
			if c.status == executor.StatusOutOfFuel && o.Usage.Fuel != small.Fuel || c.status.Ended() && o.Usage.Fuel == 0 {
				t.Errorf("fuel %d", o.Usage.Fuel)
			}
		})
	}
}

func TestDeepRecursionIsATrap(t *testing.T) {
	o, _ := run(t, executor.Task{Module: wat(t, `(module (memory (export "memory") 1) (func $f (param i64) (call $f (i64.add (local.get 0) (i64.const 1)))) (func (export "_start") (call $f (i64.const 0))))`)})
	wantStatus(t, o, executor.StatusTrapped, "call stack exhausted in f")
}

func TestStartFunctionRunsFirst(t *testing.T) {
	o, _ := run(t, executor.Task{Module: wat(t, `(module `+imports+` (memory (export "memory") 1) (global $n (mut i32) (i32.const 1))
	 (func $init (global.set $n (i32.const 7)) (drop (call $random_get (i32.const 0) (i32.const 8)))) (start $init)
	 (func (export "_start") (call $proc_exit (global.get $n))))`)})
	if o.Status != executor.StatusExited || o.ExitCode != 7 {
		t.Errorf("outcome %+v, want exit code 7", o)
	}
}

func TestRefusals(t *testing.T) {
	const memory = `(memory (export "memory") 1)`
	const start = `(func (export "_start"))`
	for _, c := range []struct {
		name   string
		module []byte
		detail string
	}{
		{"nothing", nil, "magic"},
		{"another format", []byte("\x7fELF0123456789"), "magic"},
		{"another version", []byte("\x00asm\x02\x00\x00\x00"), "version 2"},
		{"cut off", wat(t, body("nop"))[:60], "invalid"},
		{"empty", wat(t, `(module)`), "_start"},
		{"no _start", wat(t, `(module `+memory+`)`), "no function _start"},
		{"_start is no function", wat(t, `(module `+memory+` (global (export "_start") i32 (i32.const 0)))`), "no function _start"},
		{"_start with a parameter", wat(t, `(module `+memory+` (func (export "_start") (param i32)))`), "parameters"},
		{"no memory", wat(t, `(module `+start+`)`), "no memory"},
		{"hidden memory", wat(t, `(module (memory 1) `+start+`)`), "no memory"},
		{"unknown module", wat(t, `(module (import "env" "f" (func)) `+memory+start+`)`), `"env" "f"`},
		{"unknown function", wat(t, `(module (import "wasi_snapshot_preview1" "fd_fly" (func)) `+memory+start+`)`), "fd_fly"},
		{"imported memory", wat(t, `(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) `+start+`)`), "not part of WASI"},
		{"known function of another type", wat(t, `(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64) (result i32))) `+memory+start+`)`), "another type"},
		{"reserved export", wat(t, `(module `+memory+start+` (global (export "hypermesh.memory_refused") i32 (i32.const 0)))`), "reserved"},
		{"table too large", wat(t, `(module `+memory+start+` (table 1000000 funcref))`), "table of 1000000"},
		{"too many tables", wat(t, `(module `+memory+start+strings.Repeat(` (table 1 funcref)`, 5)+`)`), "5 tables"},
		{"function too large", wat(t, `(module `+memory+start+` (func `+strings.Repeat(`nop `, 1<<20)+`))`), "limit 1048576"},
		{"shared memory", wat(t, `(module (memory (export "memory") 1 1 shared) `+start+`)`), "invalid"},
		{"tail call", wat(t, `(module `+memory+` (func $f (export "_start") (return_call $f)))`), "invalid"},
		{"module too large", make([]byte, 32<<20+1), "limit 33554432"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _ := run(t, executor.Task{Module: c.module})
			wantStatus(t, o, executor.StatusRefused, c.detail)
			if o.Usage != (executor.Usage{}) {
				t.Errorf("usage %+v of a program that never ran", o.Usage)
			}
		})
	}
}

func TestTooMuchMemoryAtTheStart(t *testing.T) {
	o, _ := run(t, executor.Task{Module: wat(t, `(module (memory (export "memory") 5000) (func (export "_start")))`)})
	wantStatus(t, o, executor.StatusOutOfMemory, "starts with 327680000 bytes")
}

func TestArgumentsAreBounded(t *testing.T) {
	module := wat(t, body("nop"))
	for detail, task := range map[string]executor.Task{
		"args has 1025":      {Args: make([]string, 1025)},
		"args has 65541":     {Args: []string{strings.Repeat("x", 65536)}},
		"args[0] contains":   {Args: []string{"a\x00b"}},
		"env[0] is not NAME": {Env: []string{"=x"}},
		"env has 65538":      {Env: []string{"A=" + strings.Repeat("x", 65535)}},
	} {
		task.Module = module
		o, _ := run(t, task)
		wantStatus(t, o, executor.StatusRefused, detail)
	}
}

func TestWronglyBuiltTasks(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*executor.Task){
		"no output directory": func(task *executor.Task) { task.OutputDir = "" },
		"is not empty":        func(task *executor.Task) { task.OutputDir = full },
		"no such file":        func(task *executor.Task) { task.InputDir = filepath.Join(full, "none") },
		"mode 7":              func(task *executor.Task) { task.Mode = 7 },
		"limit fuel is 0":     func(task *executor.Task) { task.Limits.Fuel = 0 },
		"limit wall_time":     func(task *executor.Task) { task.Limits.WallTime = -1 },
		"limit memory_bytes":  func(task *executor.Task) { task.Limits.MemoryBytes = 1 << 33 },
	} {
		task := executor.Task{Module: wat(t, body("nop")), OutputDir: t.TempDir(), Limits: generous()}
		change(&task)
		o, err := shared().Run(t.Context(), task)
		if err == nil || !strings.Contains(err.Error(), want) || o.Status != 0 {
			t.Errorf("%+v, %v; want an error with %q", o, err, want)
		}
	}
}

// An endless loop with fuel without end is ended by the clock.
func TestWallTime(t *testing.T) {
	for mode, start := range map[executor.Mode]string{
		executor.ModeDeterministic: `(loop (br 0))`,
		executor.ModeLive:          `(i64.store (i32.const 2072) (i64.const 3600000000000)) (drop (call $poll_oneoff (i32.const 2048) (i32.const 3000) (i32.const 1) (i32.const 4000)))`,
	} {
		limits := generous()
		limits.Fuel, limits.WallTime = executor.MaxFuel, 50*time.Millisecond
		o, _ := run(t, executor.Task{Module: wat(t, body(start)), Mode: mode, Limits: limits})
		wantStatus(t, o, executor.StatusTimedOut, "50ms")
		// A loop that was stopped is charged for its time, sleep is not.
		busy := mode == executor.ModeDeterministic
		if o.Usage.WallMillis < 50 || busy != (o.Usage.Fuel >= 50*executor.FuelPerMillisecond) {
			t.Errorf("mode %d: usage %+v", mode, o.Usage)
		}
	}
}

// signal closes its channel at the first write.
type signal struct {
	once sync.Once
	c    chan struct{}
}

func (s *signal) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.c) })
	return len(p), nil
}

func TestCancelEndsOneRunOnly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	limits := generous()
	limits.Fuel = executor.MaxFuel
	module := wat(t, body(`(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (loop (br 0))`))
	ends := make(chan executor.Outcome, 2)
	started := [2]*signal{{c: make(chan struct{})}, {c: make(chan struct{})}}
	other, cancelOther := context.WithCancel(t.Context())
	for i, c := range []context.Context{ctx, other} {
		task := executor.Task{Module: module, OutputDir: t.TempDir(), Limits: limits, Stdout: started[i]}
		go func() {
			o, err := shared().Run(c, task)
			if err != nil {
				t.Error(err)
			}
			ends <- o
		}()
	}
	<-started[0].c
	<-started[1].c
	cancel()
	o := <-ends
	wantStatus(t, o, executor.StatusCancelled, "context canceled")
	select {
	case o := <-ends:
		t.Errorf("the other run ended too: %+v", o)
	default:
	}
	cancelOther()
	wantStatus(t, <-ends, executor.StatusCancelled, "context canceled")

	task := executor.Task{Module: wat(t, `(module (memory (export "memory") 2) (func (export "_start")))`), OutputDir: t.TempDir(), Limits: limits}
	for range 50 {
		if o, err := shared().Run(ctx, task); err != nil || o.Status != executor.StatusCancelled {
			t.Fatalf("with an ended context: %+v, %v", o, err)
		}
	}
}

type brokenPipe struct{}

var errBroken = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

func TestBrokenLogIsAFault(t *testing.T) {
	task := executor.Task{
		Module:    wat(t, body(`(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))`)),
		OutputDir: t.TempDir(), Limits: generous(), Stdout: brokenPipe{},
	}
	if o, err := shared().Run(t.Context(), task); !errors.Is(err, errBroken) {
		t.Errorf("%+v, %v; want the writer's error", o, err)
	}
}

func TestClosedExecutor(t *testing.T) {
	w, err := executor.NewWasm(executor.Config{CacheBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	task := executor.Task{Module: wat(t, body("nop")), OutputDir: t.TempDir(), Limits: generous()}
	for range 2 { // the cache is too small for anything
		if o, err := w.Run(t.Context(), task); err != nil || o.Status != executor.StatusOK {
			t.Fatalf("%+v, %v", o, err)
		}
	}
	w.Close()
	if _, err := w.Run(t.Context(), task); err == nil {
		t.Error("a closed executor ran a program")
	}
	if _, err := executor.NewWasm(executor.Config{CompileTime: -1}); err == nil {
		t.Error("a negative compile time was taken")
	}
}

func TestCompileTimeIsBounded(t *testing.T) {
	w, err := executor.NewWasm(executor.Config{CompileTime: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	functions := strings.Repeat(`(func (result i64) `+strings.Repeat(`(i64.mul (i64.const 3)`, 100)+` (i64.const 5)`+strings.Repeat(`)`, 101), 2000)
	module := wat(t, `(module (memory (export "memory") 1) (func (export "_start")) `+functions+`)`)
	o, err := w.Run(t.Context(), executor.Task{Module: module, OutputDir: t.TempDir(), Limits: generous()})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, o, executor.StatusTimedOut, "compiling")
}

// NaNs that leave a computation have one bit pattern, whatever went in.
func TestNaNsAreCanonical(t *testing.T) {
	o, _ := run(t, executor.Task{Module: wat(t, body(`(call $proc_exit (i32.reinterpret_f32 (f32.add (f32.const nan:0x1234) (f32.const 1))))`))})
	if o.ExitCode != 0x7fc00000 {
		t.Errorf("NaN is %#x, want 0x7fc00000", o.ExitCode)
	}
}

func TestSeedIsTheRandomness(t *testing.T) {
	module := wat(t, body(`(drop (call $random_get (i32.const 64) (i32.const 4))) (call $proc_exit (i32.load (i32.const 64)))`))
	draw := func(mode executor.Mode, seed byte) uint32 {
		o, _ := run(t, executor.Task{Module: module, Mode: mode, Seed: crypto.Digest{seed}})
		return o.ExitCode
	}
	one, again, two := draw(executor.ModeDeterministic, 1), draw(executor.ModeDeterministic, 1), draw(executor.ModeDeterministic, 2)
	if one != again || one == two {
		t.Errorf("seed 1 gives %#x and %#x, seed 2 gives %#x", one, again, two)
	}
	if first, second := draw(executor.ModeLive, 1), draw(executor.ModeLive, 1); first == second {
		t.Error("live randomness repeats")
	}
}
