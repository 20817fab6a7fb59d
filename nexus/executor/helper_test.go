package executor_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/executor"
)

// helperArgument has the test's program serve as the compiler.
const helperArgument = "serve-compiler"

func TestMain(m *testing.M) {
	becomeConfined()
	if len(os.Args) > 1 && os.Args[1] == helperArgument {
		if err := executor.ServeCompiler(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func withHelper(t *testing.T, config executor.Config) *executor.Wasm {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Compiler) == 0 {
		config.Compiler = []string{self, helperArgument}
	}
	w, err := executor.NewWasm(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestHelperCompilesTheSameCode(t *testing.T) {
	w := withHelper(t, executor.Config{})
	for _, module := range [][]byte{
		wat(t, body(`(drop (memory.grow (i32.const 1)))`)),
		wat(t, `(module (memory (export "memory") 5000) (func (export "_start")))`),
		wat(t, body(`(call $proc_exit (i32.const 7))`)),
		wat(t, `(module (memory (export "memory") 1) (func $f (export "_start") (return_call $f)))`),
		[]byte("\x00asm\x01\x00\x00\x00"),
	} {
		task := executor.Task{Module: module, OutputDir: t.TempDir(), Limits: generous()}
		got, err := w.Run(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		want, err := shared().Run(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != want.Status || got.ExitCode != want.ExitCode || got.Detail != want.Detail || got.Usage.Fuel != want.Usage.Fuel {
			t.Errorf("with a helper %+v, without %+v", got, want)
		}
	}
}

// bomb is a small module whose compilation takes minutes: two thousand values
// live across twenty thousand loops.
func bomb(t *testing.T) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `(module (memory (export "memory") 1) (func (export "_start")) (func (param i64) (result i64) (local %s)`, strings.Repeat("i64 ", 2000))
	for i := 1; i <= 2000; i++ {
		fmt.Fprintf(&b, "(local.set %d (i64.mul (local.get %d) (i64.const %d)))", i, i-1, i+3)
	}
	b.WriteString(strings.Repeat(`(loop (br_if 0 (i32.wrap_i64 (local.get 0))))`, 20000))
	for i := 1; i <= 2000; i++ {
		fmt.Fprintf(&b, "(local.set 0 (i64.add (local.get 0) (local.get %d)))", i)
	}
	b.WriteString(`(local.get 0)))`)
	return wat(t, b.String())
}

func TestCompilationIsKilledAndBilled(t *testing.T) {
	const limit = 500 * time.Millisecond
	w := withHelper(t, executor.Config{CompileTime: limit})
	started := time.Now()
	o, err := w.Run(t.Context(), executor.Task{Module: bomb(t), OutputDir: t.TempDir(), Limits: generous()})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, o, executor.StatusTimedOut, "compiling")
	if want := uint64(limit/time.Millisecond) * executor.FuelPerMillisecond; o.Usage.Fuel != want || o.Usage.WallMillis != 500 {
		t.Errorf("usage is %+v, want %d of fuel and 500 ms", o.Usage, want)
	}
	w.Close() // returns once the helper is dead
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("ending took %v", took)
	}
}

func TestCloseKillsHelpers(t *testing.T) {
	w := withHelper(t, executor.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan executor.Outcome, 1)
	go func() {
		o, err := w.Run(ctx, executor.Task{Module: bomb(t), OutputDir: t.TempDir(), Limits: generous()})
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	cancel()
	wantStatus(t, <-ended, executor.StatusCancelled, "")
	w.Close()
}

func TestHelpersThatFail(t *testing.T) {
	module := wat(t, body("nop"))
	for want, command := range map[string][]string{
		"starting the compiler": {"/nonexistent/compiler"},
		"the compiler failed":   {"/bin/sh", "-c", "echo out of order >&2; exit 3"},
		"out of order":          {"/bin/sh", "-c", "echo out of order >&2; exit 3"},
		"answer has 0 bytes":    {"/bin/sh", "-c", "head -c 24 >/dev/null"},
		"signal: aborted":       {"/bin/sh", "-c", "echo no thread >&2; kill -ABRT $$"},
	} {
		_, err := withHelper(t, executor.Config{Compiler: command}).Run(t.Context(), executor.Task{Module: module, OutputDir: t.TempDir(), Limits: generous()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", command, err, want)
		}
	}
	o, err := withHelper(t, executor.Config{Compiler: []string{"/bin/sh", "-c", "sleep 0.05; echo memory allocation of 9 bytes failed >&2; kill -ABRT $$"}}).
		Run(t.Context(), executor.Task{Module: module, OutputDir: t.TempDir(), Limits: generous()})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, o, executor.StatusRefused, "out of memory")
	if o.Usage.WallMillis < 50 || o.Usage.Fuel < 50*executor.FuelPerMillisecond {
		t.Errorf("usage %+v, want the time that it took", o.Usage)
	}
}

func TestServeCompilerRefusesWildRequests(t *testing.T) {
	for _, request := range []string{"", "short", strings.Repeat("\xff", 16), strings.Repeat("\x00", 15) + "\x09" + "eight by"} {
		// It bounds the memory of its process, which reads the request first here.
		if err := executor.ReadRequest(bytes.NewReader([]byte(request))); err == nil {
			t.Errorf("request %q was taken", request)
		}
	}
	if err := executor.ReadRequest(io.MultiReader(strings.NewReader(strings.Repeat("\x00", 15)+"\x08"), strings.NewReader("eight by"))); err != nil {
		t.Error(err)
	}
}
