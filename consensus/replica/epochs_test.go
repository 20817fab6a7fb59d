package replica_test

import (
	"testing"
)

func TestFourValidatorsGoThroughManyEpochs(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	for _, n := range w.nodes {
		n.start()
	}
	w.run(5000*ms, w.everybodyAt(52))
	w.nobodyBlamed()
	shows := 0
	for _, n := range w.nodes {
		s := n.r.Status()
		if !s.Signs || s.Epoch != 11 || len(n.disk.logs) != 1 || len(n.disk.logs[11]) == 0 {
			t.Errorf("%v, logs of %d epochs", n, len(n.disk.logs))
		}
		shows += n.shows
	}
	if shows == 0 {
		t.Error("no leader showed who finalized")
	}
}
