package settlement_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// meterOf is the metering key of a node.
func meterOf(node byte) *zk.MeterSecret { return zk.NewMeterSecret([32]byte{node, 'm'}) }

func meterMessage(node byte, secret *zk.MeterSecret) chain.RegisterMeter {
	sig := secret.Possess(string(testChain), key(node).Public())
	return chain.RegisterMeter{
		Node: key(node).Public(), Key: chain.MeterKey(secret.Public()),
		Possession: chain.MeterProof{X: chain.FieldBytes(sig.X), Y: chain.FieldBytes(sig.Y), S: chain.FieldBytes(sig.S)},
	}
}

func (m *market) registerMeter(owner, node byte) {
	m.Helper()
	m.must(settlement.RegisterMeter(m.kv, &m.env, account(owner), meterMessage(node, meterOf(node))))
}

// TestMeterRegistration: a key off the curve or outside the subgroup, or that the sender
// has not, is refused by name.
func TestMeterRegistration(t *testing.T) {
	m := newMarket(t)
	refused := func(part string, by byte, change func(*chain.RegisterMeter)) {
		t.Helper()
		message := meterMessage(40, meterOf(40))
		change(&message)
		m.refused(part, func(kv state.KV) *chain.Rejection {
			_, why := settlement.RegisterMeter(kv, &m.env, account(by), message)
			return why
		})
	}
	refused("belongs to", 5, func(*chain.RegisterMeter) {})
	refused("is not registered", 4, func(r *chain.RegisterMeter) { r.Node = key(90).Public() })
	refused("malformed metering key", 4, func(r *chain.RegisterMeter) { r.Key[0] ^= 1 })
	refused("malformed metering key", 4, func(r *chain.RegisterMeter) { r.Key = chain.MeterKey(bytes.Repeat([]byte{0xff}, 32)) })
	refused("neutral element", 4, func(r *chain.RegisterMeter) { r.Key = chain.MeterKey{1} })
	refused("outside the subgroup", 4, func(r *chain.RegisterMeter) { r.Key = orderTwo() })
	refused("possession is not signed", 4, func(r *chain.RegisterMeter) { r.Possession.S[31] ^= 1 })
	refused("possession is not signed", 4, func(r *chain.RegisterMeter) { r.Possession.X[31] ^= 1 })
	refused("possession is not signed", 4, func(r *chain.RegisterMeter) { r.Possession.Y = chain.FieldBytes(bytes.Repeat([]byte{0xff}, 32)) })
	refused("possession is not signed", 4, func(r *chain.RegisterMeter) { r.Key = chain.MeterKey(meterOf(41).Public()) })
	refused("possession is not signed", 4, func(r *chain.RegisterMeter) { r.Node = key(41).Public() }) // the owner's other node
	refused("possession is not signed", 4, func(r *chain.RegisterMeter) {
		sig := meterOf(40).Possess("another-1", r.Node)
		r.Possession = chain.MeterProof{X: chain.FieldBytes(sig.X), Y: chain.FieldBytes(sig.Y), S: chain.FieldBytes(sig.S)}
	})
	m.registerMeter(4, 40)
	refused("is registered already", 4, func(*chain.RegisterMeter) {})
	refused("is node "+key(40).Public().Short()+"'s", 4, func(r *chain.RegisterMeter) { *r = meterMessage(41, meterOf(40)) })
	m.must(settlement.RegisterMeter(m.kv, &m.env, account(4), meterMessage(40, meterOf(43)))) // node 40 has another now
	refused("is node "+key(40).Public().Short()+"'s", 4, func(r *chain.RegisterMeter) { *r = meterMessage(41, meterOf(40)) })
	m.registerMeter(4, 40) // and its first one again
	if got, ok := settlement.MeterOf(m.kv, key(40).Public()); !ok || got.Owner != account(4) || got.Key != chain.MeterKey(meterOf(40).Public()) {
		t.Errorf("registered %+v", got)
	}
}

