package consensus_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

// closingScript brings validator self into view 2 with the closing block C
// certified in view 1. Validator 0 leads view 1, 1 leads 2, 2 leads 3, 3 leads 4.
func closingScript(t *testing.T, self int) *script {
	s := newScript(t, self)
	s.do("start")
	s.do("offer C 1 on 0 genesis closing")
	s.do("valid")
	return s
}

func TestAClosingBlockIsRepeatedByItsLeadersVoteAloneAndNobodyIsAsked(t *testing.T) {
	s := closingScript(t, 1)
	out := s.do("notarize C from 2")
	if !strings.Contains(out, "broadcast vote notarize 2 on 1 C") || strings.Contains(out, "build") || strings.Contains(out, "offer") {
		t.Fatalf("the leader of view 2 repeats C by its vote, and builds nothing:\n%s", out)
	}
	s = closingScript(t, 2)
	s.mustSay("notarize C from 1", "view 2")
	s.do("repeat C2 2 on 1 C")
	out = s.do("notarize C2 from 1")
	if !strings.Contains(out, "broadcast vote notarize 2 on 1 C") || strings.Contains(out, "check") || strings.Contains(out, "block") {
		t.Fatalf("a follower notarizes the repeated block without asking its application or logging the block again:\n%s", out)
	}
}

// The vote may be there before the block is certified, or before it is held.
func TestARepeatThatComesEarlyIsNotLost(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("define C 1 on 0 genesis closing")
	s.do("repeat C2 2 on 1 C")
	s.do("notarize C2 from 1")
	s.mustSay("certificate notarize C", "for block C")
	s.mustSay("block C", "check 1 C")
	s.mustSay("valid", "broadcast vote notarize 2 on 1 C")
}

func TestARepeatThatArrivesAsAnOfferIsTakenToo(t *testing.T) {
	s := closingScript(t, 2)
	s.do("notarize C from 1")
	out := s.do("reoffer C2 2 on 1 C")
	if !strings.Contains(out, "broadcast vote notarize 2 on 1 C") || strings.Contains(out, "check") {
		t.Fatalf("%s", out)
	}
}

func TestNothingButItselfFollowsAClosingBlock(t *testing.T) {
	s := closingScript(t, 2)
	s.do("notarize C from 1")
	out := s.do("offer D 2 on 1 C")
	if strings.Contains(out, "check") || strings.Contains(out, "vote notarize") || !strings.Contains(out, "vote nullify 2") {
		t.Fatalf("another block on a closing parent costs its leader the view:\n%s", out)
	}
	// Even a quorum cannot have it certified.
	s = closingScript(t, 2)
	s.do("notarize C from 1")
	s.do("define D 2 on 1 C")
	s.do("certificate notarize D")
	out = s.do("block D")
	if strings.Contains(out, "check") || strings.Contains(out, "view 3") || !strings.Contains(out, "vote nullify 2") {
		t.Fatalf("a notarized block on a closing parent is not certified:\n%s", out)
	}
}

func TestABlockThatDoesNotCloseIsNotRepeated(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.do("valid")
	s.mustSay("notarize A from 1", "view 2")
	out := s.do("reoffer A2 2 on 1 A")
	if strings.Contains(out, "check") || strings.Contains(out, "vote notarize") || !strings.Contains(out, "vote nullify 2") {
		t.Fatalf("%s", out)
	}
	// The epoch's start is the closing block of the epoch before, and not of this.
	s = newScript(t, 2)
	s.do("start")
	s.blocks["genesis"] = named{block: consensus.Block{Digest: genesis, Closing: true}}
	out = s.do("reoffer G 1 on 0 genesis")
	if strings.Contains(out, "check") || strings.Contains(out, "vote notarize") {
		t.Fatalf("%s", out)
	}
}

func TestTheFirstProposalsFinalizationClosesTheCoreInALaterView(t *testing.T) {
	s := closingScript(t, 2)
	s.do("notarize C from 1")
	s.mustSay("certificate nullify 2", "broadcast vote notarize 3 on 1 C") // validator 2 leads view 3
	s.mustSay("finalize C from 0 1", "commit C by finalize 1 on 0 C")
	if !s.core.Closed() {
		t.Fatal("not closed")
	}
	rests(t, s)
}

func TestALaterProposalsFinalizationFinalizesTheSameBlock(t *testing.T) {
	s := closingScript(t, 2)
	s.do("notarize C from 1")
	s.do("repeat C2 2 on 1 C")
	s.do("notarize C2 from 1")
	s.mustSay("notarize C2 from 3", "broadcast vote finalize 2 on 1 C") // and, leading view 3, repeats it
	s.do("repeat C3 3 on 2 C")
	out := s.do("certificate finalize C3")
	if strings.Count(out, "commit") != 1 || !strings.Contains(out, "commit C by finalize 3 on 2 C") {
		t.Fatalf("%s", out)
	}
	rests(t, s)
	s.do("durable C")
	rests(t, s)
}

// rests checks that a closed core says nothing of itself, and answers with the
// finalization whatever it is asked for.
func rests(t *testing.T, s *script) {
	t.Helper()
	if at, ok := s.core.Deadline(); ok {
		t.Fatalf("a closed core wants to be woken at %d", at)
	}
	final, _ := s.core.LastFinalized()
	s.do("define Z 9 on 1 C")
	s.do("repeat C9 5 on 1 C")
	for _, command := range []string{
		"tick 100000", "nullify 4 from 0 1 3", "notarize C9 from 0 1 3", "offer Y 5 on 1 C", "certificate nullify 7", "certificate notarize Z",
	} {
		if out := s.do(command); strings.Contains(out, "vote") || strings.Contains(out, "broadcast") || strings.Contains(out, "append") || strings.Contains(out, "ask") {
			t.Fatalf("%s: a closed core says\n%s", command, out)
		}
	}
	for _, ask := range []string{"answer nullify 1", "answer notarize 1", "answer finalize 1"} {
		if out := s.do(ask); !strings.Contains(out, "finalize") {
			t.Fatalf("%s: %s", ask, out)
		}
	}
	if now, _ := s.core.LastFinalized(); now != final {
		t.Fatalf("finalized view %d after %d, which closed the epoch", now, final)
	}
}

