package chain_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// contractMessages has one of each.
func contractMessages() chain.Msgs {
	code, admin, contract := []byte("\x00asm\x01\x00\x00\x00"), testKey(4).address(), chain.ModuleAddress("a contract")
	return chain.Msgs{
		chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code},
		chain.InstantiateContract{Code: 1, Admin: &admin, Label: "grüße", Msg: []byte(`{"count":1}`), Funds: chain.Hyper(1), Salt: []byte("salt"), MaxDeposit: chain.Nano(4)},
		chain.InstantiateContract{Code: 1 << 40, Label: "l"},
		chain.ExecuteContract{Contract: contract, Msg: []byte(`{"add":{}}`), Funds: chain.Nano(5), MaxDeposit: chain.Nano(6)},
		chain.MigrateContract{Contract: contract, Code: 2, Msg: []byte("{}"), MaxDeposit: chain.Nano(7)},
		chain.SetContractAdmin{Contract: contract, Admin: &admin}, chain.SetContractAdmin{Contract: contract},
		chain.PinCode{Code: 3, Periods: chain.MaxPinPeriods, MaxBurn: chain.Hyper(4)},
	}
}

// contractEvents has one of each.
func contractEvents() chain.Events {
	a, contract := testKey(1).address(), chain.ModuleAddress("a contract")
	return chain.Events{
		chain.CodeUploaded{Uploader: a, Checksum: crypto.Digest{1}, Have: 98_304, Size: 200_000, Burned: chain.Nano(9)},
		chain.CodeStored{Code: 1, Creator: a, Checksum: crypto.Digest{1}, Size: 200_000, Callable: 40, Wait: 1_200, Burned: chain.Nano(8)},
		chain.ContractInstantiated{Contract: contract, Code: 1, Creator: a, Admin: &a, Label: "l", Funds: chain.Nano(7), Data: []byte{6}},
		chain.ContractExecuted{Contract: contract, Sender: a, Funds: chain.Nano(5), Data: []byte{4}},
		chain.ContractMigrated{Contract: contract, Sender: a, From: 1, Code: 2, Data: []byte{3}},
		chain.ContractAdminSet{Contract: contract, Admin: &a}, chain.ContractAdminSet{Contract: contract},
		chain.ContractReplied{Contract: contract, ID: 3, Failure: "codespace: wasm, code: 5"},
		chain.ContractEmitted{Contract: contract, Type: "wasm-sold", Attributes: []chain.ContractAttribute{{Key: "k", Value: "v"}, {Key: "w"}}},
		chain.ContractStored{Contract: contract, Payer: a, Bytes: 600, Pool: chain.Nano(6_000_000), Paid: chain.Nano(5), Refunded: chain.Nano(4)},
		chain.ContractBurned{Contract: contract, Amount: chain.Nano(3)},
		chain.CodePinned{Code: 1, Checksum: crypto.Digest{1}, Sender: a, Native: 3_700_000, Until: 1_790_000_000_000, Burned: chain.Nano(2)},
	}
}

func TestContractFixtures(t *testing.T) {
	tx := signedTx(t, contractMessages())
	roundTrip(t, "tx_contracts", tx)
	if _, err := chain.DecodeTx(tx.Encode()); err != nil {
		t.Error(err)
	}
	roundTrip(t, "receipts_contracts", chain.BlockReceipts{Txs: []chain.Receipt{{TxID: crypto.Digest{1}, GasUsed: chain.GasUnits(9), Events: contractEvents()}}})
}

// TestContractMessagesAreBounded: what is outside its limits is refused by the name of its field.
func TestContractMessagesAreBounded(t *testing.T) {
	part := func(size, offset uint64, bytes int) chain.Msg {
		return chain.StoreCode{Size: size, Offset: offset, Part: make([]byte, bytes)}
	}
	const most = chain.MaxCodePart
	for _, m := range []chain.Msg{part(1, 0, 1), part(most, 0, most), part(most+1, 0, most), part(most+1, most, 1), part(chain.MaxCodeBytes, 8*most, chain.MaxCodeBytes-8*most)} {
		if _, err := chain.DecodeTx(signedTx(t, chain.Msgs{m}).Encode()); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		says string
		m    chain.Msg
	}{
		{"size", part(0, 0, 1)}, {"size", part(chain.MaxCodeBytes+1, 0, most)}, {"part has", part(5, 0, 0)}, {"part has", part(2*most, 0, most+1)},
		{"part at", part(5, 0, 6)}, {"part at", part(5, 5, 1)}, {"part at", part(5, 1<<63, 1)},
		{"parts but the last", part(5, 0, 4)}, {"parts but the last", part(5, 1, 4)}, {"parts but the last", part(most+9, most, 8)}, {"parts but the last", part(most+9, 0, 9)},
		{"code 0", chain.InstantiateContract{Label: "l"}}, {"label is empty", chain.InstantiateContract{Code: 1}},
		{"label", chain.InstantiateContract{Code: 1, Label: strings.Repeat("l", chain.MaxContractLabel+1)}},
		{"salt", chain.InstantiateContract{Code: 1, Label: "l", Salt: bytes.Repeat([]byte{1}, chain.MaxContractSalt+1)}},
		{"code 0", chain.MigrateContract{}},
		{"code 0", chain.PinCode{Periods: 1}}, {"0 periods", chain.PinCode{Code: 1}}, {"31 periods", chain.PinCode{Code: 1, Periods: chain.MaxPinPeriods + 1}},
		{"periods", chain.PinCode{Code: 1, Periods: 1<<64 - 1}},
	} {
		_, err := chain.DecodeTx(signedTx(t, chain.Msgs{c.m}).Encode())
		if !errors.Is(err, chain.ErrLimit) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.m, err)
		}
	}
}

// TestReceiptsRoot: it is the root of what was encoded, of more events too than can be decoded.
func TestReceiptsRoot(t *testing.T) {
	many := make(chain.Events, 1<<17+1)
	for i := range many {
		many[i] = chain.ContractEmitted{Type: "wasm-aa"}
	}
	for name, b := range map[string]chain.BlockReceipts{
		"empty": {}, "of contracts": {Begin: contractEvents(), Txs: []chain.Receipt{{Events: contractEvents()}, {Rejection: "no"}}, End: contractEvents()},
		"many": {Txs: []chain.Receipt{{Events: many}}},
	} {
		raw, want := b.EncodeAndRoot()
		got, err := chain.ReceiptsRoot(raw)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
		if _, err := chain.ReceiptsRoot(raw[:len(raw)-1]); err == nil {
			t.Errorf("%s: cut, it has a root", name)
		}
		if _, err := chain.DecodeBlockReceipts(raw); (err != nil) != (name == "many") {
			t.Errorf("%s: decoded: %v", name, err)
		}
	}
}
