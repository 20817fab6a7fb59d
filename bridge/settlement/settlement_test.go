package settlement_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

func wantReason(t *testing.T, why *chain.Rejection, part string) {
	t.Helper()
	if why == nil {
		t.Errorf("accepted, want a rejection with %q", part)
	} else if !strings.Contains(why.Reason(), part) {
		t.Errorf("rejected with %q, want %q in it", why.Reason(), part)
	}
}

func TestProviderRegistration(t *testing.T) {
	m := newMarket(t)
	register := func(by byte, change func(*chain.RegisterProvider)) *chain.Rejection {
		message := m.registerProvider(5, 90)
		change(&message)
		_, why := settlement.RegisterProvider(m.kv, &m.env, account(by), message)
		return why
	}
	same := func(*chain.RegisterProvider) {}
	wantReason(t, register(6, same), "possession of node key")
	wantReason(t, register(5, func(r *chain.RegisterProvider) { r.Possession[0] ^= 1 }), "is not signed")
	wantReason(t, register(5, func(r *chain.RegisterProvider) { r.Bond = chain.Nano(99_999_999_999) }), "the least is 100 HYPER")
	wantReason(t, register(5, func(r *chain.RegisterProvider) { r.Bond = chain.Hyper(9_901) }), "can spend 9900 HYPER")
	if why := register(5, same); why != nil {
		t.Fatal(why.Reason())
	}
	wantReason(t, register(5, same), "is registered already")
	if got := m.balance(5); got != chain.Hyper(9_800) {
		t.Errorf("balance %v after two bonds", got)
	}
	unbond := func(by, node byte) *chain.Rejection {
		_, why := settlement.UnbondProvider(m.kv, &m.env, account(by), chain.UnbondProvider{Node: key(node).Public()})
		return why
	}
	wantReason(t, unbond(6, 90), "belongs to")
	wantReason(t, unbond(5, 91), "is not registered")
	if why := unbond(5, 90); why != nil {
		t.Fatal(why.Reason())
	}
	wantReason(t, unbond(5, 90), "is not registered")
	m.pass(21*24*hour - 1)
	if got := m.balance(5); got != chain.Hyper(9_800) {
		t.Errorf("balance %v before the bond has matured", got)
	}
	m.pass(1)
	if got := m.balance(5); got != chain.Hyper(9_900) {
		t.Errorf("balance %v after the bond has matured", got)
	}
	if why := register(5, same); why != nil {
		t.Error("coming back: ", why.Reason())
	}
}

func TestClusterRegistration(t *testing.T) {
	m := newMarket(t)
	register := func(by byte, change func(*chain.RegisterCluster)) *chain.Rejection {
		message := m.registerCluster(6)
		change(&message)
		_, why := settlement.RegisterCluster(m.kv, &m.env, account(by), message)
		return why
	}
	same := func(*chain.RegisterCluster) {}
	wantReason(t, register(6, same), "is registered already")
	unbond := func(by byte) *chain.Rejection {
		_, why := settlement.UnbondCluster(m.kv, &m.env, account(by), chain.UnbondCluster{Cluster: key(cluster).Public()})
		return why
	}
	wantReason(t, unbond(6), "belongs to")
	if why := unbond(operator); why != nil {
		t.Fatal(why.Reason())
	}
	wantReason(t, unbond(operator), "is not registered")
	_, why := settlement.Deposit(m.kv, &m.env, account(consumer), chain.Deposit{Cluster: key(cluster).Public(), Amount: chain.Nano(1)})
	wantReason(t, why, "is not registered")
	wantReason(t, register(5, same), "possession of cluster key")
	wantReason(t, register(6, func(r *chain.RegisterCluster) { r.Bond = chain.Hyper(999) }), "the least is 1000 HYPER")
	if why := register(6, same); why != nil {
		t.Error("under a new operator: ", why.Reason())
	}
	m.pass(21 * 24 * hour)
	if got := m.balance(operator); got != chain.Hyper(10_000) {
		t.Errorf("first operator has %v, want the bond back", got)
	}
}

