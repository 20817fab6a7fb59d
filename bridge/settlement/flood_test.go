package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestCheapEntriesHoldUpNoPanel: many claims that nobody challenges, each of which queues a
// draw and a deadline, take of a block what they cost, and not what as many panels would: whoever
// posts them cannot have panels wait for hundreds of blocks. What a block may draw of panels
// stays what it was.
func TestCheapEntriesHoldUpNoPanel(t *testing.T) {
	const claims = 30
	c := newCourt(t, 1)
	var ids []crypto.Digest
	for i := range claims {
		order := c.order(consumer, uint64(i), chain.PolicyOptimistic{WindowMs: windowMs, Bond: chain.MinOptimisticBond})
		order.MaxCost = chain.Nano(30_000_000)
		claim := c.claim(order, 40, 1)
		claim.Receipt.Usage[0].Amount = 1_000
		ids = append(ids, c.post(claim))
	}
	due := c.open(ids[0]).Due
	c.env.Height++ // the draws of these come after all lots
	disputes := ids[claims-3:]
	for _, id := range disputes {
		c.challenge(90, id)
	}
	c.env.Height += settlement.DrawDelay - 1
	if _, n := settlement.RunDraws(c.kv, &c.env, 6); n != 6 {
		t.Errorf("lots came to %d panels, want 6", n)
	}
	for i, id := range ids[:claims-3] {
		if c.open(id).Draw != 0 {
			t.Errorf("claim %d waits for its lot", i)
		}
	}
	for block, want := range []int{2, 3} {
		c.env.Height++
		settlement.RunDraws(c.kv, &c.env, 2)
		drawn := 0
		for _, id := range disputes {
			if _, ok := settlement.PanelAt(c.kv, settlement.PanelOf(id, false)); ok {
				drawn++
			}
		}
		if drawn != want {
			t.Errorf("block %d: %d panels are drawn, want %d", block, drawn, want)
		}
	}
	c.env.LastProgressMs, c.env.ProgressMs = due-1, due+1
	settlement.RunDeadlines(c.kv, &c.env, (3*(claims-3)+17)/18)
	for i, id := range ids[:claims-3] {
		if o, ok := settlement.OpenClaimOf(c.kv, id); ok && o.Due != 0 {
			t.Errorf("the window of claim %d is not over", i)
		}
	}
}
