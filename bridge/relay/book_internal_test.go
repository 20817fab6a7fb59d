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

// TestWhatItsNodeKeptFromBeginningYields: an order that its own node's bond kept from beginning is tried again after all that wait for the
// cluster's bond alone, as those came to be promised what it was not: whenever it is tried, each of them was since it was
// before. And however many there are, it is tried again and again.
func TestWhatItsNodeKeptFromBeginningYields(t *testing.T) {
	p := chain.DefaultParams()
	b, now := newBook(&p), time.UnixMilli(1_800_000_000_000)
	const poor, others = 3, 4
	start, tries, reasons := now, map[byte]int{}, map[byte]string{}
	last := map[byte]time.Time{}
	join := func(id byte, reason string) {
		e := &entry{id: crypto.Digest{id}, cursor: uint64(id), locks: now.Add(48 * time.Hour)}
		reasons[id] = reason
		if !b.add([]*entry{e}) {
			t.Fatal("no room")
		}
	}
	for i := range byte(others) {
		join(1+i, "cluster 1a2b has 0 HYPER free of its bond, the job locks 5 HYPER")
	}
	for steps := 0; now.Sub(start) < 24*time.Hour && steps < 100_000; steps++ {
		if steps == 40 { // the others wait for long by now
			for i := range byte(poor) {
				join(101+i, "provider 3c4d has 0 HYPER free of its bond, the job locks 1 HYPER")
			}
		}
		batch, wait := b.next(now, 16)
		now = now.Add(wait)
		for _, e := range batch {
			id := e.id[0]
			if id > 100 && tries[id] > 1 {
				for other := range byte(others) {
					if last[1+other].Before(last[id]) {
						t.Fatalf("after %s order %d is tried again after %s, and %d was not since %s", now.Sub(start), id, now.Sub(last[id]), 1+other, now.Sub(last[1+other]))
					}
				}
			}
			if idle := now.Sub(last[id]); tries[id] > 0 && idle > 2*longestRetry+time.Minute {
				t.Fatalf("order %d was not tried for %s", id, idle)
			}
			now = now.Add(time.Second)
			tries[id]++
			last[id] = now
			if b.rejected(e, reasons[id], now) {
				t.Fatalf("order %d is left alone", id)
			}
		}
	}
	for id := range reasons { // order-free: each for itself
		if tries[id] < 24*3600/(2*320+60) {
			t.Errorf("order %d was tried %d times in a day", id, tries[id])
		}
	}
}
