package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// ErrKernel says that this node has no keys for a kernel.
var ErrKernel = errors.New("executor: no keys for the kernel")

// Kernels computes and proves statements of zk kernels. Safe for concurrent
// use. A proof takes every processor, so they are made one after another. Keys
// are loaded when a task first needs them, and those of one kernel are kept until
// none has been proven for Rest.
type Kernels struct {
	// Rest is after how long without a task the keys are let go; it is set before the
	// first task.
	Rest time.Duration

	turn chan struct{} // holds one token while a proof is made

	mu    sync.Mutex
	loads map[zk.Kernel]func() (*groth16.Keys, error)

	prover *groth16.Prover // of the last task; whoever has the turn
	used   time.Time       // when it was; whoever has the turn
	rest   *time.Timer     // of letGo; whoever has the turn
}

// restOfKernels is how long keys are kept, which take tens of MiB, for a next task.
const restOfKernels = 2 * time.Minute

// NewKernels returns an executor that knows no kernel yet.
func NewKernels() *Kernels {
	return &Kernels{Rest: restOfKernels, turn: make(chan struct{}, 1), loads: map[zk.Kernel]func() (*groth16.Keys, error){}}
}

// Add has the executor prove a kernel from now on, with the keys that load
// returns.
func (k *Kernels) Add(kernel zk.Kernel, load func() (*groth16.Keys, error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loads[kernel] = load
}

// take returns the prover of a kernel, for whoever has the turn. Loading it
// lets go of the one before, so keys of one kernel are in memory at most.
func (k *Kernels) take(kernel zk.Kernel, load func() (*groth16.Keys, error)) (*groth16.Prover, error) {
	if k.prover != nil && k.prover.Kernel() == kernel {
		return k.prover, nil
	}
	k.prover = nil
	keys, err := load()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKernel, kernel, err)
	}
	k.prover = groth16.NewProver(keys)
	return k.prover, nil
}

// letGo forgets the keys if no task came for so long, and gives their memory back. It waits
// for its turn: whoever has it may be one who only looks (Loaded).
func (k *Kernels) letGo() {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	if k.prover != nil && time.Since(k.used) >= k.Rest {
		k.prover = nil
		debug.FreeOSMemory()
	}
}

// Loaded returns the kernel whose keys are in memory, or "". It waits for a proof
// that is being made.
func (k *Kernels) Loaded() zk.Kernel {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	if k.prover == nil {
		return ""
	}
	return k.prover.Kernel()
}

// Names returns the kernels that can be proven, sorted.
func (k *Kernels) Names() []zk.Kernel {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.loads))
}

// KernelTask is one statement to compute and prove.
type KernelTask struct {
	Kernel zk.Kernel
	// Inputs are the kernel's input files, as zk.Read takes them.
	Inputs [][]byte
	// Digests are the inputs' public digests, as the order names them.
	Digests []zk.Field
	// Bind ties the proof to its claim; see zk.Bind.
	Bind zk.Field
}

// KernelOutcome is a computed and proven statement. All but Status, Detail and
// Usage are empty unless Status is StatusOK.
type KernelOutcome struct {
	Status  Status // StatusOK, StatusRefused or StatusCancelled
	Detail  string // one line for people, at most 512 bytes
	Usage   Usage  // WallMillis and OutputBytes; kernels have no fuel
	Output  []byte // the kernel's output file
	Name    string // of that file
	Outputs []zk.Field
	Proof   zk.Proof
}

// Run computes and proves one statement. Inputs that are not the kernel's or
// not those that the order names are StatusRefused. Errors: ErrKernel, or that
// of a prover whose keys do not fit together. A proof that has begun is not
// interrupted by the end of ctx, but then the outcome is StatusCancelled.
func (k *Kernels) Run(ctx context.Context, task KernelTask) (KernelOutcome, error) {
	k.mu.Lock()
	load := k.loads[task.Kernel]
	k.mu.Unlock()
	if load == nil {
		return KernelOutcome{}, fmt.Errorf("%w: %.40q", ErrKernel, string(task.Kernel))
	}
	work, err := readWork(&task)
	if err != nil {
		return KernelOutcome{Status: StatusRefused, Detail: clip(err.Error())}, nil
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return kernelCancelled(ctx), nil
	}
	if ctx.Err() != nil {
		return kernelCancelled(ctx), nil
	}
	prover, err := k.take(task.Kernel, load)
	if err != nil {
		return KernelOutcome{}, err
	}
	defer func() {
		k.used = time.Now()
		if k.rest == nil {
			k.rest = time.AfterFunc(k.Rest, k.letGo)
		} else {
			k.rest.Reset(k.Rest)
		}
	}()
	started := time.Now()
	result, err := prover.Prove(work, task.Bind)
	if err != nil {
		return KernelOutcome{}, fmt.Errorf("executor: %w", err)
	}
	if ctx.Err() != nil {
		return kernelCancelled(ctx), nil
	}
	out := work.Output()
	took := time.Since(started)
	return KernelOutcome{
		Status: StatusOK,
		Usage: Usage{
			OutputBytes: uint64(len(out)),
			WallMillis:  uint64((took + time.Millisecond - 1) / time.Millisecond),
		},
		Output: out, Name: work.OutputName(), Outputs: result.Statement.Output, Proof: result.Proof,
	}, nil
}

func kernelCancelled(ctx context.Context) KernelOutcome {
	return KernelOutcome{Status: StatusCancelled, Detail: clip(context.Cause(ctx).Error())}
}

// readWork reads a task's inputs and compares them with the digests that the
// order names: the chain would refuse a proof about others.
func readWork(task *KernelTask) (zk.Work, error) {
	if err := task.Bind.Check(); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	work, err := zk.Read(task.Kernel, task.Inputs)
	if err != nil {
		return nil, err
	}
	inputs := work.Inputs()
	if len(task.Digests) != len(inputs) {
		return nil, fmt.Errorf("kernel %s got %d digests, want %d", task.Kernel, len(task.Digests), len(inputs))
	}
	for i, got := range inputs {
		if got != task.Digests[i] {
			return nil, fmt.Errorf("input %d has digest %s, the order names %s", i, got, task.Digests[i])
		}
	}
	return work, nil
}
