package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// claimBy is a node's claim for an order, as that of claimOf.
func (c *court) claimBy(node byte, order chain.Order, hundredths uint64, yield crypto.Digest) chain.Claim {
	claim := c.claim(order, node, 1)
	claim.Receipt.Usage = hundredthsUsed(hundredths)
	claim.Receipt.Result = crypto.DomainResult.Hash([]byte("right"))
	if yield == wrong.Result {
		claim.Receipt.Result = crypto.DomainResult.Hash([]byte("wrong"))
	}
	traced(&claim.Receipt, 0)
	return claim
}

// panels are the panels that were drawn for an order, the oldest first.
func (c *court) panels(order crypto.Digest) (list []crypto.Digest) {
	for _, e := range c.events {
		if e, ok := e.(chain.PanelDrawn); ok && e.Subject == order {
			list = append(list, e.Panel)
		}
	}
	return list
}

// refute has the open claim of an order challenged, and its newest panel find something else.
func (c *court) refute(order crypto.Digest, votes func(int) *chain.Vote) {
	c.Helper()
	c.draw()
	c.challenge(challenger, order)
	c.draw()
	list := c.panels(order)
	c.vote(list[len(list)-1], votes)
	c.expire()
}

// TestARefutedOrderIsClaimedAgain: by another node, which alone is paid, and once; the votes on
// the first claim say nothing of the second.
func TestARefutedOrderIsClaimedAgain(t *testing.T) {
	c := newCourt(t, lotOf(t, false))
	before := c.escrow(consumer).Balance
	first := c.claimOf(1, worth, wrong.Result)
	id := c.post(first)
	c.refute(id, all(right))
	if closed := c.checkClosed(id); closed.Paid || c.escrow(consumer).Balance != before {
		t.Fatalf("the wrong claim was paid: %v, the escrow holds %v, had %v", closed.Paid, c.escrow(consumer).Balance, before)
	}
	c.wantRejected("sequence is 1, the next of node", first)
	again := c.claimBy(40, first.Order, worth, right.Result)
	again.Receipt.Sequence = 2
	c.wantRejected("had its claim of order", again)

	c.env.Params.CommitMs = 20_000
	c.post(c.claimBy(50, first.Order, worth, right.Result))
	c.wantRejected("is settled", c.claimBy(71, first.Order, worth, right.Result))
	c.draw()
	c.challenge(challenger, id)
	c.draw()
	list := c.panels(id)
	if len(list) != 2 || list[0] != settlement.PanelOf(id, false) || list[1] == list[0] {
		t.Fatalf("panels %v", list)
	}
	for _, panel := range list {
		if _, judges := settlement.LinkOf(panel, id); !judges {
			t.Errorf("panel %s judges the order, and is not known to", panel.Short())
		}
	}
	c.vote(list[1], all(right))
	c.expire()
	if closed := c.checkClosed(id); !closed.Paid || closed.Node != key(50).Public() {
		t.Errorf("closed %+v", closed)
	}
	c.wantRejected("is settled", c.claimBy(71, first.Order, worth, right.Result))
	book, claims, _ := settlement.Settlement(c.kv, id)
	if len(claims) != 2 || book.Spent != chain.Nano(charge) || before.Nano()-c.escrow(consumer).Balance.Nano() != charge {
		t.Errorf("order %+v, claims %+v", book, claims)
	}
	c.checkSpent(id)
	c.checkSupply()
}

// TestWhatSilenceCostsCountsAgainstTheCap: what a claim that nobody judged leaves of the cap is
// there for the next.
func TestWhatSilenceCostsCountsAgainstTheCap(t *testing.T) {
	c := newCourt(t, lotOf(t, false))
	first := c.claimOf(1, worth, right.Result)
	id := c.post(first)
	c.draw()
	c.challenge(challenger, id)
	c.draw()
	c.vote(settlement.PanelOf(id, false), nothing)
	c.draw()
	c.vote(settlement.PanelOf(id, true), nothing)
	if closed := c.checkClosed(id); closed.Paid || closed.Verdict != nil {
		t.Fatalf("closed %+v", closed)
	}
	book, claims, _ := settlement.Settlement(c.kv, id)
	if book.Spent != chain.Nano(charge/16) || claims[0].Refuted != settlement.RefutedUnjudged || claims[0].Cost != book.Spent {
		t.Fatalf("order %+v, claims %+v", book, claims)
	}
	c.wantRejected("on top of", c.claimBy(50, first.Order, worth+7, right.Result)) // 241 of 250 mHYPER
	c.post(c.claimBy(50, first.Order, worth, right.Result))
	c.draw()
	c.expire()
	if closed := c.checkClosed(id); !closed.Paid {
		t.Errorf("closed %+v", closed)
	}
	c.checkSpent(id)
}

// TestARefutedOrderIsNotClaimedForEver: not after its claim window, though what is known of it
// stays for longer, and not more often than there are names for panels.
func TestARefutedOrderIsNotClaimedForEver(t *testing.T) {
	c := newCourt(t, lotOf(t, false))
	first := c.claimOf(1, worth, wrong.Result)
	id := c.post(first)
	c.refute(id, all(right))
	c.block(uint64(first.Order.Deadline+window-c.env.Now)-hour/2, 0)
	c.post(c.claimBy(50, first.Order, worth, wrong.Result))
	c.refute(id, all(right))
	c.block(uint64(first.Order.Deadline+window-c.env.Now), 0)
	last := c.claimBy(71, first.Order, worth, right.Result)
	pending := c.settle(last)
	if _, ok := pending[len(pending)-1].(chain.ClaimPending); !ok {
		t.Fatalf("at the last millisecond: %+v", pending)
	}
	c.refute(id, all(wrong))
	if book, claims, known := settlement.Settlement(c.kv, id); !known || len(claims) != 3 {
		t.Fatalf("order %+v, %d claims, known: %v", book, len(claims), known)
	}
	c.wantRejected("claim window ended", c.claimBy(72, first.Order, worth, right.Result))

	c = newCourt(t, lotOf(t, false))
	first = c.claimOf(1, 1, wrong.Result)
	id = c.post(first)
	for node := byte(71); node < 71+settlement.MaxTries; node++ {
		c.refute(id, all(right))
		claim := c.claimBy(node, first.Order, 1, wrong.Result)
		if node < 71+settlement.MaxTries-1 {
			c.post(claim)
		} else {
			c.wantRejected("the limit", claim)
		}
	}
	seen := map[crypto.Digest]bool{}
	for _, panel := range c.panels(id) {
		if _, judges := settlement.LinkOf(panel, id); seen[panel] || !judges {
			t.Errorf("panel %s judged before, or is not known to judge the order", panel.Short())
		}
		seen[panel] = true
	}
}
