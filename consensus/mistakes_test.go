package consensus_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// One test for each mistake that other implementations made and that a core can
// make.

func (s *script) mustSay(command, want string) {
	s.t.Helper()
	if out := s.do(command); !strings.Contains(out, want) {
		s.t.Fatalf("%s\n----\n%swant %q", command, out, want)
	}
}

func (s *script) mustNotSay(command, bad string) {
	s.t.Helper()
	if out := s.do(command); strings.Contains(out, bad) {
		s.t.Fatalf("%s\n----\n%sdo not want %q", command, out, bad)
	}
}

// Ava Labs Simplex #280, #290: a finalize vote made again for a round already
// timed out.
func TestMistakeFinalizeVoteMadeAgainForARoundTimedOut(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.mustSay("tick 150", "vote nullify 1")
	s.do("restart")
	s.do("certificate notarize A")
	s.mustSay("block A", "check 1 A")
	s.mustNotSay("valid", "vote finalize")
	if s.core.View() != 2 {
		t.Fatalf("view %d after certifying view 1", s.core.View())
	}
}

// Commonware monorepo #4275: a deadlock after restart because the own nullify
// was not tallied again.
func TestMistakeDeadlockAfterRestartBecauseTheOwnNullifyWasNotTallied(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.mustSay("tick 100", "vote nullify 1")
	s.mustSay("restart", "broadcast vote nullify 1")
	s.mustSay("nullify 1 from 1 3", "view 2, finalized 0") // with the own one a quorum of three
}

// Commonware monorepo #2695: not certifying after nullify left the node stuck.
func TestMistakeNotCertifyingAfterNullify(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.mustSay("tick 150", "vote nullify 1")
	s.do("certificate notarize A")
	s.mustSay("valid", "view 2, finalized 0")
}

// Commonware monorepo #2137: rebroadcasting the wrong certificates.
func TestMistakeRebroadcastingTheWrongCertificates(t *testing.T) {
	s := newScript(t, 3)
	s.do("start")
	s.do("certificate nullify 1")
	s.do("certificate nullify 4")
	s.mustSay("tick 200", "vote nullify 5")
	s.mustSay("tick 100", "broadcast vote nullify 5\nbroadcast certificate nullify 4\nview 5")
	s.do("define E 5 on 0 genesis")
	s.do("certificate finalize E")
	s.do("tick 300")
	s.mustSay("tick 100", "broadcast certificate finalize 5 on 0 E\n")
}

// A finalization replaces the notarization that let us in: those behind need no
// block to follow it.
func TestRetryPrefersTheFinalizationOfTheViewBefore(t *testing.T) {
	s := newScript(t, 3)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.do("valid")
	s.mustSay("notarize A from 1", "view 2, finalized 0")
	s.mustSay("finalize A from 0 1", "view 2, finalized 1")
	s.do("tick 100")
	s.mustSay("tick 100", "broadcast certificate finalize 1 on 0 A\n")
}

// Ava Labs Simplex #541: an equivocating leader floods the verify queue.
func TestMistakeEquivocatingLeaderFloodsTheVerifyQueue(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.mustSay("offer A 1 on 0 genesis", "check 1 A")
	s.mustSay("offer B 1 on 0 genesis", "evidence against [0]: notarize 1 on 0 A and notarize 1 on 0 B")
	for _, name := range []string{"C", "D", "E", "F"} {
		if out := s.do("offer " + name + " 1 on 0 genesis"); strings.Contains(out, "check") || strings.Contains(out, "evidence") {
			t.Fatalf("offer %s: %s", name, out)
		}
	}
	if b := s.blocks["F"].block.Digest; func() bool { _, held := s.core.Block(b); return held }() {
		t.Fatal("the sixth block of a view is held")
	}
}

// A leader's second proposal counts as equivocation also where only its vote
// arrives: who saw it certifies the first and does not finalize it.
func TestAVoteForASecondProposalForbidsFinalize(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.do("valid")
	s.do("define B 1 on 0 genesis")
	s.mustSay("notarize B from 0", "evidence against [0]: notarize 1 on 0 A and notarize 1 on 0 B")
	s.mustNotSay("notarize A from 1", "vote finalize")
	if s.core.View() != 2 {
		t.Fatalf("view %d after certifying view 1", s.core.View())
	}
}

// Ava Labs Simplex #37: an equivocating leader strands one node.
func TestMistakeEquivocatingLeaderStrandsOneNode(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.mustSay("valid", "vote notarize 1 on 0 A")
	s.do("define B 1 on 0 genesis")
	s.mustSay("certificate notarize B", "for block B")
	s.mustSay("block B", "check 1 B on genesis, attested true")
	out := s.do("valid")
	if !strings.Contains(out, "view 2") || strings.Contains(out, "vote finalize") {
		t.Fatalf("the leader's other proposal was certified: enter view 2, and finalize nothing of an equivocator\n%s", out)
	}
}

