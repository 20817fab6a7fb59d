package chain_test

import (
	"bytes"
	"encoding/json"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func sampleBatch() chain.UsageBatch {
	c := sampleClaim(chain.PolicyNone{})
	s := chain.BatchSummary{
		ChainID: testChain, Order: c.Order.ID(), Node: c.Bid.Node, Meter: chain.MeterKey{31: 5}, After: 3, Last: 90, Count: 80,
		Totals: []chain.BatchTotal{{Resource: chain.CPU, Low: 7_000_000}, {Resource: chain.Memory, High: 2, Low: 1}},
		Root:   chain.FieldBytes{31: 8}, Started: 1_799_999_990_000, Ended: 1_799_999_991_500,
	}
	return chain.UsageBatch{
		Order: c.Order, OrderSig: c.OrderSig, Acceptance: c.Acceptance, AcceptanceSig: c.AcceptanceSig, Bid: c.Bid, BidSig: c.BidSig,
		Summary: s, Attestation: testKey(2).PrivateKey.Sign(crypto.DomainBatch, s.Payload()), Kernel: "usage-batch-112", Proof: []byte{1, 2, 3},
	}
}

// privateMessages has one of each.
func privateMessages() chain.Msgs {
	return chain.Msgs{
		chain.RegisterMeter{Node: testKey(3).Public(), Key: chain.MeterKey{31: 5}, Possession: chain.MeterProof{X: chain.FieldBytes{1}, Y: chain.FieldBytes{2}, S: chain.FieldBytes{3}}},
		chain.SettleBatch{Batch: sampleBatch()},
	}
}

func TestPrivateFixtures(t *testing.T) {
	tx := signedTx(t, privateMessages())
	roundTrip(t, "tx_private", tx)
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0]; !verified.DealSigned(1) {
		t.Error("the signatures of a batch do not verify")
	}
	a, b, batch := testKey(1).address(), testKey(4).address(), sampleBatch()
	events := chain.Events{
		chain.MeterRegistered{Node: batch.Bid.Node, Owner: a, Key: batch.Summary.Meter},
		chain.BatchSettled{
			Order: batch.Summary.Order, Node: batch.Bid.Node, Consumer: a, Provider: b, Cluster: batch.Order.Cluster, Meter: batch.Summary.Meter,
			After: 3, Last: 90, Count: 80, Totals: batch.Summary.Totals, Root: batch.Summary.Root, Kernel: batch.Kernel, Ended: batch.Summary.Ended,
			Cost: chain.Nano(100), Paid: chain.Nano(90), Burned: chain.Nano(4), Treasury: chain.Nano(4), ClusterFee: chain.Nano(2),
		},
	}
	roundTrip(t, "events_private", events)
	text, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	var back chain.Events
	if err := json.Unmarshal(text, &back); err != nil || !bytes.Equal(codec.Marshal(back), codec.Marshal(events)) {
		t.Errorf("%s came back as %+v, %v", text, back, err)
	}
}

