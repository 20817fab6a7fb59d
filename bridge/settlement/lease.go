package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// MinLeaseMs is the least that the money of a lease must last for when it is opened or
// resized: what ends sooner is a job.
const MinLeaseMs = 60_000

// Lease is the chain's state of what a node keeps for a consumer. It is paid by the
// millisecond out of what it holds, and is over at Expires, whichever block deletes it
// after that. Nothing has to touch it in between.
type Lease struct {
	_           struct{} `cbor:",toarray"`
	Consumer    chain.Address
	Cluster     crypto.PublicKey
	Provider    chain.Address     // the node's owner when it was opened
	Operator    chain.Address     // the cluster's when these terms began
	FeeBps      uint16            // the cluster's fee, which these terms keep
	PriorityBps chain.PriorityFee // of the order that opened it, which every resize keeps
	Order       crypto.Digest     // whose terms hold
	Spec        crypto.Digest
	Resources   []chain.Quantity
	Prices      []chain.UnitPrice
	NoticeMs    uint64
	Rate        uint64       // 10⁻¹⁸ HYPER per second, the priority fee included
	Since       chain.TimeMs // when these terms began
	Charged     chain.Amount // for the time from Since to Until: RateCost of it, so that rounding does not add up; and what went back of the time since
	Until       chain.TimeMs // up to which the provider was paid
	Held        chain.Amount // what is left: for the time from Until on
	Expires     chain.TimeMs
	Closing     bool // notice was given: Expires stands
	Promised    bool // there is a Service of it
}

// LeaseOf returns a lease, and false if there is none, or no longer.
func LeaseOf(r state.Reader, id chain.LeaseID) (Lease, bool) {
	return loaded(r, LeaseKey(id), decodeLease)
}

// DecodeLease decodes a lease's record, for those who checked its proof.
func DecodeLease(value []byte) (Lease, error) { return decode[Lease](value) }

// OpenLease makes an order with a term and a bid into a lease, and moves the order's max
// cost into it out of the escrow. signed says whether all inner signatures verified.
func OpenLease(kv state.KV, env *Env, m chain.OpenLease, signed bool) (chain.Event, *chain.Rejection) {
	d := &deal{LeaseDeal: &m.Deal, kv: kv, env: env, id: m.Deal.Order.ID()}
	if why := d.check(signed); why != nil {
		return nil, why
	}
	if !m.Deal.Order.Term.Resizes.IsZero() {
		return nil, chain.Reject("order is to resize lease %s, not to open one", m.Deal.Order.Term.Resizes.Short())
	}
	key := chain.LeaseID{Node: m.Deal.Bid.Node, Order: d.id}
	l := Lease{
		Consumer: d.Order.ConsumerAddress(), Cluster: d.Order.Cluster, Provider: d.provider,
		Since: env.Now, Until: env.Now,
	}
	if why := d.conclude(&l); why != nil {
		return nil, why
	}
	if why := d.promise(&l, key); why != nil {
		return nil, why
	}
	keepInstead(kv, env, key.Node, nil, l.Resources)
	saveLease(kv, key, &l, 0)
	return chain.LeaseOpened{
		Lease: key, Consumer: l.Consumer, Provider: l.Provider, Cluster: l.Cluster, Spec: l.Spec,
		Rate: chain.Number(l.Rate), Held: l.Held, Expires: l.Expires,
	}, nil
}

