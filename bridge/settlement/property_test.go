package settlement_test

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// books follows the events of a market and keeps the accounts that the
// invariants of the package speak of.
type books struct {
	in, out, back map[chain.Address]uint64 // deposited, charged, matured
	spent         map[crypto.Digest]uint64
	paid          map[chain.ClaimKey]bool
}

func keep(events chain.Events) *books {
	b := &books{
		in: map[chain.Address]uint64{}, out: map[chain.Address]uint64{}, back: map[chain.Address]uint64{},
		spent: map[crypto.Digest]uint64{}, paid: map[chain.ClaimKey]bool{},
	}
	for _, e := range events {
		switch e := e.(type) {
		case chain.Deposited:
			b.in[e.Consumer] += e.Amount.Nano()
		case chain.Matured:
			b.back[e.To] += e.Amount.Nano()
		case chain.ClaimSettled:
			parts := e.Paid.Nano() + e.Burned.Nano() + e.Treasury.Nano() + e.ClusterFee.Nano()
			if parts != e.Cost.Nano() || e.Burned.Less(e.PriorityBurned) || e.ClusterFee.Less(e.PriorityFee) {
				panic("the parts of a charge are not its sum")
			}
			key := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
			if b.paid[key] {
				panic("a claim was paid twice")
			}
			b.paid[key] = true
			b.out[e.Consumer] += parts
			b.spent[e.Order] += parts
		}
	}
	return b
}

// held is what a consumer has at the cluster: balance and withdrawals, also those that are mature and wait for a block that has room for them.
func (m *market) held(n byte) uint64 {
	sum := m.escrow(n).Balance.Nano()
	origin := settlement.EscrowKey(account(n), key(cluster).Public())
	for key, value := range m.kv.Iterate(tokens.MaturingKey(0, nil), tokens.MaturingKey(math.MaxInt64, nil)) {
		if bytes.HasSuffix(key, origin) {
			sum += state.Decode[tokens.Maturing](key, value).Amount.Nano()
		}
	}
	return sum
}

func (m *market) checkBooks(t *rapid.T, orders []chain.Order) {
	b := keep(m.events)
	for _, n := range []byte{consumer, other} {
		a := account(n)
		if in, gone := b.in[a], b.out[a]+b.back[a]+m.held(n); in != gone {
			t.Fatalf("consumer %d: deposited %d; charged %d, returned %d, held %d", n, in, b.out[a], b.back[a], m.held(n))
		}
	}
	for _, o := range orders {
		if b.spent[o.ID()] > o.MaxCost.Nano() {
			t.Fatalf("order of %v cost %d", o.MaxCost, b.spent[o.ID()])
		}
	}
	m.checkConserved(t)
}

// checkConserved demands that no value appeared or vanished.
func (m *market) checkConserved(t *rapid.T) {
	if surplus := m.surplus(); surplus != 0 {
		t.Fatalf("holdings are %d more than what was minted and not burned", int64(surplus))
	}
	m.checkLocks(t)
}

// checkLocks demands that of each bond is locked what locks it, and that claims hold what their orders took: a block that leaves it
// otherwise is refused.
func (m *market) checkLocks(t *rapid.T) {
	if err := m.locks(); err != nil && !m.locked {
		t.Fatal(err)
	}
}

// locks says whether of some bond or escrow more or less is locked than what locks it: by its name, and as of a whole state.
func (m *market) locks() error {
	for _, all := range []settlement.Locks{settlement.LocksOfChanges(), settlement.LocksOfState()} {
		if err := m.count(&all); err != nil {
			return err
		}
		if err := all.Differs(); err != nil {
			return err
		}
	}
	return nil
}

// count counts all records.
func (m *market) count(all *settlement.Locks) error {
	for key, value := range m.kv.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		if settlement.LocksSomething(key) {
			if err := all.Add(m.kv, key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// surplus is what is held beyond what was minted and not burned.
func (m *market) surplus() uint64 {
	var total uint64
	for key, value := range m.kv.Iterate([]byte{0}, nil) {
		amount := chain.Amount{}
		switch key[0] {
		case tokens.Prefix:
			_, amount = tokens.ValueOf(key, value)
		case settlement.Prefix:
			_, amount = settlement.ValueOf(key, value)
		}
		total += amount.Nano()
	}
	s := tokens.SupplyOf(m.kv)
	return total - (s.Minted.Nano() - s.Burned.Nano())
}

// TestInvariants does random things, most of them wrong, and checks the
// package's invariants 1 to 3 after each.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.env.Params.ClaimWindowMs, m.env.Params.WithdrawalDelayMs = 20, 60
		var orders []chain.Order
		for nonce := range uint64(4) {
			who := rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "consumer")
			policy := rapid.SampledFrom([]chain.Policy{none, product}).Draw(rt, "policy")
			m.anyFee(rt)
			order := m.order(who, nonce, policy)
			order.Deadline = start + 30
			order.MaxCost = chain.Nano(rapid.Uint64Range(0, 40_000_000).Draw(rt, "max cost"))
			order.FixedCap = chain.Nano(9_000_000)
			orders = append(orders, order)
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			who := rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "who")
			amount := chain.Nano(rapid.Uint64Range(0, 12_000_000).Draw(rt, "amount"))
			target := key(cluster).Public()
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				if e, why := settlement.Deposit(m.kv, &m.env, account(who), chain.Deposit{Cluster: target, Amount: amount}); why == nil {
					m.events = append(m.events, e)
				}
			case 1:
				if e, why := settlement.Withdraw(m.kv, &m.env, account(who), chain.Withdraw{Cluster: target, Amount: amount}); why == nil {
					m.events = append(m.events, e)
				}
			case 2:
				m.pass(rapid.Uint64Range(1, 15).Draw(rt, "wait"))
			default:
				m.settle(m.anyClaim(rt, rapid.SampledFrom(orders).Draw(rt, "order")))
			}
			m.checkBooks(rt, orders)
		}
		m.checkSettled(rt, orders)
	})
}

