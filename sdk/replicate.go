package sdk

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	// stakeFactor is how many times what an order may cost each of its runs stakes, unless
	// the order says otherwise: one in 20 is checked then, of nodes with a good record.
	stakeFactor = 19
	// bondParts is of how many such jobs a node with the least bond may run, at least.
	bondParts = 4
	// windowSpareMs is what a node has beside twice the limit of the work, to be found, to
	// fetch it and to answer.
	windowSpareMs = 30_000
)

// ReplicateTerms fills in what a replicated order leaves open: the window in which a node
// that was drawn has to run it, and what is at stake, which MaxCost decides. Other policies
// stay as they are.
func ReplicateTerms(policy chain.Policy, spec *job.Spec, maxCost, leastBond chain.Amount) chain.Policy {
	p, ok := policy.(chain.PolicyReplicate)
	if !ok {
		return policy
	}
	if p.WindowMs == 0 {
		p.WindowMs = min(2*min(spec.Limits.WallMs, chain.MaxRunWindowMs)+windowSpareMs, chain.MaxRunWindowMs)
	}
	if p.Stake.IsZero() {
		most, _ := leastBond.ShareFloor(1, bondParts)
		stake, ok := maxCost.ShareFloor(stakeFactor, 1)
		if !ok || most.Less(stake) {
			stake = most
		}
		p.Stake = stake
	}
	return p
}

// leastBond is that of provider nodes, as far as it is known.
func (c *Client) leastBond() chain.Amount {
	if g := c.config.Genesis; g != nil {
		return g.Params.ProviderBond
	}
	return chain.DefaultParams().ProviderBond
}