// Ava Labs Simplex #551: an old epoch's log replayed into the new epoch.
func TestMistakeOldEpochsLogReplayedIntoTheNewEpoch(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("tick 100")
	spoil := map[string]func(*consensus.Config){
		"chain": func(c *consensus.Config) { c.ChainID = "other" },
		"start": func(c *consensus.Config) { c.Start = crypto.Digest{1} },
		"key":   func(c *consensus.Config) { c.Key = testKey(1) },
		"epoch": func(c *consensus.Config) {
			committee, err := consensus.NewCommittee(2, []consensus.Validator{{Key: testKey(2).Public(), Weight: 1, LeaderWeight: 1}})
			if err != nil {
				t.Fatal(err)
			}
			c.Committee = committee
		},
	}
	for name, change := range spoil {
		cfg := s.config()
		change(&cfg)
		if _, err := consensus.Restore(cfg, consensus.Floor{Digest: cfg.Start}, s.log); !errors.Is(err, consensus.ErrForeignLog) {
			t.Errorf("another %s: %v, want ErrForeignLog", name, err)
		}
	}
}

// Commonware monorepo #2797: received votes lost at restart, and with them the
// evidence.
func TestMistakeReceivedVotesLostAtRestartAndWithThemTheEvidence(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("define A 1 on 0 genesis")
	s.do("define B 1 on 0 genesis")
	s.do("notarize A from 3")
	s.mustSay("notarize B from 3", "append evidence\nevidence against [3]")
	s.mustSay("restart", "evidence against [3]: notarize 1 on 0 A and notarize 1 on 0 B")
	s.do("nullify 1 from 3")
	s.do("compact")
	s.mustSay("restart", "evidence against [3]")
}

// cometbft #3372, #3340: a node that fell behind never recovers until it is
// restarted.
func TestMistakeNodeThatFellBehindNeverRecoversUntilRestarted(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("define Y 899 on 0 genesis")
	s.do("define Z 900 on 899 Y")
	s.mustSay("certificate finalize Z", "view 901, finalized 900")
	if !s.core.Behind() {
		t.Fatal("not behind without the blocks")
	}
	s.mustSay("tick 60", "block Z") // the driver had its moment
	s.do("block Z")
	s.mustSay("tick 60", "block Y")
	s.mustSay("block Y", "commit Y Z by finalize 900 on 899 Z")
	if s.core.Behind() {
		t.Fatal("still behind with the blocks")
	}
}

// TON's notes: a rebroadcast storm that grows with the standstill.
func TestMistakeRebroadcastStormThatGrowsWithTheStandstill(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	for v := range 40 { // a long standstill behind us
		s.do("certificate nullify " + string([]byte{byte('0' + (v+1)/10), byte('0' + (v+1)%10)}))
	}
	s.do("tick 60000")
	for range 50 {
		out := s.do("tick 100")
		if n := strings.Count(out, "broadcast"); n > 2 {
			t.Fatalf("%d broadcasts in one retry:\n%s", n, out)
		}
		if n := strings.Count(out, "ask"); n > 16 {
			t.Fatalf("%d requests in one retry:\n%s", n, out)
		}
	}
}

func TestAForgedVoteBlocksItsSenderAndNoQuorum(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("tick 100")
	s.do("forge nullify 1 by 3")
	s.mustSay("nullify 1 from 1", "blame signer 3")
	s.mustSay("nullify 1 from 0", "view 2, finalized 0")
}

func TestAnOldCopyOfTheLogMakesAnObserver(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	old := s.log
	s.do("offer A 1 on 0 genesis")
	s.do("valid")
	s.mustSay("notarize A from 1", "vote finalize 1 on 0 A")
	voted := s.log // every own vote is in it, and what the quorum makes of them is not
	s.mustSay("finalize A from 0 1", "commit A")
	s.do("durable A")
	s.do("restart")
	if !s.core.Signs() {
		t.Fatal("a complete log does not sign")
	}
	for name, log := range map[string][][]byte{"an old copy": old, "all but the finalization": voted, "none": nil} {
		s.log = log
		for turn := range 2 {
			out := s.do("restart")
			if begun := strings.Contains(out, "append header; certificate finalize 1 on 0 A"); begun != (turn == 0) {
				t.Fatalf("%s: the floor's certificate comes into the log once, after the header\n%s", name, out)
			}
			if s.core.Signs() {
				t.Fatalf("signs with %s of its log", name)
			}
		}
	}
}

func TestAProposalThatSkipsAViewWaitsForItsNullification(t *testing.T) {
	s := newScript(t, 3)
	s.do("start")
	s.do("certificate nullify 2")
	s.mustSay("offer C 3 on 0 genesis", "ask 2 for certificate nullify 1")
	s.mustSay("certificate nullify 1", "check 3 C")
	s.mustSay("valid", "vote notarize 3 on 0 C")
}

// A proposal from the log was made in an earlier life, on a clock of another
// origin: how long its certification took says nothing about patience.
func TestAProposalFromTheLogTeachesNoPatience(t *testing.T) {
	s := newScript(t, 3)
	s.now = 3_600_000 * ms
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.mustSay("valid", "vote notarize 1 on 0 A")
	s.do("restart")
	s.mustSay("notarize A from 0 1", "check 1 A")
	s.mustSay("valid", "view 2, finalized 0")
	s.mustSay("finalize A from 0 1", "view 2, finalized 1")
	s.mustSay("certificate nullify 2", "view 3, finalized 1")
	if at, ok := s.core.Deadline(); !ok || at > s.now+testTime.Idle+3*testTime.DeltaMin {
		t.Fatalf("the leader is waited for until %d ms from now, with a patience of %d ms", (at-s.now)/ms, testTime.DeltaMin/ms)
	}
}

