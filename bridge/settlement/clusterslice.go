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

// ClusterSlice is what an order under a policy, of so much at most, locks of its cluster's bond. Under
// PolicyReplicate it is what a juror is to stake, whatever the runs stake: a cluster that shows nobody
// the data of a node that lies loses more than both are paid.
func ClusterSlice(p chain.Policy, maxCost chain.Amount, params *chain.Params) chain.Amount {
	switch p := p.(type) {
	case chain.PolicyReplicate:
		return larger(atStake(p, maxCost), params.JurorSlice)
	case chain.PolicyOptimistic:
		return p.Bond
	case chain.PolicyNone, chain.PolicyZK:
	}
	return chain.Amount{}
}

// leastStake is what a run under PolicyReplicate stakes at least, whatever its order says: who lies loses it, and those who find
// that out are paid of it. An order that asks for less pays for the draws of its panels when it begins.
var leastStake = chain.Hyper(1)

// NodeSlice is what an order under a policy locks of the bond of each node that runs it.
func NodeSlice(p chain.Policy) chain.Amount {
	switch p := p.(type) {
	case chain.PolicyReplicate:
		return larger(p.Stake, leastStake)
	case chain.PolicyOptimistic:
		return p.Bond
	case chain.PolicyNone, chain.PolicyZK:
	}
	return chain.Amount{}
}

// LeastClusterSlice is what an order of so much at most locks of its cluster's bond under a policy of the kind that
// asks for no more stake than it has to.
func LeastClusterSlice(p chain.Policy, maxCost chain.Amount, params *chain.Params) chain.Amount {
	switch p.(type) {
	case chain.PolicyReplicate:
		return ClusterSlice(chain.PolicyReplicate{}, maxCost, params)
	case chain.PolicyOptimistic:
		bond, fits := maxCost.ShareFloor(chain.OptimisticCover, 1)
		if !fits { // nobody has so much
			bond = maxCost
		}
		return larger(bond, params.JurorSlice)
	case chain.PolicyNone, chain.PolicyZK:
	}
	return chain.Amount{}
}

// atStake is what an order under PolicyReplicate has jurors stake: no less than whoever is judged, nor
// than two of three of them would win together by voting for a result that is not the job's.
func atStake(p chain.PolicyReplicate, maxCost chain.Amount) chain.Amount {
	stake, fits := maxCost.ShareFloor(wrongShare, panelSeats/2+1)
	if !fits { // nobody has so much
		stake = maxCost
	}
	return larger(stake, NodeSlice(p))
}

func larger(a, b chain.Amount) chain.Amount {
	if a.Less(b) {
		return b
	}
	return a
}

// Free is what of a cluster's bond no order locks: nothing once it is unbonded, when all that there is
// of the bond is what orders lock.
func (c *Cluster) Free() chain.Amount { return sound(c.Bond.Sub(c.Locked)) }

// lacks says why a cluster has too little free for the slice; nil: it has enough. What it accepted before
// it unbonded may begin after: the slice comes out of the bond that is on its way back.
func (s *clusterSlice) lacks(c *Cluster) *chain.Rejection {
	free := c.Free()
	if c.UnbondedMs != 0 {
		free = c.unbonding().left(s.kv, s.env, s.cluster)
	}
	if free.Less(s.amount) {
		return chain.Reject("cluster %s has %s "+wantOfBond+", the job locks %s", s.cluster.Short(), free, s.amount)
	}
	return nil
}

// lock locks the slice, which the cluster has free.
func (s *clusterSlice) lock() {
	c, _ := ClusterOf(s.kv, s.cluster) // its order is accepted
	if c.UnbondedMs != 0 {
		at, origin := c.unbonding().queued(s.env, s.cluster)
		c.Bond = sound(c.Bond.Add(tokens.TakeMaturing(s.kv, at, origin, s.amount)))
	}
	c.Locked = sound(c.Locked.Add(s.amount))
	if c.Bond.Less(c.Locked) {
		panic("settlement: a cluster's bond does not cover what it locks")
	}
	state.Save(s.kv, ClusterKey(s.cluster), c)
}

// free frees the slice: for the cluster, for those who lost by it, or, of one that is unbonded, to be on
// its way back with the rest of the bond.
func (s *clusterSlice) free() (events chain.Events) {
	c := s.locked()
	c.Locked = sound(c.Locked.Sub(s.amount))
	switch {
	case c.Convicted != nil:
		c.Bond = sound(c.Bond.Sub(s.amount))
		events = chain.Events{c.forfeit(s.kv, s.env, s.cluster, s.order, s.amount)}
	case c.UnbondedMs != 0:
		c.Bond = sound(c.Bond.Sub(s.amount))
		at, origin := c.unbonding().queued(s.env, s.cluster)
		tokens.Mature(s.kv, at, origin, tokens.Maturing{To: c.Operator, Amount: s.amount})
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
