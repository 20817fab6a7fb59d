package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// ProductFile is the name of a matmul's product in its output.
const ProductFile = "product.csv"

const (
	maxModuleBytes  = 32 << 20
	maxInputEntries = 1 << 16
	fetchAttempts   = 8 // of an input, each after a longer pause
)

// result is what a run gave.
type result struct {
	job.Outcome
	proof  zk.Proof
	detail string
	sealed crypto.Digest // under fair exchange: the blob of the sealed output; zero: there is none
}

// invalid is the result of work that cannot be begun, through its consumer's
// fault: every honest node says the same.
func invalid(format string, args ...any) result {
	return result{Outcome: job.Outcome{Exit: chain.ExitInvalid}, detail: fmt.Sprintf(format, args...)}
}

// perform does the work of a task and returns its signed end. An error says why
// there is none. Its room in the store the task has until its output is kept.
func (a *Agent) perform(ctx context.Context, t *task) (job.Done, error) {
	spec := t.assignment.Work()
	n := needOf(spec)
	waiting, stop := context.WithDeadlineCause(ctx, timeOf(t.assignment.Bid.Expiry), errExpired)
	defer stop()
	if err := a.capacity.acquire(waiting, n); err != nil {
		return job.Done{}, err
	}
	t.stores = need{storeBytes: n.storeBytes}
	defer a.capacity.release(n.beyond(t.stores))
	leave, err := a.starts.enter(waiting)
	if err != nil {
		return job.Done{}, fmt.Errorf("waiting for its turn: %w", err)
	}
	defer leave()
	if t.assignment.Order.Fair {
		t.key = newOutputKey()
	}
	started := timeMs(time.Now())
	r, err := a.run(ctx, t)
	if err != nil {
		return job.Done{}, err
	}
	receipt := t.assignment.Receipt(&r.Outcome, started, max(started, timeMs(time.Now())))
	if t.key != nil {
		receipt.Sealed = &chain.SealedOutput{Output: r.sealed, KeyHash: t.key.Hash(t.order, a.id)}
	}
	if _, metered := t.assignment.Order.Policy.Policy.(chain.PolicyNone); metered && t.key == nil { // a batch tells no key
		if err := a.metering.keep(&receipt); err != nil { // the receipt itself is worth as much, for a relay that is not private
			a.log.Error("agent: usage records of a job are not kept", "order", receipt.Order.Short(), "error", err)
		}
	}
	return job.Done{
		Receipt: receipt, ReceiptSig: a.key.Sign(crypto.DomainUsage, receipt.Payload()),
		Proof: r.proof, Output: r.Output, OutputSize: r.OutputBytes, Detail: line(r.detail), Salt: saltOf(&t.assignment),
	}, nil
}

// run fetches the inputs, runs the work in a directory of its own and packs what
// it leaves there.
func (a *Agent) run(ctx context.Context, t *task) (r result, err error) {
	spec := t.assignment.Work()
	if t.serving != nil { // also when a program has ended: that it does is its consumer's doing, and no promise of this node's
		defer func() { t.serving.Store(err == nil) }()
	}
	if len(spec.OutputTo) > 0 {
		if err := blob.CheckRecipients(spec.OutputTo); err != nil {
			return invalid("output_to: %v", err), nil
		}
	}
	why, err := a.fetchAll(ctx, t)
	t.fetched(err)
	if err != nil {
		return result{}, err
	}
	if why != "" {
		return invalid("%s", why), nil
	}
	dir, err := a.dirs.take()
	if err != nil {
		return result{}, err
	}
	if t.serving != nil {
		t.serving.Store(true)
	}
	_, sandboxed := spec.Work.Work.(job.Wasm)
	defer func() { err = errors.Join(err, a.dirs.give(dir, sandboxed)) }()
	switch w := spec.Work.Work.(type) {
	case job.Wasm:
		r, err = a.runWasm(ctx, t, &w, dir)
	case job.Kernel:
		r, err = a.runKernel(ctx, t, &w, dir)
	case job.Container:
		r, err = a.runContainer(ctx, t, &w, dir)
	}
	if err != nil {
		return result{}, err
	}
	if r.Exit == chain.ExitCancelled {
		return result{}, context.Cause(ctx)
	}
	if r.Exit == chain.ExitOK || r.Exit == chain.ExitFailed {
		err = a.pack(ctx, &r, t, filepath.Join(dir, "out"))
	}
	return r, err
}

