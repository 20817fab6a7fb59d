package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
)

func startAll(w *world) {
	for _, n := range w.nodes {
		n.start()
	}
}

func TestFourValidatorsGoThroughManyEpochs(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(52)) // a stall at a boundary would take longer
	w.nobodyBlamed()
	shows := 0
	for _, n := range w.nodes {
		s := n.r.Status()
		if !s.Signs || s.Epoch != 11 || len(n.disk.logs) != 1 || len(n.disk.logs[11]) == 0 {
			t.Errorf("%v, logs of %d epochs", n, len(n.disk.logs))
		}
		if !slices.Equal(n.entered, []consensus.Epoch{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}) {
			t.Errorf("node %d entered %v", n.id, n.entered)
		}
		shows += n.shows
	}
	if shows == 0 {
		t.Error("no leader showed who finalized")
	}
}

func TestEqualInputsGiveEqualEffects(t *testing.T) {
	trace := func() string {
		var out strings.Builder
		w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
		for _, n := range w.nodes {
			n.effects = func(e replica.Effect) { fmt.Fprintf(&out, "%d %d %s\n", w.now, n.id, shown(e)) }
		}
		startAll(w)
		w.run(1000*ms, w.everybodyAt(12))
		return out.String()
	}
	if one, two := trace(), trace(); one != two {
		t.Error("two runs differ")
	}
}

// shown prints all of an effect that a driver can see.
func shown(e replica.Effect) string {
	switch e := e.(type) {
	case replica.Broadcast:
		return fmt.Sprintf("broadcast %x", consensus.EncodeMessage(e.Message))
	case replica.Send:
		return fmt.Sprintf("send %s %x", e.To, consensus.EncodeMessage(e.Message))
	case replica.Append:
		return fmt.Sprintf("append %d %x", e.Epoch, e.Records)
	case replica.Finalize:
		return fmt.Sprintf("finalize %x by %x", e.Block.Payload, consensus.EncodeCertificate(e.Certificate))
	case replica.Build:
		return fmt.Sprintf("build %v on %s, final %d %s, %d late", e.Round, e.ParentDigest, e.FinalizedView, e.FinalizedDigest, len(e.Late))
	case replica.Check:
		return fmt.Sprintf("check %v", e.Check)
	}
	return fmt.Sprintf("%T", e)
}

// Epoch 1: 0 1 2 3; epoch 2: 4 joins, 0 leaves, 1 rotates its key; epoch 3: 0 is
// back with another seat; then as in epoch 1.
func changingSeats(e consensus.Epoch) []seat {
	switch e {
	case 2:
		return []seat{{4, 4}, {1, 101}, {2, 2}, {3, 3}}
	case 3:
		return []seat{{2, 2}, {3, 3}, {0, 0}, {4, 4}, {1, 101}}
	}
	return []seat{{0, 0}, {1, 101}, {2, 2}, {3, 3}}
}

func TestValidatorsJoinLeaveAndRotateKeys(t *testing.T) {
	seats := func(e consensus.Epoch) []seat {
		if e == 1 {
			return []seat{{0, 0}, {1, 1}, {2, 2}, {3, 3}}
		}
		return changingSeats(e)
	}
	w := newWorld(t, 5, seats)
	w.nodes[1].keys = []int{1, 101}
	signed := map[consensus.Epoch][]bool{}
	startAll(w)
	for height := uint64(1); height <= 17; height++ {
		w.run(1000*ms, w.everybodyAt(height))
		for _, n := range w.nodes {
			s := n.r.Status()
			if signed[s.Epoch] == nil {
				signed[s.Epoch] = make([]bool, 5)
			}
			signed[s.Epoch][n.id] = s.Signs
		}
	}
	for e, who := range map[consensus.Epoch]string{
		1: "[true true true true false]", 2: "[false true true true true]", 3: "[true true true true true]", 4: "[true true true true false]",
	} {
		if got := fmt.Sprint(signed[e]); got != who {
			t.Errorf("in epoch %d signs %s, want %s", e, got, who)
		}
	}
	w.nobodyBlamed()
}

// An epoch ends with a closing block whose own view failed: it is proposed again
// until a finalization comes through.
func TestAClosingBlockIsFinalizedThroughALaterViewWhenItsOwnFails(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	closing := consensus.View(0)
	w.cut = func(_, _ int, m consensus.Message) bool {
		if o, ok := m.(consensus.Offer); ok && o.Vote.Proposal.Round.Epoch == 1 {
			if b, err := readToy(o.Payload); err == nil && b.Closing {
				closing = o.Vote.Proposal.Round.View
			}
		}
		// Nobody hears of a finalize in the closing block's own view.
		if f, ok := m.(consensus.Finalize); ok {
			return f.Proposal.Round.Epoch == 1 && f.Proposal.Round.View == closing
		}
		c, ok := m.(*consensus.Certificate)
		return ok && c.Statement.Kind == consensus.KindFinalize && c.Statement.Round().Epoch == 1 && c.View() == closing
	}
	startAll(w)
	w.run(1000*ms, w.everybodyAt(9))
	w.nobodyBlamed()
	through := w.nodes[0].disk.chain[4].cert.View()
	if closing == 0 || through <= closing {
		t.Errorf("the closing block was proposed in view %d, and finalized through view %d", closing, through)
	}
}

