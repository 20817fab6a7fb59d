package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// outputKey is the key of a node's sealed output under an order.
func outputKey(order chain.Order, node byte) chain.OutputKey {
	return chain.OutputKey(crypto.DomainMix.Hash(append([]byte{node}, order.Payload()...)))
}

// sealed is a claim under an order that asks for a fair exchange.
func (m *market) sealed(order chain.Order, node byte) chain.Claim {
	c := m.claim(order, node, 1)
	k := outputKey(order, node)
	c.OutputKey = &k
	c.Receipt.Sealed = &chain.SealedOutput{Output: crypto.Digest{5}, KeyHash: k.Hash(order.ID(), key(node).Public())}
	return c
}

func (m *market) fairOrder(nonce uint64, policy chain.Policy) chain.Order {
	order := m.order(consumer, nonce, policy)
	order.Fair = true
	return order
}

// TestFairExchange: whoever is paid tells the key, and a claim without the right one moves
// nothing.
func TestFairExchange(t *testing.T) {
	for name, policy := range map[string]chain.Policy{"none": none, "zk": product} {
		t.Run(name, func(t *testing.T) {
			m := newMarket(t)
			m.deposit(consumer, chain.Hyper(50))
			order := m.fairOrder(1, policy)
			refuse := func(part string, change func(*chain.Claim)) {
				t.Helper()
				c := m.sealed(order, 40)
				change(&c)
				m.wantRejected(part, c)
			}
			refuse("the output is sealed, and no key is shown", func(c *chain.Claim) { c.OutputKey = nil })
			refuse("the key's hash is", func(c *chain.Claim) { c.OutputKey[0] ^= 1 })
			refuse("the receipt commits to", func(c *chain.Claim) { c.Receipt.Sealed.KeyHash[0] ^= 1 })
			refuse("asks for a fair exchange, the receipt seals no output", func(c *chain.Claim) { c.Receipt.Sealed = nil })
			refuse("has no attestation of cluster", func(c *chain.Claim) { c.Attestation = crypto.Signature{} })
			other := m.fairOrder(2, policy)
			replayed := m.sealed(other, 40) // a key that is known is replayed
			k := outputKey(order, 40)
			replayed.OutputKey = &k
			m.wantRejected("the key's hash is", replayed)
			replayed = m.sealed(order, 50) // as another node's
			replayed.OutputKey = &k
			m.wantRejected("the key's hash is", replayed)

			events := m.settle(m.sealed(order, 40))
			told, ok := events[len(events)-1].(chain.KeyRevealed)
			if want := (chain.KeyRevealed{Order: order.ID(), Node: key(40).Public(), Sequence: 1, Output: crypto.Digest{5}, Key: outputKey(order, 40)}); !ok || told != want {
				t.Fatalf("events %+v, want the key in the end", events)
			}
			if _, ok := events[0].(chain.ClaimSettled); !ok || len(events) != 2 {
				t.Fatalf("events %+v", events)
			}
			book, _ := settlement.OrderOf(m.kv, order.ID())
			if claim, ok := book.ClaimOf(key(40).Public(), 1); !ok || claim.OutputKey == nil || *claim.OutputKey != outputKey(order, 40) {
				t.Errorf("the state has %+v", claim)
			}
		})
	}
}

// TestKeysWhereNoneAreAskedFor: under any other order nothing is sealed, and no key is shown.
func TestKeysWhereNoneAreAskedFor(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, none)
	c := m.sealed(order, 40)
	m.wantRejected("asks for no fair exchange", c)
	c = m.claim(order, 40, 1)
	k := outputKey(order, 40)
	c.OutputKey = &k
	m.wantRejected("a key is shown, and no output is sealed", c)
	m.registerMeter(4, 40)
	batch := m.batch(m.fairOrder(2, none), 40, 0, records(0, 3))
	m.refusedBatch("is under fair exchange: a batch tells no key", batch)
}

// late has the time come in which countersigned claims of an order are taken.
func (m *market) late(order chain.Order) {
	m.pass(uint64(m.env.Params.CountersignedFrom(order.Deadline) - m.env.Now))
}

func (m *market) countersigned(order chain.Order, node byte) chain.Claim {
	c := m.claim(order, node, 1)
	if order.Fair {
		c = m.sealed(order, node)
	}
	c.Countersigned = true
	return c
}

