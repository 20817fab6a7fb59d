package settlement_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestOptimisticInvariants does random things to several claims, most of them wrong, and
// checks that value is conserved, that no claim is paid twice, or paid and refunded, and
// that in the end nothing is locked or left.
func TestOptimisticInvariants(t *testing.T) {
	again := 0
	rapid.Check(t, func(rt *rapid.T) {
		c := newCourt(t, rapid.Uint64().Draw(rt, "lot"))
		c.env.Params.ClaimWindowMs, c.env.Params.WithdrawalDelayMs, c.env.Params.CommitMs, c.env.Params.RevealMs = hour, 24*hour, 20_000, 10_000
		var orders []crypto.Digest
		var claimed []chain.Order
		for step := range rapid.IntRange(5, 60).Draw(rt, "steps") {
			c.anyFee(rt)
			id := crypto.Digest{9}
			if len(orders) > 0 {
				id = rapid.SampledFrom(orders).Draw(rt, "order")
			}
			who := rapid.SampledFrom([]byte{1, 3, 4, 5, 8, 9, 10}).Draw(rt, "who")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0, 1:
				result := rapid.SampledFrom([]crypto.Digest{right.Result, wrong.Result}).Draw(rt, "result")
				claim := c.claimOf(uint64(step), rapid.SampledFrom([]uint64{worth, worth, worth / 2, 0, 1, worth - 1, worth + 1, 69}).Draw(rt, "worth"), result)
				if len(claimed) > 0 && rapid.Bool().Draw(rt, "of an order that may be refuted") {
					order, node := rapid.SampledFrom(claimed).Draw(rt, "claimed"), rapid.SampledFrom([]byte{40, 50, 71, 72}).Draw(rt, "by")
					claim = c.claimBy(node, order, worth, result)
				}
				if _, ok := c.settle(claim)[0].(chain.ClaimRecorded); !ok {
					break
				}
				if c.open(claim.Order.ID()).Try > 0 {
					again++
				} else {
					orders, claimed = append(orders, claim.Order.ID()), append(claimed, claim.Order)
				}
			case 2:
				if e, why := settlement.Challenge(c.kv, &c.env, account(who), chain.Challenge{Order: id, Stake: chain.Hyper(4)}); why == nil {
					c.events = append(c.events, e)
				}
			case 3:
				if e, why := settlement.Appeal(c.kv, &c.env, account(who), chain.Appeal{Order: id, Stake: chain.Hyper(4)}); why == nil {
					c.events = append(c.events, e)
				}
			case 4:
				node := rapid.SampledFrom([]byte{40, 71, 72, 73}).Draw(rt, "node")
				p, _ := settlement.ProviderOf(c.kv, key(node).Public())
				owner := c.ownerNumber(p.Owner)
				if e, why := settlement.UnbondProvider(c.kv, &c.env, account(owner), chain.UnbondProvider{Node: key(node).Public()}); why == nil {
					c.events = append(c.events, e)
				}
			case 5:
				ms := rapid.Uint64Range(1, 40_000).Draw(rt, "ms")
				c.block(ms, rapid.Uint64Range(0, ms-1).Draw(rt, "stood"))
			case 6:
				c.draw()
			case 7:
				c.anyVotes(rt)
			case 8, 9:
				c.lookInto(id)
			}
			c.checkSupply()
			c.checkLocks(rt)
		}
		for range 24 {
			c.draw()
			c.block(100_000, 0)
		}
		for _, id := range orders {
			c.checkClosed(id)
			c.checkSpent(id)
		}
		c.checkNothingLocked()
	})
	t.Logf("%d orders were claimed again after a claim was refuted", again)
}

// checkSpent demands that an order cost its consumer what its claims did, which is no more than
// its cap, and that no node claimed it twice.
func (c *court) checkSpent(id crypto.Digest) {
	c.Helper()
	book, claims, known := settlement.Settlement(c.kv, id)
	if !known {
		return // it is forgotten
	}
	var spent chain.Amount
	for i := range claims {
		spent, _ = spent.Add(claims[i].Cost)
		if claims[i].Sequence != 1 {
			c.Fatalf("node %d claimed order %s %d times", c.nodes[claims[i].Node], id.Short(), claims[i].Sequence)
		}
	}
	if spent != book.Spent || book.MaxCost.Less(spent) {
		c.Fatalf("the claims cost %v, the order has %v spent of %v", spent, book.Spent, book.MaxCost)
	}
}

func (c *court) ownerNumber(a chain.Address) byte {
	for n := range byte(100) {
		if account(n) == a {
			return n
		}
	}
	return 0
}

// anyVotes has the jurors of every panel commit to something or show it, or not.
func (c *court) anyVotes(rt *rapid.T) {
	var panels []crypto.Digest
	for k := range c.kv.Iterate([]byte{settlement.Prefix, 'j'}, []byte{settlement.Prefix, 'k'}) {
		panels = append(panels, crypto.Digest(k[2:]))
	}
	votes := append([]chain.Vote{right, wrong, unavailable, unstable}, noise[:2]...)
	for _, id := range panels {
		c.tryVotes(id, func(i int) chain.Vote {
			return votes[rapid.IntRange(0, len(votes)-1).Draw(rt, fmt.Sprintf("vote %d", i))]
		})
	}
}

// tryVotes has the jurors of a panel commit to something and show it, as far as they may.
func (c *court) tryVotes(id crypto.Digest, votes func(i int) chain.Vote) {
	p, _ := settlement.PanelAt(c.kv, id)
	said := make([]chain.Vote, len(p.Jurors))
	for i, j := range p.Jurors {
		said[i] = votes(i)
		commitment := shows(id, p.Subject, said[i]).Commitment(id, j.Node, [32]byte{})
		signature := key(c.nodes[j.Node]).Sign(crypto.DomainVote, chain.VotePayload(testChain, id, commitment))
		if more, why := settlement.CommitVote(c.kv, &c.env, chain.CommitVote{Panel: id, Node: j.Node, Commitment: commitment, Signature: signature}); why == nil {
			c.events = append(c.events, more...)
		}
	}
	for i, j := range p.Jurors {
		if more, why := settlement.RevealVote(c.kv, &c.env, chain.RevealVote{Panel: id, Node: j.Node, Testimony: shows(id, p.Subject, said[i])}); why == nil {
			c.events = append(c.events, more...)
		}
	}
}

// lookInto has a claim challenged, if it may be, by a panel that finds the right result; a window
// passes.
func (c *court) lookInto(id crypto.Digest) {
	e, why := settlement.Challenge(c.kv, &c.env, account(challenger), chain.Challenge{Order: id, Stake: chain.Hyper(4)})
	if why != nil {
		return
	}
	c.events = append(c.events, e)
	c.draw()
	for _, panel := range c.panels(id) {
		c.tryVotes(panel, func(int) chain.Vote { return right })
	}
	c.expire()
}
