package wallet_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/wallet"
)

func TestPreviewOfContractsIsFrozen(t *testing.T) {
	body := sampleBody(wallet.NewAccount("a", testKey(1)).Address())
	contract, admin := chain.ModuleAddress("a contract"), wallet.NewAccount("b", testKey(2)).Address()
	body.Messages = chain.Msgs{
		chain.StoreCode{Checksum: crypto.Digest{8}, Size: 200_000, Offset: chain.MaxCodePart, Part: make([]byte, chain.MaxCodePart)},
		chain.InstantiateContract{Code: 3, Admin: &admin, Label: "l\n", Msg: []byte("{}\n  fee at most 0 HYPER"), Funds: chain.Hyper(1), MaxDeposit: chain.Hyper(3)},
		chain.InstantiateContract{Code: 3, Label: "l", Msg: []byte("{}")},
		chain.ExecuteContract{Contract: contract, Msg: []byte(`{"long":"` + strings.Repeat("x", 600) + `"}`), Funds: chain.Hyper(2), MaxDeposit: chain.Hyper(4)},
		chain.MigrateContract{Contract: contract, Code: 4, Msg: []byte("{}")},
		chain.SetContractAdmin{Contract: contract, Admin: &admin}, chain.SetContractAdmin{Contract: contract},
		chain.PinCode{Code: 5, Periods: 7, MaxBurn: chain.Hyper(6)}, chain.PinCode{Code: 6, Periods: 1},
	}
	text, err := wallet.Preview(&body)
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/preview_contracts.txt", text)
}
