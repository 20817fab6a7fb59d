package consensus_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

// TestNeedsTellsCopiesFromNews: of a vote that several sentries carry, one copy is
// worth its verification; what could be evidence is, and so is a sign of life.
func TestNeedsTellsCopiesFromNews(t *testing.T) {
	s := newScript(t, 3)
	core, err := consensus.Restore(s.config(), s.floor, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := 10 * ms
	core.Step(consensus.Input{Now: now, Event: consensus.Start{}})
	at := func(v consensus.View) consensus.Round { return consensus.Round{Epoch: 1, View: v} }
	by := func(signer int, k consensus.Kind, v consensus.View, digest byte) consensus.Vote {
		p := consensus.Proposal{Round: at(v)}
		if k != consensus.KindNullify {
			p.Digest[0] = digest
		}
		return consensus.SignVote(testKey(signer), consensus.Signer(signer), testID, consensus.Statement{Kind: k, Proposal: p})
	}
	give := func(v consensus.Vote) {
		core.Step(consensus.Input{Now: now, Event: consensus.VoteReceived{Vote: v, Verified: true}})
	}
	give(by(0, consensus.KindNotarize, 1, 7))
	outside := by(0, consensus.KindNullify, 1, 0).(consensus.Nullify)
	outside.Signer = 4
	for _, c := range []struct {
		name string
		vote consensus.Vote
		want bool
	}{
		{"a copy", by(0, consensus.KindNotarize, 1, 7), false},
		{"another proposal", by(0, consensus.KindNotarize, 1, 8), true},
		{"another kind", by(0, consensus.KindFinalize, 1, 7), true},
		{"another signer's", by(1, consensus.KindNotarize, 1, 7), true},
		{"the next view's", by(0, consensus.KindNullify, 2, 0), true},
		{"a far view's", by(0, consensus.KindNullify, 9, 0), false},
		{"its own", by(3, consensus.KindNullify, 1, 0), false},
		{"nobody's", outside, false},
		{"another epoch's", consensus.SignVote(testKey(0), 0, testID, consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: consensus.Round{Epoch: 2, View: 1}}}), false},
	} {
		if got := core.Needs(c.vote, now); got != c.want {
			t.Errorf("%s is needed: %t", c.name, got)
		}
	}
	if !core.Needs(by(0, consensus.KindNotarize, 1, 7), now+testTime.Retry) {
		t.Error("a copy from one who was silent is no sign of life")
	}
}