func TestALaggardTwoEpochsBehindCatchesUpAndSigns(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(3))
	w.nodes[3].stop()
	others := func(height uint64) func() bool {
		return func() bool { return w.nodes[0].height() >= height && w.nodes[1].height() >= height }
	}
	w.run(60_000*ms, others(14))
	w.nodes[3].start()
	w.run(2000*ms, func() bool {
		s := w.nodes[3].r.Status()
		return s.Epoch >= 3 && s.Signs && s.Height+3 >= w.nodes[0].height()
	})
	from := w.nodes[3].height()
	w.run(2000*ms, w.everybodyAt(from+10))
	w.nobodyBlamed()
}

// A member that missed how the epoch ended is told as soon as it speaks, and not
// more often than it repeats itself.
func TestAStragglersVoteIsAnsweredWithTheEndOfItsEpoch(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(12))
	n := w.nodes[0]
	for turn := range 3 {
		var told []*consensus.Certificate
		n.effects = func(e replica.Effect) {
			if s, ok := e.(replica.Send); ok && s.To == nodeKey(3) {
				told = append(told, s.Message.(*consensus.Certificate))
			}
		}
		for view := range consensus.View(20) {
			s := consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: consensus.Round{Epoch: 1, View: view + 40}}}
			n.step(replica.Received{From: nodeKey(3), Message: consensus.SignVote(consensusKey(3), 3, chainID, s)})
		}
		if len(told) != 1 || told[0].Statement.Proposal.Digest != w.final[5] {
			t.Fatalf("turn %d: told %v", turn, told)
		}
		late := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{Round: round(1, 9), Digest: w.final[5]}}
		if way, effects, _ := n.tell(2, vote(2, late)); way != replica.Drop || len(effects) > 0 {
			t.Fatalf("a late finalize of the old epoch: %d, %v", way, effects)
		}
		n.effects = nil
		w.pass(100 * ms)
	}
	w.nobodyBlamed()
}

func TestANodeThatLostItsLogObservesUntilTheNextEpochAndThenSigns(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(7))
	n := w.nodes[2]
	n.stop()
	n.fresh = false
	clear(n.disk.logs)
	n.start()
	if n.r.Status().Signs {
		t.Fatal("signs without its log")
	}
	w.run(2000*ms, func() bool { s := n.r.Status(); return s.Epoch == 3 })
	if !n.r.Status().Signs {
		t.Fatal("observes in an epoch that began after it did")
	}
	w.run(2000*ms, w.everybodyAt(14))
	w.nobodyBlamed()
}

// The disk is gone altogether: what it signed in any epoch so far, it does not
// know, however it learns of them.
func TestANodeThatLostEverythingSignsInNoEpochThatIsOlderThanItsLife(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(12)) // epoch 3
	n := w.nodes[2]
	n.stop()
	n.fresh = false
	n.disk = disk{logs: map[consensus.Epoch][][]byte{}}
	n.start()
	lived := w.nodes[0].r.Status().Epoch
	w.run(20_000*ms, func() bool {
		s := n.r.Status()
		if s.Signs && s.Epoch <= lived {
			t.Fatalf("signs in epoch %d, and lost what it signed in epochs up to %d", s.Epoch, lived)
		}
		return s.Signs
	})
	w.run(2000*ms, w.everybodyAt(n.height()+6))
	w.nobodyBlamed()
}

// Two logs, the new and the old: the crash came before the old one was dropped.
// None of the new: it came before the new one was begun.
func TestACrashBetweenAnyTwoEffectsAtTheBoundaryIsSafe(t *testing.T) {
	points := 0
	for k := 1; ; k++ {
		w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
		startAll(w)
		w.run(1000*ms, w.everybodyAt(4))
		n := w.nodes[k%4]
		n.fresh = false // its key has signed
		n.crashIn = k
		w.run(3000*ms, w.everybodyAt(12))
		w.nobodyBlamed()
		if n.crashed == 0 {
			break
		}
		w.run(1000*ms, func() bool { return n.r != nil })
		if s := n.r.Status(); !s.Signs {
			t.Fatalf("crash point %d: does not sign any more: %v", k, n)
		}
		if n.r.Status().Epoch > 3 {
			break
		}
		points = k
	}
	if points < 60 {
		t.Errorf("%d crash points", points)
	}
}

