package node

import (
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/internal/state"
)

// brokenState is a state whose disk is gone.
type brokenState struct{ closed atomic.Int32 }

func (s *brokenState) Get([]byte) ([]byte, bool) {
	panic(&state.Fault{Op: "reading", Err: errors.New("the disk is gone")})
}

func (s *brokenState) Iterate(_, _ []byte) iter.Seq2[[]byte, []byte] {
	panic(&state.Fault{Op: "iterating", Err: errors.New("the disk is gone")})
}

func (s *brokenState) Close() error {
	s.closed.Add(1)
	return nil
}

// TestForesightTellsFaults: what cannot be read ahead stops the node as any other read would, and
// the state is let go of.
func TestForesightTellsFaults(t *testing.T) {
	var told []error
	f := foresight{fault: func(err error) error {
		told = append(told, err)
		return err
	}}
	s := &brokenState{}
	if err := f.begin(func() (closableState, error) { return s, nil }); err != nil {
		t.Fatal(err)
	}
	f.work.Wait()
	if len(told) != 1 || !strings.Contains(told[0].Error(), "the disk is gone") || s.closed.Load() != 1 {
		t.Errorf("told %v, closed %d times", told, s.closed.Load())
	}
	cannot := errors.New("no snapshot")
	for range 2 { // it is not busy after that
		if err := f.begin(func() (closableState, error) { return nil, cannot }); !errors.Is(err, cannot) {
			t.Errorf("began with %v", err)
		}
	}
}
