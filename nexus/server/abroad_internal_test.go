package server

import (
	"context"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
)

// TestALeaseThatIsNotThereHidesNone: an agent that names another node with an order does not keep the peers of
// that order's lease from being told.
func TestALeaseThatIsNotThereHidesNone(t *testing.T) {
	a, here := newAbroad(), func(crypto.PublicKey) bool { return true }
	real := chain.LeaseID{Node: crypto.PublicKey{1}, Order: crypto.Digest{2}}
	made := chain.LeaseID{Node: crypto.PublicKey{9}, Order: real.Order}
	a.drawn(made, []crypto.PublicKey{{3}}, here)
	a.drawn(real, []crypto.PublicKey{{4}}, here)
	due := map[chain.LeaseID]*foreignLease{}
	for _, f := range a.due(time.Now(), here) {
		due[f.id] = f
		a.rest(f)
	}
	if len(due) != 2 {
		t.Fatalf("%d leases are looked at", len(due))
	}
	due[made].since = time.Now().Add(-2 * awaitLease)
	a.learn(due[made], &Service{}, crypto.PublicKey{})
	if a.leases[made] != nil || a.leases[real] == nil {
		t.Errorf("after the one that is not there: %v", a.leases)
	}
}

// TestASlowClusterHoldsUpNoOther: of one lease few errands wait or are under way, and to one cluster no more than leave others room.
func TestASlowClusterHoldsUpNoOther(t *testing.T) {
	a, slow, other := newAbroad(), &outpost{home: &sdk.Client{}}, &outpost{home: &sdk.Client{}}
	for range 2 * maxErrands {
		a.send(slow, func(context.Context, *sdk.Client) {})
	}
	if n := len(a.errands); n != maxErrandsOf {
		t.Fatalf("%d errands of one lease", n)
	}
	a.send(other, func(context.Context, *sdk.Client) {})
	if len(a.errands) != maxErrandsOf+1 {
		t.Fatal("there is no room for another lease's")
	}
	for range maxErrandsOf {
		(<-a.errands)(t.Context())
	}
	if slow.going != 0 || other.going != 1 || a.going[slow.cluster] != 1 {
		t.Errorf("%d and %d under way, %d to the cluster", slow.going, other.going, a.going[slow.cluster])
	}
	for range maxErrands { // of many leases
		a.send(&outpost{cluster: crypto.PublicKey{7}, home: &sdk.Client{}}, func(context.Context, *sdk.Client) {})
	}
	if len(a.errands) != maxErrandsTo+1 || a.going[crypto.PublicKey{7}] != maxErrandsTo {
		t.Fatalf("%d errands, %d of them to one cluster", len(a.errands), a.going[crypto.PublicKey{7}])
	}
	if !a.send(slow, func(context.Context, *sdk.Client) {}) {
		t.Error("there is no room for another cluster's")
	}
	for len(a.errands) > 0 {
		(<-a.errands)(t.Context())
	}
	if len(a.going) != 0 {
		t.Errorf("after all are back: %v", a.going)
	}
}

// TestPeersOfTermsBeforeAResizeReportFromAbroad: a server of another cluster takes their reports to the lease's own as long as
// the chain has those terms, also when nothing is promised of the lease any more.
func TestPeersOfTermsBeforeAResizeReportFromAbroad(t *testing.T) {
	a, here := newAbroad(), func(crypto.PublicKey) bool { return true }
	now := time.Now()
	id, old := ended(now)
	resized := resizedFrom(&old)
	resized.Service.Peers = []crypto.PublicKey{{6}, {7}, {8}} // other peers were drawn since
	plain := Service{At: resized.At, Former: resized.Former}
	of := func(peer byte) bool { return a.probedBy(id, crypto.PublicKey{peer}) != nil }
	a.drawn(id, old.Service.Peers, here)
	f := a.leases[id]
	f.home = &sdk.Client{}
	for i, c := range []struct {
		seen         Service
		former, news bool
	}{{resized, true, true}, {plain, true, false}} {
		if !a.learn(f, &c.seen, crypto.PublicKey{99}) || of(3) != c.former || of(6) != c.news {
			t.Errorf("case %d: a peer of the old terms is heard: %t, of the new ones: %t", i, of(3), of(6))
		}
	}
	if wait := lookAgain(&plain); wait != 10*time.Second/8 {
		t.Errorf("the chain is asked again after %s", wait)
	}
	if a.learn(f, &Service{At: plain.At}, crypto.PublicKey{99}) || a.leases[id] != nil {
		t.Error("a lease of which nothing can be reported is remembered")
	}
}
