package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// alone is a node's receipt without the cluster's word.
func (f *field) alone(node byte) chain.RevealRun {
	m := f.reveal(node)
	m.Attestation = crypto.Signature{}
	return m
}

// TestNoClusterSilencesAReplica: a cluster that does not carry the receipt of a node which is bound to it, or does not attest to it, has it pass for
// silent. Until a panel has judged anybody posts the receipt without that word: it is held against what is found, as any other, and no stake is
// lost by what the cluster did. It is paid only if the cluster's word comes after all: nobody else says that the consumer has the output.
func TestNoClusterSilencesAReplica(t *testing.T) {
	right := found("right")(0)
	for name, c := range map[string]struct {
		finds   string // what the node found
		shows   bool
		attests bool // the cluster does, late
		votes   []chain.Vote
		finding chain.RunFinding
		paid    bool // the node
		lost    bool
	}{
		"it shows nothing":                {"right", false, false, times(3, right), chain.RunJudged, false, true},
		"it is right":                     {"right", true, false, times(3, right), chain.RunJudged, false, false},
		"it is right, and attested late":  {"right", true, true, times(3, right), chain.RunJudged, true, false},
		"it is wrong":                     {"wrong", true, false, times(3, right), chain.RunJudged, false, true},
		"nobody finds the same":           {"right", true, false, []chain.Vote{right, garbageOf(1), garbageOf(2)}, chain.RunUnstable, false, false},
		"nobody does, and it is attested": {"right", true, true, []chain.Vote{right, garbageOf(1), garbageOf(2)}, chain.RunUnstable, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newField(t, staked)
			f.gather()
			f.finds(40, c.finds)
			f.do(f.begin(40, 50, 60))
			check := f.vouch(found("right"))
			f.refuses("has no attestation by cluster", f.alone(40))
			f.step(11_000)
			third := f.drawnNodes()[0]
			f.do(f.commit(third))
			f.do(f.reveal(third))
			if c.shows {
				f.do(f.alone(40))
				before := len(f.events)
				if f.do(f.alone(40)); len(f.events) != before {
					t.Error("posted again it counts again")
				}
			}
			if runs, _ := settlement.RunsOf(f.kv, f.id); runs.Stage != settlement.StagePanelDraw || len(f.paid()) != 0 {
				t.Fatalf("stage %d, paid %v, before a panel has judged", runs.Stage, f.paid())
			}
			f.drawn()
			if c.attests {
				f.do(f.reveal(40))
				f.do(f.alone(40)) // changes nothing any more
			}
			f.judge(inTurn(c.votes...))
			f.do(chain.CollectRun{Order: f.id})
			if order, _, _ := settlement.Settlement(f.kv, f.id); order.Finding != c.finding {
				t.Errorf("found %s, want %s", order.Finding, c.finding)
			}
			_, paid := f.paid()[40]
			recorded := 0
			for _, e := range f.events {
				if e, ok := e.(chain.ClaimRecorded); ok && e.Node == key(40).Public() {
					recorded++
				}
			}
			if recorded > 1 {
				t.Errorf("its claim was recorded %d times", recorded)
			}
			if lost := f.slashed()[40] > 0; paid != c.paid || lost != c.lost {
				t.Errorf("the node was paid: %t, and slashed: %t; want %t and %t (check %d, third %d)", paid, lost, c.paid, c.lost, check, third)
			}
			f.refuses("is settled", f.alone(40))
			f.free()
			if surplus := f.surplus(); len(f.slashed()) == 0 && surplus != 0 {
				t.Errorf("holdings changed by %d", int64(surplus))
			}
		})
	}
}

// TestAnUnattestedReceiptEndsNothing: runs that agree are not paid over one that came without the cluster's word, whatever it says, before a panel has judged.
func TestAnUnattestedReceiptEndsNothing(t *testing.T) {
	f := newField(t, threeOf4)
	f.gather()
	f.do(f.begin(40, 50, 60))
	other := f.drawnNodes()[0]
	f.do(f.commit(other))
	f.vouch(found("right"))
	f.do(f.reveal(other))
	f.step(11_000)
	f.do(f.alone(40))
	third := f.drawnNodes()[0]
	f.do(f.commit(third))
	f.do(f.reveal(third))
	if runs, open := settlement.RunsOf(f.kv, f.id); !open || runs.Stage != settlement.StagePanelDraw {
		t.Fatalf("open %t in stage %d", open, runs.Stage)
	}
	f.drawn()
	f.judge(found("right"))
	f.do(chain.CollectRun{Order: f.id})
	if paid := f.paid(); len(paid) != 3 || len(f.slashed()) != 0 {
		t.Errorf("paid %v, slashed %v", paid, f.slashed())
	}
}