// ResizeLease pays what is due under a lease's terms, puts a new order and bid of the same
// parties in their place, and adds the order's max cost to what it holds.
func ResizeLease(kv state.KV, env *Env, m chain.ResizeLease, signed bool) (chain.Events, *chain.Rejection) {
	l, why := liveLease(kv, env, m.Lease)
	if why != nil {
		return nil, why
	}
	d := &deal{LeaseDeal: &m.Deal, kv: kv, env: env, id: m.Deal.Order.ID()}
	switch {
	case l.Closing:
		return nil, chain.Reject("lease ends at %d ms upon notice", l.Expires)
	case m.Deal.Order.ConsumerAddress() != l.Consumer:
		return nil, chain.Reject("order is by %s, the lease's consumer is %s", m.Deal.Order.ConsumerAddress().Short(), l.Consumer.Short())
	case m.Deal.Order.Cluster != l.Cluster:
		return nil, chain.Reject("order is at cluster %s, the lease's is %s", m.Deal.Order.Cluster.Short(), l.Cluster.Short())
	case m.Deal.Order.PriorityBps != l.PriorityBps: // the place that it pays for was had
		return nil, chain.Reject("order has a priority fee of %d bps, the lease's is %d", m.Deal.Order.PriorityBps, l.PriorityBps)
	case m.Deal.Order.Term.Resizes != m.Lease.Order:
		return nil, chain.Reject("order is not to resize lease %s", m.Lease.Order.Short())
	case m.Deal.Bid.Node != m.Lease.Node:
		return nil, chain.Reject("bid is by node %s, the lease's is %s", m.Deal.Bid.Node.Short(), m.Lease.Node.Short())
	}
	if why := d.check(signed); why != nil {
		return nil, why
	}
	if d.provider != l.Provider {
		return nil, chain.Reject("node %s belongs to %s, the lease pays %s", m.Lease.Node.Short(), d.provider.Short(), l.Provider.Short())
	}
	was, resources := l.Expires, l.Resources
	events, why := leaveTerms(kv, env, m.Lease, l)
	if why != nil {
		return nil, why
	}
	l.Since, l.Until, l.Charged = env.Now, env.Now, chain.Amount{} // also if nothing was due
	if why := d.conclude(l); why != nil {
		return nil, why // the transaction's changes are dropped with it
	}
	if why := d.promise(l, m.Lease); why != nil {
		return nil, why
	}
	keepInstead(kv, env, m.Lease.Node, resources, l.Resources)
	saveLease(kv, m.Lease, l, was)
	return append(events, l.changed(m.Lease)), nil
}

// ExtendLease moves an amount out of the sender's balance into a lease, which lasts the
// longer for it. Whoever it is gives it to the lease's consumer, who gets what is left: so a contract
// pays for a lease, which it cannot sign. It does not come out of the escrow: the home cluster has promised that to
// providers, and a consumer would take it back in the moment in which a claim is on its way.
func ExtendLease(kv state.KV, env *Env, from chain.Address, m chain.ExtendLease) (chain.Event, *chain.Rejection) {
	l, why := liveLease(kv, env, m.Lease)
	switch {
	case why != nil:
		return nil, why
	case l.Closing:
		return nil, chain.Reject("lease ends at %d ms upon notice", l.Expires)
	case m.Amount.IsZero():
		return nil, chain.Reject("extension by nothing")
	}
	if why := tokens.Debit(kv, from, m.Amount, env.Now); why != nil {
		return nil, why
	}
	was := l.Expires
	if why := l.add(m.Amount); why != nil {
		return nil, why
	}
	escrow := openPurse(kv, env, l.Consumer, l.Cluster)
	escrow.hold(m.Amount)
	escrow.save()
	saveLease(kv, m.Lease, l, was)
	return l.changed(m.Lease), nil
}

// CloseLease ends a lease after its notice. Both sides may give it, once.
func CloseLease(kv state.KV, env *Env, from chain.Address, m chain.CloseLease) (chain.Event, *chain.Rejection) {
	l, why := liveLease(kv, env, m.Lease)
	switch {
	case why != nil:
		return nil, why
	case l.Consumer != from && l.Provider != from:
		return nil, chain.Reject("%s has no part in the lease", from.Short())
	case l.Closing:
		return nil, chain.Reject("lease ends at %d ms upon notice", l.Expires)
	}
	was := l.Expires
	end, ok := checked.Add(uint64(env.Now), l.NoticeMs)
	if ok {
		l.Expires = min(l.Expires, chain.TimeMs(end))
	}
	l.Closing = true
	saveLease(kv, m.Lease, l, was)
	return l.changed(m.Lease), nil
}

// CollectLease pays the provider for the time until now.
func CollectLease(kv state.KV, env *Env, m chain.CollectLease) (chain.Events, *chain.Rejection) {
	l, why := liveLease(kv, env, m.Lease)
	if why != nil {
		return nil, why
	}
	until := payableOf(kv, env, m.Lease, l)
	events := collect(kv, env, m.Lease, l, until)
	if len(events) == 0 {
		return nil, chain.Reject("nothing is due of the lease since %d ms, to be paid up to %d", l.Until, until)
	}
	saveLease(kv, m.Lease, l, l.Expires)
	return events, nil
}

// liveLease returns a lease that is not over.
func liveLease(kv state.KV, env *Env, id chain.LeaseID) (*Lease, *chain.Rejection) {
	l, ok := LeaseOf(kv, id)
	if !ok {
		return nil, chain.Reject("node %s has no lease of order %s", id.Node.Short(), id.Order.Short())
	}
	if env.Now >= l.Expires {
		return nil, chain.Reject("lease ended at %d ms, it is %d", l.Expires, env.Now)
	}
	return &l, nil
}

