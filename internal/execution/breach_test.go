package execution_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// breachPeople is more than lose what one block pays, several times.
const breachPeople = 40

// newBreachWorld is a bazaar whose windows are over after some blocks.
func newBreachWorld(t *testing.T) *bazaar {
	g := genesis()
	g.Params.IdleMs, g.Params.WithdrawalDelayMs, g.Params.ClaimWindowMs = 60_000, 1_800_000, 600_000
	return bazaarOf(worldOf(t, g), breachPeople)
}

// fork is the same world from here on, with its own future.
func (z *bazaar) fork() *bazaar {
	w := *z.world
	w.state, w.nonces = state.NewOverlay(z.state), maps.Clone(z.nonces)
	out := *z
	out.world = &w
	return &out
}

// lies is evidence that the cluster gave a sequence of a consumer's twice.
func (z *bazaar) lies(consumer key) chain.ReportAcceptance {
	a := z.claimOf(consumer, z.nodes[0], func(*chain.Claim) {})
	first := chain.AcceptedOrder{Order: a.Order, Acceptance: a.Acceptance, Signature: a.AcceptanceSig}
	b := a.Acceptance
	b.Outstanding = chain.Hyper(7)
	second := chain.AcceptedOrder{Order: a.Order, Acceptance: b, Signature: z.cluster.PrivateKey.Sign(crypto.DomainAcceptance, b.Payload())}
	return chain.ReportAcceptance{First: first, Second: &second}
}

// locked is a claim that locks a tenth of the cluster's bond.
func (z *bazaar) locked(n int, windowMs uint64) chain.Claim {
	return z.claimOf(z.people[n], z.nodes[n+1], func(c *chain.Claim) {
		c.Order.Policy.Policy = chain.PolicyOptimistic{WindowMs: windowMs, Bond: chain.Hyper(100)}
		c.Receipt.Trace = &chain.Trace{Runs: crypto.Digest{1}, Panels: crypto.Digest{2}}
	})
}

// divided is what the chain says of a breach.
type divided struct {
	lost, paid map[chain.Address]uint64
	held       uint64
	blocks     int // that paid somebody
	forfeited  int
	closed     *chain.BreachClosed
}

func (d *divided) note(rt *rapid.T, events chain.Events) {
	for _, e := range events {
		switch e := e.(type) {
		case chain.ClaimLost:
			d.lost[e.Provider] += e.Lost.Nano()
		case chain.AcceptanceBroken:
			d.held += e.Held.Nano()
		case chain.BondForfeited:
			d.held += e.Held.Nano()
			d.forfeited++
		case chain.BreachPaid:
			if d.blocks++; len(e.Paid) > 16 {
				rt.Fatalf("%d losses were paid in one block", len(e.Paid))
			}
			for _, p := range e.Paid {
				d.paid[p.To] += p.Amount.Nano()
			}
		case chain.BreachClosed:
			d.closed = &e
		case chain.ClaimRejected:
			rt.Fatalf("a claim was rejected: %s", e.Reason)
		}
	}
}

// TestBreachesThroughTheExecutor: more losses than one block pays, of all sizes, go through
// blocks as a validator executes them, with a part of the bond locked by claims or not: no block
// fails, supply is conserved in each, and everybody gets what they lost, or as much as anybody.
func TestBreachesThroughTheExecutor(t *testing.T) {
	base := newBreachWorld(t)
	liar, reporter := numbered('l', 1), keyOf(22)
	rapid.Check(t, func(rt *rapid.T) {
		z := base.fork()
		d := &divided{lost: map[chain.Address]uint64{}, paid: map[chain.Address]uint64{}}
		block := func(afterMs uint64, txs ...*chain.VerifiedTx) {
			out := z.block(afterMs, txs...)
			d.note(rt, out.Receipts.Begin)
			for i := range out.Receipts.Txs {
				r := &out.Receipts.Txs[i]
				if !r.Accepted() {
					rt.Fatalf("transaction %d: %s", i, r.Rejection)
				}
				d.note(rt, r.Events)
			}
		}
		locks := rapid.IntRange(0, 3).Draw(rt, "locks")
		for n := range locks {
			window := rapid.SampledFrom([]uint64{60_000, 1_800_000, 5_400_000}).Draw(rt, "window")
			block(500, z.tx(reporter, chain.Settle{Claims: chain.Claims{z.locked(n, window)}}))
		}
		block(500, z.tx(reporter, z.lies(liar)))
		losses := rapid.IntRange(17, breachPeople).Draw(rt, "losses")
		var claims chain.Claims
		for n := range losses {
			claims = append(claims, z.claimOf(liar, z.nodes[n], func(c *chain.Claim) {
				c.Order.MaxCost = chain.Hyper(1_000_000)
				c.Receipt.Usage[0].Amount = rapid.SampledFrom([]uint64{1, 1_000, 3_000_000, 30_000_000, 90_000_000}).Draw(rt, "used")
			}))
		}
		for part := range slices.Chunk(claims, chain.MaxClaims) {
			block(500, z.tx(reporter, chain.Settle{Claims: part}))
		}
		for n := 0; d.closed == nil; n++ {
			if block(rapid.SampledFrom([]uint64{500, 120_000, 600_000}).Draw(rt, "ms")); n == 2_000 {
				rt.Fatal("the breach is never closed")
			}
		}
		d.check(rt, losses, locks)
		if c, _ := settlement.ClusterOf(z.state, z.cluster.Public()); !c.Bond.IsZero() || !c.Locked.IsZero() || c.Convicted != nil {
			rt.Fatalf("the cluster is %+v", c)
		}
	})
}

func (d *divided) check(rt *rapid.T, losses, locks int) {
	out, lost, most := uint64(0), uint64(0), uint64(0)
	for _, amount := range d.paid {
		out, most = out+amount, max(most, amount)
	}
	for _, amount := range d.lost {
		lost += amount
	}
	if len(d.lost) != losses || len(d.paid) != losses || d.blocks < 2 {
		rt.Fatalf("%d lost, %d were paid, want %d, in %d blocks", len(d.lost), len(d.paid), losses, d.blocks)
	}
	if d.closed.Paid.Nano() != out || out+d.closed.Burned.Nano() != d.held || d.held != chain.Hyper(500).Nano() {
		rt.Fatalf("%d of %d went out, with %d locks of which %d were taken: %+v", out, d.held, locks, d.forfeited, d.closed)
	}
	for who, mine := range d.lost {
		if got := d.paid[who]; got > mine || lost <= d.held && got != mine || got < mine && got != most {
			rt.Fatalf("%s lost %d and got %d of %d; others got up to %d", who.Short(), mine, got, d.held, most)
		}
	}
}
