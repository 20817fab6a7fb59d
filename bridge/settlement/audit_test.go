package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/tokens"
)

// audited posts a claim with a result of which an audit is drawn.
func audited(t *testing.T, result crypto.Digest) (*court, crypto.Digest, crypto.Digest, byte) {
	t.Helper()
	return auditedOf(t, worth, result)
}

// auditedOf is audited, of a claim that the job took so much.
func auditedOf(t *testing.T, hundredths uint64, result crypto.Digest) (*court, crypto.Digest, crypto.Digest, byte) {
	t.Helper()
	c := newCourt(t, lotOf(t, true)) // drawn for less it is drawn for more
	id := c.post(c.claimOf(1, hundredths, result))
	for _, e := range c.blocks(settlement.DrawDelay) {
		if drawn, ok := e.(chain.PanelDrawn); ok {
			return c, id, drawn.Panel, c.nodes[drawn.Jurors[0]]
		}
	}
	t.Fatal("no audit was drawn")
	return nil, id, id, 0
}

// ownerOf is who owns a node of the cast.
func ownerOf(node byte) byte {
	if node < 71 {
		return node / 10
	}
	return node - 63
}

func TestAuditAgrees(t *testing.T) {
	c, id, panel, node := audited(t, right.Result)
	owner := ownerOf(node)
	before := c.worth(owner, node)
	c.vote(panel, all(right))
	c.expire()
	c.checkClosed(id)
	// The fund has 13.5 million of this claim; the fee would be 250 million.
	if got := c.worth(owner, node) - before; got != charge/16 {
		t.Errorf("the auditor got %d", got)
	}
}

func TestAuditDisagrees(t *testing.T) {
	c, id, panel, node := audited(t, wrong.Result)
	before := c.worth(ownerOf(node), node)
	c.vote(panel, all(right))
	if o := c.open(id); o.Stage != settlement.InDispute || o.Challenger.Node != key(node).Public() || !o.Challenger.Stake.IsZero() {
		t.Fatalf("the claim is %s, challenged by %+v", o.Stage, o.Challenger)
	}
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	if closed := c.checkClosed(id); closed.Refunded != chain.Nano(charge) {
		t.Errorf("the consumer got %v back", closed.Refunded)
	}
	if got := c.worth(ownerOf(node), node) - before; got != bond/8+charge/16 {
		t.Errorf("the auditor got %d", got)
	}
}

func TestAuditLies(t *testing.T) {
	c, id, panel, node := audited(t, right.Result)
	before, provider := c.worth(ownerOf(node), node), c.worth(4, 40)
	c.vote(panel, all(wrong))
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	c.checkClosed(id)
	if got := before - c.worth(ownerOf(node), node); got != c.env.Params.JurorSlice.Nano() {
		t.Errorf("the auditor lost %d", got)
	}
	if got := tokens.AccountOf(c.kv, settlement.AuditFund).Balance; got.Nano() != charge/16 {
		t.Errorf("the audits' fund has %v: it paid for an auditor's challenge in vain", got)
	}
	stake := c.env.Params.JurorSlice.Nano()
	if got, want := c.worth(4, 40)-provider, uint64(paidToProvider)+(stake-3*fee)/2; got != want {
		t.Errorf("the provider got %d, want %d", got, want)
	}
}

// TestDataIsKeptFromTheAuditor: whoever shows a job's data to the panel and kept it from the
// auditor gains nothing, and the auditor loses no more than by a wrong vote.
func TestDataIsKeptFromTheAuditor(t *testing.T) {
	c, id, panel, node := audited(t, right.Result)
	before, provider := c.worth(ownerOf(node), node), c.worth(4, 40)
	c.vote(panel, all(unavailable))
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	c.checkClosed(id)
	if got, most := c.worth(4, 40)-provider, uint64(paidToProvider); got > most {
		t.Errorf("the provider got %d, its pay is %d", got, most)
	}
	if got := before - c.worth(ownerOf(node), node); got != c.env.Params.JurorSlice.Nano()/4 {
		t.Errorf("the auditor lost %d", got)
	}
}

// TestAuditNobodyJudges: an auditor who challenges, and whom nobody hears, loses as much as
// any other challenger.
func TestAuditNobodyJudges(t *testing.T) {
	c, id, panel, node := audited(t, right.Result)
	before := c.worth(ownerOf(node), node)
	c.vote(panel, all(wrong))
	c.draw()
	c.vote(settlement.PanelOf(id, false), nothing)
	c.draw()
	c.vote(settlement.PanelOf(id, true), nothing)
	if closed := c.checkClosed(id); closed.Paid || closed.Refunded.Nano() != charge-charge/16 {
		t.Errorf("%+v", closed)
	}
	if got := before - c.worth(ownerOf(node), node); got != fee {
		t.Errorf("the auditor lost %d", got)
	}
}

func TestAuditAgreedToWhatIsFoundWrong(t *testing.T) {
	c, id, panel, node := audited(t, wrong.Result)
	before := c.worth(ownerOf(node), node)
	c.vote(panel, all(wrong))
	challenger := byte(firstJudge)
	if challenger == ownerOf(node) {
		challenger++
	}
	c.challenge(challenger, id)
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	c.checkClosed(id)
	if got := before - c.worth(ownerOf(node), node); got != c.env.Params.JurorSlice.Nano()/4 {
		t.Errorf("the auditor lost %d", got)
	}
}

