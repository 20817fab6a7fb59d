package execution_test

import (
	"maps"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// claimKind is a way to have claims judged, of any number.
type claimKind struct {
	txs  func(n int) operation
	paid int // claims of each transaction: all or none
}

// claimKinds are those of which a block can be full, and what it is full of beside them.
func claimKinds() map[string]claimKind {
	of := func(claims, paid int, claim func(w *gasWorld, nonce uint64) chain.Claim) claimKind {
		return claimKind{paid: paid, txs: func(n int) operation {
			o := oneOf("", n, func(w *gasWorld, i int, _ key) chain.Msg {
				var m chain.Settle
				for j := range claims {
					m.Claims = append(m.Claims, claim(w, uint64(claims*i+j+1)))
				}
				return m
			})
			o.want = either // a transaction is refused where all its claims are
			return o
		}}
	}
	out := map[string]claimKind{"transfer": {txs: func(n int) operation {
		return oneOf("", n, func(_ *gasWorld, i int, _ key) chain.Msg { return transferTo(i) })
	}}}
	for name, claim := range map[string]func(w *gasWorld, nonce uint64) chain.Claim{
		"claim":  func(w *gasWorld, nonce uint64) chain.Claim { return w.recentClaim(attested, nonce, nodeA) },
		"large":  func(w *gasWorld, nonce uint64) chain.Claim { return w.largeClaim(attested, nonce, nodeA, 1_000_000) },
		"proven": func(w *gasWorld, nonce uint64) chain.Claim { return w.recentClaim(multiply, nonce, nodeA) },
		"sealed": func(w *gasWorld, nonce uint64) chain.Claim { return w.sealedClaim(nonce, nodeA) },
	} {
		out[name] = of(1, 1, claim)
		if name == "claim" || name == "proven" {
			out[name+" by sixteens"] = of(chain.MaxClaims, chain.MaxClaims, claim)
		}
	}
	forged := func(w *gasWorld, nonce uint64) chain.Claim {
		c := w.recentClaim(attested, nonce, nodeA)
		c.Attestation[0] ^= 1 // the last of the five that are verified one by one
		return c
	}
	unproven := func(w *gasWorld, nonce uint64) chain.Claim {
		c := w.recentClaim(multiply, nonce, nodeA)
		c.Proof[0] ^= 1 // it is verified, and paid for
		return c
	}
	for name, claim := range map[string]func(w *gasWorld, nonce uint64) chain.Claim{"forged": forged, "falsely proven": unproven} {
		out[name], out[name+" by sixteens"] = of(1, 0, claim), of(chain.MaxClaims, 0, claim)
	}
	return out
}

// sealedClaim is one under fair exchange, with the key of its output.
func (w *gasWorld) sealedClaim(nonce uint64, node key) chain.Claim {
	c := w.recentClaim(attested, nonce, node)
	c.Order.Fair, c.OutputKey = true, &chain.OutputKey{byte(nonce), byte(nonce >> 8)}
	c.Receipt.Sealed = &chain.SealedOutput{Output: crypto.Digest{1}, KeyHash: c.OutputKey.Hash(c.Order.ID(), node.Public())}
	w.resign(&c, node)
	return c
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
	for name, kind := range claimKinds() { // order-free: each its own
		k := w.take(w.full(kind.txs))
		t.Logf("%s: %d transactions, %d gas, %d bytes", name, k.txs, k.gas, k.bytes)
		if k.gas > limit || k.gas < limit-limit/20-k.gas/uint64(k.txs) && k.txs < chain.MaxBlockTxs {
			t.Errorf("a block full of %s uses %d gas, want the most of %d", name, k.gas, limit)
		}
		if paid := k.events["claim_settled"]; paid != kind.paid*k.txs {
			t.Errorf("%s: %d claims of %d transactions are paid, want %d of each", name, paid, k.txs, kind.paid)
		}
	}
}

// BenchmarkFullBlock takes the time of a block that is full of one kind, from bytes to receipts on one core; of
// proofs it takes all but the verification, which genesis prices.
func BenchmarkFullBlock(b *testing.B) {
	w := newGasWorld(b, warm)
	w.prepare()
	for name, kind := range claimKinds() { // order-free: each its own
		b.Run(name, func(b *testing.B) {
			nonces := maps.Clone(w.nonces)
			defer func() { w.nonces = nonces }()
			txs := w.full(kind.txs).txs(w)
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