// A node may change hands within one block; the bonds of its owners mature
// apart, each to whom it belongs.
func TestBondsOfOneBlockMatureToTheirOwners(t *testing.T) {
	m := newMarket(t)
	unbond := func(owner byte) {
		t.Helper()
		m.must(settlement.UnbondProvider(m.kv, &m.env, account(owner), chain.UnbondProvider{Node: key(40).Public()}))
		m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
		m.must(settlement.RegisterCluster(m.kv, &m.env, account(owner), m.registerCluster(owner)))
		m.must(settlement.UnbondCluster(m.kv, &m.env, account(owner), chain.UnbondCluster{Cluster: key(cluster).Public()}))
		m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	}
	before4, before5 := m.balance(4), m.balance(5)
	unbond(4)
	m.register(5, 40)
	unbond(5)
	m.pass(m.env.Params.UnbondDelayMs)
	bond := chain.Hyper(100)
	if want, _ := before4.Add(bond); m.balance(4) != want {
		t.Errorf("the first owner has %v, want %v", m.balance(4), want)
	}
	if m.balance(5) != before5 {
		t.Errorf("the second owner has %v, had %v", m.balance(5), before5)
	}
}

func TestDepositAndWithdraw(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(30))
	m.deposit(consumer, chain.Hyper(20))
	if got := m.escrow(consumer).Balance; got != chain.Hyper(50) {
		t.Errorf("escrow %v, want 50", got)
	}
	target := key(cluster).Public()
	_, why := settlement.Deposit(m.kv, &m.env, account(consumer), chain.Deposit{Cluster: target})
	wantReason(t, why, "deposit of zero")
	_, why = settlement.Deposit(m.kv, &m.env, account(consumer), chain.Deposit{Cluster: target, Amount: chain.Nano(math.MaxUint64)})
	wantReason(t, why, "can spend 9950 HYPER")
	_, why = settlement.Withdraw(m.kv, &m.env, account(consumer), chain.Withdraw{Cluster: target})
	wantReason(t, why, "withdrawal of zero")
	_, why = settlement.Withdraw(m.kv, &m.env, account(other), chain.Withdraw{Cluster: target, Amount: chain.Nano(1)})
	wantReason(t, why, "escrow holds 0 HYPER")
	m.withdraw(consumer, chain.Hyper(10))
	m.withdraw(consumer, chain.Hyper(10)) // of the same block: one entry
	if got := m.escrow(consumer); got.Balance != chain.Hyper(30) || len(got.Withdrawals) != 1 {
		t.Errorf("escrow %+v, want 30 and one withdrawal", got)
	}
	for i := range settlement.MaxWithdrawals - 1 {
		m.pass(1)
		m.withdraw(consumer, chain.Nano(uint64(i)+1))
	}
	m.pass(1)
	_, why = settlement.Withdraw(m.kv, &m.env, account(consumer), chain.Withdraw{Cluster: target, Amount: chain.Nano(1)})
	wantReason(t, why, "16 withdrawals are on their way")
	m.env.Now = start
	m.pass(delay - 1)
	if got := m.balance(consumer); got != chain.Hyper(9_950) {
		t.Errorf("balance %v before the withdrawal has matured", got)
	}
	m.pass(1)
	if got := m.balance(consumer); got != chain.Hyper(9_970) {
		t.Errorf("balance %v after the withdrawal has matured", got)
	}
	m.pass(delay)
	m.pass(delay)
	m.withdraw(consumer, m.escrow(consumer).Balance)
	m.pass(delay)
	if got := m.balance(consumer); got != chain.Hyper(10_000) {
		t.Errorf("balance %v after everything was withdrawn", got)
	}
}

