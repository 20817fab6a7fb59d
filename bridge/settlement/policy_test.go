package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/tokens"
)

// replica is a node's claim with its own price, usage and fuel.
func (m *market) replica(order chain.Order, node byte, price, durationMs, fuel uint64) chain.Claim {
	c := m.claim(order, node, 1)
	c.Bid.Prices = []chain.UnitPrice{{Resource: chain.CPU, Price: price}}
	c.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: durationMs}}
	c.Receipt.Fuel = fuel
	return c
}

const nano = 1_000_000_000 // 1 nHYPER per unit·second, in 10⁻¹⁸ HYPER

func TestReplicasArePaidTogether(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, twoOf3)
	wrong := m.replica(order, 60, nano, hour, 1_000)
	wrong.Receipt.Result = crypto.DomainResult.Hash([]byte("wrong"))
	m.wantRecorded(wrong)
	m.wantRecorded(m.replica(order, 40, nano, hour, 1_000))
	m.wantRejected("has a replica already", m.replica(order, 41, nano, hour, 1_000)) // owner 4's second node
	sequel := m.replica(order, 40, nano, hour, 1_000)
	sequel.Receipt.Sequence = 2
	m.wantRejected("has a replica already", sequel)
	paid := m.wantSettled(m.replica(order, 50, nano/2, hour, 1_000))
	if len(paid) != 2 {
		t.Fatalf("%d claims paid, want 2", len(paid))
	}
	for i, want := range []struct {
		node, owner byte
		cost        uint64
	}{{50, 5, 1_800_000}, {40, 4, 3_600_000}} {
		if p := paid[i]; p.Node != key(want.node).Public() || p.Provider != account(want.owner) || p.Cost != chain.Nano(want.cost) {
			t.Errorf("payment %d: %+v, want node %d, cost %d", i, p, want.node, want.cost)
		}
	}
	m.wantRejected("is settled", m.replica(order, 70, nano, hour, 1_000))
	m.wantRejected("sequence is 1", wrong)
	known, claims, _ := settlement.Settlement(m.kv, order.ID())
	if !known.Closed || known.Spent != chain.Nano(5_400_000) || len(claims) != 3 {
		t.Errorf("order %+v with %d claims", known, len(claims))
	}
	for _, c := range claims {
		if wantPaid := c.Node != key(60).Public(); c.Settled() != wantPaid {
			t.Errorf("claim of %s: settled %v", c.Node.Short(), c.Settled())
		}
	}
}

// The places of a replicated order are for those whom the cluster assigned and
// for the receipts that it got: strangers who saw the acceptance fill none, and
// a node cannot take its own place with another receipt.
func TestReplicasAreThoseThatTheClusterAttests(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, twoOf3)
	for _, node := range []byte{50, 60, 70} {
		junk := m.replica(order, node, nano, hour, 1_000)
		junk.Receipt.Result = crypto.Digest{node}
		junk.Attestation = crypto.Signature{}
		copied := m.replica(order, node, nano, hour, 1_000)
		copied.Attestation = crypto.Signature{}
		m.wantRejected("no attestation", junk, copied)
	}
	m.wantRecorded(m.replica(order, 40, nano, hour, 1_000))
	if paid := m.wantSettled(m.replica(order, 50, nano, hour, 1_000)); len(paid) != 2 {
		t.Errorf("%d paid, want 2", len(paid))
	}
}

func TestReplicasThatFailAlikeArePaid(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, twoOf3)
	ended := func(node byte, exit chain.ExitStatus) chain.Claim {
		c := m.replica(order, node, nano, hour, 1_000)
		c.Receipt.Exit = exit
		return c
	}
	m.wantRecorded(ended(40, chain.ExitTrapped))
	m.wantRecorded(ended(50, chain.ExitFuel))
	if paid := m.wantSettled(ended(60, chain.ExitFuel)); len(paid) != 2 {
		t.Errorf("%d paid, want the two that agree", len(paid))
	}
}

