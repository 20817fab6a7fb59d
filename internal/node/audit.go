package node

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// auditor adds up the whole state when an epoch has ended, off the commit path:
// what each block checks of what it changed, this checks of everything (ledger.md,
// "Execution"). It looks at one state at a time; an epoch that ends meanwhile is
// left out. It takes its time: nobody waits for it, and all nodes begin at once.
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
	_, err := execution.Recompute(&unhurried{Reader: r, stop: a.stop})
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

const (
	auditPart  = 1024 // pairs between two rests of an audit
	auditRests = 9    // times as long as such a part took, so that an audit takes a tenth of a core
	// longestRest bounds each: a part that took long was kept from a processor or from the disk.
	longestRest = time.Second
)

// restAfter returns how long an audit rests after a part of it.
func restAfter(took time.Duration) time.Duration { return min(auditRests*took, longestRest) }

// unhurried is a state that is read through a part at a time, with a rest after each, and whose
// scans end in a fault once stop is closed.
type unhurried struct {
	state.Reader
	stop <-chan struct{}
}

// Scan yields what the state does.
func (r *unhurried) Scan(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		began, pairs := time.Now(), 0
		for key, value := range state.Scan(r.Reader, start, end) {
			if pairs++; pairs%auditPart == 0 {
				r.rest(restAfter(time.Since(began)))
				began = time.Now()
			}
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

func (r *unhurried) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.stop:
	case <-timer.C:
	}
}

func (r *unhurried) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}