func TestTwoCrashesAtTheBoundaryAreSafe(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 5
	}
	for first := 1; first < 60; first += 3 {
		for second := 1; second < 50; second += step + 6 {
			w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
			startAll(w)
			w.run(1000*ms, w.everybodyAt(4))
			for i, at := range []int{first, second} {
				w.nodes[i].fresh, w.nodes[i].crashIn = false, at
			}
			w.run(5000*ms, w.everybodyAt(11))
			w.nobodyBlamed()
		}
	}
}

// The logs at the boundary, and who may sign with them.
func TestWhichLogsMayBeSignedWithAtTheBoundary(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[0]
	var before, between, after disk
	n.effects = func(e replica.Effect) {
		switch e := e.(type) {
		case replica.Append:
			if e.Epoch == 2 && len(between.chain) == 0 {
				before = n.disk.clone() // the closing block is durable, log 2 is not begun
			}
		case replica.DropLog:
			if e.Epoch == 1 {
				between = n.disk.clone() // both logs
			}
		}
	}
	startAll(w)
	w.run(1000*ms, w.everybodyAt(6))
	after = n.disk.clone()
	if len(before.logs) != 1 || len(between.logs) != 2 || len(after.logs) != 1 {
		t.Fatalf("logs: %d, %d, %d", len(before.logs), len(between.logs), len(after.logs))
	}
	without := func(d disk, e consensus.Epoch) disk {
		d = d.clone()
		delete(d.logs, e)
		return d
	}
	oldCopy := before.clone()
	oldCopy.logs[1] = oldCopy.logs[1][:3]
	incomplete := without(before, 1)
	for name, c := range map[string]struct {
		disk  disk
		signs bool
	}{
		"the old log alone, complete":              {before, true},
		"both":                                     {between, true},
		"the new one":                              {after, true},
		"none at the boundary":                     {incomplete, false},
		"none in the epoch":                        {without(after, 2), false},
		"an old copy of the old log":               {oldCopy, false},
		"the old log with blocks of the new epoch": {disk{logs: before.logs, chain: after.chain}, false},
	} {
		n.disk, n.fresh, n.since = c.disk.clone(), false, uint64(w.now/ms)
		if err := n.restore(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := n.r.Status(); got.Signs != c.signs || got.Epoch != 2 {
			t.Errorf("%s: signs %t in epoch %d", name, got.Signs, got.Epoch)
		}
	}
}

// Ava Labs Simplex #551: an old epoch's log replayed into the new epoch.
func TestMistakeAnOldEpochsLogIsReplayedIntoTheNewEpoch(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[0]
	var old [][]byte
	n.effects = func(e replica.Effect) {
		if d, ok := e.(replica.DropLog); ok && d.Epoch == 1 {
			old = slices.Clone(n.disk.logs[1])
		}
	}
	startAll(w)
	w.run(1000*ms, w.everybodyAt(6))
	n.disk.logs = map[consensus.Epoch][][]byte{2: old}
	if err := n.restore(); err == nil || !strings.Contains(err.Error(), "log of another epoch") {
		t.Errorf("restores epoch 2 from epoch 1's log: %v", err)
	}
	n.disk.logs = map[consensus.Epoch][][]byte{1: old}
	if err := n.restore(); err != nil || n.r.Status().Signs {
		t.Errorf("epoch 1's log speaks in epoch 2: %v", err)
	}
}

// cometbft #3372, #3340: a node that falls behind and never recovers until it is
// restarted. Here it hears nothing for as long as others make epochs.
func TestMistakeANodeThatFellBehindNeverRecovers(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	deaf := true
	w.cut = func(from, to int, m consensus.Message) bool { return deaf && (to == 3 || from == 3) }
	startAll(w)
	w.run(60_000*ms, func() bool { return w.nodes[0].height() >= 30 })
	if h := w.nodes[3].height(); h != 0 {
		t.Fatalf("height %d without hearing anything", h)
	}
	deaf = false
	w.run(3000*ms, func() bool { return w.nodes[3].height()+3 >= w.nodes[0].height() })
	w.run(2000*ms, w.everybodyAt(w.nodes[0].height()+5))
	w.nobodyBlamed()
}

// A log that is rewritten at any time restores to the same replica.
func TestASnapshotRestoresToWhatItIsOf(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	for height := uint64(1); height < 13; height++ {
		w.run(1000*ms, w.everybodyAt(height))
		n := w.nodes[height%4]
		s := n.r.Status()
		if n.r.Snapshot(s.Epoch+1) != nil || s.Epoch > 1 && n.r.Snapshot(s.Epoch-1) != nil {
			t.Fatal("a snapshot of another epoch")
		}
		n.disk.logs[s.Epoch] = n.r.Snapshot(s.Epoch)
		n.stop()
		n.start()
		if now := n.r.Status(); !now.Signs || now.View < s.View || now.FinalizedView != s.FinalizedView || now.Epoch != s.Epoch {
			t.Fatalf("%+v became %+v", s, now)
		}
	}
	w.nobodyBlamed()
}
