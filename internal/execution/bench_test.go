package execution_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// BenchmarkApplyTransfers executes blocks of 2,000 transfers between 1,000
// accounts; ns/transfer is the figure that matters.
func BenchmarkApplyTransfers(b *testing.B) {
	const accounts, transfers = 1_000, 2_000
	w := newWorld(b)
	faucet := keyOf(40)
	keys := make([]key, accounts)
	for i := range keys {
		keys[i] = key{crypto.PrivateKeyFromSeed([32]byte{byte(i), byte(i >> 8), 0xff})}
	}
	for i := 0; i < accounts; i += chain.MaxMessages {
		var messages []chain.Msg
		for _, k := range keys[i:min(i+chain.MaxMessages, accounts)] {
			messages = append(messages, chain.Transfer{To: k.address(), Amount: chain.Hyper(1_000)})
		}
		w.block(100, w.tx(faucet, messages...))
	}
	txs := make([]*chain.VerifiedTx, transfers)
	for i := range txs {
		body := w.body(keys[i%accounts], chain.Transfer{To: keys[(i*7+1)%accounts].address(), Amount: chain.Nano(1)})
		body.GasLimit = chain.GasUnits(10_000)
		txs[i] = w.sign(body, keys[i%accounts])
	}
	h := w.header(500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.x.Apply(w.state, h, staking.Extras{}, txs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*transfers), "ns/transfer")
}

// BenchmarkApplyTokenTransfers executes blocks of 256 calls of a cw20 contract, each of which moves
// tokens from one account to the next.
func BenchmarkApplyTokenTransfers(b *testing.B) {
	w := newGasWorld(b, warm)
	p := w.prepare()
	txs := w.each(gasUsers, func(i int, _ key) chain.Msg { return w.payment(p, i, "1") })
	h := w.header(1_000)
	b.ReportAllocs()
	begun := processor()
	for b.Loop() {
		out, err := w.x.Apply(w.state, h, staking.Extras{}, txs)
		if err != nil {
			b.Fatal(err)
		}
		if why := out.Receipts.Txs[0].Rejection; why != "" {
			b.Fatal(why)
		}
	}
	b.ReportMetric(float64((processor()-begun).Nanoseconds())/float64(b.N*gasUsers), "core-ns/transfer")
}
