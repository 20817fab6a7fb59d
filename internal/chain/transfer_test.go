package chain_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
)

// transferTxs are encoded transactions of transfers: with and without a fee
// payer, a memo, and large numbers.
func transferTxs(t testing.TB) [][]byte {
	t.Helper()
	one := chain.Transfer{To: testKey(4).address(), Amount: chain.Hyper(3)}
	raws := [][]byte{signedTx(t, chain.Msgs{one}).Encode(), signedTx(t, slices.Repeat(chain.Msgs{one}, chain.MaxMessages)).Encode()}
	for _, n := range []uint64{0, 23, 24, 255, 256, 65_535, 65_536, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		sender := testKey(1)
		tx, err := chain.SignTx(chain.TxBody{
			ChainID: testChain, Sender: sender.address(), Nonce: n, Expiry: chain.Height(n), GasLimit: chain.GasUnits(n),
			MaxFee: chain.PricePerGas(n), Tip: chain.PricePerGas(n), Messages: chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(n)}},
		}, sender)
		if err != nil {
			t.Fatal(err)
		}
		raws = append(raws, tx.Encode())
	}
	return raws
}

// agree fails the test if the reader by hand takes what the codec does not, or
// reads something else. It reports whether it took it.
func agree(t testing.TB, raw []byte) bool {
	t.Helper()
	tx, body, ok := chain.ReadTransfer(raw, "")
	again, bodyAgain, okAgain := chain.ReadTransfer(raw, testChain)
	if !reflect.DeepEqual(tx, again) || body != bodyAgain || ok != okAgain {
		t.Fatalf("%x reads otherwise when its chain is likely", raw)
	}
	if !ok {
		return false
	}
	want, err := chain.DecodeByCodec(raw)
	if err != nil {
		t.Fatalf("%x was taken, the codec says: %v", raw, err)
	}
	if !reflect.DeepEqual(tx, want) {
		t.Fatalf("%x is %+v, want %+v", raw, tx, want)
	}
	if got := codec.Marshal(want.Body); !slices.Equal(got, raw[1:1+body]) {
		t.Fatalf("%x: its body is not its first %d bytes", raw, body)
	}
	return true
}

func TestTransfersAreReadByHandAsByTheCodec(t *testing.T) {
	for i, raw := range transferTxs(t) {
		if !agree(t, raw) {
			t.Errorf("transaction %d was left to the codec", i)
		}
		if _, err := chain.DecodeTx(raw); err != nil {
			t.Errorf("transaction %d: %v", i, err)
		}
	}
	if agree(t, signedTx(t, allMessages()).Encode()) {
		t.Error("other messages were taken for transfers")
	}
}

// TestEveryChangeOfATransferIsReadAlike changes each byte in every bit, leaves
// out each, and puts one before each.
func TestEveryChangeOfATransferIsReadAlike(t *testing.T) {
	raw := transferTxs(t)[4]
	for at := range raw {
		for bit := range 8 {
			changed := slices.Clone(raw)
			changed[at] ^= 1 << bit
			agree(t, changed)
		}
		agree(t, slices.Delete(slices.Clone(raw), at, at+1))
		for _, b := range []byte{0x00, 0x18, 0x58, 0x80, 0x9f, 0xf6, 0xff} {
			agree(t, slices.Insert(slices.Clone(raw), at, b))
		}
	}
}

func FuzzTransfer(f *testing.F) {
	for _, raw := range append(transferTxs(f), claimTxs(f)...) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { agree(t, raw) })
}
