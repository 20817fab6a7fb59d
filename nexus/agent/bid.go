package agent

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// offer is what is asked in one auction.
type offer struct {
	job.Offer
	Spec    *job.Spec
	CloseMs uint64
}

// answer returns the reply to an offer: a signed bid, or the reason for none.
// With a price program it takes as long as that, and ends with ctx.
func (a *Agent) answer(ctx context.Context, o *offer) job.BidReply {
	bid, decline := a.bid(&o.Order, o.Spec, time.Now())
	if decline == "" && len(a.config.PriceProgram) > 0 {
		if err := a.askProgram(ctx, o, &bid); err != nil {
			decline = err.Error()
		}
	}
	if decline != "" {
		a.metrics.offers.WithLabelValues("declined").Inc()
		return job.BidReply{Auction: o.Auction, Decline: line(decline)}
	}
	a.metrics.offers.WithLabelValues("bid").Inc()
	return job.BidReply{Auction: o.Auction, Bid: bid, BidSig: a.key.Sign(crypto.DomainBid, bid.Payload())}
}

// bid returns the node's bid for an order, or why it makes none. The order and
// the specification belong together: the message was checked.
func (a *Agent) bid(order *chain.Order, spec *job.Spec, now time.Time) (chain.Bid, string) {
	for _, check := range []func(*chain.Order, *job.Spec, time.Time) string{a.unwilling, a.unable, a.unstaked} {
		if decline := check(order, spec, now); decline != "" {
			return chain.Bid{}, decline
		}
	}
	bid := chain.Bid{
		ChainID: a.genesis.ChainID, Order: order.ID(), Node: a.id, Expiry: timeMs(now.Add(a.config.BidExpiry)),
	}
	var decline string
	if policy, ok := order.Policy.Policy.(chain.PolicyZK); ok {
		bid.Fixed, decline = a.fixedPrice(order, &policy)
	} else if order.Term != nil {
		bid.Prices, decline = a.leasePrices(order, spec)
	} else {
		bid.Prices, decline = a.meteredPrices(order, spec)
	}
	return bid, decline
}

// unwilling says why the node wants no such work.
func (a *Agent) unwilling(order *chain.Order, spec *job.Spec, now time.Time) string {
	end := timeMs(now) + chain.TimeMs(spec.Limits.WallMs)
	closed, unjudged := a.closed(), job.CheckJudged(order, spec, &a.genesis.Params)
	doubt := a.market.doubt(order, a.config.ClusterCover)
	switch {
	case closed != "":
		return closed
	case order.ChainID != a.genesis.ChainID:
		return fmt.Sprintf("the order is of chain %s, this node is of %s", order.ChainID, a.genesis.ChainID)
	case doubt != "" && order.Term == nil: // the chain holds a lease's money
		return doubt
	case spec.Region != "" && spec.Region != a.config.Region:
		return fmt.Sprintf("region %.32q is wanted, this node is in %q", spec.Region, a.config.Region)
	case unjudged != nil:
		return line(unjudged.Error())
	case order.Term == nil && end > order.Deadline:
		return fmt.Sprintf("the work may end at %d, after the deadline %d", end, order.Deadline)
	case a.spool.count() >= maxSpooled:
		return fmt.Sprintf("%d finished jobs wait for the servers, the limit", maxSpooled)
	case a.spool.size() >= maxSpooledBytes:
		return fmt.Sprintf("finished jobs with %d bytes of receipts and proofs wait for the servers, the limit", maxSpooledBytes)
	}
	return ""
}

// unable says what the node lacks for the work.
func (a *Agent) unable(order *chain.Order, spec *job.Spec, _ time.Time) string {
	if kernel, ok := spec.Work.Work.(job.Kernel); ok {
		if !slices.Contains(a.kernels.Names(), kernel.Name) {
			return fmt.Sprintf("kernel %s is not proven here", kernel.Name)
		}
	}
	if _, ok := spec.Work.Work.(job.Container); ok && a.containers == nil {
		return "containers are not run here"
	}
	if kind := spec.Scheduling.GPUKind; kind != "" && kind != a.config.GPUKind {
		return fmt.Sprintf("gpus of kind %.32q are wanted, this node has %q", kind, a.config.GPUKind)
	}
	if order.Term != nil && !order.Term.Resizes.IsZero() {
		return a.cannotResize(order, spec)
	}
	n := needOf(spec)
	if most := a.capacity.total.diskMiB; n.diskMiB > most {
		return fmt.Sprintf("no capacity: %d MiB of disk needed, this node has %d for running work", n.diskMiB, most)
	}
	if lack := a.capacity.missing(n); lack != "" {
		return "no capacity: " + lack
	}
	return ""
}

