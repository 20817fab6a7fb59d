package execution_test

import (
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// noted notes which keys of a state are asked for.
type noted struct {
	state.Reader
	mu   sync.Mutex
	keys map[string]bool
}

func (n *noted) Get(key []byte) ([]byte, bool) {
	n.mu.Lock()
	n.keys[string(key)] = true
	n.mu.Unlock()
	return n.Reader.Get(key)
}

// begin forgets, and returns what was asked for.
func (n *noted) begin() map[string]bool {
	before := n.keys
	n.keys = map[string]bool{}
	return before
}

// leaseDueIn queues a lease that is over so much later, with a consumer, node and provider of
// its own, and returns the keys of what its end reads of them.
func (w *world) leaseDueIn(n byte, ms uint64, promised bool) (keys [][]byte) {
	id := chain.LeaseID{Node: crypto.PublicKey{n, 'n'}, Order: crypto.Digest{n, 'o'}}
	l := settlement.Lease{
		Consumer: chain.Address{n, 'c'}, Cluster: cluster.Public(), Provider: chain.Address{n, 'p'}, Order: id.Order, Rate: 1_000_000_000_000,
		Since: w.now, Until: w.now, Held: chain.Hyper(1), Expires: w.now + chain.TimeMs(ms), Closing: true, Promised: promised,
	}
	state.Save(w.state, settlement.LeaseKey(id), l)
	state.Save(w.state, settlement.EscrowKey(l.Consumer, l.Cluster), settlement.Escrow{Elsewhere: l.Held})
	state.Save(w.state, settlement.ProviderKey(id.Node), settlement.Provider{Owner: l.Provider, Bond: chain.Hyper(100), Locked: chain.Hyper(1)})
	settlement.QueueLeaseEnd(w.state, l.Expires, id)
	keys = [][]byte{settlement.LeaseKey(id), settlement.ProviderKey(id.Node), settlement.EscrowKey(l.Consumer, l.Cluster), tokens.AccountKey(l.Provider)}
	if promised {
		state.Save(w.state, settlement.ServiceKey(id.Order), settlement.Service{Node: id.Node, Stake: chain.Hyper(1)})
		keys = append(keys, settlement.ServiceKey(id.Order))
	}
	return keys
}

// TestForesight: what ends of leases read of the state was looked at before, if they are over
// within the time of two blocks, and not again; of others nothing is.
func TestForesight(t *testing.T) {
	w := newWorld(t)
	w.register()
	var soon [][]byte
	for n := range byte(3) {
		soon = append(soon, w.leaseDueIn(n+1, 500*uint64(n+1), n == 1)...)
	}
	far := w.leaseDueIn(9, day, true)
	reader := &noted{Reader: w.state, keys: map[string]bool{}}
	var sight execution.Foresight
	if n, err := sight.Look(reader); n != 3 || err != nil {
		t.Fatalf("looked at %d leases: %v", n, err)
	}
	seen := reader.begin()
	for _, key := range soon {
		if !seen[string(key)] {
			t.Errorf("key %x was not looked at", key)
		}
	}
	for _, key := range far {
		if seen[string(key)] {
			t.Errorf("key %x was looked at, a day before", key)
		}
	}
	if n, err := sight.Look(reader); n != 0 || err != nil {
		t.Errorf("looked at %d leases again: %v", n, err)
	}
	reader.begin()
	h := w.header(1_600)
	out, err := w.x.Apply(reader, h, staking.Extras{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, e := range out.Receipts.Begin {
		if _, ok := e.(chain.LeaseEnded); ok {
			ended++
		}
	}
	if ended != 3 {
		t.Errorf("%d leases ended, want 3", ended)
	}
	read := reader.begin()
	for _, key := range soon {
		if !read[string(key)] {
			t.Errorf("key %x was looked at, and nobody read it", key)
		}
	}
	for key := range read {
		if kind := key[1]; key[0] == settlement.Prefix && (kind == 'l' || kind == 'p' || kind == 'e' || kind == 's') && !seen[key] {
			t.Errorf("key %x was read, and not looked at", key)
		}
	}
}
