package relay_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/tokens"
)

const realKernel = "usage-batch-4"

// realMarket is a state with the parties registered, the consumer's escrow, and a verifier of real keys.
func realMarket(t testing.TB, keys *groth16.Keys) (*state.Overlay, *settlement.Env) {
	t.Helper()
	v, err := groth16.NewVerifier(map[zk.Kernel][]byte{keys.Kernel(): keys.VerifyingKey()})
	if err != nil {
		t.Fatal(err)
	}
	owner := chain.AddressOf(crypto.AccountKeyOf(key("owner").Public()))
	kv := state.NewOverlay(state.NewMemoryBackend())
	env := &settlement.Env{
		ChainID: testChain, Height: 1, Now: parts(1).Receipt.Ended, Params: chain.DefaultParams(), Verifier: v, Kernels: map[string]crypto.Digest{string(keys.Kernel()): keys.Digest()},
	}
	payer := chain.AddressOf(crypto.AccountKeyOf(consumer.Public()))
	if err := tokens.Genesis(kv, []chain.Allocation{{Address: owner, Amount: chain.Hyper(10_000)}, {Address: payer, Amount: chain.Hyper(10)}}, chain.Amount{}); err != nil {
		t.Fatal(err)
	}
	possession := func(k crypto.PrivateKey) crypto.Signature {
		return k.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, owner))
	}
	must := func(_ chain.Event, why *chain.Rejection) {
		t.Helper()
		if why != nil {
			t.Fatal(why.Reason())
		}
	}
	must(settlement.RegisterCluster(kv, env, owner, chain.RegisterCluster{Cluster: cluster.Public(), Bond: chain.Hyper(1_000), Possession: possession(cluster)}))
	must(settlement.RegisterProvider(kv, env, owner, chain.RegisterProvider{Node: node.Public(), Bond: chain.Hyper(100), Possession: possession(node)}))
	must(settlement.Deposit(kv, env, payer, chain.Deposit{Cluster: cluster.Public(), Amount: chain.Hyper(5)}))
	sig := meter.Possess(string(testChain), node.Public())
	must(settlement.RegisterMeter(kv, env, owner, chain.RegisterMeter{Node: node.Public(), Key: chain.MeterKey(meter.Public()),
		Possession: chain.MeterProof{X: chain.FieldBytes(sig.X), Y: chain.FieldBytes(sig.Y), S: chain.FieldBytes(sig.S)}}))
	return kv, env
}

