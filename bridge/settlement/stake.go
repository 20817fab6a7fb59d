package settlement

import (
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// A slice is the part of a node's bond that one job locks, so that one bond does not back
// many cheats. A node's slices together are its Locked, and never more than its Bond.

// AddBond raises the bond of a node that is registered.
func AddBond(kv state.KV, env *Env, owner chain.Address, m chain.AddBond) (chain.Event, *chain.Rejection) {
	p, why := ownProvider(kv, owner, m.Node)
	if why != nil {
		return nil, why
	}
	if m.Amount.IsZero() {
		return nil, chain.Reject("bond grows by nothing")
	}
	if why := tokens.Debit(kv, owner, m.Amount, env.Now); why != nil {
		return nil, why
	}
	p.Bond = sound(p.Bond.Add(m.Amount))
	reseat(kv, m.Node, &p)
	state.Save(kv, ProviderKey(m.Node), p)
	return chain.BondAdded{Node: m.Node, Owner: owner, Amount: m.Amount, Bond: p.Bond}, nil
}

// Free is what of a node's bond no job locks and nothing is owed of: nothing once it is unbonded.
func (p *Provider) Free() chain.Amount {
	unlocked := sound(p.Bond.Sub(p.Locked))
	return sound(unlocked.Sub(lesser(p.Owed, unlocked)))
}

// wantOfBond is in what the chain says of a slice that a bond has too little free for.
const wantOfBond = "free of its bond"

// WantsBond reports whether the chain refused something because a node or a cluster has too little of its bond
// free: it may be taken later.
func WantsBond(reason string) bool { return strings.Contains(reason, wantOfBond) }

// WantsNodesBond reports whether it was a node's bond that has too little free.
func WantsNodesBond(reason string) bool {
	at := strings.Index(reason, wantOfBond)
	return at >= 0 && strings.Contains(reason[:at], "provider ")
}

// lockSlice locks a part of a node's bond.
func lockSlice(kv state.KV, node crypto.PublicKey, amount chain.Amount) *chain.Rejection {
	p, ok := ProviderOf(kv, node)
	if !ok || p.UnbondedMs != 0 {
		return chain.Reject("provider %s is not registered", node.Short())
	}
	if free := p.Free(); free.Less(amount) {
		return chain.Reject("provider %s has %s "+wantOfBond+", the job locks %s", node.Short(), free, amount)
	}
	p.Locked = sound(p.Locked.Add(amount))
	state.Save(kv, ProviderKey(node), p)
	return nil
}

// unlockSlice frees what lockSlice locked. Nobody unbonds a node that has slices locked,
// so that it is there.
func unlockSlice(kv state.KV, node crypto.PublicKey, amount chain.Amount) {
	p := locked(kv, node, amount)
	p.Locked = sound(p.Locked.Sub(amount))
	state.Save(kv, ProviderKey(node), *p)
}

// takeSlice takes a part of what lockSlice locked out of a node's bond: rewarded of it is
// for the caller to credit or hold, the rest is burned.
func takeSlice(kv state.KV, env *Env, node crypto.PublicKey, amount, rewarded chain.Amount) chain.BondSlashed {
	p := locked(kv, node, amount)
	p.Locked, p.Bond = sound(p.Locked.Sub(amount)), sound(p.Bond.Sub(amount))
	reseat(kv, node, p)
	burned := sound(amount.Sub(rewarded))
	tokens.Burn(kv, burned)
	p.Record.Add(env.Now, match.FactSlashed, burned)
	state.Save(kv, ProviderKey(node), *p)
	return chain.BondSlashed{Node: node, Owner: p.Owner, Amount: amount, Burned: burned}
}

func locked(kv state.KV, node crypto.PublicKey, amount chain.Amount) *Provider {
	p, ok := ProviderOf(kv, node)
	if !ok || p.Locked.Less(amount) || p.Bond.Less(p.Locked) {
		panic("settlement: a slice that is not locked")
	}
	return &p
}
