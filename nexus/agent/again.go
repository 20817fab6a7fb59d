package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Again runs the programs of others again, for who judges or challenges what a provider
// says that they gave. It does what an agent does with an assignment, and signs nothing.
// One Run at a time.
type Again struct{ agent *Agent }

// Blobs is where the data of jobs comes from; *sdk.Client is one.
type Blobs interface {
	// GetBlob returns a blob of at most limit bytes. Reading ends with io.EOF only if
	// they are those of id.
	GetBlob(ctx context.Context, id crypto.Digest, limit int64) (io.ReadCloser, error)
}

// ErrUnavailable is matched by the error of a run whose program or input could not be had.
var ErrUnavailable = errors.New("agent: a job's data cannot be had")

// againBytes bounds what is kept of blobs that were fetched and made.
const againBytes = 8 << 30

// OpenAgain makes a place to run in out of a directory, of which the contents are removed.
// compiler is as Config.Compiler.
func OpenAgain(dir string, compiler []string, log *slog.Logger) (*Again, error) {
	a := &Agent{log: log, starts: newStarts(), sessions: map[*session]struct{}{}, joined: make(chan struct{})}
	a.dirs.root = filepath.Join(dir, "runs")
	err := errors.Join(os.RemoveAll(dir), os.MkdirAll(a.dirs.root, 0o700))
	if err != nil {
		return nil, fmt.Errorf("agent: opening a directory to run in: %w", err)
	}
	if a.blobs, err = blob.Open(blob.Config{Dir: filepath.Join(dir, "blobs"), MaxBytes: againBytes, MaxBlobBytes: blob.MaxBytes, Log: log}); err != nil {
		return nil, err
	}
	if a.wasm, err = executor.NewWasm(executor.Config{ModuleBytes: maxModuleBytes, Compiler: compiler}); err != nil {
		return nil, errors.Join(err, a.blobs.Close())
	}
	return &Again{agent: a}, nil
}

// Close closes what OpenAgain opened; the directory may be removed then.
func (g *Again) Close() error {
	g.agent.wasm.Close()
	return g.agent.blobs.Close()
}

// Run runs the deterministic program of an order and returns what it yields: chain.Yield of
// what a right claim says. The error matches ErrUnavailable if its data could not be
// had from the source.
func (g *Again) Run(ctx context.Context, order crypto.Digest, spec *job.Spec, from Blobs) (crypto.Digest, error) {
	if w, ok := spec.Work.Work.(job.Wasm); !ok || !w.Deterministic {
		return crypto.Digest{}, fmt.Errorf("agent: order %s is not for a deterministic program", order.Short())
	}
	for _, id := range spec.Blobs() {
		if err := g.fetch(ctx, id, int64(spec.InputBytes), from); err != nil {
			return crypto.Digest{}, err
		}
	}
	t := &task{order: order, again: true, assignment: job.Assignment{Spec: *spec}}
	r, err := g.agent.run(ctx, t)
	if err != nil {
		return crypto.Digest{}, err
	}
	if r.Exit == chain.ExitTime {
		return crypto.Digest{}, fmt.Errorf("agent: order %s ran into its time limit here", order.Short())
	}
	return job.Yield(order, spec, &r.Outcome), nil
}

// fetch stores a blob that is not here yet.
func (g *Again) fetch(ctx context.Context, id crypto.Digest, limit int64, from Blobs) error {
	if g.agent.blobs.Has(id) {
		return nil
	}
	content, err := from.GetBlob(ctx, id, limit)
	if err != nil {
		return againFault(ctx, fmt.Errorf("%w: blob %s: %w", ErrUnavailable, id.Short(), err))
	}
	_, err = g.agent.blobs.PutVerified(ctx, content, id, limit)
	if err = errors.Join(err, content.Close()); err != nil {
		return againFault(ctx, fmt.Errorf("%w: blob %s: %w", ErrUnavailable, id.Short(), err))
	}
	return nil
}

// againFault blames a run that was ended for its end, and not the source.
func againFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
