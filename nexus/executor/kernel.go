package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// ErrKernel says that this node has no keys for a kernel.
var ErrKernel = errors.New("executor: no keys for the kernel")

// Kernels computes and proves statements of zk kernels. Safe for concurrent
// use. A proof takes every processor, so they are made one after another.
type Kernels struct {
	turn chan struct{} // holds one token while a proof is made

	mu      sync.Mutex
	provers map[zk.Kernel]*groth16.Prover
}

// NewKernels returns an executor that knows no kernel yet.
func NewKernels() *Kernels {
	return &Kernels{turn: make(chan struct{}, 1), provers: map[zk.Kernel]*groth16.Prover{}}
}

// Add has the executor prove the kernel of the given keys from now on.
func (k *Kernels) Add(keys *groth16.Keys) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.provers[keys.Kernel()] = groth16.NewProver(keys)
}

// Names returns the kernels that can be proven, sorted.
func (k *Kernels) Names() []zk.Kernel {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.provers))
}

// KernelTask is one statement to compute and prove.
type KernelTask struct {
	Kernel zk.Kernel
	// Inputs are the kernel's input files in its order. For matmul they are the
	// left and the right factor, as zk.ParseMatrixCSV reads them.
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
	Output  []byte // for matmul the product, as zk.Product.CSV writes it
	Outputs []zk.Field
	Proof   zk.Proof
}

// Run computes and proves one statement. Inputs that are not the kernel's or
// not those that the order names are StatusRefused. Errors: ErrKernel, or that
// of a prover whose keys do not fit together. A proof that has begun is not
// interrupted by the end of ctx, but then the outcome is StatusCancelled.
func (k *Kernels) Run(ctx context.Context, task KernelTask) (KernelOutcome, error) {
	k.mu.Lock()
	prover := k.provers[task.Kernel]
	k.mu.Unlock()
	if prover == nil {
		return KernelOutcome{}, fmt.Errorf("%w: %.40q", ErrKernel, string(task.Kernel))
	}
	left, right, err := factors(&task)
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
	started := time.Now()
	result, err := prover.Matmul(left, right, task.Bind)
	if err != nil {
		return KernelOutcome{}, fmt.Errorf("executor: %w", err)
	}
	if ctx.Err() != nil {
		return kernelCancelled(ctx), nil
	}
	out := result.Product.CSV()
	took := time.Since(started)
	return KernelOutcome{
		Status: StatusOK,
		Usage: Usage{
			OutputBytes: uint64(len(out)),
			WallMillis:  uint64((took + time.Millisecond - 1) / time.Millisecond),
		},
		Output: out, Outputs: result.Statement.Output, Proof: result.Proof,
	}, nil
}

func kernelCancelled(ctx context.Context) KernelOutcome {
	return KernelOutcome{Status: StatusCancelled, Detail: clip(context.Cause(ctx).Error())}
}

// factors reads the two matrices of a matmul task and compares them with the
// digests that the order names: the chain would refuse a proof about others.
func factors(task *KernelTask) (left, right zk.Matrix, err error) {
	size, ok := task.Kernel.MatmulSize()
	switch {
	case !ok:
		return left, right, fmt.Errorf("kernel %.40q is not one that this executor computes", string(task.Kernel))
	case len(task.Inputs) != 2 || len(task.Digests) != 2:
		return left, right, fmt.Errorf("kernel %s got %d inputs and %d digests, want 2 of each", task.Kernel, len(task.Inputs), len(task.Digests))
	case task.Bind.Check() != nil:
		return left, right, fmt.Errorf("bind: %w", task.Bind.Check())
	}
	var parsed [2]zk.Matrix
	for i, digest := range []func(zk.Matrix) zk.Field{zk.LeftDigest, zk.RightDigest} {
		m, err := zk.ParseMatrixCSV(task.Inputs[i])
		if err != nil {
			return left, right, fmt.Errorf("input %d: %w", i, err)
		}
		if m.Size() != size {
			return left, right, fmt.Errorf("input %d is %d × %d, kernel %s wants %d × %d", i, m.Size(), m.Size(), task.Kernel, size, size)
		}
		if got := digest(m); got != task.Digests[i] {
			return left, right, fmt.Errorf("input %d has digest %s, the order names %s", i, got, task.Digests[i])
		}
		parsed[i] = m
	}
	return parsed[0], parsed[1], nil
}
