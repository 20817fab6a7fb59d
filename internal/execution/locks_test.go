package execution_test

import (
	"errors"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
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
		w.checkLocks(name, c.change, c.wrong)
	}
}

// checkLocks has a block and a whole state be checked after a change.
func (z *bazaar) checkLocks(name string, change func(state.KV), wrong bool) {
	z.Helper()
	block, whole := execution.CheckLocks(z.state, change)
	if errors.Is(block, execution.ErrLocks) != wrong || block != nil && !wrong {
		z.Errorf("%s: a block: %v", name, block)
	}
	if held := name == "a claim that holds what is no order's"; !held && errors.Is(whole, execution.ErrLocks) != wrong {
		z.Errorf("%s: the whole state: %v", name, whole)
	}
}

// TestMoneyElsewhereIsChecked shows the checks what a module would do that forgets of a lease or of its terms whose money it holds.
func TestMoneyElsewhereIsChecked(t *testing.T) {
	w := newBazaar(t, 2)
	node, id := w.nodes[0].Public(), crypto.Digest{7}
	one, other := chain.Address{1}, chain.Address{2}
	give := func(kv state.KV) { // what a lease holds is somebody's
		if why := tokens.Debit(kv, w.people[0].address(), chain.Nano(5), w.now); why != nil {
			t.Fatal(why.Reason())
		}
	}
	lease := func(kv state.KV) {
		give(kv)
		l := settlement.Lease{Consumer: one, Cluster: w.cluster.Public(), Held: chain.Nano(5)}
		state.Save(kv, settlement.LeaseKey(chain.LeaseID{Node: node, Order: id}), l)
	}
	over := func(kv state.KV) {
		give(kv)
		l := settlement.Lease{Consumer: one, Cluster: w.cluster.Public(), Held: chain.Nano(5)}
		state.Save(kv, settlement.FormerServiceKey(id), settlement.Service{Node: node, Over: &l})
	}
	elsewhere := func(of chain.Address) func(state.KV) {
		return func(kv state.KV) {
			state.Save(kv, settlement.EscrowKey(of, w.cluster.Public()), settlement.Escrow{Elsewhere: chain.Nano(5)})
		}
	}
	both := func(a, b func(state.KV)) func(state.KV) { return func(kv state.KV) { a(kv); b(kv) } }
	for name, c := range map[string]struct {
		change func(state.KV)
		wrong  bool
	}{
		"nothing":                            {func(state.KV) {}, false},
		"a lease of money that is nobody's":  {lease, true},
		"money elsewhere that nothing holds": {elsewhere(one), true},
		"a lease":                            {both(lease, elsewhere(one)), false},
		"a lease of another's money":         {both(lease, elsewhere(other)), true},
		"terms that are over":                {both(over, elsewhere(one)), false},
		"terms over, of another's money":     {both(over, elsewhere(other)), true},
		"a lease, and terms before it":       {both(lease, both(over, elsewhere(one))), true},
	} {
		w.checkLocks(name, c.change, c.wrong)
	}
}