// orderTwo is the point (0, −1), compressed: the field's order less one, little-endian.
func orderTwo() chain.MeterKey {
	raw, err := hex.DecodeString("000000f093f5e1439170b97948e833285d588181b64550b829a031e1724e6430")
	if err != nil {
		panic(err)
	}
	return chain.MeterKey(raw)
}

// records are n records of an hour each of a core, and a last one of 3 MiB moved, with
// sequences after a number.
func records(after uint64, n int) []zk.UsageRecord {
	var list []zk.UsageRecord
	for i := range n {
		r := zk.UsageRecord{Sequence: after + 2*uint64(i) + 1, Amount: 1_000, DurationMs: hour, EndedMs: uint64(start)}
		if i == n-1 && n > 1 {
			r.Resource, r.Amount = zk.UsageNetwork, 3
		}
		list = append(list, r)
	}
	return list
}

// batch is what a node posts of its records under an order, the proof being echo's.
func (m *market) batch(order chain.Order, node byte, after uint64, list []zk.UsageRecord) chain.UsageBatch {
	m.Helper()
	c := m.claim(order, node, 1)
	c.Bid.Prices = nil
	for _, limit := range order.Caps {
		c.Bid.Prices = append(c.Bid.Prices, chain.UnitPrice{Resource: limit.Resource, Price: order.PriorityBps.Below(limit.Price)})
	}
	secret, file := meterOf(node), zk.UsageFile{Order: order.ID(), After: after}
	file.Key = secret.Public()
	context, err := zk.UsageContext(file.Order, file.Key)
	if err != nil {
		m.Fatal(err)
	}
	for _, r := range list {
		file.Records = append(file.Records, zk.SignedUsage{Record: r, Signature: secret.Sign(context, r)})
	}
	work, err := zk.NewUsageWork(4, file)
	if err != nil {
		m.Fatal(err)
	}
	b := chain.UsageBatch{
		Order: order, Acceptance: c.Acceptance, Bid: c.Bid, Attestation: crypto.Signature{1}, Kernel: string(work.Kernel()),
		Summary: settlement.SummaryOf(work, testChain, key(node).Public(), settlement.Span{Started: order.Deadline - 2*hour, Ended: order.Deadline - hour}),
	}
	statement := zk.Statement{Kernel: work.Kernel(), VerifyingKey: verifyingKey, Inputs: work.Inputs(), Output: work.Outputs(), Bind: settlement.BatchBind(&b.Summary)}
	digest := statement.Digest()
	b.Proof = digest[:]
	return b
}

func (m *market) post(b chain.UsageBatch) chain.BatchSettled {
	m.Helper()
	return m.must(settlement.SettleBatch(m.kv, &m.env, chain.SettleBatch{Batch: b}, true)).(chain.BatchSettled)
}

func (m *market) refusedBatch(part string, b chain.UsageBatch) {
	m.Helper()
	m.refused(part, func(kv state.KV) *chain.Rejection {
		_, why := settlement.SettleBatch(kv, &m.env, chain.SettleBatch{Batch: b}, true)
		return why
	})
}

