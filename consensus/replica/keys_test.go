package replica_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

// The blocks are gone and the log of the running epoch is not: genesis is the
// floor again, and the epochs before are no new ones for all that.
func TestANodeThatLostItsBlocksAndNotItsLogsSignsNothingTwice(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(12))
	n := w.nodes[2]
	lived := n.r.Status().Epoch
	n.stop()
	n.disk.chain = nil
	n.start()
	w.run(20_000*ms, func() bool {
		s := n.r.Status()
		if s.Signs && s.Epoch < lived {
			t.Fatalf("signs in epoch %d without its log: it has signed in epoch %d", s.Epoch, lived)
		}
		return s.Signs
	})
	w.run(2000*ms, w.everybodyAt(n.height()+6))
	w.nobodyBlamed()
}

// An observer's log is complete, and says nothing of what a key signed before it
// came: in the machine that failed, and was replaced by this one.
func TestAKeyFromElsewhereSignsFromTheNextEpochOn(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[1]
	n.keys = nil
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(7))
	n.stop()
	n.keys = []int{1}
	n.start()
	arrived := n.r.Status().Epoch
	if n.r.Status().Signs {
		t.Fatalf("signs in epoch %d, and does not know what its key signed there", arrived)
	}
	w.run(60_000*ms, func() bool { return n.r.Status().Epoch > arrived })
	if !n.r.Status().Signs {
		t.Fatal("observes in an epoch that began after the key came")
	}
	w.run(60_000*ms, w.everybodyAt(n.height()+6))
	w.nobodyBlamed()
}

// A rotation that waits while its node is down: the epoch in which the new key
// serves began before the key came, so another node may have served with it.
func TestAKeyThatComesDuringCatchUpSignsInNoEpochThatBeganBeforeIt(t *testing.T) {
	seats := func(e consensus.Epoch) []seat {
		if e < 3 {
			return []seat{{0, 0}, {1, 1}, {2, 2}, {3, 3}}
		}
		return []seat{{0, 0}, {1, 101}, {2, 2}, {3, 3}}
	}
	w := newWorld(t, 4, seats)
	n := w.nodes[1]
	startAll(w)
	w.run(1000*ms, w.everybodyAt(7))
	n.stop()
	w.run(60_000*ms, func() bool { return w.nodes[0].height() >= 17 })
	n.keys = []int{1, 101}
	n.start()
	lived := w.nodes[0].r.Status().Epoch
	w.run(60_000*ms, func() bool {
		s := n.r.Status()
		if s.Signs && s.Epoch >= 3 && s.Epoch <= lived {
			t.Fatalf("signs in epoch %d with a key that came in epoch %d", s.Epoch, lived)
		}
		return s.Signs && s.Epoch > lived
	})
	w.run(60_000*ms, w.everybodyAt(n.height()+6))
	w.nobodyBlamed()
}
