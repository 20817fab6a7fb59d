package crypto_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestVerifyNarrowTurnsTheLanesOff, and the verdicts stay.
func TestVerifyNarrowTurnsTheLanesOff(t *testing.T) {
	key := crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{1})
	items := make([]crypto.Signed, 100)
	for i := range items {
		payload := []byte{byte(i)}
		items[i] = crypto.SignedBy(key.Public(), crypto.DomainTxBody, payload, key.Sign(crypto.DomainTxBody, payload))
	}
	items[41].Digest[0] ^= 1
	want := crypto.VerifyBatch(items, 1)
	if want[41] || !want[40] {
		t.Fatal("the batch is judged wrongly")
	}
	crypto.KeepFused(func() {
		crypto.VerifyNarrow()
		if crypto.HasFused() {
			t.Error("the lanes are on")
		}
		if got := crypto.VerifyBatch(items, 1); !slices.Equal(got, want) {
			t.Error("the verdicts differ")
		}
	})
}
