package executor_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

const (
	kernelName  = zk.Kernel("matmul-4")
	kernelLeft  = "1,2,3,4\n5,6,7,8\n9,10,11,12\n-13,14,15,16\n"
	kernelRight = "1,0,0,0\n0,1,0,0\n0,0,1,0\n0,0,0,-1\n"
)

var kernelKeys = sync.OnceValues(func() (*groth16.Keys, error) { return groth16.Setup(kernelName, nil) })

// proving returns an executor of the small kernel and its keys.
func proving(t *testing.T) (*executor.Kernels, *groth16.Keys) {
	t.Helper()
	keys, err := kernelKeys()
	if err != nil {
		t.Fatal(err)
	}
	k := executor.NewKernels()
	k.Add(kernelName, kernelKeys)
	return k, keys
}

func kernelMatrix(t *testing.T, csv string) zk.Matrix {
	t.Helper()
	m, err := zk.ParseMatrixCSV([]byte(csv))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func kernelTask(t *testing.T) executor.KernelTask {
	return executor.KernelTask{
		Kernel:  kernelName,
		Inputs:  [][]byte{[]byte(kernelLeft), []byte(kernelRight)},
		Digests: []zk.Field{zk.LeftDigest(kernelMatrix(t, kernelLeft)), zk.RightDigest(kernelMatrix(t, kernelRight))},
		Bind:    zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{2}),
	}
}

func TestKernelComputesAndProves(t *testing.T) {
	k, keys := proving(t)
	if names := k.Names(); len(names) != 1 || names[0] != kernelName {
		t.Fatalf("kernels %v", names)
	}
	task := kernelTask(t)
	o, err := k.Run(t.Context(), task)
	if err != nil || o.Status != executor.StatusOK {
		t.Fatalf("%s %q, %v", o.Status, o.Detail, err)
	}
	const want = "1,2,3,-4\n5,6,7,-8\n9,10,11,-12\n-13,14,15,-16\n"
	if string(o.Output) != want || o.Usage.OutputBytes != uint64(len(want)) {
		t.Errorf("product of %d bytes\n%s", o.Usage.OutputBytes, o.Output)
	}
	verifier, err := groth16.NewVerifier(map[zk.Kernel][]byte{kernelName: keys.VerifyingKey()})
	if err != nil {
		t.Fatal(err)
	}
	statement := zk.Statement{
		Kernel: kernelName, VerifyingKey: keys.Digest(), Inputs: task.Digests, Output: o.Outputs, Bind: task.Bind,
	}
	if err := verifier.Verify(statement, o.Proof); err != nil {
		t.Errorf("the proof: %v", err)
	}
	statement.Bind = zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{3})
	if err := verifier.Verify(statement, o.Proof); !errors.Is(err, zk.ErrFalseProof) {
		t.Errorf("the proof for another provider: %v", err)
	}
}

// TestKernelKeysAreLetGo proves twice, with keys that are loaded once if the second
// task comes soon, and again if none came for long.
func TestKernelKeysAreLetGo(t *testing.T) {
	k, _ := proving(t)
	loads := 0
	k.Add(kernelName, func() (*groth16.Keys, error) {
		loads++
		return kernelKeys()
	})
	prove := func(want int) {
		t.Helper()
		if o, err := k.Run(t.Context(), kernelTask(t)); err != nil || o.Status != executor.StatusOK || loads != want {
			t.Fatalf("%s %q, %v, loaded %d times, want %d", o.Status, o.Detail, err, loads, want)
		}
	}
	if k.Loaded() != "" {
		t.Errorf("%s is loaded before a task came", k.Loaded())
	}
	k.Rest = time.Hour
	prove(1)
	k.Rest = time.Millisecond
	prove(1)
	for end := time.Now().Add(10 * time.Second); k.Loaded() != "" && time.Now().Before(end); {
		runtime.Gosched()
	}
	if k.Loaded() != "" {
		t.Fatal("the keys are kept")
	}
	prove(2)
}

