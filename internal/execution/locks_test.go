package execution_test

import (
	"errors"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// TestLocksAreChecked shows the checks what a module would do that forgets to lock or to free a part of a bond, or holds in a claim
// what its order's consumer did not give.
func TestLocksAreChecked(t *testing.T) {
	w := newBazaar(t, 2)
	node, id := w.nodes[0].Public(), crypto.Digest{7}
	lock := func(kv state.KV) {
		p, _ := settlement.ProviderOf(kv, node)
		p.Locked = chain.Nano(5)
		state.Save(kv, settlement.ProviderKey(node), p)
	}
	lockCluster := func(kv state.KV) {
		c, _ := settlement.ClusterOf(kv, w.cluster.Public())
		c.Locked = chain.Nano(5)
		state.Save(kv, settlement.ClusterKey(w.cluster.Public()), c)
	}
	panel := func(kv state.KV) {
		state.Save(kv, settlement.PanelKey(id), settlement.Panel{Seats: 1, Jurors: []settlement.Juror{{Node: node, Staked: chain.Nano(5)}}})
	}
	claim := func(held uint64) func(kv state.KV) {
		return func(kv state.KV) {
			lock(kv)
			lockCluster(kv)
			o := settlement.OpenClaim{Claim: settlement.Claim{Node: node}, Cluster: w.cluster.Public(), Bond: chain.Nano(5), Held: chain.Nano(held)}
			o.Policy.Policy = chain.PolicyNone{}
			state.Save(kv, settlement.OpenClaimKey(id), o)
		}
	}
	for name, c := range map[string]struct {
		change func(state.KV)
		wrong  bool
	}{
		"nothing":                               {func(state.KV) {}, false},
		"a node's part that nothing locks":      {lock, true},
		"a cluster's":                           {lockCluster, true},
		"a juror's stake that is not locked":    {panel, true},
		"a juror's stake":                       {func(kv state.KV) { lock(kv); panel(kv) }, false},
		"a claim's bonds":                       {claim(0), false},
		"a claim that holds what is no order's": {claim(1), true},
	} {
		block, whole := execution.CheckLocks(w.state, c.change)
		if errors.Is(block, execution.ErrLocks) != c.wrong || block != nil && !c.wrong {
			t.Errorf("%s: a block: %v", name, block)
		}
		if held := name == "a claim that holds what is no order's"; !held && errors.Is(whole, execution.ErrLocks) != c.wrong {
			t.Errorf("%s: the whole state: %v", name, whole)
		}
	}
}
