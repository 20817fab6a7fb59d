package settlement

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Settle gives each claim its own verdict and returns the events. signed says
// for each claim how its inner signatures verified.
func Settle(kv state.KV, env *Env, m chain.Settle, signed []chain.Signing) chain.Events {
	var events chain.Events
	books := newLedger(kv, env)
	for i := range m.Claims {
		c := &m.Claims[i]
		var found chain.Signing
		if i < len(signed) {
			found = signed[i]
		}
		var made chain.Events
		var why *chain.Rejection
		if found == chain.AllSigned {
			made, why = settleClaim(books, c)
		} else {
			why = chain.Reject("the signature of %s does not verify", c.Unsigned(found))
		}
		if why != nil {
			key := c.Key()
			made = chain.Events{chain.ClaimRejected{
				Order: key.Order, Node: key.Node, Sequence: chain.Number(key.Sequence), Reason: why.Reason(),
			}}
		}
		events = append(events, made...)
	}
	books.save()
	return events
}

// posted is a claim that passed every check but its policy's.
type posted struct {
	*chain.Claim
	kv       state.KV
	env      *Env
	books    *ledger
	id       crypto.Digest // of the order
	book     Order         // the state of the order, before this claim
	cluster  Cluster
	provider chain.Address // the node's owner
}

// settleClaim checks a claim, and pays or records it. It writes nothing before
// the last check has passed.
func settleClaim(books *ledger, c *chain.Claim) (chain.Events, *chain.Rejection) {
	p := newPosted(books, c)
	if why := p.check(); why != nil {
		return nil, why
	}
	switch policy := c.Order.Policy.Policy.(type) {
	case chain.PolicyNone:
		return p.attested()
	case chain.PolicyReplicate:
		return nil, chain.Reject("order %s is under %s: its runs are committed and revealed, not claimed", p.id.Short(), policy)
	case chain.PolicyZK:
		return p.proven(policy)
	case chain.PolicyOptimistic:
		books.save() // it looks at the records themselves
		events, why := p.optimistic(policy)
		books.save()
		return events, why
	}
	panic("settlement: a policy outside the sealed sum")
}

func newPosted(books *ledger, c *chain.Claim) *posted {
	return &posted{Claim: c, kv: books.kv, env: books.env, books: books, id: c.Order.ID()}
}

// check makes every check but its policy's.
func (p *posted) check() *chain.Rejection {
	for _, check := range []func() *chain.Rejection{
		p.checkIdentity, p.checkTimes, p.checkParties, p.checkAttested, p.checkExchange, p.checkSequence, p.checkPrices,
	} {
		if why := check(); why != nil {
			return why
		}
	}
	return nil
}

// checkIdentity demands that the four signed forms are of this chain and of one
// order, cluster and node.
func (p *posted) checkIdentity() *chain.Rejection {
	if why := ofChain(p.env, p.Order.ChainID, p.Acceptance.ChainID, p.Bid.ChainID, p.Receipt.ChainID); why != nil {
		return why
	}
	if p.Order.Term != nil {
		return chain.Reject("order %s is for a lease", p.id.Short())
	}
	if why := checkAcceptance(&p.Order, p.id, &p.Acceptance); why != nil {
		return why
	}
	switch {
	case p.Bid.Order != p.id:
		return chain.Reject("bid is of order %s, want %s", p.Bid.Order.Short(), p.id.Short())
	case p.Receipt.Order != p.id:
		return chain.Reject("receipt is of order %s, want %s", p.Receipt.Order.Short(), p.id.Short())
	case p.Bid.Node != p.Receipt.Node:
		return chain.Reject("bid is by node %s, receipt by %s", p.Bid.Node.Short(), p.Receipt.Node.Short())
	}
	return nil
}

// ofChain demands that signed forms are of this chain: the order, the acceptance, the bid
// and, of a claim, the receipt.
func ofChain(env *Env, ids ...chain.ChainID) *chain.Rejection {
	for i, id := range ids {
		if id != env.ChainID {
			form := [...]string{"order", "acceptance", "bid", "receipt"}[i]
			return chain.Reject("%s is of chain %.32q, this is %q", form, id, env.ChainID)
		}
	}
	return nil
}