// TestBatchIsPaid: a batch pays what a claim for the same use would, in one step; the next
// begins where it ended, and nothing is paid twice.
func TestBatchIsPaid(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	m.registerMeter(4, 40)
	order := m.order(consumer, 1, none)
	first := m.batch(order, 40, 0, records(0, 3))
	got := m.post(first)
	want := chain.BatchSettled{
		Order: order.ID(), Node: key(40).Public(), Consumer: account(consumer), Provider: account(4), Cluster: order.Cluster,
		Meter: chain.MeterKey(meterOf(40).Public()), After: 0, Last: 5, Count: 3, Kernel: "usage-batch-4", Ended: order.Deadline - hour,
		Totals: []chain.BatchTotal{{Resource: chain.CPU, Low: 2 * 1_000 * hour}, {Resource: chain.Network, Low: 3}}, Root: first.Summary.Root,
		Cost: chain.Nano(7_200_015), Paid: chain.Nano(6_696_014), Burned: chain.Nano(72_001), Treasury: chain.Nano(72_000), ClusterFee: chain.Nano(360_000),
	}
	if !bytes.Equal(codec.Marshal(got), codec.Marshal(want)) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	same := m.claim(m.order(consumer, 2, none), 40, 1)
	same.Bid.Prices = order.Caps
	same.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: 2_000, DurationMs: hour}, {Resource: chain.Network, Amount: 3, DurationMs: hour}}
	if paid := m.wantSettled(same)[0]; paid.Cost != got.Cost || paid.Paid != got.Paid || paid.Burned != got.Burned {
		t.Errorf("a claim for the same costs %v, a batch %v", paid.Cost, got.Cost)
	}
	m.refusedBatch("batch begins after sequence 0, the last of node", first)
	m.refusedBatch("batch begins after sequence 4, the last of node", m.batch(order, 40, 4, records(4, 2)))
	m.refusedBatch("batch begins after sequence 6, the last of node", m.batch(order, 40, 6, records(6, 2)))
	m.wantRejected("is paid by batches", m.claim(order, 40, 1))
	m.post(m.batch(order, 40, 5, records(5, 4)))
	book, claims, ok := settlement.Settlement(m.kv, order.ID())
	if !ok || len(claims) != 0 || len(book.Assignments) != 1 || book.Assignments[0].Last != 12 || book.Spent != chain.Nano(18_000_030) {
		t.Errorf("order %+v with claims %v", book, claims)
	}
	m.registerMeter(5, 50)
	m.wantSettled(m.claim(order, 60, 1)) // each assignment by itself
	m.refusedBatch("is paid by claims", m.batchBy(order, 60, 6))
	m.post(m.batch(order, 50, 0, records(0, 1)))
	m.pass(3*hour + window + 1)
	if _, _, ok := settlement.Settlement(m.kv, order.ID()); ok {
		t.Error("the order's state is still there")
	}
	m.refusedBatch("claim window ended", m.batch(order, 40, 12, records(12, 1)))
}

// batchBy registers the node's metering key and makes a batch of one record.
func (m *market) batchBy(order chain.Order, node, owner byte) chain.UsageBatch {
	m.registerMeter(owner, node)
	return m.batch(order, node, 0, records(0, 1))
}

