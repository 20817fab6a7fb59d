package execution_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// optimisticClaim is a claim of user i's node at its own cluster.
func (w *gasWorld) optimisticClaim(p prepared, i int) chain.Claim {
	node, at := p.nodes[i], p.clusters[i]
	c := w.recentClaim(attested, uint64(9_500+i), node)
	c.Order.Consumer, c.Order.Cluster = w.users[i].AccountKey(), at.Public()
	c.Order.Policy = chain.PolicyField{Policy: chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.MinOptimisticBond}}
	c.Order.MaxCost = chain.Nano(chain.MinOptimisticBond.Nano() / chain.OptimisticCover)
	c.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: 1, DurationMs: 1_000}}
	c.Receipt.Trace = &chain.Trace{Runs: crypto.Digest{6}, Panels: crypto.Digest{7}}
	id := c.Order.ID()
	c.Acceptance.Order, c.Acceptance.Cluster, c.Bid.Order, c.Receipt.Order = id, at.Public(), id, id
	c.Acceptance.Outstanding = c.Order.MaxCost
	c.OrderSig = w.users[i].PrivateKey.Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = at.PrivateKey.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.PrivateKey.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.PrivateKey.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = at.PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, c.Receipt.Digest()))
	return c
}

// putInQueues is what draws and deadlines weigh that a state has: all draws, and what they put
// there in turn in so many rounds, but for a panel's deadlines, which whoever is silent pays for.
func (w *gasWorld) putInQueues(r *state.Overlay, h *chain.Header, panels bool, rounds int) uint64 {
	w.Helper()
	kv, table := state.NewOverlay(r), execution.GasTableV1()
	params, err := execution.ParamsOf(r)
	if err != nil {
		w.Fatal(err)
	}
	head, err := execution.HeadOf(r)
	if err != nil {
		w.Fatal(err)
	}
	const all = 1 << 16
	env := settlement.Env{ChainID: testChain, Height: h.Height, Now: h.TimeMs, ProgressMs: head.ProgressMs, Params: params}
	draws, deadlines := 0, 0
	for round := range rounds {
		env.Height += settlement.DrawDelay
		_, made := settlement.RunDraws(kv, &env, all)
		draws += made
		if panels {
			continue
		}
		env.ProgressMs = 1<<49 + uint64(round)<<30 // before those that the world has
		_, made = settlement.RunDeadlines(kv, &env, all)
		deadlines += made
	}
	return uint64(draws)*table.QueueDraw + uint64(deadlines)*table.QueueDeadline
}

// TestWhoQueuesPays: the gas of a message is not less than what that weighs which it puts into
// the queues of draws and deadlines, and which its draws put there in turn, as long as all who are
// drawn do their part, or lose a stake: nobody fills the queues for less than their work. Bidders who
// never come lose none.
func TestWhoQueuesPays(t *testing.T) {
	w := newGasWorld(t, warm)
	p := w.prepare()
	table, nonces := execution.GasTableV1(), maps.Clone(w.nonces)
	waits := oneOf("optimistic_claim", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		return chain.Settle{Claims: []chain.Claim{w.optimisticClaim(p, i)}}
	})
	waits.says = "claim_pending"
	absent := oneOf("begin_run/absent", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg { return w.beginning(p, i, chain.MaxSlate, 3) })
	left := []string{"optimistic_claim", "begin_run/absent", "challenge", "appeal", "begin_run", "begin_run/16", "draw_peers", "open_promised_lease", "report_acceptance", "declare_hardware"}
	for _, o := range slices.Concat(operations(p), []operation{waits, absent}) {
		at := slices.Index(left, o.name)
		if at < 0 {
			continue
		}
		left = slices.Delete(left, at, at+1)
		w.nonces = maps.Clone(nonces)
		before := state.NewOverlay(w.state)
		if o.on != nil {
			o.on(w, before)
		}
		w.reader = before
		txs, h := o.txs(w), w.header(1_000)
		out, err := w.x.Apply(before, h, staking.Extras{}, txs)
		if err != nil {
			t.Fatalf("%s: %v", o.name, err)
		}
		for i, r := range out.Receipts.Txs {
			if !r.Accepted() || o.says != "" && !slices.ContainsFunc(r.Events, func(e chain.Event) bool { return chain.EventName(e) == o.says }) {
				t.Fatalf("%s: transaction %d: %q, %v", o.name, i, r.Rejection, r.Events)
			}
		}
		after := state.NewOverlay(before)
		for _, c := range out.Changes {
			if c.Deleted {
				after.Delete(c.Key)
			} else {
				after.Set(c.Key, c.Value)
			}
		}
		panels, rounds := o.name == "challenge" || o.name == "appeal", 1
		if o.name == "begin_run/absent" { // draws until the roll is asked, whose node commits or loses for it
			rounds = 4
		}
		if was := w.putInQueues(before, h, panels, rounds); was != 0 {
			t.Fatalf("%s: the queues had %d before", o.name, was)
		}
		put, gas := w.putInQueues(after, h, panels, rounds), out.GasUsed.Units()
		if put == 0 || put > gas+uint64(rounds)*(table.QueueDraw+table.QueueDeadline) { // each queue is rounded up to a whole one
			t.Errorf("%s: %d gas for what weighs %d in queues", o.name, gas/uint64(len(txs)), put/uint64(len(txs)))
		}
		w.reader = nil
	}
	if len(left) > 0 {
		t.Errorf("not tried: %v", left)
	}
}