// deal is what a lease is opened or resized with.
type deal struct {
	*chain.LeaseDeal
	kv       state.KV
	env      *Env
	id       crypto.Digest // of the order
	provider chain.Address // the node's owner
	cluster  Cluster
}

func (d *deal) check(signed bool) *chain.Rejection {
	if !signed {
		return chain.Reject("a signature of the deal does not verify")
	}
	for _, check := range []func() *chain.Rejection{d.checkIdentity, d.checkTimes, d.checkParties, d.checkPrices} {
		if why := check(); why != nil {
			return why
		}
	}
	return nil
}

// checkIdentity demands that the three signed forms are of this chain, and of one order
// and cluster.
func (d *deal) checkIdentity() *chain.Rejection {
	if why := ofChain(d.env, d.Order.ChainID, d.Acceptance.ChainID, d.Bid.ChainID); why != nil {
		return why
	}
	if why := checkAcceptance(&d.Order, d.id, &d.Acceptance); why != nil {
		return why
	}
	if d.Bid.Order != d.id {
		return chain.Reject("bid is of order %s, want %s", d.Bid.Order.Short(), d.id.Short())
	}
	return nil
}

// checkTimes demands that the lease begins in time, and that the order was not used.
func (d *deal) checkTimes() *chain.Rejection {
	switch {
	case d.env.Now > d.Order.Deadline:
		return chain.Reject("order's deadline was %d ms, it is %d", d.Order.Deadline, d.env.Now)
	case d.env.Now > d.Bid.Expiry:
		return chain.Reject("bid expired at %d ms, it is %d", d.Bid.Expiry, d.env.Now)
	}
	if _, used := OrderOf(d.kv, d.id); used {
		return chain.Reject("order %s was used", d.id.Short())
	}
	_, why := expiryOf(d.env, d.Order.Deadline)
	return why
}

func (d *deal) checkParties() *chain.Rejection {
	var ok bool
	if d.cluster, ok = ClusterOf(d.kv, d.Order.Cluster); !ok || d.cluster.UnbondedMs != 0 {
		return chain.Reject("cluster %s is not registered", d.Order.Cluster.Short())
	}
	provider, ok := ProviderOf(d.kv, d.Bid.Node)
	if !ok || provider.UnbondedMs != 0 {
		return chain.Reject("provider %s is not registered", d.Bid.Node.Short())
	}
	d.provider = provider.Owner
	return nil
}

func (d *deal) checkPrices() *chain.Rejection {
	if !d.Bid.Fixed.IsZero() {
		return chain.Reject("fixed price %s for a lease", d.Bid.Fixed)
	}
	if why := withinCaps(&d.Order, &d.Bid); why != nil {
		return why
	}
	for _, q := range d.Order.Term.Resources {
		if _, capped := chain.PriceOf(d.Order.Caps, q.Resource); !capped {
			return chain.Reject("%s is kept, the order has no cap for it", q.Resource)
		}
	}
	return nil
}

// conclude puts the deal's terms into a lease, moves its money there, and uses up the
// order: its record stays for as long as it could be posted again.
func (d *deal) conclude(l *Lease) *chain.Rejection {
	rate, err := d.Order.Rate(d.Bid.Prices)
	if err != nil {
		return chain.Reject("%v", err)
	}
	expires, why := expiryOf(d.env, d.Order.Deadline)
	if why != nil {
		return why
	}
	l.Order, l.Spec, l.Rate = d.id, d.Order.Spec, rate
	l.Operator, l.FeeBps, l.PriorityBps = d.cluster.Operator, d.cluster.FeeBps, d.Order.PriorityBps
	l.Resources, l.Prices, l.NoticeMs = d.Order.Term.Resources, d.Bid.Prices, d.Order.Term.NoticeMs
	if why := l.hold(d.kv, d.env, d.Order.MaxCost); why != nil {
		return why
	}
	if lasts := uint64(l.Expires - d.env.Now); lasts < MinLeaseMs {
		return chain.Reject("%s lasts for %d ms, the least of a lease is %d", l.Held, lasts, MinLeaseMs)
	}
	saveOrder(d.kv, d.id, &Order{
		Consumer: l.Consumer, Cluster: l.Cluster, Policy: d.Order.Policy,
		MaxCost: d.Order.MaxCost, Deadline: d.Order.Deadline, Expires: expires, Spent: d.Order.MaxCost, Closed: true,
		PriorityBps: d.Order.PriorityBps,
	})
	d.kv.Set(expiryKey(expires, d.id[:]), []byte{})
	return nil
}

