package node

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// auditor adds up the whole state when an epoch has ended, off the commit path:
// what each block checks of what it changed, this checks of everything (ledger.md,
// "Execution"). It looks at one state at a time; an epoch that ends meanwhile is
// left out.
type auditor struct {
	busy  atomic.Bool
	last  atomic.Uint64 // height of the last state that was found sound
	work  sync.WaitGroup
	stop  chan struct{}
	fault func(error) error
}

func newAuditor(fault func(error) error) *auditor {
	return &auditor{stop: make(chan struct{}), fault: fault}
}

// begin audits the state after a block, which it closes in the end, in a
// goroutine of its own.
func (a *auditor) begin(height chain.Height, open func() (closableState, error)) error {
	if !a.busy.CompareAndSwap(false, true) {
		return nil
	}
	snapshot, err := open()
	if err != nil {
		a.busy.Store(false)
		return err
	}
	a.work.Go(func() {
		defer a.busy.Store(false)
		a.audit(height, snapshot)
		if err := snapshot.Close(); err != nil {
			_ = a.fault(fmt.Errorf("closing an audited snapshot: %w", err)) // it stops the node
		}
	})
	return nil
}

// closableState is a state that is kept until it is closed.
type closableState interface {
	state.Reader
	Close() error
}

var errAuditStopped = errors.New("node: the audit was stopped")

// audit raises a fault if the supply is not where it should be.
func (a *auditor) audit(height chain.Height, r state.Reader) {
	_, err := execution.Recompute(&interruptible{Reader: r, stop: a.stop})
	switch {
	case err == nil:
		a.last.Store(uint64(height))
	case !errors.Is(err, errAuditStopped):
		_ = a.fault(fmt.Errorf("auditing the supply after block %d: %w", height, err)) // it stops the node
	}
}

// close stops what is under way and waits for it.
func (a *auditor) close() {
	close(a.stop)
	a.work.Wait()
}

// interruptible is a state whose iterations end in a fault once stop is closed.
type interruptible struct {
	state.Reader
	stop <-chan struct{}
}

// Iterate yields what the state does.
func (r *interruptible) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for key, value := range r.Reader.Iterate(start, end) {
			if r.stopped() {
				break
			}
			if !yield(key, value) {
				return
			}
		}
		if r.stopped() { // when the iteration below has ended
			panic(&state.Fault{Op: "iterating", Err: errAuditStopped})
		}
	}
}

func (r *interruptible) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}
