package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// clusterSlice is the part of a cluster's bond that an order locks, for the data that the cluster
// keeps. A cluster's slices together are its Locked, and never more than its Bond.
type clusterSlice struct {
	kv      state.KV
	env     *Env
	cluster crypto.PublicKey
	order   crypto.Digest
	amount  chain.Amount
}

// ClusterSlice is what an order under a policy locks of its cluster's bond.
func ClusterSlice(p chain.Policy) chain.Amount {
	switch p := p.(type) {
	case chain.PolicyReplicate:
		return p.Stake
	case chain.PolicyOptimistic:
		return p.Bond
	case chain.PolicyNone, chain.PolicyZK:
	}
	return chain.Amount{}
}

// Free is what of a cluster's bond no order locks: nothing once it is unbonded.
func (c *Cluster) Free() chain.Amount { return sound(c.Bond.Sub(c.Locked)) }

// lacks says why a cluster has too little free for the slice; nil: it has enough.
func (s *clusterSlice) lacks(c *Cluster) *chain.Rejection {
	if free := c.Free(); free.Less(s.amount) {
		return chain.Reject("cluster %s has %s free of its bond, the job locks %s", s.cluster.Short(), free, s.amount)
	}
	return nil
}

// lock locks the slice, which the cluster has free.
func (s *clusterSlice) lock() {
	c, _ := ClusterOf(s.kv, s.cluster) // its order is accepted
	c.Locked = sound(c.Locked.Add(s.amount))
	if c.Bond.Less(c.Locked) {
		panic("settlement: a cluster's bond does not cover what it locks")
	}
	state.Save(s.kv, ClusterKey(s.cluster), c)
}

// free frees the slice: for the cluster, or for those who lost by it.
func (s *clusterSlice) free() (events chain.Events) {
	c := s.locked()
	c.Locked = sound(c.Locked.Sub(s.amount))
	if c.Convicted != nil {
		c.Bond = sound(c.Bond.Sub(s.amount))
		events = chain.Events{c.forfeit(s.kv, s.env, s.cluster, s.order, s.amount)}
	}
	state.Save(s.kv, ClusterKey(s.cluster), *c)
	return events
}

// take is takeSlice of the slice. What would be burned goes to those who lost by the cluster, if
// it owes it to them.
func (s *clusterSlice) take(rewarded chain.Amount) chain.Events {
	c := s.locked()
	c.Locked, c.Bond = sound(c.Locked.Sub(s.amount)), sound(c.Bond.Sub(s.amount))
	rest := sound(s.amount.Sub(rewarded))
	slashed := chain.BondSlashed{Node: s.cluster, Owner: c.Operator, Subject: s.order, Amount: s.amount}
	var owed chain.Events
	if c.Convicted != nil {
		owed = chain.Events{c.forfeit(s.kv, s.env, s.cluster, s.order, rest)}
	} else {
		slashed.Burned = rest
		tokens.Burn(s.kv, rest)
	}
	state.Save(s.kv, ClusterKey(s.cluster), *c)
	return append(chain.Events{slashed}, owed...)
}

func (s *clusterSlice) locked() *Cluster {
	c, ok := ClusterOf(s.kv, s.cluster)
	if !ok || c.Locked.Less(s.amount) || c.Bond.Less(c.Locked) {
		panic("settlement: a cluster's slice that is not locked")
	}
	return &c
}
