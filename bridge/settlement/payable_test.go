package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// payable is what whoever has a claim's key finds with proofs of what PayableKeys names, and nothing else.
func (m *market) payable(c *chain.Claim, withinMs uint64) *chain.Rejection {
	known := state.NewMemoryBackend()
	for asked := 0; ; {
		keys := settlement.PayableKeys(known, c)
		if asked == len(keys) {
			break
		}
		for _, key := range keys[asked:] {
			if value, there := m.kv.Get(key); there {
				known.Set(key, value)
			}
		}
		asked = len(keys)
	}
	return settlement.Payable(known, m.env, c, withinMs)
}

// consumerActs does what a consumer may do with its money without its cluster.
func (m *market) consumerActs(rt *rapid.T, lease chain.LeaseID) {
	amount := chain.Nano(rapid.Uint64Range(1, 2_000_000_000).Draw(rt, "amount"))
	if held := m.escrow(consumer).Balance; rapid.Bool().Draw(rt, "all") && !held.IsZero() {
		amount = held
	}
	kv := state.NewOverlay(m.kv)
	var why *chain.Rejection
	switch rapid.IntRange(0, 3).Draw(rt, "act") {
	case 0, 1:
		_, why = settlement.Withdraw(kv, &m.env, account(consumer), chain.Withdraw{Cluster: key(cluster).Public(), Amount: amount})
	case 2:
		_, why = settlement.ExtendLease(kv, &m.env, account(consumer), chain.ExtendLease{Lease: lease, Amount: amount})
	case 3:
		_, why = settlement.CloseLease(kv, &m.env, account(consumer), chain.CloseLease{Lease: lease})
	}
	if why == nil {
		apply(m.kv, kv)
	}
}

func apply(to state.KV, from *state.Overlay) {
	for _, c := range from.Changes() {
		if c.Deleted {
			to.Delete(c.Key)
		} else {
			to.Set(c.Key, c.Value)
		}
	}
}

// TestNoConsumerOutrunsAKey: what Payable says of a claim is what the chain does with it, and if it says so for a
// while, nothing that the consumer does meanwhile without its cluster keeps whoever shows the key from its pay.
func TestNoConsumerOutrunsAKey(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(50))
		d := m.deal(consumer, 9, 41, 1_000, chain.Hyper(50))
		m.open(d)
		for range rapid.IntRange(0, 6).Draw(rt, "before") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 2:
				m.deposit(consumer, chain.Nano(rapid.Uint64Range(1, 2_000_000_000).Draw(rt, "deposit")))
			case 1:
				m.pass(rapid.Uint64Range(1, 20*hour).Draw(rt, "ms"))
			default:
				m.consumerActs(rt, idOf(d))
			}
		}
		order := m.fairOrder(1, rapid.SampledFrom([]chain.Policy{none, product}).Draw(rt, "policy"))
		order.Countersignable = rapid.Bool().Draw(rt, "countersignable")
		c := m.sealed(order, rapid.SampledFrom([]byte{40, 41, 50, 90}).Draw(rt, "node"))
		switch rapid.IntRange(0, 8).Draw(rt, "broken") {
		case 0:
			c.Receipt.Sequence = 2
		case 1:
			c.OutputKey = nil
		case 2:
			c.Attestation = crypto.Signature{}
		case 3:
			c.Countersigned = true
		case 4:
			c.Receipt.Exit = chain.ExitFailed
		}
		if rapid.IntRange(0, 3).Draw(rt, "claimed") == 0 {
			m.settle(c)
		}
		m.pass(rapid.Uint64Range(0, 8*hour).Draw(rt, "later"))
		within := rapid.SampledFrom([]uint64{0, 60_000, 3 * hour}).Draw(rt, "within")
		now, later := m.payable(&c, 0), m.payable(&c, within)
		verdict := settlement.Settle(state.NewOverlay(m.kv), &m.env, chain.Settle{Claims: chain.Claims{c}}, []chain.Signing{chain.AllSigned})
		if _, paid := verdict[0].(chain.ClaimSettled); paid != (now == nil) {
			rt.Fatalf("said is %v, the chain does %+v", now, verdict[0])
		}
		if later != nil {
			return
		}
		for left := within; ; {
			for range rapid.IntRange(0, 2).Draw(rt, "acts") {
				m.consumerActs(rt, idOf(d))
			}
			if left == 0 {
				break
			}
			ms := rapid.Uint64Range(1, left).Draw(rt, "passes")
			left -= ms
			m.pass(ms)
			if rapid.Bool().Draw(rt, "posted") {
				break
			}
		}
		if events := m.settle(c); len(events) != 2 {
			rt.Fatalf("the key was shown for nothing: %+v", events)
		}
	})
}

// TestExtensionsLeaveTheEscrow: what a cluster has promised to providers stays where it is, and who has nothing extends
// nothing.
func TestExtensionsLeaveTheEscrow(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(60))
	d := m.deal(consumer, 1, 40, 1_000, chain.Hyper(50))
	m.open(d)
	escrow, balance := m.escrow(consumer).Balance, m.balance(consumer)
	extend := func(kv state.KV, amount chain.Amount) *chain.Rejection {
		_, why := settlement.ExtendLease(kv, &m.env, account(consumer), chain.ExtendLease{Lease: idOf(d), Amount: amount})
		return why
	}
	if why := extend(m.kv, chain.Hyper(3)); why != nil {
		t.Fatal(why.Reason())
	}
	if got := sub(t, balance, m.balance(consumer)); got != chain.Hyper(3) || m.escrow(consumer).Balance != escrow {
		t.Errorf("%s left the balance, the escrow holds %s, want %s", got, m.escrow(consumer).Balance, escrow)
	}
	m.refused("can spend", func(kv state.KV) *chain.Rejection { return extend(kv, chain.Hyper(10_000)) })
	if surplus := m.surplus(); surplus != 0 {
		t.Errorf("a surplus of %d", int64(surplus))
	}
}