func TestKernelRefusesByName(t *testing.T) {
	k, _ := proving(t)
	for _, c := range []struct {
		name, want string
		change     func(*executor.KernelTask)
	}{
		{"not a number", `file 0: zk: matrix row 1 column 1: "x"`, func(s *executor.KernelTask) { s.Inputs[0] = []byte(strings.Replace(kernelLeft, "1", "x", 1)) }},
		{"beyond 16 bits", "file 1: zk: matrix row 1 column 1", func(s *executor.KernelTask) { s.Inputs[1] = []byte(strings.Replace(kernelRight, "1", "40000", 1)) }},
		{"a row short", "file 0: zk: matrix of 3 rows", func(s *executor.KernelTask) { s.Inputs[0] = []byte("1,2,3,4\n5,6,7,8\n9,10,11,12\n") }},
		{"empty", "file 1: zk: matrix row 1", func(s *executor.KernelTask) { s.Inputs[1] = nil }},
		{"too long", "limit 262144", func(s *executor.KernelTask) { s.Inputs[0] = make([]byte, zk.MaxCSVSize+1) }},
		{"another size", "file 0: a matrix of 8 × 8", func(s *executor.KernelTask) {
			s.Inputs[0] = []byte(strings.TrimSuffix(strings.Repeat("1,1,1,1,1,1,1,1\n", 8), "\n"))
		}},
		{"other matrices", "input 0 has digest", func(s *executor.KernelTask) { s.Inputs[0] = s.Inputs[1] }},
		{"swapped digests", "input 0 has digest", func(s *executor.KernelTask) { s.Digests[0], s.Digests[1] = s.Digests[1], s.Digests[0] }},
		{"one input", "got 1 files", func(s *executor.KernelTask) { s.Inputs = s.Inputs[:1] }},
		{"no digests", "got 0 digests", func(s *executor.KernelTask) { s.Digests = nil }},
		{"bind beyond the field", "bind:", func(s *executor.KernelTask) { s.Bind = zk.Field{0: 0xff} }},
	} {
		task := kernelTask(t)
		c.change(&task)
		o, err := k.Run(t.Context(), task)
		if err != nil || o.Status != executor.StatusRefused || !strings.Contains(o.Detail, c.want) || len(o.Proof) != 0 {
			t.Errorf("%s: %s %q, %v, want it refused for %q", c.name, o.Status, o.Detail, err, c.want)
		}
	}
}

func TestKernelWithoutKeysIsAnError(t *testing.T) {
	k, _ := proving(t)
	task := kernelTask(t)
	task.Kernel = "matmul-8"
	if _, err := k.Run(t.Context(), task); !errors.Is(err, executor.ErrKernel) {
		t.Errorf("a kernel without keys: %v", err)
	}
}

func TestKernelOfAnEndedContextIsCancelled(t *testing.T) {
	k, _ := proving(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("nobody wants it"))
	o, err := k.Run(ctx, kernelTask(t))
	if err != nil || o.Status != executor.StatusCancelled || o.Detail != "nobody wants it" {
		t.Errorf("%s %q, %v", o.Status, o.Detail, err)
	}
}

// TestKernelKeysAreLoadedWhenNeeded: keys of one kernel are in memory at most, and nobody holds those of the one
// before; what cannot be loaded is an error of its own.
func TestKernelKeysAreLoadedWhenNeeded(t *testing.T) {
	k := executor.NewKernels()
	var loaded []weak.Pointer[groth16.Keys]
	k.Add(kernelName, func() (*groth16.Keys, error) {
		keys, err := groth16.Setup(kernelName, nil) // which the test does not hold
		loaded = append(loaded, weak.Make(keys))
		return keys, err
	})
	missing := errors.New("the disk is gone")
	k.Add("hashchain-1", func() (*groth16.Keys, error) { return nil, missing })
	run := func(task executor.KernelTask) error {
		t.Helper()
		o, err := k.Run(t.Context(), task)
		if err == nil && o.Status != executor.StatusOK {
			t.Fatalf("%s %q", o.Status, o.Detail)
		}
		return err
	}
	if len(loaded) != 0 || len(k.Names()) != 2 {
		t.Fatalf("%d loads, kernels %v", len(loaded), k.Names())
	}
	for range 2 {
		if err := run(kernelTask(t)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	if len(loaded) != 1 || loaded[0].Value() == nil {
		t.Errorf("%d loads for two tasks in a row", len(loaded))
	}
	start := zk.Field{31: 1}
	other := executor.KernelTask{Kernel: "hashchain-1", Inputs: [][]byte{[]byte(start.String())}, Digests: []zk.Field{start}}
	if err := run(other); !errors.Is(err, executor.ErrKernel) || !errors.Is(err, missing) {
		t.Errorf("keys that cannot be loaded: %v", err)
	}
	runtime.GC()
	if loaded[0].Value() != nil {
		t.Error("a kernel's keys are in memory after another's were asked for")
	}
	if err := run(kernelTask(t)); err != nil || len(loaded) != 2 {
		t.Errorf("%d loads after another kernel, %v", len(loaded), err)
	}
}