// TestBatchSignatures: a batch counts as signed only if all four signatures verify, each by
// its own party and of this batch.
func TestBatchSignatures(t *testing.T) {
	for name, change := range map[string]func(b *chain.UsageBatch){
		"order":       func(b *chain.UsageBatch) { b.OrderSig[0] ^= 1 },
		"acceptance":  func(b *chain.UsageBatch) { b.AcceptanceSig[0] ^= 1 },
		"bid":         func(b *chain.UsageBatch) { b.BidSig[0] ^= 1 },
		"attestation": func(b *chain.UsageBatch) { b.Attestation[0] ^= 1 },
		"summary":     func(b *chain.UsageBatch) { b.Summary.Totals[0].Low++ },
		"attested by another": func(b *chain.UsageBatch) {
			b.Attestation = testKey(3).PrivateKey.Sign(crypto.DomainBatch, b.Summary.Payload())
		},
		"attested elsewhere": func(b *chain.UsageBatch) {
			b.Attestation = testKey(2).PrivateKey.Sign(crypto.DomainAttestation, b.Summary.Payload())
		},
	} {
		b := sampleBatch()
		change(&b)
		decoded, err := chain.DecodeTx(signedTx(t, chain.Msgs{chain.SettleBatch{Batch: b}}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0]; verified == nil || verified.DealSigned(0) {
			t.Errorf("%s: %v", name, verified)
		}
	}
}

func TestBatchIsRefusedByName(t *testing.T) {
	for want, change := range map[string]func(b *chain.UsageBatch){
		"proof has 4097":             func(b *chain.UsageBatch) { b.Proof = make([]byte, chain.MaxProof+1) },
		"kernel has 33":              func(b *chain.UsageBatch) { b.Kernel = strings.Repeat("k", 33) },
		"order: chain":               func(b *chain.UsageBatch) { b.Order.ChainID = "X" },
		"bid prices":                 func(b *chain.UsageBatch) { b.Bid.Prices = []chain.UnitPrice{{Resource: 9}} },
		"batch after 90 ends at 90":  func(b *chain.UsageBatch) { b.Summary.After = 90 },
		"batch of 0 records":         func(b *chain.UsageBatch) { b.Summary.Count = 0 },
		"batch of 113 records":       func(b *chain.UsageBatch) { b.Summary.Count, b.Summary.Last = 113, 999 },
		"batch of 88 records in 87":  func(b *chain.UsageBatch) { b.Summary.Count = 88 },
		"batch totals has 6":         func(b *chain.UsageBatch) { b.Summary.Totals = make([]chain.BatchTotal, 6) },
		"batch totals is not in":     func(b *chain.UsageBatch) { b.Summary.Totals[1].Resource = chain.CPU },
		"batch totals has resource":  func(b *chain.UsageBatch) { b.Summary.Totals[1].Resource = 6 },
		"batch total of CPU is 4294": func(b *chain.UsageBatch) { b.Summary.Totals[0].High = 1 << 32 },
		"batch total of CPU is 0":    func(b *chain.UsageBatch) { b.Summary.Totals[0].Low = 0 },
		"batch ended at":             func(b *chain.UsageBatch) { b.Summary.Ended = b.Summary.Started - 1 },
	} {
		b := sampleBatch()
		change(&b)
		_, err := chain.DecodeTx(signedTx(t, chain.Msgs{chain.SettleBatch{Batch: b}}).Encode())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// TestBatchesCostWhatTheirRecordsDo compares with Cost of the records, one by one.
func TestBatchesCostWhatTheirRecordsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prices []chain.UnitPrice
		for _, r := range chain.Resources {
			prices = append(prices, chain.UnitPrice{Resource: r, Price: rapid.Uint64Range(0, 1<<rapid.IntRange(0, 40).Draw(t, "price bits")).Draw(t, "price")})
		}
		var usage []chain.Usage
		sums := map[chain.Resource][2]uint64{}
		for range rapid.IntRange(1, 20).Draw(t, "records") {
			u := chain.Usage{
				Resource: rapid.SampledFrom(chain.Resources[:]).Draw(t, "resource"),
				Amount:   rapid.Uint64Range(0, chain.MaxUsageAmount).Draw(t, "amount"), DurationMs: rapid.Uint64Range(0, chain.MaxUsageMs).Draw(t, "duration"),
			}
			usage = append(usage, u)
			hi, lo := bits.Mul64(u.Amount, u.DurationMs)
			if u.Resource == chain.Network {
				hi, lo = 0, u.Amount
			}
			sum := sums[u.Resource]
			var carry uint64
			sum[1], carry = bits.Add64(sum[1], lo, 0)
			sum[0] += hi + carry
			sums[u.Resource] = sum
		}
		var totals []chain.BatchTotal
		for _, r := range chain.Resources {
			if sum := sums[r]; sum != [2]uint64{} {
				totals = append(totals, chain.BatchTotal{Resource: r, High: chain.Number(sum[0]), Low: chain.Number(sum[1])})
			}
		}
		want, wantErr := chain.Cost(usage, prices)
		got, err := chain.BatchCost(totals, prices)
		if got != want || (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, %v; records cost %v, %v", got, err, want, wantErr)
		}
	})
}