func (m *market) anyClaim(t *rapid.T, order chain.Order) chain.Claim {
	node := rapid.SampledFrom([]byte{40, 41, 50, 60, 70}).Draw(t, "node")
	c := m.claim(order, node, rapid.Uint64Range(1, 3).Draw(t, "sequence"))
	c.Receipt.Started, c.Receipt.Ended, c.Bid.Expiry = start, start+10, start+5
	c.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: rapid.Uint64Range(0, 5_000).Draw(t, "millicores"), DurationMs: hour}}
	c.Receipt.Fuel = rapid.Uint64Range(0, 10).Draw(t, "fuel")
	c.Receipt.Result[0] = byte(rapid.IntRange(0, 1).Draw(t, "result"))
	if rapid.IntRange(0, 4).Draw(t, "attested") == 0 {
		c.Attestation = crypto.Signature{}
	}
	if !c.Bid.Fixed.IsZero() {
		c.Bid.Fixed = chain.Nano(rapid.Uint64Range(1, 10_000_000).Draw(t, "fixed"))
		if rapid.IntRange(0, 2).Draw(t, "proven") == 0 {
			c.Proof = []byte("no proof")
		}
	}
	return c
}

// checkSettled looks at what was paid with a simpler eye than the package's.
func (m *market) checkSettled(t *rapid.T, orders []chain.Order) {
	policies := map[crypto.Digest]chain.Policy{}
	for _, o := range orders {
		policies[o.ID()] = o.Policy.Policy
	}
	count := map[crypto.Digest]int{}
	for _, e := range m.events {
		s, ok := e.(chain.ClaimSettled)
		if !ok {
			continue
		}
		count[s.Order]++
	}
	for id, n := range count {
		switch policies[id].(type) {
		case chain.PolicyZK:
			if n != 1 {
				t.Fatalf("%d proofs were paid, want 1", n)
			}
		case chain.PolicyNone, chain.PolicyReplicate:
		}
	}
}

// TestOrderOfArrivalChangesNothing posts the same claims in two random orders,
// each claim again and again, until nothing moves: invariant 4.
func TestOrderOfArrivalChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		deliver := func(label string) []byte {
			m := newMarket(t)
			m.deposit(consumer, chain.Hyper(50))
			m.fee = 2_500
			var claims []chain.Claim
			for nonce, policy := range []chain.Policy{none, none, product} {
				order := m.order(consumer, uint64(nonce), policy)
				switch policy.(type) {
				case chain.PolicyNone, chain.PolicyReplicate:
					for sequence := range uint64(3) {
						claims = append(claims, m.claim(order, 40, sequence+1), m.claim(order, 50, sequence+1))
					}
				case chain.PolicyZK:
					claims = append(claims, m.claim(order, 40, 1))
				}
			}
			for range 4 {
				shuffled := rapid.Permutation(claims).Draw(rt, label)
				for part := range slices.Chunk(shuffled, rapid.IntRange(1, 6).Draw(rt, label+" per transaction")) {
					m.settle(part...)
				}
			}
			return m.paidSummary()
		}
		if first, second := deliver("first"), deliver("second"); !slices.Equal(first, second) {
			rt.Fatal("two orders of arrival paid differently")
		}
	})
}

// paidSummary encodes every payment, and every balance and escrow.
func (m *market) paidSummary() []byte {
	var paid []chain.ClaimSettled
	for _, e := range m.events {
		if s, ok := e.(chain.ClaimSettled); ok {
			paid = append(paid, s)
		}
	}
	slices.SortFunc(paid, func(a, b chain.ClaimSettled) int {
		return cmp.Or(a.Order.Compare(b.Order), a.Node.Compare(b.Node), cmp.Compare(a.Sequence, b.Sequence))
	})
	if len(paid) != 13 {
		m.Fatalf("%d claims were paid, want all 13", len(paid))
	}
	out := codec.Marshal(paid)
	for key, value := range m.kv.Iterate([]byte{tokens.Prefix}, []byte{tokens.Prefix + 1}) {
		out = append(append(out, key...), value...)
	}
	return append(out, codec.Marshal(m.escrow(consumer))...)
}