func TestAttestedWorkIsPaid(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, none)
	first := m.wantSettled(m.claim(order, 40, 1))[0]
	// 1,000 millicores · 3,600 s · 1 nHYPER, of which 2 % fee, half burned, and
	// 5 % for the cluster.
	want := chain.ClaimSettled{
		Order: order.ID(), Node: key(40).Public(), Sequence: 1, Consumer: account(consumer), Provider: account(4),
		Cluster: order.Cluster, Policy: "none", Result: crypto.DomainResult.Hash([]byte("right")), Exit: chain.ExitOK,
		Cost: chain.Nano(3_600_000), Paid: chain.Nano(3_348_000), Burned: chain.Nano(36_000), Treasury: chain.Nano(36_000), ClusterFee: chain.Nano(180_000),
		Records: []chain.ResourceTransaction{{
			NodeID: key(40).Public(), ResourceType: chain.CPU, Amount: 1_000, DurationMs: hour, PricePerUnit: 1_000_000_000,
			Consumer: account(consumer), Provider: account(4), Timestamp: order.Deadline - hour,
		}},
	}
	if !bytes.Equal(codec.Marshal(first), codec.Marshal(want)) {
		t.Errorf("got %+v\nwant %+v", first, want)
	}
	if got := tokens.AccountOf(m.kv, settlement.Treasury).Balance; got != want.Treasury {
		t.Errorf("treasury has %v", got)
	}
	if got := tokens.SupplyOf(m.kv).Burned; got != want.Burned {
		t.Errorf("burned %v", got)
	}
	failed := m.claim(order, 40, 2)
	failed.Receipt.Exit = chain.ExitFuel
	m.wantSettled(failed)
	m.wantSettled(m.claim(order, 50, 1)) // another node has its own sequence
	known, claims, ok := settlement.Settlement(m.kv, order.ID())
	if !ok || len(claims) != 3 || known.Spent != chain.Nano(3*3_600_000) || known.Closed {
		t.Errorf("settlement %+v with %d claims (%v)", known, len(claims), ok)
	}
	if got, _ := chain.Hyper(50).Sub(known.Spent); m.escrow(consumer).Balance != got {
		t.Errorf("escrow %v, want %v", m.escrow(consumer).Balance, got)
	}
}

