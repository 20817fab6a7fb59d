package node

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestTheEndOfAnEpochIsAudited: the whole state is added up after the block that
// closes an epoch, and after no other.
func TestTheEndOfAnEpochIsAudited(t *testing.T) {
	r := newRig(t, shortEpochs(t))
	on := r.genesisParent()
	for view := consensus.View(1); view <= 3; view++ {
		b := r.proposeAt(view, on, 333+chain.TimeMs(view/3))
		r.finalize(view, on, b)
		r.app.auditor.work.Wait()
		want := uint64(0)
		if b.Closing {
			want = b.Height
		}
		if got := r.app.auditor.last.Load(); got != want {
			t.Errorf("after block %d (closing %v) the last audit was of %d, want %d", b.Height, b.Closing, got, want)
		}
		on = parentOf(view, b)
	}
}

// closable is a state in memory.
type closable struct {
	state.Reader
	closed bool
}

func (c *closable) Close() error { c.closed = true; return nil }

// TestAnAuditStopsANode whose records hold a nHYPER more than there is; one that
// is stopped says nothing.
func TestAnAuditStopsANode(t *testing.T) {
	kv := state.NewOverlay(state.NewMemoryBackend())
	if err := execution.Genesis(kv, testGenesis(t)); err != nil {
		t.Fatal(err)
	}
	tokens.Credit(kv, user(1).address(), chain.Nano(1))
	var faults []error
	run := func(stopped bool) *closable {
		c := &closable{Reader: kv}
		a := newAuditor(func(err error) error { faults = append(faults, err); return err })
		if stopped {
			close(a.stop)
		}
		if err := a.begin(7, func() (closableState, error) { return c, nil }); err != nil {
			t.Fatal(err)
		}
		a.work.Wait()
		return c
	}
	if c := run(true); len(faults) != 0 || !c.closed {
		t.Errorf("an audit that was stopped: %v", faults)
	}
	if c := run(false); len(faults) != 1 || !errors.Is(faults[0], execution.ErrSupply) || !c.closed {
		t.Errorf("an audit of a state with too much: %v", faults)
	}
}

// TestAnAuditRestsAndCanBeStopped: after each part of a state an audit rests, and it does not finish
// its rest when the node ends.
func TestAnAuditRestsAndCanBeStopped(t *testing.T) {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for i := range 3 * auditPart {
		kv.Set(binary.BigEndian.AppendUint32(nil, uint32(i+1)), []byte{1})
	}
	for _, stopAt := range []int{0, 1, auditPart, 2*auditPart + 1, 4 * auditPart} {
		stop := make(chan struct{})
		r := &unhurried{Reader: kv, stop: stop}
		seen := 0
		stopped := func() (stopped bool) {
			defer func() {
				fault, is := recover().(*state.Fault)
				stopped = is && errors.Is(fault.Err, errAuditStopped)
			}()
			for range state.Scan(r, nil, nil) {
				if seen++; seen == stopAt {
					close(stop)
				}
			}
			return false
		}()
		if want := stopAt != 0 && stopAt <= 3*auditPart; stopped != want {
			t.Errorf("stopped at %d: %v after %d pairs", stopAt, stopped, seen)
		} else if want && seen != stopAt || !want && seen != 3*auditPart {
			t.Errorf("%d pairs, stopped at %d", seen, stopAt)
		}
	}
	stop := make(chan struct{})
	r := &unhurried{Reader: kv, stop: stop}
	time.AfterFunc(time.Millisecond, func() { close(stop) })
	r.rest(time.Hour)
	if got := restAfter(time.Millisecond); got != 9*time.Millisecond {
		t.Errorf("after a millisecond it rests for %v", got)
	}
	if got := restAfter(time.Hour); got != time.Second { // of a process that was stopped
		t.Errorf("after an hour it rests for %v", got)
	}
}