func TestReplicasThatDisagreeAreBounded(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, twoOf3)
	for i, node := range []byte{40, 50, 60} {
		c := m.replica(order, node, nano, hour, 1_000)
		c.Receipt.Result = crypto.Digest{byte(i)}
		m.wantRecorded(c)
	}
	m.wantRejected("has 3 replicas, limit 3", m.replica(order, 70, nano, hour, 1_000))
	if got := m.escrow(consumer).Balance; got != chain.Hyper(50) {
		t.Errorf("escrow %v: disagreement cost money", got)
	}
}

// TestReplicaPay checks that nobody is paid for more than the least that an
// agreeing replica reports.
func TestReplicaPay(t *testing.T) {
	for _, c := range []struct {
		name                   string
		ms1, fuel1, ms2, fuel2 uint64
		cost1, cost2           uint64
	}{
		{"equal", hour, 1_000, hour, 1_000, 3_600_000, 3_600_000},
		{"fuel doubled", hour, 2_000, hour, 1_000, 1_800_000, 3_600_000},
		{"time doubled at honest fuel", 2 * hour, 1_000, hour, 1_000, 3_600_000, 3_600_000},
		{"fuel 0 against some", hour, 0, hour, 1_000, 3_600_000, 0},
		{"fuel 0 of both", hour, 0, hour, 0, 3_600_000, 3_600_000},
		{"largest fuel", hour, 1<<64 - 1, hour, 1<<64 - 2, 3_599_999, 3_600_000},
		{"no time", 0, 1_000, hour, 1_000, 0, 0},
	} {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(50))
		order := m.order(consumer, 1, twoOf3)
		m.wantRecorded(m.replica(order, 40, nano, c.ms1, c.fuel1))
		paid := m.wantSettled(m.replica(order, 50, nano, c.ms2, c.fuel2))
		if paid[1].Cost != chain.Nano(c.cost1) || paid[0].Cost != chain.Nano(c.cost2) {
			t.Errorf("%s: %v and %v, want %d and %d", c.name, paid[1].Cost, paid[0].Cost, c.cost1, c.cost2)
		}
	}
}

func TestReplicasChargeOnlyWhatAllUsed(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, twoOf3)
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: nano}, {Resource: chain.Network, Price: 5 * nano}}
	both := m.replica(order, 40, nano, hour, 1)
	both.Bid.Prices = prices
	both.Receipt.Usage = append(both.Receipt.Usage, chain.Usage{Resource: chain.Network, Amount: 100, DurationMs: 1})
	m.wantRecorded(both)
	less := both
	less.Bid.Node, less.Receipt.Node = key(50).Public(), key(50).Public()
	less.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: hour}, {Resource: chain.Network, Amount: 7, DurationMs: hour}}
	for _, p := range m.wantSettled(less) {
		if p.Cost != chain.Nano(3_600_000+35) || len(p.Records) != 2 || p.Records[1].Amount != 7 {
			t.Errorf("%+v, want the CPU of both and the lesser traffic", p)
		}
	}
	bare := m.order(consumer, 2, twoOf3)
	m.wantRecorded(m.replica(bare, 40, nano, hour, 1))
	extra := m.replica(bare, 50, nano, hour, 1)
	extra.Bid.Prices = prices
	extra.Receipt.Usage = append(extra.Receipt.Usage, chain.Usage{Resource: chain.Network, Amount: 100})
	for _, p := range m.wantSettled(extra) {
		if p.Cost != chain.Nano(3_600_000) || len(p.Records) != 1 {
			t.Errorf("%+v, want the CPU alone", p)
		}
	}
}

func TestReplicasThatCannotBeAffordedWait(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(7_000_000))
	order := m.order(consumer, 1, twoOf3)
	m.wantRecorded(m.replica(order, 40, nano, hour, 1))
	second := m.replica(order, 50, nano, hour, 1)
	m.wantRejected("cost is 0.0072 HYPER, the escrow holds 0.007 HYPER", second)
	m.deposit(consumer, chain.Nano(200_000))
	if paid := m.wantSettled(second); len(paid) != 2 {
		t.Errorf("%d paid, want 2", len(paid))
	}
	tight := m.order(consumer, 2, twoOf3)
	tight.MaxCost = chain.Nano(7_199_999)
	m.deposit(consumer, chain.Hyper(1))
	m.wantRecorded(m.replica(tight, 40, nano, hour, 1))
	m.wantRejected("above the max cost, 0.007199999 HYPER", m.replica(tight, 50, nano, hour, 1))
	m.wantSettled(m.replica(tight, 60, nano-1, hour, 1)) // a cheaper one fits
}

