package execution_test

import (
	"maps"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// claimKinds are ways to have claims judged, of any number, and what beside the transfer a block is full of.
func claimKinds() map[string]func(n int) operation {
	of := func(claims int, forged bool) func(n int) operation {
		return func(n int) operation {
			o := oneOf("", n, func(w *gasWorld, i int, _ key) chain.Msg {
				var m chain.Settle
				for j := range claims {
					c := w.recentClaim(attested, uint64(claims*i+j+1), nodeA)
					if forged {
						c.Attestation[0] ^= 1 // the last of the five that are verified one by one
					}
					m.Claims = append(m.Claims, c)
				}
				return m
			})
			o.want = either // a transaction is refused where all its claims are
			return o
		}
	}
	return map[string]func(n int) operation{
		"claim": of(1, false), "claim by sixteens": of(16, false), "forged claim": of(1, true), "forged claims by sixteens": of(16, true),
		"transfer": func(n int) operation {
			return oneOf("", n, func(_ *gasWorld, i int, _ key) chain.Msg { return transferTo(i) })
		},
	}
}

// full builds a block of one kind that uses as much of a block's gas as it may, but for a hundredth: later ones are
// some bytes longer.
func (w *gasWorld) full(kind func(n int) operation) operation {
	w.Helper()
	few := w.take(kind(8))
	return kind(min(int(chain.DefaultParams().BlockGas.Units()*99/100*uint64(few.txs)/few.gas), chain.MaxBlockTxs))
}

// TestABlockFullOfClaimsStaysWithinItsGas: as many of each kind as its price says that there is room for use all of a
// block's gas and no more, and all are paid or refused.
func TestABlockFullOfClaimsStaysWithinItsGas(t *testing.T) {
	w := newGasWorld(t, warm)
	w.prepare()
	limit := chain.DefaultParams().BlockGas.Units()
	for name, kind := range claimKinds() {
		k := w.take(w.full(kind))
		t.Logf("%s: %d transactions, %d gas, %d bytes", name, k.txs, k.gas, k.bytes)
		if k.gas > limit || k.gas < limit-limit/20 && k.txs < chain.MaxBlockTxs {
			t.Errorf("a block full of %s uses %d gas, want the most of %d", name, k.gas, limit)
		}
		if paid := k.events["claim_settled"]; (name == "claim" || name == "claim by sixteens") && (paid == 0 || k.events["claim_rejected"] != 0) {
			t.Errorf("%s: %d are paid, %d rejected", name, paid, k.events["claim_rejected"])
		}
		if paid := k.events["claim_settled"]; (name == "forged claim" || name == "forged claims by sixteens") && paid != 0 {
			t.Errorf("%s: %d are paid", name, paid)
		}
	}
}

// BenchmarkFullBlock takes the time of a block that is full of one kind, from bytes to receipts on one core.
func BenchmarkFullBlock(b *testing.B) {
	w := newGasWorld(b, warm)
	w.prepare()
	for name, kind := range claimKinds() { // order-free: each its own
		b.Run(name, func(b *testing.B) {
			nonces := maps.Clone(w.nonces)
			defer func() { w.nonces = nonces }()
			txs := w.full(kind).txs(w)
			raws := make([][]byte, len(txs))
			for i, tx := range txs {
				raws[i] = tx.Raw()
			}
			h := w.header(1_000)
			begun := processor()
			for b.Loop() {
				w.process(h, raws)
			}
			b.ReportMetric(float64((processor()-begun).Milliseconds())/float64(b.N), "core-ms/block")
			b.ReportMetric(float64(len(txs)), "txs/block")
		})
	}
}
