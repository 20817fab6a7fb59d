package settlement_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/tokens"
)

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

// TestNoRunIsPaidMoreThanItsShare: a primary that nobody checks says that it used nearly all
// that k runs may cost, and is paid a k-th of that.
func TestNoRunIsPaidMoreThanItsShare(t *testing.T) {
	policy := staked
	policy.Stake = chain.Hyper(1_000)
	f := newField(t, policy)
	for nonce := range uint64(50) {
		f.rich(40)
		f.rich(50)
		order := f.market.order(consumer, nonce+2, policy)
		order.MaxCost = chain.Hyper(1)
		f.use(order)
		clear(f.receipts)
		f.uses(40, 250*hour, 1_000_000)
		f.do(f.begin(40, 50))
		if _, unchecked := f.drawn()[0].(chain.RunsRevealing); !unchecked {
			continue
		}
		f.do(f.reveal(40))
		f.over(chain.RunUnchecked, 40)
		if got, want := f.paid()[40], order.MaxCost.Nano()/uint64(policy.K); got != want {
			t.Errorf("a run that says it is worth 0.9 of the max cost is paid %d nHYPER, want %d", got, want)
		}
		return
	}
	t.Fatal("every run was checked")
}

// TestUsageIsJudged: who says that its run used more than it did, or less so that others are paid
// less, dissents as one with another result does.
func TestUsageIsJudged(t *testing.T) {
	for name, said := range map[string]uint64{"more": hour + 1, "less": hour - 1} {
		for _, liar := range []byte{40, 50} {
			f := newField(t, threeOf3)
			f.uses(liar, said, 1_000_000)
			f.do(f.begin(40, 50))
			f.drawn()
			f.do(f.commit(50))
			check := f.vouch(found("right"))
			f.do(f.reveal(50))
			f.do(f.reveal(40))
			f.drawn()
			f.judge(found("right"))
			f.do(chain.CollectRun{Order: f.id})
			f.over(chain.RunJudged, 90-liar, check)
			if s := f.slashed(); len(s) != 1 || s[liar] != staked.Stake.Nano() {
				t.Errorf("%s: slashed %v, want %d of node %d", name, s, staked.Stake.Nano(), liar)
			}
			if paid := f.paid()[90-liar]; paid != 3_600_000 {
				t.Errorf("%s: node %d was paid %d, want what its run used", name, 90-liar, paid)
			}
		}
	}
}
