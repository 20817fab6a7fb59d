package settlement

import (
	"bytes"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// Meter is the metering key of a node. It holds only for the owner that registered it: a
// node that changed hands has none until its new owner registers one.
type Meter struct {
	_     struct{} `cbor:",toarray"`
	Owner chain.Address
	Key   chain.MeterKey
	X, Y  chain.FieldBytes // of the key's point
}

// MeterOf returns a node's metering key, and false if none was registered.
func MeterOf(r state.Reader, node crypto.PublicKey) (Meter, bool) {
	return state.Load[Meter](r, MeterKey(node))
}

// DecodeMeter decodes a metering key's record, for those who checked its proof.
func DecodeMeter(value []byte) (Meter, error) { return decode[Meter](value) }

// RegisterMeter gives a node of the sender a metering key, in place of the one that it may
// have had: a point of the subgroup, whose secret the sender has. A key is one node's for ever:
// the records that it signs name no other.
func RegisterMeter(kv state.KV, env *Env, owner chain.Address, m chain.RegisterMeter) (chain.Event, *chain.Rejection) {
	if _, why := ownProvider(kv, owner, m.Node); why != nil {
		return nil, why
	}
	if known, ok := MeterOf(kv, m.Node); ok && known.Key == m.Key && known.Owner == owner {
		return nil, chain.Reject("metering key %s is registered already", crypto.Digest(m.Key).Short())
	}
	of, taken := kv.Get(meteredKey(m.Key))
	if taken && !bytes.Equal(of, m.Node[:]) {
		return nil, chain.Reject("metering key %s is node %s's", crypto.Digest(m.Key).Short(), crypto.PublicKey(of).Short())
	}
	sig := zk.MeterSignature{X: zk.Field(m.Possession.X), Y: zk.Field(m.Possession.Y), S: zk.Field(m.Possession.S)}
	x, y, err := zk.MeterKey(m.Key).CheckPossession(string(env.ChainID), m.Node, sig)
	if err != nil {
		return nil, chain.Reject("%v", err)
	}
	if !taken {
		kv.Set(meteredKey(m.Key), m.Node[:])
	}
	state.Save(kv, MeterKey(m.Node), Meter{Owner: owner, Key: m.Key, X: chain.FieldBytes(x), Y: chain.FieldBytes(y)})
	return chain.MeterRegistered{Node: m.Node, Owner: owner, Key: m.Key}, nil
}

// batch is a batch that is being checked. Seen as a claim, its summary stands where a
// receipt does.
type batch struct {
	posted
	*chain.UsageBatch
	at    int // its assignment in the order's state
	meter Meter
}

// SettleBatch pays for a batch of usage records that nobody sees: the order's prices times
// what a proof says that they sum up to, and the home cluster that it measured. signed says
// whether all inner signatures verified.
func SettleBatch(kv state.KV, env *Env, m chain.SettleBatch, signed bool) (chain.Event, *chain.Rejection) {
	u, s := &m.Batch, &m.Batch.Summary
	claim := &chain.Claim{
		Order: u.Order, Acceptance: u.Acceptance, Bid: u.Bid, Attestation: u.Attestation,
		Receipt: chain.UsageReceipt{ChainID: s.ChainID, Order: s.Order, Node: s.Node, Started: s.Started, Ended: s.Ended},
	}
	b := &batch{posted: posted{Claim: claim, kv: kv, env: env, books: newLedger(kv, env), id: u.Order.ID()}, UsageBatch: u}
	for _, check := range []func() *chain.Rejection{b.checkSummary, b.checkIdentity, b.checkTimes, b.checkParties} {
		if why := check(); why != nil {
			return nil, why
		}
	}
	if !signed {
		return nil, chain.Reject("a signature of the batch does not verify")
	}
	for _, check := range []func() *chain.Rejection{b.checkMeter, b.checkRange, b.checkPrices} {
		if why := check(); why != nil {
			return nil, why
		}
	}
	cost, err := u.Order.BatchCost(s.Totals, u.Bid.Prices)
	if err != nil {
		return nil, chain.Reject("%v", err)
	}
	escrow, why := b.afford(cost)
	if why != nil {
		return nil, why
	}
	if why := b.checkProof(); why != nil {
		return nil, why
	}
	return b.pay(escrow, cost), nil
}

// checkSummary demands that the summary is of this chain and of the order and node that the
// rest of the batch is of, and that somebody measured it.
func (b *batch) checkSummary() *chain.Rejection {
	s := &b.Summary
	switch {
	case s.ChainID != b.env.ChainID:
		return chain.Reject("batch is of chain %.32q, this is %q", s.ChainID, b.env.ChainID)
	case s.Order != b.id:
		return chain.Reject("batch is of order %s, want %s", s.Order.Short(), b.id.Short())
	case s.Node != b.UsageBatch.Bid.Node:
		return chain.Reject("batch is of node %s, the bid by %s", s.Node.Short(), b.UsageBatch.Bid.Node.Short())
	}
	if _, metered := b.UsageBatch.Order.Policy.Policy.(chain.PolicyNone); !metered {
		return chain.Reject("policy is %s: batches are paid of metered work", b.UsageBatch.Order.Policy)
	}
	if b.UsageBatch.Order.Fair {
		return chain.Reject("order %s is under fair exchange: a batch tells no key", b.id.Short())
	}
	if b.UsageBatch.Attestation == (crypto.Signature{}) {
		return chain.Reject("batch has no attestation of cluster %s", b.UsageBatch.Order.Cluster.Short())
	}
	return nil
}

// checkMeter demands the metering key that the node's owner registered last.
func (b *batch) checkMeter() *chain.Rejection {
	meter, ok := MeterOf(b.kv, b.Summary.Node)
	switch {
	case !ok || meter.Owner != b.provider:
		return chain.Reject("node %s has no metering key", b.Summary.Node.Short())
	case meter.Key != b.Summary.Meter:
		return chain.Reject("batch is of metering key %s, the node's is %s", crypto.Digest(b.Summary.Meter).Short(), crypto.Digest(meter.Key).Short())
	}
	b.meter = meter
	return nil
}

// checkRange demands that the batch begins where the one before it ended, and that the
// assignment is settled by batches alone: a receipt would charge for the same use again.
func (b *batch) checkRange() *chain.Rejection {
	if b.book.Closed {
		return chain.Reject("order %s is settled", b.id.Short())
	}
	b.at = b.book.assignment(b.Summary.Node)
	var known Assignment
	if b.at < len(b.book.Assignments) {
		known = b.book.Assignments[b.at]
	}
	switch {
	case b.at >= MaxOrderClaims:
		return chain.Reject("order %s has %d assignments, the limit", b.id.Short(), MaxOrderClaims)
	case known.Next > 1:
		return chain.Reject("node %s is paid by claims under order %s", b.Summary.Node.Short(), b.id.Short())
	case uint64(b.Summary.After) != known.Last:
		return chain.Reject("batch begins after sequence %d, the last of node %s is %d", b.Summary.After, b.Summary.Node.Short(), known.Last)
	}
	return nil
}

// checkPrices demands that no price of the bid is above its cap, and that every resource
// used has a price and a cap.
func (b *batch) checkPrices() *chain.Rejection {
	order, bid := &b.UsageBatch.Order, &b.UsageBatch.Bid
	if !bid.Fixed.IsZero() {
		return chain.Reject("fixed price %s for metered work", bid.Fixed)
	}
	if why := withinCaps(order, bid); why != nil {
		return why
	}
	for _, t := range b.Summary.Totals {
		if _, capped := chain.PriceOf(order.Caps, t.Resource); !capped {
			return chain.Reject("%s was used, the order has no cap for it", t.Resource)
		}
		if _, priced := chain.PriceOf(bid.Prices, t.Resource); !priced {
			return chain.Reject("%s was used, the bid has no price for it", t.Resource)
		}
	}
	return nil
}

// checkProof demands that the records under the root are the key's, of this order, in
// increasing sequence, and sum up to the totals.
func (b *batch) checkProof() *chain.Rejection {
	kernel := zk.Kernel(b.Kernel)
	family, size, ok := kernel.Of()
	pinned, known := b.env.Kernels[b.Kernel]
	switch {
	case !ok || family != zk.UsageBatch:
		return chain.Reject("kernel %.32q does not sum up usage", b.Kernel)
	case !known:
		return chain.Reject("kernel %q is not pinned by genesis", b.Kernel)
	case int(b.Summary.Count) > size:
		return chain.Reject("batch of %d records, %s takes %d", b.Summary.Count, b.Kernel, size)
	}
	totals := BatchTotals(&b.Summary)
	if err := totals.Check(); err != nil {
		return chain.Reject("%v", err)
	}
	statement := zk.Statement{
		Kernel: kernel, VerifyingKey: pinned,
		Inputs: []zk.Field{zk.UsageContextAt(b.id, zk.Field(b.meter.X), zk.Field(b.meter.Y))},
		Output: []zk.Field{totals.Digest()},
		Bind:   BatchBind(&b.Summary),
	}
	if err := b.env.Verifier.Verify(statement, b.UsageBatch.Proof); err != nil {
		return chain.Reject("proof: %v", err)
	}
	return nil
}

// BatchTotals returns what the proof of a batch with a summary states.
func BatchTotals(s *chain.BatchSummary) zk.UsageTotals {
	t := zk.UsageTotals{After: uint64(s.After), Last: uint64(s.Last), Count: s.Count, Root: zk.Field(s.Root)}
	for _, total := range s.Totals {
		t.Totals[total.Resource-chain.CPU] = zk.UsageTotal{High: uint64(total.High), Low: uint64(total.Low)}
	}
	return t
}

// Span is when the work of a batch began and ended.
type Span struct{ Started, Ended chain.TimeMs }

// SummaryOf returns the summary of a batch of records of a node.
func SummaryOf(work *zk.UsageWork, id chain.ChainID, node crypto.PublicKey, span Span) chain.BatchSummary {
	file, t := work.File(), work.Totals()
	s := chain.BatchSummary{
		ChainID: id, Order: file.Order, Node: node, Meter: chain.MeterKey(file.Key), After: chain.Number(t.After), Last: chain.Number(t.Last),
		Count: t.Count, Root: chain.FieldBytes(t.Root), Started: span.Started, Ended: span.Ended,
	}
	for i, total := range t.Totals {
		if total != (zk.UsageTotal{}) {
			s.Totals = append(s.Totals, chain.BatchTotal{Resource: chain.CPU + chain.Resource(i), High: chain.Number(total.High), Low: chain.Number(total.Low)})
		}
	}
	return s
}

// BatchBind returns what binds a proof to the batch with a summary: its place is named by
// its last sequence, of which an order and node have one.
func BatchBind(s *chain.BatchSummary) zk.Field {
	return zk.Bind(string(s.ChainID), s.Order, uint64(s.Last), s.Node)
}

// pay moves the batch's charge out of the escrow, which affords it, and counts the range.
// For both sides it is paid work, neither ended well nor badly.
func (b *batch) pay(escrow *purse, cost chain.Amount) chain.Event {
	s := splitCost(cost, &b.env.Params, shares{b.cluster.FeeBps, b.book.PriorityBps})
	escrow.note(b.env, match.FactPaid, s.feeBurned)
	noteNode(b.kv, b.env, b.Summary.Node, match.FactPaid, s.feeBurned)
	escrow.take(cost)
	escrow.save()
	tokens.Credit(b.kv, b.provider, s.paid)
	tokens.Credit(b.kv, Treasury, s.treasury)
	tokens.Credit(b.kv, b.cluster.Operator, s.clusterFee)
	tokens.Burn(b.kv, s.burned)
	b.book.Spent = sound(b.book.Spent.Add(cost))
	if len(b.book.Assignments) == 0 {
		b.kv.Set(expiryKey(b.book.Expires, b.id[:]), []byte{})
	}
	if b.at == len(b.book.Assignments) {
		b.book.Assignments = append(b.book.Assignments, Assignment{Node: b.Summary.Node, Next: 1})
	}
	b.book.Assignments[b.at].Last = uint64(b.Summary.Last)
	saveOrder(b.kv, b.id, &b.book)
	return chain.BatchSettled{
		Order: b.id, Node: b.Summary.Node, Consumer: b.book.Consumer, Provider: b.provider, Cluster: b.book.Cluster,
		Meter: b.Summary.Meter, After: b.Summary.After, Last: b.Summary.Last, Count: b.Summary.Count,
		Totals: b.Summary.Totals, Root: b.Summary.Root, Kernel: b.Kernel, Ended: b.Summary.Ended,
		Cost: s.cost, Paid: s.paid, Burned: s.burned, Treasury: s.treasury, ClusterFee: s.clusterFee,
		PriorityBurned: s.priorityBurned, PriorityFee: s.priorityFee,
	}
}