// hold moves an amount out of the escrow's balance into the lease. What is being withdrawn is
// not touched.
func (l *Lease) hold(kv state.KV, env *Env, amount chain.Amount) *chain.Rejection {
	escrow := openPurse(kv, env, l.Consumer, l.Cluster)
	rest, ok := escrow.escrow.Balance.Sub(amount)
	if !ok {
		return chain.Reject("lease is to hold %s more, the escrow holds %s", amount, escrow.escrow.Balance)
	}
	escrow.escrow.Balance = rest
	escrow.hold(amount)
	escrow.save()
	return l.add(amount)
}

// add counts an amount among what the lease holds, and reckons how long it lasts now.
func (l *Lease) add(amount chain.Amount) *chain.Rejection {
	l.Held = sound(l.Held.Add(amount))
	end, ok := checked.Add(uint64(l.Since), chain.RateTime(l.Rate, sound(l.Held.Add(l.Charged))))
	if !ok {
		return chain.Reject("lease would end beyond time")
	}
	l.Expires = chain.TimeMs(end)
	return nil
}

// collect pays the provider for the time up to one that is not after now or Expires. It returns no
// event if that comes to nothing.
func collect(kv state.KV, env *Env, id chain.LeaseID, l *Lease, until chain.TimeMs) chain.Events {
	paid, ok := l.charge(env, id, until)
	if !ok {
		return nil
	}
	l.pay(kv, env, &paid)
	return chain.Events{paid}
}

// pay divides a charge.
func (l *Lease) pay(kv state.KV, env *Env, paid *chain.LeasePaid) {
	tokens.Credit(kv, l.Provider, paid.Paid)
	tokens.Credit(kv, Treasury, paid.Treasury)
	tokens.Credit(kv, l.Operator, paid.ClusterFee)
	tokens.Burn(kv, paid.Burned)
	noteNode(kv, env, paid.Lease.Node, match.FactPaid, paid.FeeBurned())
	escrow := openPurse(kv, env, l.Consumer, l.Cluster)
	escrow.note(env, match.FactPaid, paid.FeeBurned())
	escrow.letGo(paid.Cost)
	escrow.save()
}

// due returns what is due up to a time and neither paid nor given back.
func (l *Lease) due(until chain.TimeMs) chain.Amount {
	due, ok := chain.RateCost(l.Rate, uint64(until-l.Since)).Sub(l.Charged)
	if !ok { // more was paid, or given back of the time after
		return chain.Amount{}
	}
	return due
}

// charge takes what is due up to a time, which is not after Expires, out of what the lease
// holds, and says how it is divided. It is false if nothing is due.
func (l *Lease) charge(env *Env, id chain.LeaseID, now chain.TimeMs) (chain.LeasePaid, bool) {
	cost := l.due(now)
	if cost.IsZero() {
		return chain.LeasePaid{}, false
	}
	s := splitCost(cost, &env.Params, shares{l.FeeBps, l.PriorityBps})
	records := make([]chain.ResourceTransaction, len(l.Resources))
	for i, q := range l.Resources {
		price, _ := chain.PriceOf(l.Prices, q.Resource) // Rate asked for each
		records[i] = chain.ResourceTransaction{
			NodeID: id.Node, ResourceType: q.Resource, Amount: q.Amount, DurationMs: uint64(now - l.Until),
			PricePerUnit: chain.Number(price), Consumer: l.Consumer, Provider: l.Provider, Timestamp: now,
		}
	}
	l.Held, l.Charged, l.Until = sound(l.Held.Sub(cost)), sound(l.Charged.Add(cost)), now
	return chain.LeasePaid{
		Lease: id, Consumer: l.Consumer, Provider: l.Provider, Cluster: l.Cluster, Until: now,
		Cost: s.cost, Paid: s.paid, Burned: s.burned, Treasury: s.treasury, ClusterFee: s.clusterFee,
		PriorityBurned: s.priorityBurned, PriorityFee: s.priorityFee, Records: records,
	}, true
}

// saveLease writes a lease and its place in the queue of ends, which was at another time
// before; 0 if it was not there.
func saveLease(kv state.KV, id chain.LeaseID, l *Lease, was chain.TimeMs) {
	if was != l.Expires {
		if was != 0 {
			dropLeaseEnd(kv, was, id)
		}
		QueueLeaseEnd(kv, l.Expires, id)
	}
	state.Save(kv, LeaseKey(id), *l)
}

func (l *Lease) changed(id chain.LeaseID) chain.Event {
	return chain.LeaseChanged{Lease: id, Order: l.Order, Rate: chain.Number(l.Rate), Held: l.Held, Expires: l.Expires, Closing: l.Closing}
}