// TestClaimRefusals breaks one thing of a good claim at a time.
func TestClaimRefusals(t *testing.T) {
	cases := []struct {
		reason string
		change func(m *market, c *chain.Claim)
	}{
		{"order is of chain", func(m *market, c *chain.Claim) {
			o := c.Order
			o.ChainID = "another"
			*c = m.claim(o, 40, 1)
		}},
		{"acceptance is of chain", func(_ *market, c *chain.Claim) { c.Acceptance.ChainID = "another" }},
		{"bid is of chain", func(_ *market, c *chain.Claim) { c.Bid.ChainID = "another" }},
		{"receipt is of chain", func(_ *market, c *chain.Claim) { c.Receipt.ChainID = "another" }},
		{"acceptance is of order", func(_ *market, c *chain.Claim) { c.Acceptance.Order[0] ^= 1 }},
		{"bid is of order", func(_ *market, c *chain.Claim) { c.Bid.Order[0] ^= 1 }},
		{"receipt is of order", func(_ *market, c *chain.Claim) { c.Receipt.Order[0] ^= 1 }},
		{"acceptance is of order", func(_ *market, c *chain.Claim) { c.Order.Nonce++ }},
		{"acceptance is of order", func(_ *market, c *chain.Claim) { c.Order.MaxCost = chain.Hyper(11) }},
		{"acceptance is by cluster", func(_ *market, c *chain.Claim) { c.Acceptance.Cluster = key(31).Public() }},
		{"acceptance has sequence 0", func(_ *market, c *chain.Claim) { c.Acceptance.Sequence = 0 }},
		{"acceptance covers 9 HYPER", func(_ *market, c *chain.Claim) { c.Acceptance.Outstanding = chain.Hyper(9) }},
		{"bid is by node", func(_ *market, c *chain.Claim) { c.Bid.Node = key(50).Public() }},
		{"longer work is a lease", func(m *market, c *chain.Claim) {
			o := c.Order
			o.Deadline = m.env.Now + delay - window + 1
			*c = m.claim(o, 40, 1)
		}},
		{"beyond time", func(m *market, c *chain.Claim) {
			o := c.Order
			o.Deadline = math.MaxUint64 - 1
			*c = m.claim(o, 40, 1)
		}},
		{"claim window ended", func(m *market, c *chain.Claim) { m.env.Now = c.Order.Deadline + window + 1 }},
		{"work ended at", func(_ *market, c *chain.Claim) { c.Receipt.Ended = c.Order.Deadline + 1 }},
		{"the bid expired at", func(_ *market, c *chain.Claim) { c.Bid.Expiry = c.Receipt.Started - 1 }},
		{"is not registered", func(m *market, c *chain.Claim) { *c = m.claim(c.Order, 99, 1) }},
		{"is not registered", func(m *market, c *chain.Claim) {
			o := c.Order
			o.Cluster = key(31).Public()
			*c = m.claim(o, 40, 1)
		}},
		{"sequence is 2, the next of node", func(_ *market, c *chain.Claim) { c.Receipt.Sequence = 2 }},
		{"sequence is 0, the next of node", func(_ *market, c *chain.Claim) { c.Receipt.Sequence = 0 }},
		{"price of CPU is 1000000001, its cap is", func(_ *market, c *chain.Claim) {
			c.Bid.Prices = []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_001}}
		}},
		{"the bid has no price for it", func(_ *market, c *chain.Claim) { c.Bid.Prices = nil }},
		{"the order has no cap for it", func(_ *market, c *chain.Claim) {
			c.Receipt.Usage = []chain.Usage{{Resource: chain.GPU, Amount: 1}}
			c.Bid.Prices = []chain.UnitPrice{{Resource: chain.GPU, Price: 1}}
		}},
		{"for metered work", func(_ *market, c *chain.Claim) { c.Bid.Fixed = chain.Nano(1) }},
		{"no attestation", func(_ *market, c *chain.Claim) { c.Attestation = crypto.Signature{} }},
		{"does not fit an amount", func(_ *market, c *chain.Claim) {
			c.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: chain.MaxUsageAmount, DurationMs: chain.MaxUsageMs}}
		}},
		{"above the max cost, 10 HYPER", func(_ *market, c *chain.Claim) { c.Receipt.Usage[0].Amount = 1_000 * 2_778 }},
		{"the escrow holds 5 HYPER", func(_ *market, c *chain.Claim) { c.Receipt.Usage[0].Amount = 1_000 * 1_389 }},
	}
	for _, c := range cases {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(5))
		claim := m.claim(m.order(consumer, 1, none), 40, 1)
		c.change(m, &claim)
		m.wantRejected(c.reason, claim)
	}
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	m.wantSettled(m.claim(m.order(consumer, 1, none), 40, 1)) // the claim that all of them began as
}

func TestUnsignedClaimLeavesTheOthers(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	order := m.order(consumer, 1, none)
	message := chain.Settle{Claims: []chain.Claim{m.claim(order, 40, 1), m.claim(order, 50, 1), m.claim(order, 60, 1)}}
	events := settlement.Settle(m.kv, &m.env, message, []chain.Signing{chain.AllSigned, chain.AllSigned + 3}) // and no verdict for the third
	for i, want := range []string{"claim_settled", "claim_rejected", "claim_rejected"} {
		if got := chain.EventName(events[i]); got != want {
			t.Errorf("claim %d: %s, want %s", i, got, want)
		}
	}
	for i, want := range map[int]string{1: "the signature of the bid does not verify", 2: "the signature of a form does not verify"} {
		if got := events[i].(chain.ClaimRejected).Reason; got != want {
			t.Errorf("claim %d: %q, want %q", i, got, want)
		}
	}
}

func TestClaimPostedAgain(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	for _, policy := range []chain.Policy{none, product} {
		claim := m.claim(m.order(consumer, 1, policy), 40, 1)
		m.wantSettled(claim)
		claim.Proof = append(claim.Proof, 0) // malleable bytes make no new claim
		m.wantRejected("sequence is 1, the next", claim, claim)
	}
}

