package settlement

import (
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// attested pays a claim under PolicyNone: the home cluster measured the work, or the
// consumer takes the receipt for right.
// Work that failed is paid as well, for what it used.
func (p *posted) attested() (chain.Events, *chain.Rejection) {
	cost, err := p.Cost()
	if err != nil {
		return nil, chain.Reject("%v", err)
	}
	escrow, why := p.afford(cost)
	if why != nil {
		return p.lost(cost, why)
	}
	record := p.record()
	record.Records = p.resources(&record, p.Receipt.Usage, p.Bid.Prices, p.Receipt.Ended)
	p.pay(escrow, &record, cost)
	p.keep(&record)
	return p.paid(&record), nil
}

// proven pays the one claim of an order under PolicyZK whose proof verifies,
// at the fixed price of its bid.
func (p *posted) proven(policy chain.PolicyZK) (chain.Events, *chain.Rejection) {
	if why := p.checkProvable(policy); why != nil {
		return nil, why
	}
	cost, err := p.Cost()
	if err != nil {
		return nil, chain.Reject("%v", err)
	}
	escrow, why := p.afford(cost)
	if why != nil {
		return nil, why
	}
	if err := p.env.Verifier.Verify(Statement(&policy, &p.Receipt), p.Proof); err != nil {
		return nil, chain.Reject("proof: %v", err)
	}
	record := p.record()
	record.ProofVerified = true
	record.Records = p.resources(&record, p.Receipt.Usage, nil, p.Receipt.Ended)
	p.book.Closed = true
	p.pay(escrow, &record, cost)
	p.keep(&record)
	return p.paid(&record), nil
}

// checkProvable demands a kernel that genesis pins, and work that ended well.
func (p *posted) checkProvable(policy chain.PolicyZK) *chain.Rejection {
	pinned, ok := p.env.Kernels[policy.Kernel]
	switch {
	case !ok:
		return chain.Reject("kernel %q is not pinned by genesis", policy.Kernel)
	case pinned != policy.VerifyingKey:
		return chain.Reject("order names verifying key %s, genesis pins %s for %s", policy.VerifyingKey.Short(), pinned.Short(), policy.Kernel)
	case p.Receipt.Exit != chain.ExitOK:
		return chain.Reject("work ended with %q: only a proven result is paid", p.Receipt.Exit)
	}
	return nil
}

// Statement is what the proof of an order under PolicyZK proves: the result of this receipt, and
// of no other order, sequence or provider.
func Statement(policy *chain.PolicyZK, receipt *chain.UsageReceipt) zk.Statement {
	return zk.Statement{
		Kernel: zk.Kernel(policy.Kernel), VerifyingKey: policy.VerifyingKey,
		Inputs: fields(policy.Inputs), Output: fields(receipt.Outputs),
		Bind: zk.Bind(string(receipt.ChainID), receipt.Order, receipt.Sequence, receipt.Node),
	}
}

func fields(list []chain.FieldBytes) []zk.Field {
	out := make([]zk.Field, len(list))
	for i, f := range list {
		out[i] = zk.Field(f)
	}
	return out
}

// payReplicas pays each of some claims at its own prices, for the least that any of them
// reports to have used (those that agree report the same), and at most a k-th of the order's
// max cost: one that nobody checked would else be paid for whatever it says, up to what k runs
// may cost. So it costs no more than the max cost, which the escrow has. Jurors whom nobody else pays share what is left of
// that, each the fee at most.
func (p *posted) payReplicas(list []*Claim, jurors []chain.Address, fee chain.Amount) (events chain.Events) {
	usage := leastUsage(list)
	p.books = newLedger(p.kv, p.env)
	defer p.books.save()
	escrow := p.books.purse(p.book.Consumer, p.book.Cluster)
	for _, c := range list {
		cost, err := chain.Cost(usage, c.Pending.Prices)
		if err != nil {
			panic("settlement: less than what a receipt was taken with cannot be paid: " + err.Error())
		}
		c.Records = p.resources(c, usage, c.Pending.Prices, c.Pending.Ended)
		p.pay(escrow, c, p.chargeOfRun(cost))
		p.saveClaim(c)
		events = append(events, p.settled(c))
	}
	events = append(events, p.payJurors(escrow, jurors, fee)...)
	p.book.Closed = true
	saveOrder(p.kv, p.id, &p.book)
	return events
}

// mostOfRun is what a run is paid at most: the k-th part of the order's max cost.
func (p *posted) mostOfRun() chain.Amount {
	return part1of(p.book.MaxCost, uint64(p.book.Policy.Policy.(chain.PolicyReplicate).K))
}

// chargeOfRun is what the consumer pays for a run that costs so much, the order's priority fee included.
func (p *posted) chargeOfRun(cost chain.Amount) chain.Amount {
	charge, fits := p.book.PriorityBps.Charge(cost)
	if !fits {
		return p.mostOfRun()
	}
	return lesser(charge, p.mostOfRun())
}

// jurorFee is what a juror is paid at most where nobody was wrong who could pay it: what the dearest of the runs that
// were shown, not paid for less than it says, would get. One that asks for nothing, or leaves out what it used, does
// not have the jurors work for nothing; if all ask for nothing, what a run gets at most is all that says what one is worth.
func (p *posted) jurorFee(shown map[int]*Claim) (fee chain.Amount) {
	gets := func(charge chain.Amount) chain.Amount {
		return splitCost(charge, &p.env.Params, shares{p.cluster.FeeBps, p.book.PriorityBps}).paid
	}
	for _, c := range shown { // order-free: the largest
		cost, err := chain.Cost(c.Pending.Usage, c.Pending.Prices)
		if err != nil {
			panic("settlement: what a receipt was taken with cannot be paid: " + err.Error())
		}
		fee = larger(fee, gets(p.chargeOfRun(cost)))
	}
	if fee.IsZero() {
		return gets(p.mostOfRun())
	}
	return fee
}

// payJurors pays each of some jurors a fee, or an equal part of what is left of the max cost if that is less: they ran
// the job as those did whose runs were shown.
func (p *posted) payJurors(escrow *purse, jurors []chain.Address, fee chain.Amount) chain.Events {
	if len(jurors) == 0 {
		return nil
	}
	each := lesser(fee, part1of(sound(p.book.MaxCost.Sub(p.book.Spent)), uint64(len(jurors))))
	if each.IsZero() {
		return nil
	}
	cost := sound(each.ShareFloor(uint64(len(jurors)), 1))
	escrow.take(cost)
	p.book.Spent = sound(p.book.Spent.Add(cost))
	for _, owner := range jurors {
		p.books.credit(owner, each)
	}
	return chain.Events{chain.JurorsPaid{Order: p.id, Consumer: p.book.Consumer, Cluster: p.book.Cluster, Jurors: jurors, Each: each, Cost: cost}}
}

// leastUsage returns for each resource that every claim reports the usage of
// the claim that reports the least of it.
func leastUsage(claims []*Claim) []chain.Usage {
	var least []chain.Usage
	if len(claims) == 0 {
		return nil
	}
	for _, u := range claims[0].Pending.Usage {
		inAll := true
		for _, c := range claims[1:] {
			other, ok := usageOf(c.Pending.Usage, u.Resource)
			if !ok {
				inAll = false
				break
			}
			if lessUsed(other, u) {
				u = other
			}
		}
		if inAll {
			least = append(least, u)
		}
	}
	return least
}

func usageOf(list []chain.Usage, r chain.Resource) (chain.Usage, bool) {
	for _, u := range list {
		if u.Resource == r {
			return u, true
		}
	}
	return chain.Usage{}, false
}

// lessUsed compares what would be charged for: amount × duration, or the amount
// alone for Network.
func lessUsed(a, b chain.Usage) bool {
	if a.Resource == chain.Network {
		return a.Amount < b.Amount
	}
	ahi, alo := bits.Mul64(a.Amount, a.DurationMs)
	bhi, blo := bits.Mul64(b.Amount, b.DurationMs)
	return ahi < bhi || ahi == bhi && alo < blo
}
