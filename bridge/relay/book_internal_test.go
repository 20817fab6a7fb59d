package relay

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestWhatNeverBeginsHasItsBound: what the chain refuses to begin is tried on, of so many orders at a time;
// of more, as any claim, until it was refused too often.
func TestWhatNeverBeginsHasItsBound(t *testing.T) {
	p := chain.DefaultParams()
	b, now := newBook(&p), time.UnixMilli(1_800_000_000_000)
	const extra = 3
	for i := range maxStubborn + extra {
		e := &entry{id: crypto.Digest{1, byte(i >> 8), byte(i)}, locks: now.Add(time.Hour)}
		if !b.add([]*entry{e}) {
			t.Fatalf("%d are too many to hold", i)
		}
		for n := range 2 * maxRefusals {
			if forGood, want := b.rejected(e, "cluster has 0 HYPER free of its bond", now), i >= maxStubborn && n == maxRefusals-1; forGood != want {
				t.Fatalf("order %d was refused %d times, and left alone: %v", i, n+1, forGood)
			} else if forGood {
				break
			}
		}
	}
	if waiting, _ := b.counts(); waiting != maxStubborn {
		t.Errorf("%d are held, want %d", waiting, maxStubborn)
	}
}