func TestOrderStateGoesAfterItsWindow(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	before := m.dump()
	order := m.order(consumer, 1, none)
	claim := m.claim(order, 40, 1)
	m.wantSettled(claim)
	m.pass(3*hour + window) // the last millisecond
	m.wantSettled(m.claim(order, 40, 2))
	m.wantRejected("sequence is 1", claim)
	m.pass(1)
	if _, _, ok := settlement.Settlement(m.kv, order.ID()); ok {
		t.Error("order state is still there")
	}
	m.wantRejected("claim window ended", claim, m.claim(order, 40, 3))
	for key := range m.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		if _, known := find(before, key); !known {
			t.Errorf("key %x was left behind", key)
		}
	}
}

func find(dump, key []byte) (int, bool) {
	i := bytes.Index(dump, codec.Marshal(key))
	return i, i >= 0
}

func TestExpiryIsBoundedAndClaimsStayRefused(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	var claims []chain.Claim
	for nonce := range uint64(5) {
		claims = append(claims, m.claim(m.order(consumer, nonce, none), 40, 1))
	}
	m.wantSettled(claims...)
	m.pass(3*hour + window + 1) // deletes four of them per block: they have one entry of the queue
	for _, left := range []int{1, 0} {
		got := 0
		for _, c := range claims {
			if _, _, ok := settlement.Settlement(m.kv, c.Order.ID()); ok {
				got++
			}
		}
		if got != left {
			t.Errorf("%d orders left, want %d", got, left)
		}
		m.wantRejected("claim window ended", claims...)
		m.pass(1)
	}
}

// TestOrdersOfAMessageGoTogether: with the last of them, and until then their claims are
// refused as they would be later.
func TestOrdersOfAMessageGoTogether(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	early, late := m.order(consumer, 1, none), m.order(consumer, 2, none)
	late.Deadline += hour
	before := m.dump()
	m.wantSettled(m.claim(late, 40, 1), m.claim(early, 40, 1), m.claim(early, 50, 1))
	m.pass(3*hour + window + 1)
	m.wantRejected("claim window ended", m.claim(early, 40, 2))
	m.wantSettled(m.claim(late, 40, 2))
	m.pass(hour - 1)
	if _, _, ok := settlement.Settlement(m.kv, early.ID()); !ok {
		t.Error("an order went before the others of its message")
	}
	m.pass(1)
	for _, o := range []chain.Order{early, late} {
		if _, _, ok := settlement.Settlement(m.kv, o.ID()); ok {
			m.pass(1) // four records a block
		}
		if _, _, ok := settlement.Settlement(m.kv, o.ID()); ok {
			t.Error("order state is still there")
		}
		m.wantRejected("claim window ended", m.claim(o, 40, 1), m.claim(o, 40, 3))
	}
	for key := range m.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		if _, known := find(before, key); !known {
			t.Errorf("key %x was left behind", key)
		}
	}
}

// TestTheFirstClaimIsPartOfItsOrder: wherever a claim is kept, it is found, and once.
func TestTheFirstClaimIsPartOfItsOrder(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	order := m.order(consumer, 1, none)
	m.wantSettled(m.claim(order, 50, 1), m.claim(order, 50, 2), m.claim(order, 40, 1))
	book, claims, _ := settlement.Settlement(m.kv, order.ID())
	if len(claims) != 3 {
		t.Fatalf("%d claims, want 3", len(claims))
	}
	for _, c := range claims {
		inside, ok := book.ClaimOf(c.Node, c.Sequence)
		_, apart := m.kv.Get(settlement.ClaimKey(chain.ClaimKey{Order: order.ID(), Node: c.Node, Sequence: c.Sequence}))
		if first := c.Node == key(50).Public() && c.Sequence == 1; ok != first || apart == first || ok && inside.Paid != c.Paid {
			t.Errorf("claim %d of %s: in its order %v, apart %v", c.Sequence, c.Node.Short(), ok, apart)
		}
		if !c.Settled() || len(c.Records) != 0 || c.Cost.IsZero() {
			t.Errorf("kept claim %+v", c)
		}
	}
}

