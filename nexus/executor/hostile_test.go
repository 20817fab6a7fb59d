package executor_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/executor"
)

// hostile are programs that set out to harm the machine or the verdict, and the
// status and detail that name the limit or the rule which ends them.
var hostile = []struct {
	name   string
	module func(t *testing.T) []byte
	args   []string
	status executor.Status
	detail string
}{
	{"infinite loop", bodyOf(`(loop (br 0))`), nil, executor.StatusOutOfFuel, "limit fuel"},
	{"infinite loop without fuel's end", bodyOf(`(loop (br 0))`), nil, executor.StatusTimedOut, "limit wall_time"},
	{"memory bomb", bodyOf(`(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable`), nil, executor.StatusOutOfMemory, "limit memory_bytes"},
	{"memory bomb in Go", goProgram, []string{"hog"}, executor.StatusOutOfMemory, "limit memory_bytes"},
	{"stack bomb", textOf(`(module (memory (export "memory") 1) (func $f (call $f) (call $f)) (func (export "_start") (call $f)))`), nil, executor.StatusTrapped, "call stack exhausted"},
	{"fork of files", goProgram, []string{"scatter", "wide"}, executor.StatusOutputLimit, "limit output_files"},
	{"directories without end", goProgram, []string{"scatter", "deep"}, executor.StatusExited, ""},
	{"path escape", goProgram, []string{"escape"}, executor.StatusOK, ""},
	{"huge log", bodyOf(`(loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))`), nil, executor.StatusOutputLimit, "limit log_bytes"},
	{"huge file", bodyOf(openF + `(loop (drop (call $fd_write (i32.const 5) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))`), nil, executor.StatusOutputLimit, "limit output_bytes"},
	{"file with a hole", bodyOf(openF + `(drop (call $fd_pwrite (i32.const 5) (i32.const 0) (i32.const 1) (i64.const 0x7fffffffffffffff) (i32.const 8)))`), nil, executor.StatusOutputLimit, "limit output_bytes"},
	{"table bomb", textOf(`(module (memory (export "memory") 1) (table 1 funcref) (func (export "_start") (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 100000)) (i32.const -1)))) unreachable))`), nil, executor.StatusTrapped, ""},
	{"descriptors without end", goProgram, []string{"handles"}, executor.StatusOK, ""},
	{"the machine's functions", textOf(`(module (import "env" "system" (func (param i32))) (memory (export "memory") 1) (func (export "_start")))`), nil, executor.StatusRefused, "env"},
}

func bodyOf(instructions string) func(*testing.T) []byte { return textOf(body(instructions)) }

func textOf(text string) func(*testing.T) []byte {
	return func(t *testing.T) []byte { return wat(t, text) }
}

func goProgram(t *testing.T) []byte { return program(t, "probe") }

// All of them at once, in one executor, which then runs an honest program.
func TestHostileModules(t *testing.T) {
	var all sync.WaitGroup
	for _, c := range hostile {
		task := executor.Task{Module: c.module(t), Args: c.args, Limits: executor.Limits{
			MemoryBytes: 64 << 20, Fuel: 2e9, WallTime: 10 * time.Minute, OutputBytes: 100_000, OutputFiles: 50, LogBytes: 10_000,
		}}
		if c.status == executor.StatusTimedOut {
			task.Limits.Fuel, task.Limits.WallTime = executor.MaxFuel, 50*time.Millisecond
		}
		task.OutputDir = t.TempDir()
		all.Go(func() {
			o, err := shared().Run(t.Context(), task)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			within(t, o.Usage, task.Limits)
			checkPublished(t, o, task.OutputDir)
			if o.Status != c.status || !bytes.Contains([]byte(o.Detail), []byte(c.detail)) {
				t.Errorf("%s: %s, %q; want %s, %q", c.name, o.Status, o.Detail, c.status, c.detail)
			}
		})
	}
	all.Wait()
	o, _ := run(t, executor.Task{Module: wat(t, body("nop"))})
	wantStatus(t, o, executor.StatusOK, "")
}

// slow is a log that its reader delays by reading it elsewhere first.
type slow struct {
	bytes.Buffer
	turn chan struct{}
}

func (s *slow) Write(p []byte) (int, error) {
	select {
	case <-s.turn:
	case <-time.After(2 * time.Millisecond):
	}
	return s.Buffer.Write(p)
}

// A program that looks for the host's time in every place finds the same in a
// run that is held up at each of its lines: clocks, sleeps, loops that count
// until a clock moves, file times, and randomness.
func TestHostClockIsNotToBeFound(t *testing.T) {
	see := func(hold bool) (string, uint64) {
		log := &slow{turn: make(chan struct{})}
		if !hold {
			close(log.turn)
		}
		o, err := shared().Run(t.Context(), executor.Task{
			Module: program(t, "probe"), Args: []string{"clocks"}, OutputDir: t.TempDir(), InputDir: inputDir(t, time.Now()), Limits: generous(), Stdout: log, Stderr: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, o, executor.StatusOK, "")
		return log.String(), o.Usage.Fuel
	}
	text, fuel := see(false)
	held, heldFuel := see(true)
	if text != held || fuel != heldFuel || text == "" {
		t.Errorf("fuel %d and %d; the program saw\n%sand when held up\n%s", fuel, heldFuel, text, held)
	}
}

// What a Run leaves in memory, globals and tables is not there for the next
// one, though it uses the same machine; and a machine that was interrupted runs
// on.
func TestWarmRunsShareNothing(t *testing.T) {
	counter := wat(t, `(module `+imports+` (memory (export "memory") 1) (global $n (mut i32) (i32.const 0)) (table 2 funcref) (elem declare func $mark) (func $mark)
	 (func (export "_start")
	  (global.set $n (i32.add (global.get $n) (i32.const 1)))
	  (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 10)))
	  (if (i32.eqz (ref.is_null (table.get (i32.const 1)))) (then unreachable))
	  (table.set (i32.const 1) (ref.func $mark))
	  (call $proc_exit (i32.add (global.get $n) (i32.load (i32.const 64))))))`)
	endless := wat(t, body(`(loop (br 0))`))
	for i := range 5 {
		o, _ := run(t, executor.Task{Module: counter})
		if o.Status != executor.StatusExited || o.ExitCode != 11 {
			t.Fatalf("run %d: %+v, want exit code 11", i, o)
		}
		limits := generous()
		limits.Fuel, limits.WallTime = executor.MaxFuel, 5*time.Millisecond
		o, _ = run(t, executor.Task{Module: endless, Limits: limits})
		wantStatus(t, o, executor.StatusTimedOut, "")
	}
}

// Compiled code is found again by the name that the caller gives it, and then
// the module is not read.
func TestNamedModulesAreReadOnce(t *testing.T) {
	w, err := executor.NewWasm(executor.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	reads := 0
	task := executor.Task{Limits: generous(), ID: [32]byte{7}, Load: func() ([]byte, error) {
		reads++
		return wat(t, body(`(call $proc_exit (i32.const 3))`)), nil
	}}
	for range 3 {
		task.OutputDir = t.TempDir()
		if o, err := w.Run(t.Context(), task); err != nil || o.ExitCode != 3 {
			t.Fatalf("%+v, %v", o, err)
		}
	}
	if reads != 1 {
		t.Errorf("the module was read %d times", reads)
	}
	task.ID, task.Load = [32]byte{8}, func() ([]byte, error) { return nil, fmt.Errorf("gone") }
	if _, err := w.Run(t.Context(), task); err == nil {
		t.Error("a module that cannot be read is no error")
	}
}
