package execution

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/state"
)

// ErrLocks says that of some bond more or less is locked than what locks it, that of some consumer's money more or less is said to be
// held elsewhere than leases and claims hold, or that a claim holds what its order did not take from its consumer: a fault.
var ErrLocks = errors.New("execution: what is locked is not what locks it")

// locks counts what records say is locked and what locks it.
type locks struct {
	settlement.Locks
	r   state.Reader // where orders are looked up
	err error        // the first
}

func locksIn(r state.Reader) *locks { return &locks{Locks: settlement.LocksOfState(), r: r} }

func (l *locks) add(key, value []byte) {
	if key[0] != settlement.Prefix || !settlement.LocksSomething(key) {
		return
	}
	if err := l.Add(l.r, key, value); err != nil && l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrLocks, err)
	}
}

// whole is ErrLocks if the records of a whole state do not agree.
func (l *locks) whole() error {
	if err := l.Differs(); l.err == nil && err != nil {
		l.err = fmt.Errorf("%w: %w", ErrLocks, err)
	}
	return l.err
}

// checkLocks compares, over everything that a block changed, what became of what is locked of bonds, and held elsewhere of escrows, with
// what became of what locks or holds it. held says what the parent has of the key of a change.
func checkLocks(parent, block state.Reader, changes []state.Change, held func(change int) ([]byte, bool)) error {
	before, now := &locks{Locks: settlement.LocksOfChanges(), r: parent}, &locks{Locks: settlement.LocksOfChanges(), r: block}
	for i, c := range changes {
		if c.Key[0] != settlement.Prefix || !settlement.LocksSomething(c.Key) {
			continue
		}
		if old, ok := held(i); ok {
			before.add(c.Key, old)
		}
		if !c.Deleted {
			now.add(c.Key, c.Value)
		}
	}
	if now.err != nil {
		return now.err
	}
	if err := now.Changed(&before.Locks); err != nil {
		return fmt.Errorf("%w: %w", ErrLocks, err)
	}
	return nil
}
