package chain_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// links are all that a run has.
func links() (list []chain.Link) {
	for depth := range uint8(chain.MaxLinks + 1) {
		list = append(list, chain.Link{Strand: chain.StrandRuns, Depth: depth}, chain.Link{Strand: chain.StrandPanels, Depth: depth})
	}
	return list
}

// TestTestimonies: whoever ran a job votes for what it yields at every link, and nobody with a link of another
// depth, strand, order or memory.
func TestTestimonies(t *testing.T) {
	order, memory, work := crypto.Digest{1}, crypto.Digest{2}, crypto.Digest{3}
	run := chain.SecretOf(order, memory)
	right := chain.Vote{Finding: chain.FoundResult, Result: chain.Yield(work, run.Trace(0))}
	others := []chain.Secret{chain.SecretOf(crypto.Digest{9}, memory), chain.SecretOf(order, crypto.Digest{9}), chain.SecretOf(memory, order)}
	for _, at := range links() {
		said := run.Testify(work, at)
		if vote := said.Vote(at); vote != right {
			t.Errorf("who ran it votes %+v at %+v", vote, at)
		}
		for _, shown := range links() {
			copied := said
			if copied.Link = run.Testify(work, shown).Link; shown != at && copied.Vote(at) == right {
				t.Errorf("link %+v is taken where %+v is asked for", shown, at)
			}
		}
		for i, other := range others {
			if other.Testify(work, at).Vote(at) == right {
				t.Errorf("other run %d votes the same at %+v", i, at)
			}
		}
		for name, change := range map[string]func(*chain.Testimony){
			"work": func(t *chain.Testimony) { t.Work[0] ^= 1 }, "other": func(t *chain.Testimony) { t.Other[0] ^= 1 }, "link": func(t *chain.Testimony) { t.Link[0] ^= 1 },
		} {
			changed := said
			if change(&changed); changed.Vote(at) == right || changed.Commitment(order, crypto.PublicKey{}, crypto.Digest{}) == said.Commitment(order, crypto.PublicKey{}, crypto.Digest{}) {
				t.Errorf("another %s is the same vote at %+v", name, at)
			}
		}
	}
}

// TestReplicasTraces: runs of different places agree, and none shows what another has shown before it.
func TestReplicasTraces(t *testing.T) {
	run := chain.SecretOf(crypto.Digest{1}, crypto.Digest{2})
	for place := range uint8(chain.MaxReplicas) {
		if run.Trace(place).Begins(place) != run.Trace(0) {
			t.Errorf("the run of place %d does not agree", place)
		}
		for before := range place {
			if run.Trace(before).Begins(place) == run.Trace(0) {
				t.Errorf("place %d may show what place %d has shown", place, before)
			}
		}
	}
}

// TestFormsOfTestimonies: there is work and there are links of a result, and of nothing else.
func TestFormsOfTestimonies(t *testing.T) {
	right := chain.SecretOf(crypto.Digest{1}, crypto.Digest{2}).Testify(crypto.Digest{3}, chain.Link{Strand: chain.StrandRuns, Depth: 1})
	if err := right.Check(); err != nil {
		t.Error(err)
	}
	for finding := chain.FoundUnavailable; finding <= chain.FoundUnstable; finding++ {
		said := chain.Testimony{Finding: finding}
		if err := said.Check(); err != nil || said.Vote(chain.Link{Strand: chain.StrandRuns}) != (chain.Vote{Finding: finding}) {
			t.Errorf("%s: %v", finding, err)
		}
	}
	for want, change := range map[string]func(*chain.Testimony){
		"finding is 0":                  func(t *chain.Testimony) { t.Finding = 0 },
		"finding is 4":                  func(t *chain.Testimony) { t.Finding = 4 },
		`links of finding "unstable"`:   func(t *chain.Testimony) { t.Finding = chain.FoundUnstable },
		`work and links of finding`:     func(t *chain.Testimony) { t.Work = crypto.Digest{} },
		`and links of finding "result"`: func(t *chain.Testimony) { t.Link = crypto.Digest{} },
		`links of finding "result"`:     func(t *chain.Testimony) { t.Other = crypto.Digest{} },
	} {
		wrong := right
		change(&wrong)
		if err := wrong.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", wrong, err, want)
		}
	}
}

// TestTracesAreWhereOthersJudge: a receipt has the trace of its run exactly if others may judge what that gives.
func TestTracesAreWhereOthersJudge(t *testing.T) {
	proven := chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{1}, Inputs: []chain.FieldBytes{{31: 1}}}
	for _, policy := range []chain.Policy{chain.PolicyNone{}, proven, replicated, chain.PolicyOptimistic{WindowMs: 5_000, Bond: chain.Hyper(100)}} {
		c := sampleClaim(policy)
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
		want := "has no trace of its run"
		if c.Receipt.Trace == nil {
			c.Receipt.Trace, want = &chain.Trace{}, "has the trace of a run that nobody judges"
		} else {
			c.Receipt.Trace = nil
		}
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", policy, err, want)
		}
	}
	tx := signedTx(t, chain.Msgs{chain.RevealRun{Receipt: sampleClaim(chain.PolicyNone{}).Receipt}})
	if _, err := chain.DecodeTx(tx.Encode()); err == nil || !strings.Contains(err.Error(), "has no trace of its run") {
		t.Errorf("a run without a trace: %v", err)
	}
}
