package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/hypermesh/hypermesh/consensus"
)

// signal is a flag that goroutines can wait for. It has no memory of how often
// it was raised.
type signal struct{ raised chan struct{} }

func newSignal() *signal { return &signal{raised: make(chan struct{}, 1)} }

func (s *signal) raise() {
	select {
	case s.raised <- struct{}{}:
	default:
	}
}

// finalizer calls App.Finalize, in chain order, behind a bounded queue. Blocks
// reach it from the core and from catch-up; it takes each height once, and only
// the child of the last one it took.
type finalizer struct {
	e *Engine

	mu      sync.Mutex
	queue   []final
	taken   Last          // the newest block in the queue, or durable
	stable  Last          // durable
	changed chan struct{} // closed and replaced when the queue or the floor changes
}

type final struct {
	block       consensus.Block
	certificate *consensus.Certificate
}

func newFinalizer(e *Engine, last Last) *finalizer {
	return &finalizer{e: e, taken: last, stable: last, changed: make(chan struct{})}
}

func (f *finalizer) broadcast() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// submit queues the blocks that extend what was taken; those below are skipped.
// Blocks above a gap, or beyond the backlog, are left to catch-up.
func (f *finalizer) submit(blocks []consensus.Block, cert *consensus.Certificate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range blocks {
		if b.Height <= f.taken.Height {
			continue
		}
		if b.Parent != f.taken.Digest || len(f.queue) >= f.e.cfg.MaxBacklog {
			f.e.behind.raise()
			break
		}
		f.queue = append(f.queue, final{block: b, certificate: cert})
		f.taken = Last{Height: b.Height, Digest: b.Digest, Empty: b.Empty, Certificate: cert}
	}
	f.broadcast()
}

// head returns what was taken last, how many blocks wait for the disk, and a
// channel that closes when either changes.
func (f *finalizer) head() (Last, int, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken, len(f.queue), f.changed
}

// tip returns the durable floor.
func (f *finalizer) tip() Last {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stable
}

// admit waits until few enough blocks wait for the disk.
func (f *finalizer) admit(ctx context.Context) error {
	for {
		_, waiting, changed := f.head()
		if waiting <= f.e.cfg.MaxAhead {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run is the finalizer's goroutine. It stops between blocks: App.Finalize keeps
// a context that does not end with the engine's, so that a shutdown cannot tear
// a write.
func (f *finalizer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		f.mu.Lock()
		var next *final
		if len(f.queue) > 0 {
			next = &f.queue[0]
		}
		changed := f.changed
		f.mu.Unlock()
		if next == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := f.finalize(ctx, *next); err != nil {
			return err
		}
	}
	return nil
}

func (f *finalizer) finalize(ctx context.Context, next final) error {
	b := next.block
	if err := f.e.app.Finalize(context.WithoutCancel(ctx), b, next.certificate); err != nil {
		return fmt.Errorf("block %s at height %d: %w", b.Digest.Short(), b.Height, err)
	}
	f.e.counters.finalized.Add(1)
	f.mu.Lock()
	f.queue = f.queue[1:]
	f.stable = Last{Height: b.Height, Digest: b.Digest, Empty: b.Empty, Certificate: next.certificate}
	f.broadcast()
	f.mu.Unlock()
	f.e.post(ctx, consensus.Durable{Digest: b.Digest, Empty: b.Empty})
	return nil
}
