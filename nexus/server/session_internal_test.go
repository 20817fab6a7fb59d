package server

import (
	"testing"
	"time"
)

// TestWhatAnAgentMayCostIsBounded: so much in a row, and what one kind costs no other kind pays.
func TestWhatAnAgentMayCostIsBounded(t *testing.T) {
	var s session
	taken := 0
	for range 10 {
		if s.may(&s.ends, time.Hour, 3) {
			taken++
		}
	}
	if taken < 3 || taken > 4 { // the clock goes on between them
		t.Errorf("%d messages are taken, 3 may be", taken)
	}
	if !s.mayProbe() || !s.mayMeasure() || !s.mayDeclare() {
		t.Error("what an agent may no longer do keeps it from something else")
	}
}