// fixedPrice returns the price of a proven statement.
func (a *Agent) fixedPrice(order *chain.Order, policy *chain.PolicyZK) (chain.Amount, string) {
	if pinned, _ := a.pinned(policy.Kernel); pinned != policy.VerifyingKey {
		return chain.Amount{}, fmt.Sprintf("the order names verifying key %s, genesis pins another", policy.VerifyingKey.Short())
	}
	limit := proofCap(order)
	price, ok := priceAt(a.config.ProofPriceNHyper, limit.Nano(), a.config.SurchargePercent, a.capacity.load())
	if !ok {
		return chain.Amount{}, fmt.Sprintf("a proof costs %s here, the order's cap is %s", chain.Nano(a.config.ProofPriceNHyper), limit)
	}
	return chain.Nano(price), ""
}

// proofCap returns the most that an order pays for a proof, beside its priority fee.
func proofCap(order *chain.Order) chain.Amount {
	return chain.Nano(min(order.FixedPriceCap().Nano(), order.PriorityBps.Below(order.MaxCost.Nano())))
}

// meteredPrices returns the prices of metered work, unless they are above the
// order's caps or could exceed its max cost.
func (a *Agent) meteredPrices(order *chain.Order, spec *job.Spec) ([]chain.UnitPrice, string) {
	table := []chain.UnitPrice{
		{Resource: chain.CPU, Price: a.config.CPUPriceAtto},
		{Resource: chain.Memory, Price: a.config.MemoryPriceAtto},
		{Resource: chain.Network, Price: a.config.NetworkPriceAtto},
	}
	if spec.Resources.GPUs > 0 {
		table = append(table, chain.UnitPrice{Resource: chain.GPU, Price: a.config.GPUPriceAtto})
	}
	load := a.capacity.load()
	for i, base := range table {
		limit, capped := order.Cap(base.Resource)
		if !capped {
			return nil, fmt.Sprintf("the order has no cap for %s", base.Resource)
		}
		price, ok := priceAt(base.Price, limit, a.config.SurchargePercent, load)
		if !ok {
			return nil, fmt.Sprintf("%s costs %d here, the order's cap is %d", base.Resource, base.Price, limit)
		}
		table[i].Price = price
	}
	return table, affordable(order, spec, table)
}

// affordable says why work could exceed its order's max cost, or returns
// nothing.
func affordable(order *chain.Order, spec *job.Spec, table []chain.UnitPrice) string {
	worst, err := job.WorstCost(spec, table)
	if err != nil {
		return err.Error()
	}
	replicas := uint64(1)
	if policy, ok := order.Policy.Policy.(chain.PolicyReplicate); ok {
		replicas = uint64(policy.K)
	}
	worst, fits := order.PriorityBps.Charge(worst)
	if all, ok := worst.ShareFloor(replicas, 1); !fits || !ok || order.MaxCost.Less(all) {
		return fmt.Sprintf("the work may cost %s for each of %d replicas, the order's max cost is %s", worst, replicas, order.MaxCost)
	}
	return ""
}

// priceAt raises a price of the table by the utilisation surcharge:
//
//	base × (1 + surcharge_percent/100 × load/1000)
//
// where load is the larger share of CPU or memory that is taken, in thousandths.
// A raised price above the order's cap is lowered to it, but never below the
// table's: then it is no price at all.
func priceAt(base, limit, surchargePercent, load uint64) (uint64, bool) {
	if base > limit {
		return 0, false
	}
	price, ok := checked.MulDivFloor(base, 100_000+surchargePercent*load, 100_000)
	if !ok {
		price = math.MaxUint64
	}
	return min(price, limit), true
}

func timeMs(t time.Time) chain.TimeMs { return chain.TimeMs(max(t.UnixMilli(), 0)) }