// TestBatchesAreRefusedByName changes one thing at a time, each of which is refused for
// what it is, and changes nothing.
func TestBatchesAreRefusedByName(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	m.registerMeter(4, 40)
	m.registerMeter(4, 41)
	order := m.order(consumer, 1, none)
	good := func() chain.UsageBatch { return m.batch(order, 40, 0, records(0, 3)) }
	ordered := func(change func(*chain.Order)) chain.UsageBatch {
		o := order
		change(&o)
		return m.batch(o, 40, 0, records(0, 3))
	}
	changed := func(change func(*chain.UsageBatch)) chain.UsageBatch {
		b := good()
		b.Order.Caps, b.Bid.Prices, b.Summary.Totals = slices.Clone(b.Order.Caps), slices.Clone(b.Bid.Prices), slices.Clone(b.Summary.Totals)
		change(&b)
		return b
	}
	for _, c := range []struct {
		part  string
		batch chain.UsageBatch
	}{
		{"order is of chain", ordered(func(o *chain.Order) { o.ChainID = "another-1" })},
		{"is for a lease", ordered(func(o *chain.Order) { o.Term = &chain.Term{} })},
		{"policy is replicate(2 of 3)", ordered(func(o *chain.Order) { o.Policy.Policy = twoOf3 })},
		{"longer work is a lease", ordered(func(o *chain.Order) { o.Deadline += 24 * hour })},
		{"above the max cost", ordered(func(o *chain.Order) { o.MaxCost = chain.Nano(7_200_014) })},
		{"the escrow holds 0 HYPER", ordered(func(o *chain.Order) { o.Consumer = crypto.AccountKeyOf(key(other).Public()) })},
		{"cluster", ordered(func(o *chain.Order) { o.Cluster = key(31).Public() })},
		{"batch is of chain", changed(func(b *chain.UsageBatch) { b.Summary.ChainID = "another-1" })},
		{"batch is of order", changed(func(b *chain.UsageBatch) { b.Summary.Order[0] ^= 1 })},
		{"batch is of order", changed(func(b *chain.UsageBatch) { b.Order.Nonce++ })},
		{"batch is of order", changed(func(b *chain.UsageBatch) { b.Order.Spec[0] ^= 1 })},
		{"batch is of node", changed(func(b *chain.UsageBatch) { b.Summary.Node = key(41).Public() })},
		{"batch is of metering key", changed(func(b *chain.UsageBatch) { b.Bid.Node, b.Summary.Node = key(41).Public(), key(41).Public() })},
		{"batch is of metering key", changed(func(b *chain.UsageBatch) { b.Summary.Meter[0] ^= 1 })},
		{"has no metering key", changed(func(b *chain.UsageBatch) { b.Bid.Node, b.Summary.Node = key(50).Public(), key(50).Public() })},
		{"provider", changed(func(b *chain.UsageBatch) { b.Bid.Node, b.Summary.Node = key(90).Public(), key(90).Public() })},
		{"acceptance is of chain", changed(func(b *chain.UsageBatch) { b.Acceptance.ChainID = "another-1" })},
		{"acceptance is of order", changed(func(b *chain.UsageBatch) { b.Acceptance.Order[0] ^= 1 })},
		{"acceptance is by cluster", changed(func(b *chain.UsageBatch) { b.Acceptance.Cluster[0] ^= 1 })},
		{"acceptance has sequence 0", changed(func(b *chain.UsageBatch) { b.Acceptance.Sequence = 0 })},
		{"acceptance covers", changed(func(b *chain.UsageBatch) { b.Acceptance.Outstanding = chain.Nano(1) })},
		{"bid is of chain", changed(func(b *chain.UsageBatch) { b.Bid.ChainID = "another-1" })},
		{"bid is of order", changed(func(b *chain.UsageBatch) { b.Bid.Order[0] ^= 1 })},
		{"the bid expired", changed(func(b *chain.UsageBatch) { b.Bid.Expiry = b.Summary.Started - 1 })},
		{"the deadline was", changed(func(b *chain.UsageBatch) { b.Summary.Ended = b.Order.Deadline + 1 })},
		{"fixed price", changed(func(b *chain.UsageBatch) { b.Bid.Fixed = chain.Nano(1) })},
		{"its cap is", changed(func(b *chain.UsageBatch) { b.Bid.Prices[0].Price++ })},
		{"the bid has no price for it", changed(func(b *chain.UsageBatch) { b.Bid.Prices = b.Bid.Prices[:1] })},
		{"the order has no cap for it", ordered(func(o *chain.Order) { o.Caps = o.Caps[:1] })},
		{"no attestation", changed(func(b *chain.UsageBatch) { b.Attestation = crypto.Signature{} })},
		{"does not sum up usage", changed(func(b *chain.UsageBatch) { b.Kernel = "matmul-4" })},
		{"does not sum up usage", changed(func(b *chain.UsageBatch) { b.Kernel = "usage-batch-5" })},
		{"is not pinned", changed(func(b *chain.UsageBatch) { b.Kernel = "usage-batch-32" })},
		{"batch of 5 records, usage-batch-4 takes 4", changed(func(b *chain.UsageBatch) { b.Summary.Count = 5 })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Proof[0] ^= 1 })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Proof = nil })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Summary.Count = 2 })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Summary.Last++ })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Summary.Totals[0].Low-- })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Summary.Totals = b.Summary.Totals[:1] })},
		{"proof: ", changed(func(b *chain.UsageBatch) { b.Summary.Root[31] ^= 1 })},
		{"usage root", changed(func(b *chain.UsageBatch) { b.Summary.Root = chain.FieldBytes(bytes.Repeat([]byte{0xff}, 32)) })},
	} {
		m.refusedBatch(c.part, c.batch)
	}
}

