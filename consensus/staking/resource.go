package staking

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

const (
	// MaxFactorBps is the largest resource factor, a quarter, in 1/10,000.
	MaxFactorBps = 2_500
	// MaxAffiliates is how many provider nodes a validator has.
	MaxAffiliates = 64
)

// Resource is what a validator's affiliated nodes did in the current epoch.
type Resource struct {
	_      struct{} `cbor:",toarray"`
	Nodes  uint64   // affiliated
	Burned chain.Amount
	Barred bool // a node was convicted of fraud: nothing of this epoch counts
}

// ResourceOf returns what a validator's affiliated nodes did in this epoch.
func ResourceOf(r state.Reader, id ID) Resource {
	resource, _ := state.Load[Resource](r, resourceKey(id)) // none: nothing
	return resource
}

// factorBps returns ⌊¼ · burned / (burned + half)⌋ in 1/10,000: it grows ever
// more slowly, and half of the largest is reached at the parameter's sum.
func (r *Resource) factorBps(p *chain.Params) uint16 {
	if r.Barred {
		return 0
	}
	whole, ok := r.Burned.Add(p.ResourceHalf)
	if !ok {
		return MaxFactorBps - 1
	}
	return uint16(sound(checked.MulDivFloor(MaxFactorBps, r.Burned.Nano(), whole.Nano())))
}

// AffiliationOf returns the validator that a provider node's burned fees count
// for, and false if there is none.
func AffiliationOf(r state.Reader, node crypto.PublicKey) (ID, bool) {
	id, ok := state.Load[ID](r, affiliateKey(node))
	if !ok {
		return id, false
	}
	_, bonded := r.Get(ValidatorKey(id))
	return id, bonded
}

// Affiliate counts a provider node's burned fees for the sender's validator,
// with the consent of the node. That the node is a registered provider is the
// caller's to check.
func Affiliate(kv state.KV, env *Env, from chain.Address, m chain.Affiliate) (chain.Event, *chain.Rejection) {
	v, why := owned(kv, m.Validator, from)
	if why != nil {
		return nil, why
	}
	if other, ok := AffiliationOf(kv, m.Node); ok {
		return nil, chain.Reject("node %s is affiliated with validator %s", m.Node.Short(), other.Short())
	}
	if _, withdrawn := kv.Get(withdrawnKey(m.Node, v.ID)); withdrawn {
		return nil, chain.Reject("node %s took back its consent to validator %s", m.Node.Short(), v.ID.Short())
	}
	r := ResourceOf(kv, v.ID)
	if r.Nodes >= MaxAffiliates {
		return nil, chain.Reject("validator %s has %d affiliated nodes, the limit", v.ID.Short(), r.Nodes)
	}
	if !m.Node.Verify(crypto.DomainAffiliation, chain.AffiliationPayload(env.ChainID, v.ID), m.Consent) {
		return nil, chain.Reject("consent of node %s to validator %s is not signed", m.Node.Short(), v.ID.Short())
	}
	r.Nodes++
	state.Save(kv, resourceKey(v.ID), r)
	state.Save(kv, affiliateKey(m.Node), v.ID)
	return chain.NodeAffiliated{Validator: v.ID, Node: m.Node}, nil
}

// Unaffiliate ends an affiliation, if the sender owns the validator or the node.
// A node's owner ends it for ever: the consent has no end of its own, and the
// validator's owner could send it again before the node joins another.
func Unaffiliate(kv state.KV, from, nodeOwner chain.Address, m chain.Unaffiliate) (chain.Event, *chain.Rejection) {
	id, ok := AffiliationOf(kv, m.Node)
	if !ok {
		return nil, chain.Reject("node %s is not affiliated", m.Node.Short())
	}
	v, _ := ValidatorOf(kv, id)
	if from != v.Owner && from != nodeOwner {
		return nil, chain.Reject("neither validator %s nor node %s belongs to %s", id.Short(), m.Node.Short(), from.Short())
	}
	r := ResourceOf(kv, id)
	r.Nodes = sound(checked.Sub(r.Nodes, 1))
	state.Save(kv, resourceKey(id), r)
	kv.Delete(affiliateKey(m.Node))
	if from != v.Owner {
		state.Save(kv, withdrawnKey(m.Node, id), true)
	}
	return chain.NodeUnaffiliated{Validator: id, Node: m.Node}, nil
}

// CountBurned counts the fee that a verified claim of a provider node burned for
// the validator that the node is affiliated with, if any. That it was verified is
// the caller's to know.
func CountBurned(kv state.KV, node crypto.PublicKey, burned chain.Amount) {
	id, ok := AffiliationOf(kv, node)
	if !ok || burned.IsZero() || !onRoll(kv, id) {
		return
	}
	r := ResourceOf(kv, id)
	r.Burned = sum(r.Burned, burned)
	state.Save(kv, resourceKey(id), r)
}

// Fraud zeroes the resource factor of the validator that a node is affiliated
// with: at once for committees to come, and for what was burned in this epoch.
// It returns the validator, and false if there is none. The node's own bond is
// settlement's to slash.
func Fraud(kv state.KV, node crypto.PublicKey) (ID, bool) {
	id, ok := AffiliationOf(kv, node)
	if !ok {
		return id, false
	}
	v, _ := ValidatorOf(kv, id)
	v.FactorBps = 0
	state.Save(kv, ValidatorKey(id), v)
	r := ResourceOf(kv, id)
	r.Barred = true
	state.Save(kv, resourceKey(id), r)
	return id, true
}