func TestAFinalizationWhoseBlockIsMissingClosesTheCoreWhenTheBlockComes(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("define C 1 on 0 genesis closing")
	s.do("certificate finalize C")
	s.mustSay("tick 60", "for block C")
	s.mustSay("block C", "commit C by finalize 1 on 0 C")
	rests(t, s)
}

// Catch-up by height brings the closing block past the core.
func TestAClosingBlockThatCameByHeightClosesTheCore(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	n := s.define([]string{"C", "1", "on", "0", "genesis", "closing"})
	s.do("certificate finalize C")
	var out strings.Builder
	s.step(&out, consensus.Delivered{Digest: n.block.Digest, Closing: true})
	if s.core.Behind() || !s.core.Closed() {
		t.Fatal("behind, or not closed")
	}
	rests(t, s)
}

func TestARestartAmongRepeatsSignsNothingTwiceAndRepeatsTheVoteAlone(t *testing.T) {
	s := closingScript(t, 1)
	s.mustSay("notarize C from 2", "broadcast vote notarize 2 on 1 C")
	for range 2 {
		out := s.do("restart")
		if !strings.Contains(out, "broadcast vote notarize 2 on 1 C") || !strings.Contains(out, "broadcast vote finalize 1 on 0 C") ||
			strings.Contains(out, "offer") || strings.Contains(out, "append") || strings.Contains(out, "build") {
			t.Fatalf("%s", out)
		}
		s.do("compact")
	}
	s.do("repeat C2 2 on 1 C")
	s.do("valid") // the application forgot what it had executed
	s.mustSay("notarize C2 from 2 3", "vote finalize 2 on 1 C")
	s.do("restart")
	s.mustSay("finalize C2 from 2 3", "commit C by finalize 2 on 1 C")
	s.do("durable C")
	s.do("restart")
	if !s.core.Closed() {
		t.Fatal("open after a restart on the durable closing block")
	}
	rests(t, s)
}

// The same digest at every height, whichever proposal of it is finalized where.
func TestOneHeightNeverHasTwoDigestsAtTheEnd(t *testing.T) {
	first, later := closingScript(t, 2), closingScript(t, 2)
	for _, s := range []*script{first, later} {
		s.do("notarize C from 1")
		s.do("repeat C4 4 on 1 C")
		s.do("define D 4 on 1 C")
	}
	a := first.do("certificate finalize C")
	b := later.do("certificate finalize C4")
	if !strings.Contains(a, "commit C by finalize 1 on 0 C") || !strings.Contains(b, "commit C by finalize 4 on 1 C") {
		t.Fatalf("%s\n%s", a, b)
	}
}

func TestABuildShowsWhoFinalized(t *testing.T) {
	s := newScript(t, 1) // leads 2, 6
	s.do("start")
	s.do("certificate nullify 1")
	s.mustSay("nobuild", "vote nullify 2") // in view 2 nothing is old enough to show
	s.do("certificate nullify 2")
	s.do("offer A 3 on 0 genesis")
	s.do("valid")
	s.do("notarize A from 2 3")
	s.mustSay("finalize A from 0 2", "finalized 3") // with the own one a quorum
	s.do("finalize A from 3")                       // late
	s.do("offer B 4 on 3 A")
	s.do("valid")
	s.do("notarize B from 2 3")
	s.mustSay("finalize B from 0 2", "finalized 4")
	s.do("durable B")
	s.mustSay("certificate nullify 5", "shows finalize 4 on 3 B, late finalize 3 on 0 A by 3")
}

func TestAForgedLateVoteIsNotShown(t *testing.T) {
	s := newScript(t, 1)
	s.do("start")
	s.do("certificate nullify 1")
	s.do("certificate nullify 2")
	s.do("offer A 3 on 0 genesis")
	s.do("valid")
	s.do("notarize A from 2 3")
	s.do("finalize A from 0 2")
	s.do("durable A")
	st := s.statement("finalize", "A")
	_, sig := s.vote(0, st).By()
	var out strings.Builder
	s.step(&out, consensus.VoteReceived{Vote: consensus.Finalize{Proposal: st.Proposal, Signer: 3, Signature: sig}})
	s.do("certificate nullify 4")
	text := s.do("certificate nullify 5")
	if !strings.Contains(text, "shows finalize 3 on 0 A") || strings.Contains(text, "late") || !strings.Contains(text, "blame signer 3") {
		t.Fatalf("%s", text)
	}
}

// The closing block is offered again with its bytes in a view that fails, and
// others fail for longer than views are kept: it stays closing.
func TestAClosingBlockStaysClosingThroughAStandstill(t *testing.T) {
	s := closingScript(t, 2)
	s.mustSay("notarize C from 1", "view 2")
	for _, v := range []string{"2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"} {
		if v == "2" {
			s.do("reoffer C2 2 on 1 C")
		}
		s.do("certificate nullify " + v)
	}
	if _, held := s.core.Block(s.blocks["C"].block.Digest); !held {
		t.Fatal("the certified block is gone")
	}
	out := s.do("offer D 13 on 1 C")
	if strings.Contains(out, "check") || strings.Contains(out, "vote notarize") || !strings.Contains(out, "vote nullify 13") {
		t.Fatalf("%s", out)
	}
}