// TestCountersignedClaims: the consumer's word stands for the cluster's late in the claim
// window, if the order allows it, and only while nobody was paid upon the cluster's.
func TestCountersignedClaims(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	order := m.order(consumer, 1, none)
	m.wantRejected("is countersigned, which order", m.countersigned(order, 40))
	order.Countersignable = true
	bare := m.countersigned(order, 40)
	bare.Attestation = crypto.Signature{}
	m.wantRejected("has no countersignature of its consumer", bare)
	m.wantRejected("countersigned claims of the order are taken from", m.countersigned(order, 40))
	attested := order
	attested.Nonce = 2
	m.wantSettled(m.claim(attested, 40, 1))
	m.late(order)
	m.wantRejected("none is countersigned any more", m.countersigned(attested, 50))
	before := m.escrow(consumer).Balance
	paid := m.wantSettled(m.countersigned(order, 40))[0]
	if left, _ := before.Sub(paid.Cost); m.escrow(consumer).Balance != left {
		t.Errorf("escrow %v, want %v", m.escrow(consumer).Balance, left)
	}
	m.wantRejected("none is countersigned any more", m.countersigned(order, 50))
	fair := order
	fair.Nonce, fair.Fair = 3, true
	if events := m.settle(m.countersigned(fair, 40)); len(events) != 2 {
		t.Errorf("a sealed output that is countersigned: %+v", events)
	}
	m.pass(m.env.Params.ClaimWindowMs)
	fair.Nonce = 4
	m.wantRejected("claim window ended", m.countersigned(fair, 40))
}

// TestCountersignedClaimsTakeNoBond: of a cluster that broke its word those have a part whom it
// attested to; the consumer's word moves no bond.
func TestCountersignedClaimsTakeNoBond(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(1_000))
	order := m.order(consumer, 1, none)
	order.Countersignable = true
	m.report(other, m.twice(consumer, 1))
	m.late(order)
	m.wantRejected("the escrow holds", m.countersigned(order, 40))
	attested := m.settle(m.claim(order, 40, 1))
	if _, lost := attested[len(attested)-1].(chain.ClaimLost); !lost {
		t.Errorf("attested: %+v, want it lost", attested)
	}
}

// TestNoKeyWithoutPay does random things with orders under fair exchange, most of them wrong: a
// key is told exactly once for each claim that is paid, it is the one that its receipt commits
// to, and the books are right.
func TestNoKeyWithoutPay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.env.Params.ClaimWindowMs, m.env.Params.WithdrawalDelayMs = 20, 60
		m.deposit(consumer, chain.Nano(rapid.Uint64Range(1, 20_000_000).Draw(rt, "escrow")))
		var orders []chain.Order
		for nonce := range uint64(4) {
			order := m.order(consumer, nonce, rapid.SampledFrom([]chain.Policy{none, product}).Draw(rt, "policy"))
			order.Deadline, order.FixedCap = start+30, chain.Nano(9_000_000)
			order.Fair, order.Countersignable = rapid.IntRange(0, 3).Draw(rt, "fair") > 0, rapid.Bool().Draw(rt, "countersignable")
			orders = append(orders, order)
		}
		hashes := map[chain.ClaimKey]crypto.Digest{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "wait") == 0 {
				m.pass(rapid.Uint64Range(1, 15).Draw(rt, "ms"))
				continue
			}
			order := rapid.SampledFrom(orders).Draw(rt, "order")
			c := m.anyClaim(rt, order)
			if rapid.IntRange(0, 5).Draw(rt, "sealed") > 0 == order.Fair {
				k := outputKey(order, rapid.SampledFrom([]byte{40, 41, 50}).Draw(rt, "key of"))
				c.Receipt.Sealed = &chain.SealedOutput{KeyHash: outputKey(order, 40).Hash(order.ID(), c.Receipt.Node)}
				if rapid.IntRange(0, 5).Draw(rt, "shown") > 0 {
					c.OutputKey = &k
				}
				hashes[c.Key()] = c.Receipt.Sealed.KeyHash
			}
			c.Countersigned = rapid.IntRange(0, 3).Draw(rt, "countersigned") == 0
			m.settle(c)
			m.checkBooks(rt, orders)
		}
		fair := map[crypto.Digest]bool{}
		for _, o := range orders {
			fair[o.ID()] = o.Fair
		}
		var paid, told int
		for _, e := range m.events {
			switch e := e.(type) {
			case chain.ClaimSettled:
				if fair[e.Order] {
					paid++
				}
			case chain.KeyRevealed:
				told++
				id := chain.ClaimKey{Order: e.Order, Node: e.Node, Sequence: uint64(e.Sequence)}
				if !fair[e.Order] || e.Key.Hash(e.Order, e.Node) != hashes[id] {
					rt.Fatalf("key %s of order %s is none that was committed to", e.Key, e.Order.Short())
				}
			}
		}
		if paid != told {
			rt.Fatalf("%d claims were paid under fair exchange, %d keys told", paid, told)
		}
	})
}