func TestWithdrawingDoesNotOutrunAClaim(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(5_000_000))
	order := m.order(consumer, 1, none)
	m.withdraw(consumer, chain.Nano(3_000_000))
	m.pass(1)
	m.withdraw(consumer, chain.Nano(1_900_000))
	// 3,600,000 of the 100,000 left, the younger 1,900,000 and the elder
	// 3,000,000.
	m.wantSettled(m.claim(order, 40, 1))
	m.wantRejected("the escrow holds 0.0014 HYPER", m.claim(order, 40, 2))
	before := m.balance(consumer)
	m.pass(delay)
	if got, _ := before.Add(chain.Nano(1_400_000)); m.balance(consumer) != got {
		t.Errorf("balance %v, want %v", m.balance(consumer), got)
	}
	if _, ok := m.kv.Get(settlement.EscrowKey(account(consumer), key(cluster).Public())); !ok {
		t.Error("the escrow's record went before it was touched again")
	}
	m.deposit(consumer, chain.Nano(1))
	if got := m.escrow(consumer); len(got.Withdrawals) != 0 {
		t.Errorf("escrow %+v remembers withdrawals that matured", got)
	}
}

func TestClaimsOutliveUnbonding(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	order := m.order(consumer, 1, none)
	m.must(settlement.UnbondProvider(m.kv, &m.env, account(4), chain.UnbondProvider{Node: key(40).Public()}))
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
	m.pass(hour)
	m.wantSettled(m.claim(order, 40, 1))
	m.pass(delay - hour)
	late := m.order(consumer, 2, none)
	m.wantSettled(m.claim(late, 40, 1))
	m.pass(1)
	m.wantRejected("is not registered", m.claim(late, 40, 2), m.claim(late, 50, 1))
}

func TestClaimsOfAnOrderAreBounded(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, none)
	for i := range uint64(settlement.MaxOrderClaims) {
		claim := m.claim(order, 40, i+1)
		claim.Receipt.Usage = nil
		m.wantSettled(claim)
	}
	m.wantRejected("has 64 claims, the limit", m.claim(order, 40, settlement.MaxOrderClaims+1))
}

// TestGolden freezes keys and records: proofs expose them.
func TestGolden(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	m.withdraw(consumer, chain.Hyper(1))
	m.wantSettled(m.claim(m.order(consumer, 1, none), 40, 1))
	f := &field{market: m, order: m.order(consumer, 1, twoOf3)}
	f.id = f.order.ID()
	f.do(f.begin(40, 50))
	m.wantSettled(m.claim(m.order(consumer, 1, product), 40, 1))
	m.must(settlement.UnbondProvider(m.kv, &m.env, account(7), chain.UnbondProvider{Node: key(70).Public()}))
	m.registerMeter(4, 40)
	m.post(m.batch(m.order(consumer, 2, none), 40, 0, records(0, 2)))
	var got strings.Builder
	for key, value := range m.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		got.WriteString(hex.EncodeToString(key) + " " + hex.EncodeToString(value) + "\n")
		if err := decodes(key, value); err != nil {
			t.Errorf("%x: %v", key, err)
		}
	}
	golden.Check(t, "testdata/records.hex", got.String())
}

// decodes reads a record through the door that light clients use.
func decodes(key, value []byte) error {
	var err error
	switch key[1] {
	case 'p':
		_, err = settlement.DecodeProvider(value)
	case 'c':
		_, err = settlement.DecodeCluster(value)
	case 'e':
		_, err = settlement.DecodeEscrow(value)
	case 'o':
		_, err = settlement.DecodeOrder(value)
	case 'r':
		_, err = settlement.DecodeClaim(value)
	case 'k':
		_, err = settlement.DecodeMeter(value)
	case 'K':
		if len(value) != len(crypto.PublicKey{}) {
			err = fmt.Errorf("a metering key of a node of %d bytes", len(value))
		}
	case 'g':
		_, err = settlement.DecodeRuns(value)
	}
	return err
}

func TestBrokenRecordIsAFault(t *testing.T) {
	m := newMarket(t)
	m.kv.Set(settlement.EscrowKey(account(consumer), key(cluster).Public()), []byte{0xff})
	defer func() {
		if _, fault := recover().(*state.Fault); !fault {
			t.Error("a broken escrow was read")
		}
	}()
	m.deposit(consumer, chain.Nano(1))
}
