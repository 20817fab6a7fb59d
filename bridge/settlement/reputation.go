package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// factOf says what a paid receipt's exit is for both of its sides. Nobody can tell
// whether the program or its host was to blame, so it counts for both alike; work
// that was ended on request is nobody's fact.
func factOf(exit chain.ExitStatus) (match.Fact, bool) {
	switch exit {
	case chain.ExitOK:
		return match.FactCompleted, true
	case chain.ExitTime:
		return match.FactLate, true
	case chain.ExitCancelled:
		return 0, false
	case chain.ExitFailed, chain.ExitTrapped, chain.ExitFuel, chain.ExitMemory, chain.ExitOutput, chain.ExitInvalid:
		return match.FactFailed, true
	}
	panic("settlement: an exit outside the enumeration")
}

// noteNode adds a fact to a node's record.
func noteNode(kv state.KV, env *Env, node crypto.PublicKey, fact match.Fact, burned chain.Amount) {
	p, ok := ProviderOf(kv, node)
	if !ok {
		panic("settlement: a fact of a node that was never registered")
	}
	p.Record.Add(env.Now, fact, burned)
	state.Save(kv, ProviderKey(node), p)
}

// note adds a fact to a consumer's record; the escrow is yet to be saved.
func (p *purse) note(env *Env, fact match.Fact, burned chain.Amount) {
	p.escrow.Record.Add(env.Now, fact, burned)
}

// MaxOwned bounds what NodesOf and EscrowsOf list.
const MaxOwned = 256

// NodesOf lists the nodes of an owner, those that were unbonded included, by key and at
// most MaxOwned of them; more says whether there are others.
func NodesOf(r state.Reader, owner chain.Address) (nodes []crypto.PublicKey, more bool) {
	return lastKeys(r, kindOwned, owner)
}

// EscrowsOf lists the clusters at which a consumer has an escrow, or a record, as NodesOf
// does.
func EscrowsOf(r state.Reader, consumer chain.Address) (clusters []crypto.PublicKey, more bool) {
	return lastKeys(r, kindEscrow, consumer)
}

// lastKeys lists the public keys that end the keys of an account's records of a kind.
func lastKeys(r state.Reader, kind byte, account chain.Address) (list []crypto.PublicKey, more bool) {
	var after [crypto.PublicKeySize + 1]byte
	for i := range after {
		after[i] = 0xff
	}
	for key := range r.Iterate(keyOf(kind, account[:]), keyOf(kind, account[:], after[:])) {
		if len(list) == MaxOwned {
			return list, true
		}
		list = append(list, crypto.PublicKey(key[len(key)-crypto.PublicKeySize:]))
	}
	return list, false
}
