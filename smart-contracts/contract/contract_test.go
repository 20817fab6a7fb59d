package contract_test

import (
	"encoding/hex"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// TestPredictableAddress: what CosmWasm's own function gives.
func TestPredictableAddress(t *testing.T) {
	bytes := func(text string) []byte { return must(hex.DecodeString(text)) }
	got := contract.Predictable(bytes("13a1fc994cc6d1c81b746ee0c0ff6f90043875e0bf1d9be6b7d779fc978dc2a5"), bytes("9999999999aaaaaaaaaabbbbbbbbbbcccccccccc"), []byte("a"))
	if want := "5e865d3e45ad3e961f77fd77d46543417ced44d924dc3e079b5415ff6775f847"; hex.EncodeToString(got[:]) != want {
		t.Errorf("the address is %x, want %s", got[:], want)
	}
}
