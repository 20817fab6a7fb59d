package settlement

import (
	"math"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Breach is what a cluster lost for broken acceptances, until it is divided.
type Breach struct {
	_         struct{} `cbor:",toarray"`
	Held      chain.Amount
	Due       uint64          // of the chain's progress
	Consumers []chain.Address // whose acceptances were broken; at most MaxBreached
	Losses    []Loss          // of different providers; at most MaxLosses
}

// Loss is what a provider lost by broken acceptances.
type Loss struct {
	_      struct{} `cbor:",toarray"`
	To     chain.Address
	Amount chain.Amount
}

// MaxBreached and MaxLosses bound a breach, and with it the block that divides it.
const (
	MaxBreached = 16
	MaxLosses   = 64
)

// breachShare is the part of a lost bond that is held for those who lost: one in so many. A
// cluster that breaks its word to itself and loses by it to itself burns the most of the rest.
const breachShare = 2

const partBreach part = kindBreach

// BreachKey returns the key of what a cluster lost for broken acceptances.
func BreachKey(cluster crypto.PublicKey) []byte { return keyOf(kindBreach, cluster[:]) }

// evidenceKey returns the key that says that a sequence of a consumer's at a cluster was
// reported.
func evidenceKey(cluster crypto.PublicKey, consumer chain.Address, sequence uint64) []byte {
	return keyOf(kindBreach, cluster[:], consumer[:], big(sequence))
}

// BreachOf returns what a cluster lost and was not divided yet, and false if there is
// nothing.
func BreachOf(r state.Reader, cluster crypto.PublicKey) (Breach, bool) {
	return state.Load[Breach](r, BreachKey(cluster))
}

// ReportAcceptance takes from a cluster what is free of its bond, once for each sequence of
// a consumer's, if it is shown to have broken its word: what claims lock can be taken with
// the same evidence once they are closed. No cluster gives a sequence twice, or promises more than it can have seen in the escrow's balance, of which the record keeps
// the most that it ever was. signed says whether the cluster's signatures verified.
func ReportAcceptance(kv state.KV, env *Env, from chain.Address, m chain.ReportAcceptance, signed bool) (chain.Event, *chain.Rejection) {
	a := &m.First.Acceptance
	consumer := m.First.Order.ConsumerAddress()
	if why := checkAccepted(env, &m.First, "first"); why != nil {
		return nil, why
	}
	if !signed {
		return nil, chain.Reject("a signature of the cluster does not verify")
	}
	if why := checkBroken(kv, env, &m, consumer); why != nil {
		return nil, why
	}
	key := evidenceKey(a.Cluster, consumer, a.Sequence)
	if _, known := kv.Get(key); known {
		return nil, chain.Reject("acceptance %d of %s by cluster %s was reported", a.Sequence, consumer.Short(), a.Cluster.Short())
	}
	cluster, ok := ClusterOf(kv, a.Cluster)
	if !ok {
		return nil, chain.Reject("cluster %s is not registered", a.Cluster.Short())
	}
	lost := freeBond(kv, env, a.Cluster, &cluster)
	breach, open := BreachOf(kv, a.Cluster)
	spent := cluster.Locked.IsZero() // else what is locked may be taken yet
	switch {
	case lost.IsZero() && (!open || !spent && slices.Contains(breach.Consumers, consumer)):
		return nil, chain.Reject("cluster %s has no bond that is free", a.Cluster.Short())
	case !slices.Contains(breach.Consumers, consumer) && len(breach.Consumers) == MaxBreached:
		return nil, chain.Reject("cluster %s broke its word to %d consumers, the limit", a.Cluster.Short(), MaxBreached)
	}
	if spent {
		kv.Set(key, []byte{})
	}
	if !open {
		breach.Due = queueDeadline(kv, env, env.Params.WithdrawalDelayMs, partBreach, crypto.Digest(a.Cluster))
	}
	if !slices.Contains(breach.Consumers, consumer) {
		breach.Consumers = append(breach.Consumers, consumer)
	}
	held, reward := part1of(lost, breachShare), sound(lost.ShareFloor(uint64(env.Params.ReporterBps), wholeBps))
	if rest := sound(lost.Sub(held)); rest.Less(reward) {
		reward = rest
	}
	burned := sound(sound(lost.Sub(held)).Sub(reward))
	breach.Held = sound(breach.Held.Add(held))
	if cluster.UnbondedMs == 0 {
		cluster.Bond = sound(cluster.Bond.Sub(lost))
		state.Save(kv, ClusterKey(a.Cluster), cluster)
	} else if !lost.IsZero() {
		at, origin := unbonding(env, a.Cluster, &cluster)
		tokens.TakeMaturing(kv, at, origin, lost)
	}
	state.Save(kv, BreachKey(a.Cluster), breach)
	tokens.Credit(kv, from, reward)
	tokens.Burn(kv, burned)
	return chain.AcceptanceBroken{
		Cluster: a.Cluster, Consumer: consumer, Sequence: chain.Number(a.Sequence), Reporter: from,
		Amount: lost, Held: held, Reward: reward, Burned: burned, Due: chain.Number(breach.Due),
	}, nil
}

// freeBond is what of a cluster's bond no claim locks, also while it is on its way back to
// the operator.
func freeBond(kv state.KV, env *Env, key crypto.PublicKey, c *Cluster) chain.Amount {
	if c.UnbondedMs == 0 {
		return c.Free()
	}
	at, origin := unbonding(env, key, c)
	return tokens.MaturingOf(kv, at, origin)
}

// unbonding is when the bond of a cluster that was unbonded matures, and its origin in the
// queue.
func unbonding(env *Env, key crypto.PublicKey, c *Cluster) (chain.TimeMs, []byte) {
	at, _ := later(c.UnbondedMs, env.Params.UnbondDelayMs) // beyond time nothing was queued
	return at, bondOrigin(ClusterKey(key), c.Operator)
}

// checkAccepted demands that an acceptance is of this chain, and of the order that it comes
// with and that order's home cluster: an order is known to be a consumer's by its id.
func checkAccepted(env *Env, a *chain.AcceptedOrder, name string) *chain.Rejection {
	id := a.Order.ID()
	switch {
	case a.Order.ChainID != env.ChainID:
		return chain.Reject("%s order is of chain %.32q, this is %q", name, a.Order.ChainID, env.ChainID)
	case a.Acceptance.ChainID != env.ChainID:
		return chain.Reject("%s acceptance is of chain %.32q, this is %q", name, a.Acceptance.ChainID, env.ChainID)
	case a.Acceptance.Order != id:
		return chain.Reject("%s acceptance is of order %s, want %s", name, a.Acceptance.Order.Short(), id.Short())
	case a.Acceptance.Cluster != a.Order.Cluster:
		return chain.Reject("%s acceptance is by cluster %s, the order's is %s", name, a.Acceptance.Cluster.Short(), a.Order.Cluster.Short())
	}
	return nil
}

// checkBroken demands that what is reported is what no cluster does that keeps its word.
func checkBroken(kv state.KV, env *Env, m *chain.ReportAcceptance, consumer chain.Address) *chain.Rejection {
	a := &m.First.Acceptance
	if m.Second == nil {
		if most := EscrowOf(kv, consumer, a.Cluster).Most; !most.Less(a.Outstanding) {
			return chain.Reject("acceptance promises %s, the escrow has held %s", a.Outstanding, most)
		}
		return nil
	}
	if why := checkAccepted(env, m.Second, "second"); why != nil {
		return why
	}
	b, other := &m.Second.Acceptance, m.Second.Order.ConsumerAddress()
	switch {
	case a.Cluster != b.Cluster:
		return chain.Reject("acceptances are by clusters %s and %s", a.Cluster.Short(), b.Cluster.Short())
	case consumer != other:
		return chain.Reject("orders are of consumers %s and %s", consumer.Short(), other.Short())
	case a.Sequence != b.Sequence:
		return chain.Reject("acceptances have sequences %d and %d", a.Sequence, b.Sequence)
	case a.Order == b.Order && a.Outstanding == b.Outstanding:
		return chain.Reject("both acceptances say the same")
	}
	return nil
}

// lost counts a claim that is in order, and that its escrow does not cover, among what a
// broken acceptance cost. why is what to say if there is none.
func (p *posted) lost(cost chain.Amount, why *chain.Rejection) (chain.Events, *chain.Rejection) {
	spent, ok := p.book.Spent.Add(cost)
	if !ok || p.book.MaxCost.Less(spent) {
		return nil, why
	}
	breach, open := BreachOf(p.kv, p.book.Cluster)
	if !open || !slices.Contains(breach.Consumers, p.book.Consumer) {
		return nil, why
	}
	at := slices.IndexFunc(breach.Losses, func(l Loss) bool { return l.To == p.provider })
	if at < 0 {
		if len(breach.Losses) == MaxLosses {
			return nil, chain.Reject("%d providers lost by cluster %s already, the limit", MaxLosses, p.book.Cluster.Short())
		}
		at = len(breach.Losses)
		breach.Losses = append(breach.Losses, Loss{To: p.provider})
	}
	sum, ok := breach.Losses[at].Amount.Add(cost)
	if !ok {
		return nil, why
	}
	breach.Losses[at].Amount = sum
	state.Save(p.kv, BreachKey(p.book.Cluster), breach)
	p.book.Spent = spent
	record := p.record()
	p.keep(&record)
	return chain.Events{chain.ClaimLost{
		Order: p.id, Node: record.Node, Sequence: chain.Number(record.Sequence), Provider: p.provider, Cluster: p.book.Cluster, Lost: cost,
	}}, nil
}

// breachDue divides what a cluster lost among those who lost by it, each by what that was
// and no more; the rest is burned.
func breachDue(kv state.KV, cluster crypto.PublicKey) chain.Events {
	breach, ok := BreachOf(kv, cluster)
	if !ok {
		panic("settlement: a breach that is not there is due")
	}
	total := uint64(0)
	for _, l := range breach.Losses {
		more := total + min(l.Amount.Nano(), breach.Held.Nano())
		if more < total {
			more = math.MaxUint64
		}
		total = more
	}
	left := till{breach.Held}
	closed := chain.BreachClosed{Cluster: cluster, Paid: []chain.BreachPayment{}}
	for _, l := range breach.Losses {
		due := chain.Nano(min(l.Amount.Nano(), breach.Held.Nano()))
		if total > breach.Held.Nano() {
			due = sound(due.ShareFloor(breach.Held.Nano(), total))
		}
		paid := left.take(due)
		tokens.Credit(kv, l.To, paid)
		closed.Paid = append(closed.Paid, chain.BreachPayment{To: l.To, Lost: l.Amount, Amount: paid})
	}
	closed.Burned = left.left
	tokens.Burn(kv, left.left)
	kv.Delete(BreachKey(cluster))
	return chain.Events{closed}
}
