package staking

import (
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// MaxRegistered is how many validators stand for committees at once: the end of
// an epoch looks at all of them. They are on the roll; the others are bonded and
// nothing more.
const MaxRegistered = 1_024

// Env is the block that staking's rules are applied in.
type Env struct {
	ChainID chain.ChainID
	Height  chain.Height
	Now     chain.TimeMs    // block time
	Epoch   consensus.Epoch // of the block
	Params  chain.Params
}

// Bond makes a validator of the sender.
func Bond(kv state.KV, env *Env, from chain.Address, m chain.Bond) (chain.Event, *chain.Rejection) {
	if least := chain.Nano(max(env.Params.MinSelfBond.Nano(), MinDelegation.Nano())); m.Amount.Less(least) {
		return nil, chain.Reject("bond of %s, the least is %s", m.Amount, least)
	}
	keys := keyPair{m.ConsensusKey, m.Possession, m.NodeKey, m.NodePossession}
	if why := keys.check(env, from); why != nil {
		return nil, why
	}
	id := m.ConsensusKey
	for _, key := range []crypto.PublicKey{m.ConsensusKey, m.NodeKey} {
		if why := own(kv, key, id); why != nil {
			return nil, why
		}
	}
	if why := tokens.Debit(kv, from, m.Amount, env.Now); why != nil {
		return nil, why
	}
	state.Save(kv, ValidatorKey(id), Validator{
		ID: id, ConsensusKey: m.ConsensusKey, NodeKey: m.NodeKey, Owner: from, Name: m.Name, Endpoint: m.Endpoint,
		Commission: Commission{Bps: m.CommissionBps, NextBps: m.CommissionBps}, Rotated: env.Epoch,
	})
	if why := enroll(kv, env, id, m.Amount); why != nil {
		return nil, why
	}
	if why := addStake(kv, env.Epoch, from, id, m.Amount); why != nil {
		return nil, why
	}
	return chain.ValidatorBonded{Validator: id, Owner: from, Amount: m.Amount, CommissionBps: m.CommissionBps}, nil
}

// keyPair is a validator's two keys with their proofs of possession.
type keyPair struct {
	consensusKey   crypto.PublicKey
	possession     crypto.Signature
	nodeKey        crypto.PublicKey
	nodePossession crypto.Signature
}

func (k *keyPair) check(env *Env, owner chain.Address) *chain.Rejection {
	payload := chain.PossessionPayload(env.ChainID, owner)
	switch {
	case k.consensusKey == k.nodeKey:
		return chain.Reject("consensus key and node key are one, %s", k.nodeKey.Short())
	case !k.consensusKey.Verify(crypto.DomainPossession, payload, k.possession):
		return chain.Reject("possession of consensus key %s by %s is not signed", k.consensusKey.Short(), owner.Short())
	case !k.nodeKey.Verify(crypto.DomainPossession, payload, k.nodePossession):
		return chain.Reject("possession of node key %s by %s is not signed", k.nodeKey.Short(), owner.Short())
	}
	return nil
}

// own binds a key to a validator for ever.
func own(kv state.KV, key crypto.PublicKey, id ID) *chain.Rejection {
	if _, taken := kv.Get(ownedKey(key)); taken {
		return chain.Reject("key %s is, or was, a validator's", key.Short())
	}
	state.Save(kv, ownedKey(key), id)
	return nil
}

func registered(r state.Reader) uint64 {
	n, _ := state.Load[uint64](r, keyOf(kindRegistered)) // none: zero
	return n
}

func countRegistered(kv state.KV, by int) {
	state.Save(kv, keyOf(kindRegistered), registered(kv)+uint64(by))
}

func onRoll(r state.Reader, id ID) bool {
	_, ok := r.Get(rollKey(id))
	return ok
}

// enroll puts a validator on the roll. If that is full, the poorest that does
// not serve makes room for whoever has more: otherwise the roll could be filled
// for good with what costs next to nothing.
func enroll(kv state.KV, env *Env, id ID, stake chain.Amount) *chain.Rejection {
	if n := registered(kv); n >= MaxRegistered {
		poorest, ok := poorestCandidate(kv, env)
		if !ok || !poorest.Stake.Less(stake) {
			return chain.Reject("%d validators stand for committees, the limit, and none that does not serve has less than %s", n, stake)
		}
		strike(kv, env, &poorest)
		state.Save(kv, ValidatorKey(poorest.ID), poorest)
	}
	state.Save(kv, rollKey(id), id)
	countRegistered(kv, 1)
	return nil
}

// poorestCandidate returns who has least of those on the roll that are in no
// committee which is known, the lowest ID among equals.
func poorestCandidate(r state.Reader, env *Env) (poorest Validator, ok bool) {
	serve := serving(r, env.Epoch, env.Epoch+1)
	for _, v := range candidates(r) {
		if !serve[v.ID] && (!ok || v.Stake.Less(poorest.Stake)) {
			poorest, ok = v, true
		}
	}
	return poorest, ok
}

// serving returns who is in the committees of some epochs.
func serving(r state.Reader, epochs ...consensus.Epoch) map[ID]bool {
	out := map[ID]bool{}
	for _, e := range epochs {
		members, _ := MembersOf(r, e) // none: nobody
		for i := range members {
			out[members[i].ID] = true
		}
	}
	return out
}

// strike takes a validator, which the caller saves, off the roll. It comes back
// by Unjail.
func strike(kv state.KV, env *Env, v *Validator) {
	kv.Delete(rollKey(v.ID))
	countRegistered(kv, -1)
	v.FactorBps = 0
	if v.JailedUntil == 0 {
		v.JailedUntil = max(env.Now, 1)
	}
}

// owned returns a validator that the sender owns.
func owned(r state.Reader, id ID, from chain.Address) (Validator, *chain.Rejection) {
	v, ok := ValidatorOf(r, id)
	if !ok {
		return v, chain.Reject("validator %s is not bonded", id.Short())
	}
	if v.Owner != from {
		return v, chain.Reject("validator %s belongs to %s, not to %s", id.Short(), v.Owner.Short(), from.Short())
	}
	return v, nil
}

// SetCommission changes a validator's commission from the next epoch on, once
// an epoch and by a bounded step.
func SetCommission(kv state.KV, env *Env, from chain.Address, m chain.SetCommission) (chain.Event, *chain.Rejection) {
	v, why := owned(kv, m.Validator, from)
	if why != nil {
		return nil, why
	}
	c := &v.Commission
	step := max(m.Bps, c.Bps) - min(m.Bps, c.Bps)
	switch {
	case c.Changed == env.Epoch:
		return nil, chain.Reject("commission was changed in epoch %d already", env.Epoch)
	case step > env.Params.CommissionStepBps:
		return nil, chain.Reject("commission changes by %d of 10,000, from %d to %d; the most in an epoch is %d", step, c.Bps, m.Bps, env.Params.CommissionStepBps)
	}
	c.NextBps, c.Changed = m.Bps, env.Epoch
	state.Save(kv, ValidatorKey(v.ID), v)
	return chain.CommissionSet{Validator: v.ID, Bps: m.Bps, Epoch: chain.Number(env.Epoch + 1)}, nil
}

// RotateKeys changes a validator's keys and endpoint for committees made from
// now on, once an epoch.
func RotateKeys(kv state.KV, env *Env, from chain.Address, m chain.RotateKeys) (chain.Event, *chain.Rejection) {
	v, why := owned(kv, m.Validator, from)
	if why != nil {
		return nil, why
	}
	switch {
	case v.Tombstoned:
		return nil, chain.Reject("validator %s was convicted", v.ID.Short())
	case v.Rotated == env.Epoch:
		return nil, chain.Reject("keys of validator %s were changed in epoch %d already", v.ID.Short(), env.Epoch)
	}
	keys := keyPair{m.ConsensusKey, m.Possession, m.NodeKey, m.NodePossession}
	if why := keys.check(env, from); why != nil {
		return nil, why
	}
	if m.ConsensusKey != v.ConsensusKey {
		if why := own(kv, m.ConsensusKey, v.ID); why != nil {
			return nil, why
		}
	}
	if m.NodeKey != v.NodeKey {
		if why := own(kv, m.NodeKey, v.ID); why != nil {
			return nil, why
		}
	}
	v.ConsensusKey, v.NodeKey, v.Endpoint, v.Rotated = m.ConsensusKey, m.NodeKey, m.Endpoint, env.Epoch
	state.Save(kv, ValidatorKey(v.ID), v)
	return chain.KeysRotated{Validator: v.ID, ConsensusKey: v.ConsensusKey, NodeKey: v.NodeKey, Endpoint: v.Endpoint}, nil
}

// Unjail lets a validator back into committees after its wait, and onto the roll
// if it left that.
func Unjail(kv state.KV, env *Env, from chain.Address, m chain.Unjail) (chain.Event, *chain.Rejection) {
	v, why := owned(kv, m.Validator, from)
	if why != nil {
		return nil, why
	}
	switch {
	case v.Tombstoned:
		return nil, chain.Reject("validator %s was convicted and stays out", v.ID.Short())
	case v.JailedUntil == 0:
		return nil, chain.Reject("validator %s is not jailed", v.ID.Short())
	case env.Now < v.JailedUntil:
		return nil, chain.Reject("validator %s is jailed until %d ms, it is %d", v.ID.Short(), v.JailedUntil, env.Now)
	case v.SelfBond().Less(env.Params.MinSelfBond):
		return nil, chain.Reject("self-bond of validator %s is %s, the least is %s", v.ID.Short(), v.SelfBond(), env.Params.MinSelfBond)
	}
	if !onRoll(kv, v.ID) {
		if why := enroll(kv, env, v.ID, v.Stake); why != nil {
			return nil, why
		}
	}
	v.JailedUntil = 0
	state.Save(kv, ValidatorKey(v.ID), v)
	return chain.ValidatorUnjailed{Validator: v.ID}, nil
}