// TestAuditFindsWhatWasNotUsed: a right result for more than the job takes is a wrong claim.
func TestAuditFindsWhatWasNotUsed(t *testing.T) {
	c, id, panel, _ := auditedOf(t, worth+1, right.Result)
	node := c.worth(4, 40)
	c.vote(panel, all(right))
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	if closed := c.checkClosed(id); closed.Paid || closed.Verdict == nil || *closed.Verdict != right {
		t.Errorf("closed with %+v", closed)
	}
	if lost := node - c.worth(4, 40); lost != optimistic.Bond.Nano() {
		t.Errorf("the node lost %d, want its slice", lost)
	}
}

// TestAuditAgreedToWhatOthersCannotJudge: an auditor that found nothing wrong loses nothing if
// the data is gone when others look, or the job gives them other results.
func TestAuditAgreedToWhatOthersCannotJudge(t *testing.T) {
	for _, found := range []chain.Vote{unavailable, unstable} {
		c, id, panel, node := audited(t, right.Result)
		before := c.worth(ownerOf(node), node)
		c.vote(panel, all(right))
		challenger := byte(firstJudge)
		if challenger == ownerOf(node) {
			challenger++
		}
		c.challenge(challenger, id)
		c.draw()
		c.vote(settlement.PanelOf(id, false), all(found))
		c.expire()
		c.checkClosed(id)
		if got := c.worth(ownerOf(node), node); got != before {
			t.Errorf("%+v: the auditor had %d, and has %d", found, before, got)
		}
		if _, locked := c.free(key(node).Public()); !locked.IsZero() {
			t.Errorf("%+v: %v is locked", found, locked)
		}
	}
}

// TestNoFeeForAnAuditorAlone: an auditor that made its link up, and has a claim judged by jurors who did so too,
// gains nothing by it; one that found what the claim says does not stand alone.
func TestNoFeeForAnAuditorAlone(t *testing.T) {
	for _, said := range []chain.Vote{noise[0], right} {
		c, id, panel, node := audited(t, right.Result)
		before := c.worth(ownerOf(node), node)
		tokens.Mint(c.kv, chain.Hyper(10)) // the fund has enough for all
		tokens.Credit(c.kv, settlement.AuditFund, chain.Hyper(10))
		c.vote(panel, all(said))
		if said == right {
			challenger := byte(firstJudge)
			if challenger == ownerOf(node) {
				challenger++
			}
			c.challenge(challenger, id)
		}
		c.draw()
		c.vote(settlement.PanelOf(id, false), func(i int) *chain.Vote { return &noise[i+1] })
		c.expire()
		c.checkClosed(id)
		got := c.worth(ownerOf(node), node)
		if paid := got > before; got < before || paid != (said == right) {
			t.Errorf("who said %s had %d, and has %d", said.Result.Short(), before, got)
		}
		if _, locked := c.free(key(node).Public()); !locked.IsZero() {
			t.Errorf("%v is locked", locked)
		}
	}
}

func TestAuditSilent(t *testing.T) {
	c, id, panel, node := audited(t, right.Result)
	before := c.worth(ownerOf(node), node)
	c.block(c.env.Params.CommitMs+1, 0) // beyond the window as well
	if got := before - c.worth(ownerOf(node), node); got != c.env.Params.JurorSlice.Nano()/10 {
		t.Errorf("the auditor lost %d", got)
	}
	if o := c.open(id); o.Stage != settlement.AwaitAudit || o.Audit != settlement.Drawing {
		t.Fatalf("the claim is %s, audit %d", o.Stage, o.Audit)
	}
	_, why := settlement.Challenge(c.kv, &c.env, account(5), chain.Challenge{Order: id, Stake: chain.Hyper(10)})
	wantReason(t, why, "is over")
	var next chain.PanelDrawn
	for _, e := range c.blocks(settlement.DrawDelay) {
		if drawn, ok := e.(chain.PanelDrawn); ok {
			next = drawn
		}
	}
	if next.Panel == panel || len(next.Jurors) != 1 {
		t.Fatalf("the next auditor is %+v", next)
	}
	c.vote(next.Panel, all(wrong)) // after the window: still a challenge
	if c.open(id).Stage != settlement.InDispute {
		t.Fatal("an auditor's challenge was not heard")
	}
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	c.checkClosed(id)
}

func TestAuditAllSilent(t *testing.T) {
	c, id, _, _ := audited(t, right.Result)
	for range 3 {
		c.block(c.env.Params.CommitMs+1, 0)
		c.draw()
	}
	c.checkClosed(id)
}

func TestAuditChallengedByAnother(t *testing.T) {
	c, id, panel, node := audited(t, wrong.Result)
	challenger := byte(firstJudge)
	if challenger == ownerOf(node) {
		challenger++
	}
	c.challenge(challenger, id)
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	if c.open(id).Stage != settlement.AwaitAudit {
		t.Fatal("the audit was not waited for")
	}
	c.vote(panel, all(right))
	c.checkClosed(id)
}
