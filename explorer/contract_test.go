package explorer_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/explorer"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func TestWordsOfContracts(t *testing.T) {
	who, other, contract, sum, five := chain.Address{1}, chain.Address{2}, chain.Address{3}, crypto.Digest{4}, chain.Hyper(5)
	for _, c := range []struct {
		m    chain.Msg
		want []string
	}{
		{chain.StoreCode{Checksum: sum, Size: 8, Part: make([]byte, 8)}, []string{who.Short(), "stores", sum.Short(), "8 bytes"}},
		{chain.StoreCode{Checksum: sum, Size: 9, Offset: 1, Part: make([]byte, 4)}, []string{who.Short(), "bytes 1 to 5 of 9", sum.Short()}},
		{chain.InstantiateContract{Code: 7, Label: "shop", Funds: five}, []string{who.Short(), "code 7", "shop", "5"}},
		{chain.ExecuteContract{Contract: contract, Funds: five}, []string{who.Short(), "calls", contract.Short(), "5"}},
		{chain.MigrateContract{Contract: contract, Code: 7}, []string{who.Short(), contract.Short(), "code 7"}},
		{chain.SetContractAdmin{Contract: contract, Admin: &other}, []string{who.Short(), other.Short(), contract.Short()}},
		{chain.SetContractAdmin{Contract: contract}, []string{who.Short(), contract.Short(), "nobody"}},
		{chain.PinCode{Code: 7, Periods: 3, MaxBurn: five}, []string{who.Short(), "code 7", "3 days", "at most", "5"}},
	} {
		wantWords(t, explorer.MessageWords(who, c.m), c.want)
	}
	for _, c := range []struct {
		e    chain.Event
		want []string
	}{
		{chain.CodeUploaded{Uploader: who, Checksum: sum, Have: 4, Size: 9}, []string{who.Short(), "4 of 9 bytes"}},
		{chain.CodeStored{Code: 7, Creator: who, Size: 9, Burned: five}, []string{who.Short(), "7", "9 bytes", "5"}},
		{chain.ContractInstantiated{Contract: contract, Code: 7, Creator: who, Label: "shop", Funds: five}, []string{contract.Short(), "shop", "code 7", who.Short(), "5"}},
		{chain.ContractExecuted{Contract: contract, Sender: who}, []string{contract.Short(), "called", who.Short()}},
		{chain.ContractMigrated{Contract: contract, From: 6, Code: 7}, []string{contract.Short(), "code 7 instead of 6"}},
		{chain.ContractAdminSet{Contract: contract, Admin: &other}, []string{contract.Short(), other.Short()}},
		{chain.ContractAdminSet{Contract: contract}, []string{contract.Short(), "not changed"}},
		{chain.ContractReplied{Contract: contract, ID: 3}, []string{contract.Short(), "3 took effect"}},
		{chain.ContractReplied{Contract: contract, ID: 3, Failure: "codespace: wasm, code: 5"}, []string{contract.Short(), "3 failed", "code: 5"}},
		{chain.ContractEmitted{Contract: contract, Type: "wasm", Attributes: []chain.ContractAttribute{{Key: "to", Value: "bob"}}}, []string{contract.Short(), "wasm", "to", "bob"}},
		{chain.ContractStored{Contract: contract, Payer: who, Bytes: 600, Paid: five}, []string{contract.Short(), "600 bytes", who.Short(), "paid", "5"}},
		{chain.ContractStored{Contract: contract, Payer: who, Bytes: 600, Refunded: five}, []string{contract.Short(), who.Short(), "got", "5"}},
		{chain.ContractBurned{Contract: contract, Amount: five}, []string{contract.Short(), "burned", "5"}},
		{chain.CodePinned{Code: 7, Sender: who, Until: 1_790_000_000_000, Burned: five}, []string{"Code 7", "2026-09-21 14:13:20", who.Short(), "burned", "5"}},
	} {
		wantWords(t, explorer.EventWords(c.e), c.want)
	}
}
