package node

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/execution"
)

// foresight reads what the next blocks will read of the disk while nobody waits for it. It
// looks after one block at a time; one that comes meanwhile is left out, and the next look
// makes up for that.
type foresight struct {
	busy  atomic.Bool
	work  sync.WaitGroup
	sight execution.Foresight // of who is busy
	fault func(error) error
}

// begin looks ahead of a state, which it closes in the end, in a goroutine of its own.
func (f *foresight) begin(open func() (closableState, error)) error {
	if !f.busy.CompareAndSwap(false, true) {
		return nil
	}
	snapshot, err := open()
	if err != nil {
		f.busy.Store(false)
		return err
	}
	f.work.Go(func() {
		defer f.busy.Store(false)
		_, err := f.sight.Look(snapshot)
		if err = errors.Join(err, snapshot.Close()); err != nil {
			_ = f.fault(fmt.Errorf("reading what is due soon: %w", err)) // it stops the node
		}
	})
	return nil
}