// checkAcceptance demands that an acceptance is the home cluster's of an order, and covers
// its max cost.
func checkAcceptance(o *chain.Order, id crypto.Digest, a *chain.Acceptance) *chain.Rejection {
	switch {
	case a.Order != id:
		return chain.Reject("acceptance is of order %s, want %s", a.Order.Short(), id.Short())
	case a.Cluster != o.Cluster:
		return chain.Reject("acceptance is by cluster %s, the order's is %s", a.Cluster.Short(), o.Cluster.Short())
	case a.Sequence == 0:
		return chain.Reject("acceptance has sequence 0")
	case a.Outstanding.Less(o.MaxCost):
		return chain.Reject("acceptance covers %s, the order's max cost is %s", a.Outstanding, o.MaxCost)
	}
	return nil
}

// checkTimes loads the order's state or begins it, and demands that the work
// and the claim are in time.
func (p *posted) checkTimes() *chain.Rejection {
	known, ok := OrderOf(p.kv, p.id)
	if ok {
		p.book = known
	} else if why := p.beginOrder(); why != nil {
		return why
	}
	switch {
	case p.env.Now > p.until():
		return chain.Reject("claim window ended at %d ms, it is %d", p.until(), p.env.Now)
	case p.Receipt.Ended > p.Order.Deadline:
		return chain.Reject("work ended at %d ms, the deadline was %d", p.Receipt.Ended, p.Order.Deadline)
	case p.Receipt.Started > p.Bid.Expiry:
		return chain.Reject("work started at %d ms, the bid expired at %d", p.Receipt.Started, p.Bid.Expiry)
	}
	return nil
}

// until is the end of the order's claim window: what is known of it may stay for longer.
func (p *posted) until() chain.TimeMs {
	end, ok := checked.Add(uint64(p.Order.Deadline), p.env.Params.ClaimWindowMs)
	if !ok {
		return p.book.Expires
	}
	return min(p.book.Expires, chain.TimeMs(end))
}

func (p *posted) beginOrder() *chain.Rejection {
	expires, why := expiryOf(p.env, p.Order.Deadline)
	if why != nil {
		return why
	}
	p.book = Order{
		Consumer: p.Order.ConsumerAddress(), Cluster: p.Order.Cluster, Policy: p.Order.Policy,
		MaxCost: p.Order.MaxCost, Deadline: p.Order.Deadline, Expires: expires, PriorityBps: p.Order.PriorityBps,
	}
	return nil
}

// expiryOf returns when what is known of an order with a deadline is deleted: its claim
// window later, which is not later than a withdrawal made now would mature.
func expiryOf(env *Env, deadline chain.TimeMs) (chain.TimeMs, *chain.Rejection) {
	expires, ok := checked.Add(uint64(deadline), env.Params.ClaimWindowMs)
	if !ok {
		return 0, chain.Reject("deadline %d ms is beyond time", deadline)
	}
	if ahead, future := checked.Sub(expires, uint64(env.Now)); future && ahead > env.Params.WithdrawalDelayMs {
		return 0, chain.Reject("claim window ends in %d ms, after a withdrawal's %d: longer work is a lease", ahead, env.Params.WithdrawalDelayMs)
	}
	return chain.TimeMs(expires), nil
}

func (p *posted) checkParties() *chain.Rejection {
	cluster, ok := p.books.cluster(p.Order.Cluster)
	if !ok || !serves(cluster.UnbondedMs, p.env) {
		return chain.Reject("cluster %s is not registered", p.Order.Cluster.Short())
	}
	node := p.books.node(p.Receipt.Node)
	if !node.known || !serves(node.provider.UnbondedMs, p.env) {
		return chain.Reject("provider %s is not registered", p.Receipt.Node.Short())
	}
	p.cluster, p.provider = *cluster, node.provider.Owner
	return nil
}

// checkAttested demands the home cluster's attestation of the receipt, or the consumer's
// countersignature; a proof stands for both, unless the output is sealed: then somebody has
// to say that it is there.
func (p *posted) checkAttested() *chain.Rejection {
	if p.Countersigned {
		return p.checkCountersigned()
	}
	_, proven := p.Order.Policy.Policy.(chain.PolicyZK)
	if p.Attestation == (crypto.Signature{}) && (!proven || p.Order.Fair) {
		return chain.Reject("claim has no attestation of cluster %s", p.Order.Cluster.Short())
	}
	return nil
}

