package consensus

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestBlockRecordsAreCanonical: what is written by hand is what the codec writes, for
// every length of a payload's head.
func TestBlockRecordsAreCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Block{
			Digest: crypto.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")),
			Parent: crypto.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "parent")),
			Height: rapid.Uint64().Draw(t, "height"), Empty: rapid.Bool().Draw(t, "empty"), Closing: rapid.Bool().Draw(t, "closing"),
			Payload: append([]byte(nil), make([]byte, rapid.SampledFrom([]int{0, 1, 23, 24, 200, 255, 256, 1_000, 65_400, 65_535, 65_536, 70_000}).Draw(t, "length"))...),
		}
		if got, want := blockRecord(b), record(recordBlock, codec.Marshal(b)); !bytes.Equal(got, want) {
			t.Fatalf("%x, want %x", got[:min(200, len(got))], want[:min(200, len(want))])
		}
	})
}
