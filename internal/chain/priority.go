package chain

import (
	"fmt"
	"math"

	"github.com/hypermesh/hypermesh/internal/checked"
)

// PriorityFee is what an order pays above what its work costs, in 1/10,000 of that, to be taken up before others of its class.
// It is a part of the cost, and not a sum, as a place before others is worth what is taken up there: work that takes much
// room for long pays more for its place than work that takes little.
type PriorityFee uint16

// MaxPriorityFee doubles what work costs.
const MaxPriorityFee PriorityFee = wholeBps

// Charge returns what work that costs an amount is charged: with the fee, one floor on that. It is false if that fits no amount.
func (f PriorityFee) Charge(cost Amount) (Amount, bool) {
	fee, ok := cost.ShareFloor(uint64(f), wholeBps)
	if !ok {
		return Amount{}, false
	}
	return cost.Add(fee)
}

// Of returns the fee in a charge that has it in it: what Charge added.
func (f PriorityFee) Of(charge Amount) Amount {
	fee, ok := charge.ShareFloor(uint64(f), wholeBps+uint64(f))
	if !ok {
		panic("chain: a part is more than the whole")
	}
	return fee
}

// Below returns the highest price that with the fee is not above a cap, which includes all fees.
func (f PriorityFee) Below(limit uint64) uint64 {
	price, ok := checked.MulDivFloor(limit, wholeBps, wholeBps+uint64(f))
	if !ok {
		panic("chain: a part is more than the whole")
	}
	return price
}

// Above returns the lowest cap under which a price may be bid: Below of it is the price, or more. It stops at the largest number.
func (f PriorityFee) Above(price uint64) uint64 {
	limit, ok := checked.MulDivCeil(price, wholeBps+uint64(f), wholeBps)
	if !ok {
		return math.MaxUint64
	}
	return limit
}

// check demands that the fee is within its limit.
func (f PriorityFee) check() error {
	if f > MaxPriorityFee {
		return limitError("priority_bps", int(f), int(MaxPriorityFee))
	}
	return nil
}

// Cap returns the highest price of a bid for a resource: the order's cap without its priority fee. It is false if there is no cap.
func (o *Order) Cap(r Resource) (uint64, bool) {
	limit, capped := PriceOf(o.Caps, r)
	return o.PriorityBps.Below(limit), capped
}

// FixedPriceCap returns the highest price of a bid for a proven statement: the order's cap without its priority fee.
func (o *Order) FixedPriceCap() Amount { return Amount{o.PriorityBps.Below(o.FixedCap.nano)} }

// Cost returns what a claim is charged if it is paid, the order's priority fee included: a proven statement its bid's fixed price, else what the
// receipt says that was used. It is an error if a used resource has no price or the charge fits no amount.
func (c *Claim) Cost() (Amount, error) {
	cost := c.Bid.Fixed
	if _, proven := c.Order.Policy.Policy.(PolicyZK); !proven {
		var err error
		if cost, err = Cost(c.Receipt.Usage, c.Bid.Prices); err != nil {
			return Amount{}, err
		}
	}
	return c.Order.charge(cost)
}

// BatchCost returns what a batch with totals is charged under the order. Errors: as Claim.Cost's.
func (o *Order) BatchCost(totals []BatchTotal, prices []UnitPrice) (Amount, error) {
	cost, err := BatchCost(totals, prices)
	if err != nil {
		return Amount{}, err
	}
	return o.charge(cost)
}

// Rate returns what the lease that the order is for costs at prices, its priority fee included, in 10⁻¹⁸ HYPER per second. Errors: as
// Rate's, or it does not fit.
func (o *Order) Rate(prices []UnitPrice) (uint64, error) {
	rate, err := Rate(o.Term.Resources, prices)
	if err != nil {
		return 0, err
	}
	with, ok := checked.MulDivFloor(rate, wholeBps+uint64(o.PriorityBps), wholeBps)
	if !ok {
		return 0, fmt.Errorf("chain: the rate with a priority fee of %d bps does not fit", o.PriorityBps)
	}
	return with, nil
}

func (o *Order) charge(cost Amount) (Amount, error) {
	charge, ok := o.PriorityBps.Charge(cost)
	if !ok {
		return Amount{}, fmt.Errorf("chain: the charge with a priority fee of %d bps does not fit an amount", o.PriorityBps)
	}
	return charge, nil
}

// FeeBurned returns what was burned of the protocol fee. That alone is what reputation and resource factors weigh: of a priority fee a
// part goes to the cluster, so that one paid to a cluster of one's own would burn at half the price.
func (e *ClaimSettled) FeeBurned() Amount { return feeBurned(e.Burned, e.PriorityBurned) }

// FeeBurned is ClaimSettled's.
func (e *LeasePaid) FeeBurned() Amount { return feeBurned(e.Burned, e.PriorityBurned) }

// Priority returns the order's priority fee in what the claim cost; of an event that no chain tells, in which it fits no amount, the largest.
func (e *ClaimSettled) Priority() Amount { return priorityOf(e.PriorityBurned, e.PriorityFee) }

// Priority is ClaimSettled's.
func (e *LeasePaid) Priority() Amount { return priorityOf(e.PriorityBurned, e.PriorityFee) }

func priorityOf(burned, cluster Amount) Amount {
	fee, ok := burned.Add(cluster)
	if !ok { // a node says so of what nobody has verified yet
		return Amount{math.MaxUint64}
	}
	return fee
}

func feeBurned(burned, priority Amount) Amount {
	fee, ok := burned.Sub(priority)
	if !ok {
		panic("chain: more was burned of a priority fee than in all")
	}
	return fee
}