// fetchAll has the store get every blob of the work. It returns why the work
// cannot be begun if the sizes are not what the specification says.
func (a *Agent) fetchAll(ctx context.Context, t *task) (why string, err error) {
	spec := t.assignment.Work()
	var total uint64
	for _, id := range spec.Blobs() {
		size, err := a.fetch(ctx, t, id, int64(spec.InputBytes-total))
		if _, large := errors.AsType[*blob.TooLargeError](err); large {
			return fmt.Sprintf("the inputs are larger than input_bytes, %d", spec.InputBytes), nil
		}
		if err != nil {
			return "", err
		}
		total += uint64(size)
	}
	if total != spec.InputBytes {
		return fmt.Sprintf("the inputs have %d bytes, input_bytes is %d", total, spec.InputBytes), nil
	}
	return "", nil
}

// fetch has the store get a blob from the connected servers. While there are
// none it waits: an outage of the servers ends no work.
func (a *Agent) fetch(ctx context.Context, t *task, id crypto.Digest, limit int64) (int64, error) {
	for failed := 0; ; {
		sources, conns, joined := a.sources(cargoOf(t.assignment.Work(), id))
		var pause <-chan time.Time
		if len(sources) > 0 || a.blobs.Has(id) {
			t.asks(a.config.fetchMs(t.assignment.Work().InputBytes))
			size, err := a.blobs.Fetch(ctx, id, limit, sources...)
			_, large := errors.AsType[*blob.TooLargeError](err)
			switch {
			case err == nil:
				return size, nil
			case ctx.Err() != nil:
				return 0, context.Cause(ctx)
			case large || errors.Is(err, blob.ErrFull):
				return 0, err
			case reachable(conns):
				failed++
				t.refused(err)
			}
			enough := failed == fetchAttempts
			if t.judging {
				enough = failed > 0 && time.Now().After(t.fetchBy)
			}
			if enough {
				return 0, &missingError{err}
			}
			wait := pauseAfter(failed + 1)
			if left := time.Until(t.fetchBy); t.judging && left > 0 {
				wait = min(wait, left) // a juror tries once more when its patience ends: what it finds then counts
			}
			pause = time.After(wait)
		}
		select {
		case <-joined:
		case <-pause:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// readBlob reads a fetched blob of at most limit bytes. It is false for a larger
// one.
func (a *Agent) readBlob(id crypto.Digest, limit int64) (data []byte, small bool, err error) {
	b, err := a.blobs.Open(id)
	if err != nil {
		return nil, false, fmt.Errorf("agent: reading an input: %w", err)
	}
	if b.Length() > limit {
		return nil, false, b.Close()
	}
	data, err = io.ReadAll(b)
	return data, true, errors.Join(err, b.Close())
}

// readModule reads a module, of which the executor refuses one byte too many.
func (a *Agent) readModule(id crypto.Digest) ([]byte, error) {
	b, err := a.blobs.Open(id)
	if err != nil {
		return nil, fmt.Errorf("agent: reading the module: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(b, maxModuleBytes+1))
	return data, errors.Join(err, b.Close())
}

// runWasm runs a program.
func (a *Agent) runWasm(ctx context.Context, t *task, w *job.Wasm, dir string) (result, error) {
	spec := t.assignment.Work()
	input, why, err := a.unpackInput(w.Input, spec, dir)
	if err != nil || why != "" {
		return invalid("%s", why), err
	}
	mode := executor.ModeLive
	if w.Deterministic {
		mode = executor.ModeDeterministic
	}
	stdout, stderr, end := io.Discard, io.Discard, func() {}
	if !t.judging {
		stdout, stderr, end = a.logPipes(t.order)
	}
	o, err := a.wasm.Run(ctx, executor.Task{
		ID: w.Module, Load: func() ([]byte, error) { return a.readModule(w.Module) }, Args: w.Args, Env: w.Env, Mode: mode, Seed: t.order,
		InputDir: input, OutputDir: filepath.Join(dir, "out"), Stdout: stdout, Stderr: stderr, Digest: t.again || job.Judged(t.assignment.Order.Policy.Policy),
		Limits: executor.Limits{
			MemoryBytes: spec.Limits.MemoryBytes, Fuel: spec.Limits.Fuel, WallTime: time.Duration(spec.Limits.WallMs) * time.Millisecond,
			OutputBytes: spec.Limits.OutputBytes, OutputFiles: spec.Limits.OutputFiles, LogBytes: spec.Limits.LogBytes,
		},
	})
	end()
	if err != nil {
		return result{}, fmt.Errorf("executor fault: %w", err)
	}
	return result{
		Outcome: job.Outcome{
			Exit: exitOf(o.Status), ExitCode: o.ExitCode, Fuel: o.Usage.Fuel,
			PeakMemoryBytes: o.Usage.PeakMemoryBytes, WallMs: o.Usage.WallMillis, Memory: o.Memory,
		},
		detail: o.Detail,
	}, nil
}

// unpackInput makes the program's /in. It returns why the work cannot be begun
// if the blob is no packed directory.
func (a *Agent) unpackInput(id crypto.Digest, spec *job.Spec, dir string) (input, why string, err error) {
	if id.IsZero() {
		return "", "", nil
	}
	b, err := a.blobs.Open(id)
	if err != nil {
		return "", "", fmt.Errorf("agent: reading an input: %w", err)
	}
	input = filepath.Join(dir, "in")
	limits := blob.Limits{MaxEntries: maxInputEntries, MaxFileBytes: int64(spec.InputBytes), MaxBytes: int64(spec.InputBytes)}
	err = blob.Unpack(b, input, limits)
	if reason := archiveFault(err); reason != nil {
		return "", fmt.Sprintf("the input is no packed directory: %v", reason), b.Close()
	}
	return input, "", errors.Join(err, b.Close())
}

// archiveFault returns what is wrong with an archive or a directory to pack,
// and nil if the error, if any, is the disk's.
func archiveFault(err error) error {
	if e, ok := errors.AsType[*blob.ArchiveError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*blob.TooLargeError](err); ok {
		return e
	}
	return nil
}

// exitOf says in the chain's words how a workload ended.
func exitOf(s executor.Status) chain.ExitStatus {
	switch s {
	case executor.StatusOK:
		return chain.ExitOK
	case executor.StatusExited:
		return chain.ExitFailed
	case executor.StatusTrapped, executor.StatusOutOfProcesses:
		return chain.ExitTrapped
	case executor.StatusOutOfFuel:
		return chain.ExitFuel
	case executor.StatusOutOfMemory:
		return chain.ExitMemory
	case executor.StatusTimedOut:
		return chain.ExitTime
	case executor.StatusOutputLimit:
		return chain.ExitOutput
	case executor.StatusCancelled:
		return chain.ExitCancelled
	case executor.StatusRefused:
		return chain.ExitInvalid
	}
	panic(fmt.Sprintf("agent: executor status %d", s))
}

// runKernel computes and proves a statement; its output holds the kernel's file.
func (a *Agent) runKernel(ctx context.Context, t *task, w *job.Kernel, dir string) (result, error) {
	order := &t.assignment.Order
	policy, ok := order.Policy.Policy.(chain.PolicyZK)
	if !ok { // job.CheckOrder has refused it
		panic("agent: a kernel under policy " + order.Policy.String())
	}
	task := executor.KernelTask{
		Kernel: w.Name, Bind: zk.Bind(string(order.ChainID), t.order, t.assignment.Sequence, a.id),
	}
	for _, f := range policy.Inputs {
		task.Digests = append(task.Digests, zk.Field(f))
	}
	for i, id := range w.Inputs {
		data, small, err := a.readBlob(id, zk.MaxInputSize)
		if err != nil {
			return result{}, err
		}
		if !small {
			return invalid("input %d is larger than %d bytes", i, zk.MaxInputSize), nil
		}
		task.Inputs = append(task.Inputs, data)
	}
	o, err := a.kernels.Run(ctx, task)
	if err != nil {
		return result{}, fmt.Errorf("executor fault: %w", err)
	}
	r := result{Outcome: job.Outcome{Exit: exitOf(o.Status), WallMs: o.Usage.WallMillis}, proof: o.Proof, detail: o.Detail}
	for _, f := range o.Outputs {
		r.Outputs = append(r.Outputs, chain.FieldBytes(f))
	}
	if o.Status != executor.StatusOK {
		return r, nil
	}
	if err := os.WriteFile(filepath.Join(dir, "out", o.Name), o.Output, 0o600); err != nil {
		return result{}, fmt.Errorf("agent: writing %s: %w", o.Name, err)
	}
	return r, nil
}

// pack makes a blob of an output directory, unless it is empty. A program that
// left names or sizes that no archive holds has broken its output limit.
func (a *Agent) pack(ctx context.Context, r *result, t *task, dir string) error {
	spec := t.assignment.Work()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("agent: packing the output: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	archive, size, err := blob.Pack(dir, blob.Limits{
		MaxEntries: int(spec.Limits.OutputFiles), MaxFileBytes: int64(spec.Limits.OutputBytes), MaxBytes: int64(spec.Limits.OutputBytes),
	})
	if reason := archiveFault(err); reason != nil {
		r.Exit, r.ExitCode, r.Outputs, r.proof = chain.ExitOutput, 0, nil, nil
		r.detail = fmt.Sprintf("the output cannot be packed: %v", reason)
		return nil
	}
	if err != nil {
		return err
	}
	put := packedOutput{content: archive, size: size, to: spec.OutputTo, key: t.key}
	err = put.store(ctx, a.blobs)
	if err = errors.Join(err, archive.Close()); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("agent: storing the output: %w", err)
	}
	r.Output, r.OutputBytes, r.sealed = put.id, uint64(put.size), put.sealed
	return nil
}