// checkCountersigned demands that the consumer's word counts by now, and that nobody was paid
// upon the cluster's: a consumer that makes up a claim with a node of its own would else take
// back what the cluster has promised to who did the work, or to who works for another order.
func (p *posted) checkCountersigned() *chain.Rejection {
	from := p.env.Params.CountersignedFrom(p.Order.Deadline)
	switch {
	case !p.Order.Countersignable:
		return chain.Reject("claim is countersigned, which order %s does not allow", p.id.Short())
	case p.Attestation == (crypto.Signature{}):
		return chain.Reject("claim has no countersignature of its consumer")
	case p.env.Now < from:
		return chain.Reject("countersigned claims of the order are taken from %d ms on, it is %d", from, p.env.Now)
	case len(p.book.Assignments) > 0:
		return chain.Reject("order %s has a claim: none is countersigned any more", p.id.Short())
	}
	return nil
}

// checkExchange demands of an order under fair exchange that the output is sealed and the
// claim has its key, and of any other that there is neither.
func (p *posted) checkExchange() *chain.Rejection {
	switch sealed := p.Receipt.Sealed != nil; {
	case p.Order.Fair && !sealed:
		return chain.Reject("order %s asks for a fair exchange, the receipt seals no output", p.id.Short())
	case !p.Order.Fair && sealed:
		return chain.Reject("receipt seals an output, order %s asks for no fair exchange", p.id.Short())
	}
	if err := p.Receipt.CheckKey(p.OutputKey); err != nil {
		return chain.Reject("%v", err)
	}
	return nil
}

// checkSequence demands the next sequence of the node's assignment. A claim
// that is posted again fails here.
func (p *posted) checkSequence() *chain.Rejection {
	if next := p.book.next(p.Receipt.Node); p.Receipt.Sequence != next {
		return chain.Reject("sequence is %d, the next of node %s is %d", p.Receipt.Sequence, p.Receipt.Node.Short(), next)
	}
	if p.book.Closed {
		return chain.Reject("order %s is settled", p.id.Short())
	}
	if p.book.Batched(p.Receipt.Node) {
		return chain.Reject("node %s is paid by batches under order %s", p.Receipt.Node.Short(), p.id.Short())
	}
	if p.book.claims() >= MaxOrderClaims {
		return chain.Reject("order %s has %d claims, the limit", p.id.Short(), MaxOrderClaims)
	}
	return nil
}

// checkPrices demands that no price of the bid is above its cap, and that every
// resource used has a price and a cap; a proven statement has one price.
func (p *posted) checkPrices() *chain.Rejection {
	if _, zk := p.Order.Policy.Policy.(chain.PolicyZK); zk {
		if limit := p.Order.FixedPriceCap(); limit.Less(p.Bid.Fixed) {
			return chain.Reject("fixed price %s is above its cap, %s%s", p.Bid.Fixed, limit, beside(p.Order.PriorityBps))
		}
		return nil
	}
	if !p.Bid.Fixed.IsZero() {
		return chain.Reject("fixed price %s for metered work", p.Bid.Fixed)
	}
	if why := withinCaps(&p.Order, &p.Bid); why != nil {
		return why
	}
	for _, u := range p.Receipt.Usage {
		if _, capped := chain.PriceOf(p.Order.Caps, u.Resource); !capped {
			return chain.Reject("%s was used, the order has no cap for it", u.Resource)
		}
		if _, priced := chain.PriceOf(p.Bid.Prices, u.Resource); !priced {
			return chain.Reject("%s was used, the bid has no price for it", u.Resource)
		}
	}
	return nil
}

// withinCaps demands that no price of a bid, with the order's priority fee, is above its cap.
func withinCaps(o *chain.Order, b *chain.Bid) *chain.Rejection {
	for _, price := range b.Prices {
		limit, capped := o.Cap(price.Resource)
		if capped && price.Price > limit {
			return chain.Reject("price of %s is %d, its cap is %d%s", price.Resource, price.Price, limit, beside(o.PriorityBps))
		}
	}
	return nil
}

// beside says that a cap is what is left of the order's, if the order has a priority fee.
func beside(fee chain.PriorityFee) string {
	if fee == 0 {
		return ""
	}
	return fmt.Sprintf(" beside the priority fee of %d bps", fee)
}
