package settlement_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/tokens"
)

// large is a policy whose jurors stake a part of its bond, and not the least.
var large = chain.PolicyOptimistic{WindowMs: windowMs, Bond: chain.Hyper(80)}

func (c *court) panelAt(id crypto.Digest) settlement.Panel {
	c.Helper()
	p, ok := settlement.PanelAt(c.kv, id)
	if !ok {
		c.Fatal("there is no panel")
	}
	return p
}

func (c *court) free(node crypto.PublicKey) (bond, locked chain.Amount) {
	p, _ := settlement.ProviderOf(c.kv, node)
	return p.Bond, p.Locked
}

// disputed is a claim under large that is challenged, and whose first panel is drawn.
func disputed(t *testing.T) (c *court, order, panel crypto.Digest) {
	c = newCourt(t, lotOf(t, false))
	c.must(tokens.Transfer(c.kv, account(2), chain.Transfer{To: account(challenger), Amount: chain.Hyper(100)}, c.env.Now))
	o := c.order(consumer, 1, large)
	o.MaxCost = chain.Hyper(2)
	order = c.post(c.claim(o, 40, 1))
	c.must(settlement.Challenge(c.kv, &c.env, account(challenger), chain.Challenge{Order: order, Stake: chain.Hyper(40)}))
	c.draw()
	return c, order, settlement.PanelOf(order, false)
}

// TestJurorsStakeByWhatTheyJudge: a juror stakes an eighth of the bond that is judged, of
// which it loses a quarter for a wrong vote: two of three lose twice what the job may cost.
func TestJurorsStakeByWhatTheyJudge(t *testing.T) {
	c, order, panel := disputed(t)
	p := c.panelAt(panel)
	for _, j := range p.Jurors {
		if _, locked := c.free(j.Node); j.Staked != chain.Hyper(10) || locked != j.Staked {
			t.Errorf("a juror has %v staked, %v locked", j.Staked, locked)
		}
	}
	c.vote(panel, mostly(1, wrong, right))
	c.expire()
	c.checkClosed(order)
	if bond, _ := c.free(p.Jurors[0].Node); bond != chain.Nano(97_500_000_000) {
		t.Errorf("who was wrong has a bond of %v left", bond)
	}
	covered := large.MostCovered()
	if lost, twice := chain.Nano(2*2_500_000_000), chain.Nano(2*covered.Nano()); lost.Less(twice) {
		t.Errorf("two jurors lose %v, the job may cost %v", lost, covered)
	}
}

// TestSilentJurorsAreReplaced: whoever is silent gives way to another owner's node before
// any vote is shown, loses a tenth of the least stake whatever it judges, and is free; those
// who have committed stay.
func TestSilentJurorsAreReplaced(t *testing.T) {
	c, order, panel := disputed(t)
	first := c.panelAt(panel).Jurors
	commit := func(j settlement.Juror) *chain.Rejection {
		commitment := shows(panel, order, right).Commitment(panel, j.Node, [32]byte{})
		signature := key(c.nodes[j.Node]).Sign(crypto.DomainVote, chain.VotePayload(testChain, panel, commitment))
		_, why := settlement.CommitVote(c.kv, &c.env, chain.CommitVote{Panel: panel, Node: j.Node, Commitment: commitment, Signature: signature})
		return why
	}
	if why := commit(first[0]); why != nil {
		t.Fatal(why.Reason())
	}
	seen := []chain.Address{first[0].Owner}
	for round := range 2 {
		gone := c.panelAt(panel).Jurors[1:]
		c.block(c.env.Params.CommitMs+1, 0)
		for _, j := range gone {
			if bond, locked := c.free(j.Node); bond != chain.Nano(99_500_000_000) || !locked.IsZero() {
				t.Errorf("who was silent has a bond of %v, %v locked", bond, locked)
			}
			wantReason(t, commit(j), "is not on panel")
			seen = append(seen, j.Owner)
		}
		if p := c.panelAt(panel); len(p.Jurors) != 1 || p.Jurors[0].Commitment.IsZero() || p.Revealing {
			t.Fatalf("round %d: %+v", round, p)
		}
		c.draw()
		p := c.panelAt(panel)
		if len(p.Jurors) != 3 {
			t.Fatalf("round %d: %d jurors", round, len(p.Jurors))
		}
		for _, j := range p.Jurors[1:] {
			if slices.Contains(seen, j.Owner) || j.Owner == account(challenger) || j.Owner == account(4) {
				t.Fatalf("round %d: %s was drawn again, or may not judge", round, j.Owner.Short())
			}
		}
	}
	last := c.panelAt(panel).Jurors
	if why := commit(last[1]); why != nil {
		t.Fatal(why.Reason())
	}
	c.block(c.env.Params.CommitMs+1, 0) // nobody is replaced any more
	p := c.panelAt(panel)
	if !p.Revealing || len(p.Jurors) != 3 {
		t.Fatalf("%+v", p)
	}
	for _, j := range last[:2] {
		if _, why := settlement.RevealVote(c.kv, &c.env, chain.RevealVote{Panel: panel, Node: j.Node, Testimony: shows(panel, order, right)}); why != nil {
			t.Fatal(why.Reason())
		}
	}
	if p := c.panelAt(panel); p.Verdict == nil || *p.Verdict != right || p.Quiet {
		t.Fatalf("%+v", p)
	}
	c.expire()
	c.checkClosed(order)
	if bond, _ := c.free(last[2].Node); bond != chain.Nano(99_500_000_000) {
		t.Errorf("the last who was silent has a bond of %v", bond)
	}
}