// TestBatchOfAnotherIsRefused: a signature that does not verify, another order's proof, and
// a key that was replaced.
func TestBatchOfAnotherIsRefused(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	m.registerMeter(4, 40)
	order := m.order(consumer, 1, none)
	good := func() chain.UsageBatch { return m.batch(order, 40, 0, records(0, 3)) }
	m.refused("signature", func(kv state.KV) *chain.Rejection {
		_, why := settlement.SettleBatch(kv, &m.env, chain.SettleBatch{Batch: good()}, false)
		return why
	})
	other := m.batch(m.order(consumer, 2, none), 40, 0, records(0, 3))
	replayed := good()
	replayed.Proof = other.Proof
	m.refusedBatch("proof: ", replayed)
	m.must(settlement.RegisterMeter(m.kv, &m.env, account(4), meterMessage(40, meterOf(99))))
	m.refusedBatch("batch is of metering key", good())
	m.must(settlement.RegisterMeter(m.kv, &m.env, account(4), meterMessage(40, meterOf(40))))
	m.post(good())
}

// TestMeterStaysWithItsOwner: who takes over a node does not take over the key of the owner
// before, who still has its secret.
func TestMeterStaysWithItsOwner(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	m.registerMeter(4, 40)
	m.must(settlement.UnbondProvider(m.kv, &m.env, account(4), chain.UnbondProvider{Node: key(40).Public()}))
	m.register(5, 40)
	b := m.batch(m.order(consumer, 1, none), 40, 0, records(0, 1))
	m.refusedBatch("has no metering key", b)
	m.registerMeter(5, 40) // the same key, which it proves to have
	m.post(b)
}

// TestBatchInvariants posts batches and claims of one order in any order, with ranges of
// any kind: no sequence is paid for twice, nobody is paid both ways, and the order never
// costs more than its max cost.
func TestBatchInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.deposit(consumer, chain.Nano(rapid.Uint64Range(1, 60_000_000).Draw(rt, "deposit")))
		m.registerMeter(4, 40)
		m.registerMeter(5, 50)
		m.anyFee(rt)
		order := m.order(consumer, 1, none)
		order.MaxCost = chain.Nano(rapid.Uint64Range(0, 60_000_000).Draw(rt, "max cost"))
		last, claims, spent := map[crypto.PublicKey]uint64{}, map[crypto.PublicKey]bool{}, uint64(0)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			node := rapid.SampledFrom([]byte{40, 50}).Draw(rt, "node")
			if rapid.IntRange(0, 4).Draw(rt, "step") == 0 {
				for _, e := range m.settle(m.claim(order, node, 1)) {
					if settled, ok := e.(chain.ClaimSettled); ok {
						claims[settled.Node] = true
						spent += settled.Cost.Nano()
					}
				}
			} else {
				after := rapid.Uint64Range(0, 12).Draw(rt, "after")
				batch := m.batch(order, node, after, records(after, rapid.IntRange(1, 4).Draw(rt, "records")))
				e, why := settlement.SettleBatch(m.kv, &m.env, chain.SettleBatch{Batch: batch}, true)
				if why == nil {
					settled := e.(chain.BatchSettled)
					if uint64(settled.After) != last[settled.Node] {
						rt.Fatalf("paid after %d, the last was %d", settled.After, last[settled.Node])
					}
					last[settled.Node] = uint64(settled.Last)
					spent += settled.Cost.Nano()
					if settled.Paid.Nano()+settled.Burned.Nano()+settled.Treasury.Nano()+settled.ClusterFee.Nano() != settled.Cost.Nano() {
						rt.Fatalf("the parts of a charge are not its sum: %+v", settled)
					}
				}
			}
			for node := range last {
				if claims[node] {
					rt.Fatal("paid by batches and by claims")
				}
			}
			if spent > order.MaxCost.Nano() {
				rt.Fatalf("an order of %v cost %d", order.MaxCost, spent)
			}
			m.checkConserved(rt)
		}
		if book, _, ok := settlement.Settlement(m.kv, order.ID()); ok && book.Spent.Nano() != spent {
			rt.Fatalf("spent %v, paid %d", book.Spent, spent)
		}
	})
}
