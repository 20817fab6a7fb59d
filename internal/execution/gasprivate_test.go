package execution_test

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// batchKernel is the kernel of the batches that are measured. Its proofs cost nothing there:
// what they take is pinned in genesis.
var batchKernel = chain.GenesisKernel{Name: "usage-batch-4", VerifyingKey: crypto.Digest{8}, FixedGas: chain.GasUnits(1)}

// gasMeter is the metering key number n of user i's node.
func gasMeter(i, n int) *zk.MeterSecret {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(i))
	seed[31] = byte(n)
	return zk.NewMeterSecret(seed)
}

func meterMessage(node key, secret *zk.MeterSecret) chain.RegisterMeter {
	sig := secret.Possess(string(testChain), node.Public())
	return chain.RegisterMeter{Node: node.Public(), Key: chain.MeterKey(secret.Public()), Possession: chain.MeterProof{
		X: chain.FieldBytes(sig.X), Y: chain.FieldBytes(sig.Y), S: chain.FieldBytes(sig.S),
	}}
}

// registerMeters gives every user's node a metering key.
func (w *gasWorld) registerMeters(p *prepared) {
	w.run(1_000, w.each(gasUsers, func(i int, _ key) chain.Msg { return meterMessage(p.nodes[i], gasMeter(i, 1)) })...)
}

// batchOf is a batch of user i at its own cluster and on its own node, with a total of each
// resource.
func (w *gasWorld) batchOf(p prepared, i int) chain.UsageBatch {
	d := w.dealOf(p, i, 3, crypto.Digest{})
	d.Order.Term = nil
	id := d.Order.ID()
	d.Acceptance.Order, d.Bid.Order = id, id
	secret := gasMeter(i, 1)
	s := chain.BatchSummary{
		ChainID: testChain, Order: id, Node: d.Bid.Node, Meter: chain.MeterKey(secret.Public()), Last: 200, Count: 4,
		Root: chain.FieldBytes{31: 1}, Started: w.now - 3_600_000, Ended: w.now,
	}
	for _, r := range chain.Resources {
		s.Totals = append(s.Totals, chain.BatchTotal{Resource: r, Low: 1_000_000})
	}
	totals := settlement.BatchTotals(&s)
	context, err := zk.UsageContext(id, secret.Public())
	if err != nil {
		w.Fatal(err)
	}
	statement := zk.Statement{
		Kernel: zk.Kernel(batchKernel.Name), VerifyingKey: batchKernel.VerifyingKey, Inputs: []zk.Field{context},
		Output: []zk.Field{totals.Digest()}, Bind: settlement.BatchBind(&s),
	}
	proof := statement.Digest()
	at := p.clusters[i]
	return chain.UsageBatch{
		Order: d.Order, OrderSig: w.users[i].PrivateKey.Sign(crypto.DomainOrder, d.Order.Payload()),
		Acceptance: d.Acceptance, AcceptanceSig: at.PrivateKey.Sign(crypto.DomainAcceptance, d.Acceptance.Payload()),
		Bid: d.Bid, BidSig: p.nodes[i].PrivateKey.Sign(crypto.DomainBid, d.Bid.Payload()),
		Summary: s, Attestation: at.PrivateKey.Sign(crypto.DomainBatch, s.Payload()), Kernel: batchKernel.Name, Proof: proof[:],
	}
}

// ofBatches are the messages of private settlement, an operation each, named as in the table.
func ofBatches(p prepared) []operation {
	forged := oneOf("settle_batch/forged", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		b := w.batchOf(p, i)
		b.BidSig[0] ^= 1
		return chain.SettleBatch{Batch: b}
	})
	forged.want = refused
	unowned := oneOf("register_meter/not possessed", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
		m := meterMessage(p.nodes[i], gasMeter(i, 2))
		m.Possession.S[31] ^= 1
		return m
	})
	unowned.want = refused
	return []operation{
		oneOf("register_meter", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return meterMessage(p.nodes[i], gasMeter(i, 2)) }),
		unowned,
		oneOf("settle_batch", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg { return chain.SettleBatch{Batch: w.batchOf(p, i)} }),
		forged,
	}
}