func TestProvenWorkIsPaidItsFixedPrice(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	order := m.order(consumer, 1, product)
	claim := m.claim(order, 40, 1)
	claim.Attestation = crypto.Signature{}
	paid := m.wantSettled(claim)[0]
	if paid.Cost != chain.Hyper(1) || !paid.ProofVerified || paid.Policy != "zk(matmul-4)" {
		t.Errorf("%+v, want 1 HYPER for a verified proof", paid)
	}
	if len(paid.Records) != 1 || paid.Records[0].PricePerUnit != 0 || paid.Records[0].Amount != 1_000 {
		t.Errorf("records %+v, want what was used at no price", paid.Records)
	}
	m.wantRejected("is settled", m.claim(order, 50, 1))
	sequel := m.claim(order, 40, 2)
	m.wantRejected("is settled", sequel)
}

// TestProofCopiedElsewhere: a proof is of one order, sequence and provider.
func TestProofCopiedElsewhere(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	m.deposit(other, chain.Hyper(50))
	order := m.order(consumer, 1, product)
	original := m.claim(order, 40, 1)
	copied := func(c chain.Claim) chain.Claim {
		c.Proof = original.Proof
		return c
	}
	m.wantRejected("false proof", copied(m.claim(order, 50, 1)))                         // another provider
	m.wantRejected("false proof", copied(m.claim(m.order(consumer, 2, product), 40, 1))) // another order
	m.wantRejected("false proof", copied(m.claim(m.order(other, 1, product), 40, 1)), copied(m.claim(order, 41, 1)))
	changed := original
	changed.Receipt.Outputs = []chain.FieldBytes{{31: 8}}
	m.wantRejected("false proof", changed) // another output
	m.wantSettled(original)
}

func TestProvenWorkRefusals(t *testing.T) {
	for _, c := range []struct {
		reason   string
		verified bool // whether the proof was looked at
		policy   func(p *chain.PolicyZK)
		change   func(c *chain.Claim)
	}{
		{"not pinned by genesis", false, func(p *chain.PolicyZK) { p.Kernel = "mlp" }, nil},
		{"genesis pins", false, func(p *chain.PolicyZK) { p.VerifyingKey = crypto.Digest{1} }, nil},
		{"only a proven result is paid", false, nil, func(c *chain.Claim) { c.Receipt.Exit = chain.ExitFailed }},
		{"is above its cap, 2 HYPER", false, nil, func(c *chain.Claim) { c.Bid.Fixed = chain.Nano(2_000_000_001) }},
		{"the escrow holds 1.5 HYPER", false, nil, func(c *chain.Claim) { c.Bid.Fixed = chain.Hyper(2) }},
		{"false proof", true, nil, func(c *chain.Claim) { c.Proof = nil }},
		{"not below the order", true, nil, func(c *chain.Claim) { c.Receipt.Outputs = []chain.FieldBytes{{0: 0xff}} }},
		{"wrong number of publics", true, nil, func(c *chain.Claim) { c.Receipt.Outputs = nil }},
	} {
		m := newMarket(t)
		m.deposit(consumer, chain.Nano(1_500_000_000))
		policy := product
		if c.policy != nil {
			c.policy(&policy)
		}
		claim := m.claim(m.order(consumer, 1, policy), 40, 1)
		if c.change != nil {
			c.change(&claim)
		}
		m.wantRejected(c.reason, claim)
		if verified := m.proofs.calls > 0; verified != c.verified {
			t.Errorf("%s: proof looked at: %v", c.reason, verified)
		}
	}
}

func TestAProviderMayBeTheConsumer(t *testing.T) {
	m := newMarket(t)
	m.deposit(4, chain.Hyper(5))
	m.wantSettled(m.claim(m.order(4, 1, none), 40, 1))
	if got := tokens.SupplyOf(m.kv).Burned; got.IsZero() {
		t.Error("trading with oneself burned nothing")
	}
}
