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

// BenchmarkBlock decodes a block of 4,000 transfers that are all known, and
// assembles it of its parts, as a node does whose peers sent it ids.
func BenchmarkBlock(b *testing.B) {
	const n = 4_000
	sender := testKey(1)
	var txs []chain.DecodedTx
	var block chain.Block
	var ids []crypto.Digest
	for i := range n {
		tx, err := chain.SignTx(chain.TxBody{
			ChainID: testChain, Sender: sender.address(), Nonce: uint64(i), Expiry: 1_000, GasLimit: chain.GasUnits(10_000), MaxFee: chain.PricePerGas(20),
			Messages: chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Hyper(3)}},
		}, sender)
		if err != nil {
			b.Fatal(err)
		}
		decoded, err := chain.DecodeTx(tx.Encode())
		if err != nil {
			b.Fatal(err)
		}
		txs, ids = append(txs, decoded), append(ids, decoded.ID())
		block.Body.Txs = append(block.Body.Txs, decoded.Raw())
	}
	known := map[chain.TxID]*chain.VerifiedTx{}
	for _, v := range chain.VerifyTxs(txs, 2) {
		known[v.ID()] = v
	}
	block.Header.TxRoot, block.Header.ExtraRoot = chain.ListRoot(crypto.DomainTxRoot, ids), block.Body.ExtraRoot()
	raw := block.Encode()
	look := func(id chain.TxID) (*chain.VerifiedTx, bool) { v, ok := known[id]; return v, ok }
	decoded, err := chain.DecodeBlock(raw, look)
	if err != nil {
		b.Fatal(err)
	}
	perTx := func(b *testing.B) { b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/tx") }
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := chain.DecodeBlock(raw, look); err != nil {
				b.Fatal(err)
			}
		}
		perTx(b)
	})
	b.Run("assemble", func(b *testing.B) {
		bare := decoded.Bare()
		for b.Loop() {
			parts := make([]chain.DecodedTx, n)
			for i, id := range ids {
				v, _ := look(id)
				parts[i] = v.DecodedTx
			}
			if _, err := chain.AssembleBlock(bare, parts); err != nil {
				b.Fatal(err)
			}
		}
		perTx(b)
	})
}
