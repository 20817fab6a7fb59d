package settlement

import (
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Treasury is the module account that receives what is not burned of protocol
// fees.
var Treasury = chain.ModuleAddress("treasury")

const wholeBps = 10_000

// split is how a charge is divided: cost = paid + burned + treasury +
// clusterFee.
type split struct {
	cost, paid, burned, treasury, clusterFee chain.Amount

	feeBurned      chain.Amount // of burned, the protocol fee's: what reputation weighs
	priorityBurned chain.Amount // of burned, the rest
	priorityFee    chain.Amount // of clusterFee
}

// shares are what a charge is divided by, beside the parameters.
type shares struct {
	clusterBps uint16
	priority   chain.PriorityFee
}

// splitCost divides a charge. Of the order's priority fee in it ⌈fee · burn share⌉ is burned and the
// cluster gets the rest: it gave the place that was paid for. What is left is what the work cost. Of that the
// protocol fee is ⌈cost · bps⌉, of which ⌈fee · burn share⌉ is burned and the rest goes to the treasury; the cluster
// gets ⌊cost · its bps⌋ of what there is; the provider gets the rest.
func splitCost(charge chain.Amount, params *chain.Params, by shares) split {
	priority := by.priority.Of(charge)
	priorityBurned := sound(priority.ShareCeil(uint64(params.PriorityBurnBps), wholeBps))
	priorityFee := sound(priority.Sub(priorityBurned))
	cost := sound(charge.Sub(priority))
	fee := sound(cost.ShareCeil(uint64(params.ProtocolFeeBps), wholeBps))
	burned := sound(fee.ShareCeil(uint64(params.BurnBps), wholeBps))
	rest := sound(cost.Sub(fee))
	clusterFee := sound(cost.ShareFloor(uint64(by.clusterBps), wholeBps))
	if rest.Less(clusterFee) {
		clusterFee = rest
	}
	return split{
		cost: charge, burned: sound(burned.Add(priorityBurned)), treasury: sound(fee.Sub(burned)),
		clusterFee: sound(clusterFee.Add(priorityFee)), paid: sound(rest.Sub(clusterFee)),
		feeBurned: burned, priorityBurned: priorityBurned, priorityFee: priorityFee,
	}
}

// afford demands that the order's max cost and the escrow cover a further cost,
// and returns the escrow.
func (p *posted) afford(cost chain.Amount) (*purse, *chain.Rejection) {
	spent, ok := p.book.Spent.Add(cost)
	if !ok || p.book.MaxCost.Less(spent) {
		return nil, chain.Reject("cost %s on top of %s is above the max cost, %s", cost, p.book.Spent, p.book.MaxCost)
	}
	escrow := p.books.purse(p.book.Consumer, p.book.Cluster)
	if held := escrow.available(); held.Less(cost) {
		return nil, chain.Reject("cost is %s, the escrow holds %s", cost, held)
	}
	return escrow, nil
}

// pay moves a claim's charge out of the escrow, which affords it, and fills the
// claim's record with how it was divided. Both sides' reputation learns of it. The caller
// saves the books.
func (p *posted) pay(escrow *purse, record *Claim, cost chain.Amount) {
	s := splitCost(cost, &p.env.Params, shares{p.cluster.FeeBps, p.book.PriorityBps})
	if fact, known := factOf(record.Exit); known {
		escrow.note(p.env, fact, s.feeBurned)
		p.books.noteNode(record.Node, fact, s.feeBurned)
	}
	escrow.take(cost)
	p.books.credit(record.Provider, s.paid)
	p.books.credit(Treasury, s.treasury)
	p.books.credit(p.cluster.Operator, s.clusterFee)
	p.books.burn(s.burned)
	p.book.Spent = sound(p.book.Spent.Add(cost))
	record.Height, record.Pending = p.env.Height, nil
	record.Cost, record.Paid, record.Burned = s.cost, s.paid, s.burned
	record.Treasury, record.ClusterFee = s.treasury, s.clusterFee
	record.PriorityBurned, record.PriorityFee = s.priorityBurned, s.priorityFee
}

// record returns the state of this claim, nothing paid.
func (p *posted) record() Claim {
	return Claim{
		Node: p.Receipt.Node, Provider: p.provider, Sequence: p.Receipt.Sequence,
		Result: p.Receipt.Result, Exit: p.Receipt.Exit, Height: p.env.Height, OutputKey: p.OutputKey,
	}
}

// saveClaim writes a claim's record. What it used is told by the event that pays it.
func (p *posted) saveClaim(record *Claim) {
	kept := *record
	kept.Records = nil
	state.Save(p.kv, ClaimKey(chain.ClaimKey{Order: p.id, Node: record.Node, Sequence: record.Sequence}), kept)
}

// keep counts a claim that is paid and writes it with the order's state, which is queued to
// expire with its first claim. That one is kept in the order's own record.
func (p *posted) keep(record *Claim) {
	if len(p.book.Assignments) == 0 {
		kept := *record
		kept.Records = nil
		p.book.First = &kept
		p.books.begin(p.id, p.book.Expires)
	} else {
		p.saveClaim(record)
	}
	p.book.advance(p.Receipt.Node)
	saveOrder(p.kv, p.id, &p.book)
}

// paid returns the events of a claim that is paid at once: that it is, and the key that
// whoever paid waits for.
func (p *posted) paid(record *Claim) chain.Events {
	return append(chain.Events{p.settled(record)}, p.revealed(record)...)
}

// revealed is the event of a key, if there is one.
func (p *posted) revealed(record *Claim) chain.Events {
	if record.OutputKey == nil {
		return nil
	}
	return chain.Events{chain.KeyRevealed{
		Order: p.id, Node: record.Node, Sequence: chain.Number(record.Sequence), Output: p.Receipt.Sealed.Output, Key: *record.OutputKey,
	}}
}

// settled is the event of a paid claim.
func (p *posted) settled(record *Claim) chain.ClaimSettled {
	return chain.ClaimSettled{
		Order: p.id, Node: record.Node, Sequence: chain.Number(record.Sequence),
		Consumer: p.book.Consumer, Provider: record.Provider, Cluster: p.book.Cluster,
		Policy: p.book.Policy.String(), Result: record.Result, Exit: record.Exit,
		Cost: record.Cost, Paid: record.Paid, Burned: record.Burned,
		Treasury: record.Treasury, ClusterFee: record.ClusterFee, PriorityBurned: record.PriorityBurned, PriorityFee: record.PriorityFee,
		ProofVerified: record.ProofVerified, Records: record.Records,
	}
}

// Verified reports whether the work of a paid claim was verified: by the chain,
// which checked its proof, or by replicas of other owners that agree. A cluster's
// attestation alone verifies nothing.
func Verified(e *chain.ClaimSettled) bool {
	return e.ProofVerified || strings.HasPrefix(e.Policy, "replicate(")
}

// resources lists usage as the chain keeps it. Without prices the price is 0:
// a proven statement is paid by its fixed price, and what it used is only told.
func (p *posted) resources(record *Claim, usage []chain.Usage, prices []chain.UnitPrice, ended chain.TimeMs) []chain.ResourceTransaction {
	list := make([]chain.ResourceTransaction, len(usage))
	for i, u := range usage {
		price, _ := chain.PriceOf(prices, u.Resource) // without one: 0
		list[i] = chain.ResourceTransaction{
			NodeID: record.Node, ResourceType: u.Resource, Amount: u.Amount, DurationMs: u.DurationMs,
			PricePerUnit: chain.Number(price), Consumer: p.book.Consumer, Provider: record.Provider, Timestamp: ended,
		}
	}
	return list
}
