package devnet

import (
	"testing"
	"time"
)

// TestTheWindowHasLoadBeforeIt: what is offered is offered for as long as the window and
// the time before it, and what is counted is what falls into the window.
func TestTheWindowHasLoadBeforeIt(t *testing.T) {
	o := BenchOptions{Rate: 300, Seconds: 4}
	if got, want := o.transactions(), 300*5; got != want {
		t.Errorf("%d are offered, want %d", got, want)
	}
	for at, want := range map[time.Duration]bool{
		0: false, leadIn: false, leadIn + 1: true, leadIn + 4*time.Second: true, leadIn + 4*time.Second + 1: false,
	} {
		if got := o.inWindow(at); got != want {
			t.Errorf("what comes at %v counts: %v, want %v", at, got, want)
		}
	}
}
