package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// ExpireLeases ends the leases that are over at the block's time, the oldest first and at
// most limit of them: each as of the millisecond at which it was over. The rest waits for
// the next block, and nothing can be done with it in between.
//
// What several of them touch, the accounts, nodes and escrows of their parties, is read and
// written once, and all that is read is told to Env.Ahead before. It returns how many
// ended beside what there is to say.
func ExpireLeases(kv state.KV, env *Env, limit int) (events chain.Events, ended int) {
	due := leaseEnds(env).takeEnds(kv, limit)
	if len(due) == 0 {
		return nil, 0
	}
	keys := make([][]byte, len(due))
	for i := range due {
		keys[i] = LeaseKey(due[i].lease())
	}
	env.ahead(keys)
	leases := make([]Lease, len(due))
	for i, key := range keys {
		l, ok := loaded(kv, key, decodeLease)
		if !ok {
			panic("settlement: a lease that is not there is queued to end")
		}
		leases[i] = l
	}
	e := newEnds(kv, env)
	e.read(due, leases)
	events = make(chain.Events, 0, 2*len(due))
	for i := range leases {
		id, l := due[i].lease(), &leases[i]
		var s Service // of a lease that is promised
		until := l.Expires
		if l.Promised {
			s = serviceOf(kv, id)
			until = s.payable(l, l.Expires)
		}
		if paid, ok := l.charge(env, id, until); ok {
			e.pay(l, &paid)
			events = append(events, paid)
		} else {
			e.note(id.Node, l, chain.Amount{})
		}
		if l.Promised && !s.outlive(kv, env, id, l) {
			e.release(id, s.Stake)
		}
		e.refund(l)
		keepInstead(kv, env, id.Node, l.Resources, nil)
		kv.Delete(keys[i])
		events = append(events, chain.LeaseEnded{Lease: id, At: l.Expires, Closed: l.Closing, Refunded: l.Held})
	}
	e.save()
	return events, len(due)
}

// ends is what the leases that end in a block do to records that others of them may touch
// as well.
type ends struct {
	kv      state.KV
	env     *Env
	credits map[chain.Address]chain.Amount
	burned  chain.Amount
	nodes   map[crypto.PublicKey]*Provider
	purses  map[purseOf]*purse
}

// purseOf names an escrow.
type purseOf struct {
	consumer chain.Address
	cluster  crypto.PublicKey
}

func newEnds(kv state.KV, env *Env) *ends {
	return &ends{kv: kv, env: env, credits: map[chain.Address]chain.Amount{}, nodes: map[crypto.PublicKey]*Provider{}, purses: map[purseOf]*purse{}}
}

// read reads the records of what ends.
func (e *ends) read(due []leaseEnd, leases []Lease) {
	var touched touchedKeys
	for i := range due {
		l := &leases[i]
		touched.add(due[i], l)
		if e.env.Params.HardwareEveryMs != 0 {
			touched.key(LeasedKey(due[i].lease().Node))
		}
		e.nodes[due[i].lease().Node], e.purses[purseOf{l.Consumer, l.Cluster}] = nil, nil
	}
	e.env.ahead(touched.keys)
	for node := range e.nodes { // order-free: each its own
		p, ok := ProviderOf(e.kv, node)
		if !ok {
			panic("settlement: a lease of a node that was never registered")
		}
		e.nodes[node] = &p
	}
	for of := range e.purses { // order-free: each its own
		e.purses[of] = openPurse(e.kv, e.env, of.consumer, of.cluster)
	}
}

// pay divides a charge, as Lease.pay does.
func (e *ends) pay(l *Lease, paid *chain.LeasePaid) {
	e.credit(l.Provider, paid.Paid)
	e.credit(Treasury, paid.Treasury)
	e.credit(l.Operator, paid.ClusterFee)
	e.burned = sound(e.burned.Add(paid.Burned))
	e.note(paid.Lease.Node, l, paid.FeeBurned())
	e.purses[purseOf{l.Consumer, l.Cluster}].letGo(paid.Cost)
}

func (e *ends) credit(to chain.Address, amount chain.Amount) {
	e.credits[to] = sound(e.credits[to].Add(amount))
}

// note adds to the records of both sides that a lease was seen to its end.
func (e *ends) note(node crypto.PublicKey, l *Lease, burned chain.Amount) {
	e.nodes[node].Record.Add(e.env.Now, match.FactCompleted, burned)
	e.purses[purseOf{l.Consumer, l.Cluster}].note(e.env, match.FactCompleted, burned)
}

// refund puts what a lease still holds back into its escrow.
func (e *ends) refund(l *Lease) {
	e.purses[purseOf{l.Consumer, l.Cluster}].takeBack(l.Held)
}

// release frees what a lease locks of its node's bond.
func (e *ends) release(id chain.LeaseID, stake chain.Amount) {
	p := e.nodes[id.Node]
	p.Locked = sound(p.Locked.Sub(stake))
	e.kv.Delete(ServiceKey(id.Order))
}

// save writes what changed.
func (e *ends) save() {
	for to, amount := range e.credits { // order-free: each its own
		tokens.Credit(e.kv, to, amount)
	}
	tokens.Burn(e.kv, e.burned)
	for node, p := range e.nodes { // order-free: each its own
		state.Save(e.kv, ProviderKey(node), *p)
	}
	for _, p := range e.purses { // order-free: each its own
		p.save()
	}
}
