package chain_test

import (
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func transferReceipts(n int) chain.BlockReceipts {
	var b chain.BlockReceipts
	for i := range n {
		b.Txs = append(b.Txs, chain.Receipt{
			TxID: crypto.DomainTxID.Hash(fmt.Append(nil, i)), GasUsed: chain.GasUnits(5_000), Burned: chain.Nano(5_000), Tip: chain.Nano(70),
			Events: chain.Events{chain.Transferred{From: testKey(1).address(), To: testKey(2).address(), Amount: chain.Hyper(1)}},
		})
	}
	return b
}

func BenchmarkReceipts(b *testing.B) {
	const n = 1_000
	receipts := transferReceipts(n)
	for b.Loop() {
		receipts.EncodeAndRoot()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/receipt")
}

func BenchmarkDecodeTx(b *testing.B) {
	tx := signedTx(b, chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Hyper(3)}})
	raw := tx.Encode()
	for b.Loop() {
		if _, err := chain.DecodeTx(raw); err != nil {
			b.Fatal(err)
		}
	}
}
