package node

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/execution"
)

func TestALeaderTakesWhatCanBeExecutedInTime(t *testing.T) {
	var l load
	if got := l.budget(2, 1); got != execution.MaxBudget {
		t.Errorf("before anything is known: %+v", got)
	}
	l.observe(measuredTxs-1, time.Hour) // says nothing
	l.observe(1_000, 100*time.Millisecond)
	if got := l.budget(2, 1).Txs; got != 500 {
		t.Errorf("at 100 µs a transaction: %d, want 500", got)
	}
	if got := l.budget(4, 1).Txs; got != 125 {
		t.Errorf("after two views that came to nothing: %d, want 125", got)
	}
	if got := l.budget(1_000_000, 1).Txs; got != leastTxs {
		t.Errorf("after many: %d, want %d", got, leastTxs)
	}
	for range 40 {
		l.observe(1_000, 2*time.Millisecond)
	}
	if got := l.budget(2, 1); got != execution.MaxBudget {
		t.Errorf("once it is fast again: %+v", got)
	}
}
