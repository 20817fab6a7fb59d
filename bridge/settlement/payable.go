package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// A claim under fair exchange shows its key whether it is paid or not. So whoever has the key looks at the
// state first: what follows is the chain's own check, without what the claim alone decides.

// PayableKeys returns the keys that Payable reads of a claim, as far as it is known which these are: with what r has
// of them there may be more, of an escrow's withdrawals.
func PayableKeys(r state.Reader, c *chain.Claim) [][]byte {
	consumer, cluster := c.Order.ConsumerAddress(), c.Order.Cluster
	escrow := EscrowKey(consumer, cluster)
	keys := [][]byte{
		OrderKey(c.Order.ID()), ClusterKey(cluster), ProviderKey(c.Receipt.Node), escrow, BreachKey(cluster), markKey(betrayedMark(cluster, consumer)),
	}
	for _, at := range EscrowOf(r, consumer, cluster).Withdrawals {
		keys = append(keys, tokens.MaturingKey(at, escrow))
	}
	return keys
}

// Payable says why the chain would refuse a claim under PolicyNone or PolicyZK that comes at any time from the
// block's on until withinMs later, if the state stays as it is; nil: it would be paid, or counted among what its cluster lost. It looks at neither signatures nor proof.
func Payable(r state.Reader, env Env, c *chain.Claim, withinMs uint64) *chain.Rejection {
	end, ok := checked.Add(uint64(env.Now), withinMs)
	if !ok {
		return chain.Reject("%d ms after %d is beyond time", withinMs, env.Now)
	}
	for _, now := range []chain.TimeMs{env.Now, chain.TimeMs(end)} {
		env.Now = now
		if why := newPosted(newLedger(state.NewOverlay(r), &env), c).payable(); why != nil {
			return why
		}
	}
	return nil
}

func (p *posted) payable() *chain.Rejection {
	if why := p.check(); why != nil {
		return why
	}
	lossy := false
	switch policy := p.Order.Policy.Policy.(type) {
	case chain.PolicyNone:
		lossy = true
	case chain.PolicyZK:
		if why := p.checkProvable(policy); why != nil {
			return why
		}
	case chain.PolicyReplicate, chain.PolicyOptimistic:
		return chain.Reject("order %s is under %s", p.id.Short(), policy)
	}
	cost, err := p.Cost()
	if err != nil {
		return chain.Reject("%v", err)
	}
	_, why := p.afford(cost)
	if why != nil && lossy {
		if _, _, counted := p.betrayed(cost); counted {
			return nil
		}
	}
	return why
}