// realBatch is a batch of some records with a real proof, signed by its parties.
func realBatch(t testing.TB, keys *groth16.Keys, nonce uint64, count int) chain.UsageBatch {
	t.Helper()
	_, size, _ := keys.Kernel().Of()
	c := parts(nonce)
	c.Order.Caps = []chain.UnitPrice{{Resource: chain.CPU, Price: 1e12}}
	id := c.Order.ID()
	c.Acceptance.Order, c.Bid.Order, c.Bid.Prices = id, id, c.Order.Caps
	of, err := zk.UsageContext(id, meter.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := zk.UsageFile{Order: id, Key: meter.Public()}
	for i := range uint64(count) {
		r := zk.UsageRecord{Sequence: 5 * (i + 1), Amount: 1_000, DurationMs: 10 + i}
		file.Records = append(file.Records, zk.SignedUsage{Record: r, Signature: meter.Sign(of, r)})
	}
	work, err := zk.NewUsageWork(size, file)
	if err != nil {
		t.Fatal(err)
	}
	b := chain.UsageBatch{
		Order: c.Order, Acceptance: c.Acceptance, Bid: c.Bid, Kernel: string(keys.Kernel()),
		Summary: settlement.SummaryOf(work, testChain, node.Public(), settlement.Span{Started: c.Receipt.Started, Ended: c.Receipt.Ended}),
	}
	result, err := groth16.NewProver(keys).Prove(work, settlement.BatchBind(&b.Summary))
	if err != nil {
		t.Fatal(err)
	}
	b.Proof = result.Proof
	b.OrderSig = consumer.Sign(crypto.DomainOrder, b.Order.Payload())
	b.AcceptanceSig = cluster.Sign(crypto.DomainAcceptance, b.Acceptance.Payload())
	b.BidSig = node.Sign(crypto.DomainBid, b.Bid.Payload())
	b.Attestation = cluster.Sign(crypto.DomainBatch, b.Summary.Payload())
	return b
}

// TestRealProofIsPaidOnce proves a batch with real keys and settles it on a state: changed
// totals, a changed root, another order's proof and damaged points are refused, and then
// the batch is paid.
func TestRealProofIsPaidOnce(t *testing.T) {
	keys, err := groth16.Setup(realKernel, nil)
	if err != nil {
		t.Fatal(err)
	}
	kv, env := realMarket(t, keys)
	good, other := realBatch(t, keys, 1, 3), realBatch(t, keys, 2, 3)
	if len(good.Proof) > 200 {
		t.Errorf("a proof of %d bytes", len(good.Proof))
	}
	for name, change := range map[string]func(b *chain.UsageBatch){
		"less":             func(b *chain.UsageBatch) { b.Summary.Totals = []chain.BatchTotal{{Resource: chain.CPU, Low: 1}} },
		"root":             func(b *chain.UsageBatch) { b.Summary.Root[31] ^= 1 },
		"count":            func(b *chain.UsageBatch) { b.Summary.Count-- },
		"last":             func(b *chain.UsageBatch) { b.Summary.Last++ },
		"of another order": func(b *chain.UsageBatch) { b.Proof = other.Proof },
		"a bit":            func(b *chain.UsageBatch) { b.Proof = append([]byte(nil), b.Proof...); b.Proof[40] ^= 1 },
		"infinity":         func(b *chain.UsageBatch) { b.Proof = append([]byte{0x40}, make([]byte, groth16.ProofSize-1)...) },
		"short":            func(b *chain.UsageBatch) { b.Proof = b.Proof[1:] },
		"none":             func(b *chain.UsageBatch) { b.Proof = nil },
	} {
		b := good
		change(&b)
		if _, why := settlement.SettleBatch(kv, env, chain.SettleBatch{Batch: b}, true); why == nil || !strings.HasPrefix(why.Reason(), "proof: ") {
			t.Errorf("%s: %v", name, why)
		}
	}
	e, why := settlement.SettleBatch(kv, env, chain.SettleBatch{Batch: good}, true)
	if why != nil {
		t.Fatal(why.Reason())
	}
	if paid := e.(chain.BatchSettled); paid.Cost != chain.Nano(33_000) || paid.Last != 15 || paid.Count != 3 {
		t.Errorf("paid %+v", paid)
	}
	if _, why := settlement.SettleBatch(kv, env, chain.SettleBatch{Batch: good}, true); why == nil {
		t.Error("a batch was paid twice")
	}
}

// BenchmarkSettleBatch is what a batch costs a node: its transaction is decoded, its five signatures and its proof are
// verified, and it is paid.
func BenchmarkSettleBatch(b *testing.B) {
	dir, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	for _, kernel := range []zk.Kernel{"usage-batch-32", "usage-batch-112"} {
		b.Run(string(kernel), func(b *testing.B) {
			keys, err := groth16.LoadOrSetup(filepath.Join(dir, "hypermesh", "keys"), kernel, nil)
			if err != nil {
				b.Fatal(err)
			}
			_, size, _ := kernel.Of()
			kv, env := realMarket(b, keys)
			batch := realBatch(b, keys, 1, size)
			tx, err := chain.SignTx(chain.TxBody{
				ChainID: testChain, Sender: chain.AddressOf(crypto.AccountKeyOf(key("payer").Public())), Expiry: 1, GasLimit: chain.GasUnits(5_000_000),
				MaxFee: chain.PricePerGas(1), Messages: []chain.Msg{chain.SettleBatch{Batch: batch}},
			}, signer{key("payer")})
			if err != nil {
				b.Fatal(err)
			}
			raw := tx.Encode()
			begun := processor(b)
			for b.Loop() {
				decoded, err := chain.DecodeTx(raw)
				if err != nil {
					b.Fatal(err)
				}
				verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)
				if verified[0] == nil || !verified[0].DealSigned(0) {
					b.Fatal("a signature does not verify")
				}
				if _, why := settlement.SettleBatch(state.NewOverlay(kv), env, chain.SettleBatch{Batch: batch}, true); why != nil {
					b.Fatal(why.Reason())
				}
			}
			b.ReportMetric(float64(processor(b)-begun)/float64(b.N), "processor-ns/op")
			b.ReportMetric(float64(size), "records")
			b.ReportMetric(float64(len(batch.Proof)), "proof-bytes")
			b.ReportMetric(float64(len(raw)), "tx-bytes")
		})
	}
}

// processor returns the processor time that the process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
