package sdk_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
)

// TestPromisedThroughAResize: a lease that is resized between two looks at it is looked at again, so that no terms are taken for
// others; what was promised before is told beside, as long as the chain has it.
func TestPromisedThroughAResize(t *testing.T) {
	f := newFakeChain(t)
	id := chain.LeaseID{Node: testKey(7).Public(), Order: crypto.Digest{3}}
	old := settlement.Lease{Order: id.Order, Since: 5, Expires: 900, Promised: true}
	now := settlement.Lease{Order: crypto.Digest{4}, Since: 70, Expires: 900, Promised: true}
	over := old
	over.Expires = now.Since
	service := func(l *settlement.Lease, epochMs uint64, over *settlement.Lease) []byte {
		return codec.Marshal(settlement.Service{Node: id.Node, Order: l.Order, Terms: chain.ServiceTerms{EpochMs: epochMs}, Over: over})
	}
	seal := func(records map[string][]byte) {
		f.set(func() { f.records = records })
		f.seal()
		f.seal() // proves the state after the one before
	}
	seal(map[string][]byte{string(settlement.LeaseKey(id)): codec.Marshal(old), string(settlement.ServiceKey(id.Order)): service(&old, 10_000, nil)})
	reads, before := 0, -1
	client := newClient(t, sdk.Config{Genesis: f.genesis, Nodes: []string{server(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/state") {
			if reads++; reads == before {
				seal(map[string][]byte{
					string(settlement.LeaseKey(id)): codec.Marshal(now), string(settlement.ServiceKey(id.Order)): service(&now, 20_000, nil),
					string(settlement.FormerServiceKey(id.Order)): service(&old, 10_000, &over),
				})
			}
		}
		f.ServeHTTP(w, r)
	}))}})
	seen, err := client.Promised(t.Context(), id)
	if err != nil || !seen.Live || seen.Former != nil || seen.Under(old.Order) != &seen || seen.Under(now.Order) != nil || reads != 2 {
		t.Fatalf("after %d reads: %+v %v", reads, seen, err)
	}
	before = reads + 2 // its service, after the lease
	seen, err = client.Promised(t.Context(), id)
	if err != nil || !seen.Live || seen.Lease.Order != now.Order || seen.Service.Terms.EpochMs != 20_000 || len(seen.Each()) != 2 {
		t.Fatalf("resized meanwhile: %+v %v", seen, err)
	}
	former := seen.Under(old.Order)
	if former == nil || former.Service.Terms.EpochMs != 10_000 || former.Watch(id).Until != over.Expires || former.Watch(id).Terms != old.Order || former.At == 0 {
		t.Errorf("before the resize: %+v", former)
	}
	other := id
	other.Node = testKey(8).Public()
	if seen, err := client.Promised(t.Context(), other); err != nil || len(seen.Each()) != 0 {
		t.Errorf("of another node: %+v %v", seen, err)
	}
	now.Promised = false
	seal(map[string][]byte{string(settlement.LeaseKey(id)): codec.Marshal(now), string(settlement.ServiceKey(id.Order)): service(&old, 1, nil)})
	if _, err := client.Promised(t.Context(), id); err == nil || !strings.Contains(err.Error(), "resized again and again") {
		t.Errorf("terms of another order: %v", err)
	}
	seal(map[string][]byte{string(settlement.ServiceKey(id.Order)): service(&now, 1, nil), string(settlement.FormerServiceKey(id.Order)): service(&old, 1, nil)})
	if seen, err := client.Promised(t.Context(), id); !errors.Is(err, light.ErrRefused) {
		t.Errorf("terms that are not over: %+v %v", seen, err)
	}
}
