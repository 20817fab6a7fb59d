package replica_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
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

// fork runs four validators until one has signed in the second epoch and nothing
// of it is final, stops that one, and returns it with its log of the first epoch
// back on its disk: the deletion did not last.
func fork(t *testing.T) (*world, *node) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[2]
	var first [][]byte
	n.onDrop = func(e consensus.Epoch) {
		if e == 1 {
			first = n.disk.logs[e]
		}
	}
	w.cut = func(_, _ int, m consensus.Message) bool { // no quorum of the second epoch
		c, isCertificate := m.(*consensus.Certificate)
		v, isVote := m.(consensus.Vote)
		return isCertificate && c.Statement.Round().Epoch == 2 || isVote && v.Statement().Round().Epoch == 2
	}
	startAll(w)
	key := consensusKey(2).Public()
	w.run(2000*ms, func() bool { return len(w.signed[signedIn{key: key, round: round(2, 1)}]) > 0 })
	if !n.floor().Closing {
		t.Fatalf("a block of the second epoch is final: %v", n)
	}
	n.stop()
	n.disk.logs[1] = first
	w.cut = nil
	return w, n
}

// The log of the epoch before is there and complete, so the missing one looks
// like one that was never begun. The marker knows better; without it, the node
// would sign again.
func TestALogThatIsLostAloneIsNoticed(t *testing.T) {
	for _, marked := range []bool{true, false} {
		w, n := fork(t)
		delete(n.disk.logs, 2)
		if !marked {
			n.disk.begun = 0
		}
		n.start()
		if s := n.r.Status(); s.Epoch != 2 || s.Signs == marked || (s.Observes != "") != marked {
			t.Fatalf("with its marker: %v; in epoch %d, signs %v, %q", marked, s.Epoch, s.Signs, s.Observes)
		}
		if !marked {
			continue
		}
		w.run(20_000*ms, func() bool {
			s := n.r.Status()
			if s.Signs && s.Epoch <= 2 {
				t.Fatal("signs in the epoch whose log is lost")
			}
			return s.Signs && s.Epoch == 3 // began after its start
		})
		w.nobodyBlamed()
	}
}

// A snapshot of the disk from the epoch before: its log is complete for all that
// anybody can see in it. The marker outside of it names a later epoch.
func TestAnOldCopyFromAnEpochBeforeIsNoticed(t *testing.T) {
	for _, marked := range []bool{true, false} {
		w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
		n := w.nodes[2]
		startAll(w)
		w.run(2000*ms, w.everybodyAt(7))
		old := n.disk.clone()
		w.run(2000*ms, w.everybodyAt(13))
		n.stop()
		if old.begun = n.disk.begun; !marked {
			old.begun = 0
		}
		n.disk = old
		n.start()
		if s := n.r.Status(); s.Epoch != 2 || s.Signs == marked {
			t.Fatalf("with its marker: %v; in epoch %d, signs %v", marked, s.Epoch, s.Signs)
		}
		if marked {
			w.run(20_000*ms, func() bool { return n.r.Status().Signs })
			if e := n.r.Status().Epoch; e <= 3 {
				t.Fatalf("signs in epoch %d", e)
			}
			w.nobodyBlamed()
		}
	}
}

// Between the first record of an epoch and the marker nothing has left: the log
// speaks for itself, and no epoch is given up for such a crash.
func TestACrashBeforeTheMarkerCostsNoEpoch(t *testing.T) {
	for at := range 6 {
		w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
		n := w.nodes[1]
		startAll(w)
		w.run(2000*ms, w.everybodyAt(4))
		n.events = func(ev replica.Event) {
			if f, ok := ev.(replica.Finalized); ok && f.Closing && n.crashed == 0 {
				n.crashIn = 1 + at
			}
		}
		w.run(10_000*ms, func() bool { return n.crashed > 0 && n.r != nil })
		if s := n.r.Status(); s.Epoch != 2 || !s.Signs {
			t.Fatalf("crash at effect %d: in epoch %d, signs %v: %s", at, s.Epoch, s.Signs, s.Observes)
		}
		w.run(10_000*ms, w.everybodyAt(12))
		w.nobodyBlamed()
	}
}

// What a node needs may take long to open: the time since it looked at the clock is no fault of that.
func TestANodeThatIsLongInStartingHasARightClock(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[2]
	startAll(w)
	w.run(2000*ms, w.everybodyAt(7))
	n.stop()
	w.run(1_000_000*ms, func() bool { return w.now > 60_000*ms && w.nodes[0].height() >= 18 })
	n.disk = disk{logs: map[consensus.Epoch][][]byte{}}
	n.fresh, n.slow, n.passed = false, 50_000, 50_000*ms
	n.start()
	w.run(20_000*ms, func() bool { return n.r.Status().Signs })
	if why := n.r.Status().Observes; strings.Contains(why, "clock") {
		t.Errorf("observes because %q", why)
	}
	w.nobodyBlamed()
}

// A clock that stands in the past takes every epoch for one that is to come.
func TestANodeWhoseClockIsSlowSignsOnlyWithItsLogs(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[2]
	startAll(w)
	w.run(2000*ms, w.everybodyAt(7))
	n.stop()
	w.run(20_000*ms, func() bool { return w.nodes[0].height() >= 18 })
	n.disk = disk{logs: map[consensus.Epoch][][]byte{}} // the marker, too, if anybody forgets it
	n.fresh, n.slow = false, 900_000
	n.start()
	w.run(20_000*ms, func() bool {
		if s := n.r.Status(); s.Signs {
			t.Fatalf("signs in epoch %d, which began before its start", s.Epoch)
		}
		return n.r.Status().Epoch >= 6
	})
	if why := n.r.Status().Observes; !strings.Contains(why, "clock") {
		t.Errorf("observes because %q", why)
	}
	n.stop()
	n.slow = 0
	n.start()
	if why := n.r.Status().Observes; strings.Contains(why, "clock") {
		t.Errorf("with the clock set, observes because %q", why)
	}
	w.run(20_000*ms, func() bool { return n.r.Status().Signs })
	w.nobodyBlamed()
}

// With more than a third of the weight without its logs an epoch cannot end, and
// nobody signs what it does not know of. A log that comes back whole lets the chain
// go on.
func TestAnEpochWithoutAQuorumOfLogsEndsOnceTheyAreBack(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(2000*ms, w.everybodyAt(7))
	lost := w.nodes[2:]
	var logs []disk
	for _, n := range lost {
		n.stop()
		logs = append(logs, n.disk.clone())
		clear(n.disk.logs)
	}
	for _, n := range lost {
		n.start()
	}
	stands := w.nodes[0].height()
	w.pass(30_000 * ms)
	for _, n := range w.nodes {
		if n.height() > stands+1 || n.r.Status().Signs != (n.id < 2) {
			t.Fatalf("%v; height %d before", n, stands)
		}
	}
	for i, n := range lost {
		n.stop()
		n.disk.logs = logs[i].logs
		n.start()
		if s := n.r.Status(); !s.Signs {
			t.Fatalf("with its log back: %s", s.Observes)
		}
	}
	w.run(60_000*ms, w.everybodyAt(stands+12))
	w.nobodyBlamed()
}