// Two certificates that exclude each other are evidence against more than a
// third of the weight, in the log before the node stops, and no reason to go on
// after a restart.
func TestCertificatesThatExcludeEachOtherHaltTheNode(t *testing.T) {
	for first, second := range map[string]string{
		"certificate finalize A": "certificate nullify 1",
		"certificate nullify 1":  "certificate finalize A",
		"certificate notarize A": "certificate notarize B",
		"certificate finalize B": "certificate notarize A",
		"certificate notarize B": "certificate finalize A",
		"certificate finalize C": "certificate finalize A", // of a view below the last finalized, too
	} {
		s := newScript(t, 2)
		s.do("start")
		s.do("define A 1 on 0 genesis")
		s.do("define B 1 on 0 genesis")
		s.do("define C 1 on 0 genesis")
		s.do("define D 3 on 1 C")
		s.do(first)
		if first == "certificate finalize C" {
			s.do("certificate finalize D")
		}
		out := s.do(second)
		for _, want := range []string{"append evidence\n", "evidence against [0 1 2]", "halt: "} {
			if !strings.Contains(out, want) {
				t.Errorf("%s, %s: want %q\n%s", first, second, want, out)
			}
		}
		if out := s.do("tick 1000"); strings.Contains(out, "broadcast") {
			t.Errorf("speaks after it halted: %s", out)
		}
		if out := s.do("restart"); !strings.Contains(out, "halt: ") || !strings.Contains(out, "evidence against [0 1 2]") {
			t.Errorf("%s, %s: goes on after a restart: %s", first, second, out)
		}
	}
}

// A validator that signs everything costs the log one piece of evidence an epoch.
func TestEvidenceIsBounded(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	reports := 0
	for v := 1; v < 60; v++ {
		view := fmt.Sprint(v)
		s.do("define A" + view + " " + view + " on 0 genesis")
		s.do("define B" + view + " " + view + " on 0 genesis")
		s.do("notarize A" + view + " from 3")
		reports += strings.Count(s.do("notarize B"+view+" from 3"), "evidence against")
		s.do("finalize A" + view + " from 3")
		reports += strings.Count(s.do("nullify "+view+" from 3"), "evidence against")
		s.do("certificate nullify " + view)
	}
	if reports != 1 || len(s.core.Evidence()) != 1 {
		t.Errorf("%d reports, %d kept", reports, len(s.core.Evidence()))
	}
}

// Views that were given up long ago do not hold their leaders' blocks for ever.
func TestBlocksOfViewsGivenUpAreForgotten(t *testing.T) {
	s := newScript(t, 3)
	s.do("start")
	for v := 1; v < 40; v++ {
		view := fmt.Sprint(v)
		if v%4 != 0 { // those that others lead
			s.do("offer A" + view + " " + view + " on 0 genesis")
		}
		s.do("certificate nullify " + view)
	}
	held := 0
	for _, n := range s.blocks {
		if _, ok := s.core.Block(n.block.Digest); ok {
			held++
		}
	}
	if held > 6 {
		t.Errorf("%d blocks are held with a retention of 4 views", held)
	}
	// One that was notarized after all is fetched.
	s.mustSay("certificate notarize A5", "for block A5")
	s.mustSay("block A5", "check 5 A5")
}

// The own notarize may be the one that makes the quorum: certification does not
// wait for another message.
func TestAQuorumThatTheOwnVoteMakesIsCertifiedInTheSameStep(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	s.do("offer A 1 on 0 genesis")
	s.do("notarize A from 1")
	s.mustSay("valid", "broadcast vote finalize 1 on 0 A\nview 2, finalized 0")
}

// Votes for ever new digests by one signer neither take memory nor slow the
// counting of the next one.
func TestAVoterForEverythingIsCountedOnce(t *testing.T) {
	s := newScript(t, 2)
	s.do("start")
	vote := func(n uint64) {
		digest := crypto.DomainHeader.Hash(codec.Marshal(n))
		s.core.Step(consensus.Input{Now: s.now, Event: consensus.VoteReceived{Vote: s.vote(1, consensus.Statement{
			Kind: consensus.KindNotarize, Proposal: consensus.Proposal{Round: consensus.Round{Epoch: 1, View: 1}, Digest: digest},
		})}})
	}
	vote(0)
	vote(1) // evidence, once
	heap := func() uint64 {
		var m runtime.MemStats
		for range 4 { // pools give up what they hold at the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for n := range uint64(5000) {
		vote(n + 2)
	}
	if after := heap(); after > before+100<<10 {
		t.Fatalf("5000 votes that count for nothing hold %d KiB", (after-before)>>10)
	}
	runtime.KeepAlive(s)
}
