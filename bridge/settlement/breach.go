package settlement

import (
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Breach is what a cluster lost for broken acceptances, until it is divided. The consumers
// whose acceptances were broken, and what each node lost, have records of their own: there
// is no list that a cluster could fill with its own.
type Breach struct {
	_        struct{} `cbor:",toarray"`
	Held     chain.Amount
	Paid     chain.Amount // out of it, so far
	Due      uint64       // of the chain's progress
	Stage    BreachStage
	Levels   []Level   // the losses by size: ascending, none is empty
	Division *Division // nil: nothing is being divided
}

// BreachStage is what a breach that is not being divided waits for.
type BreachStage uint8

// The stages.
const (
	BreachOpen   BreachStage = iota // that it is due
	BreachIdle                      // that something more is taken
	BreachQueued                    // that the next block divides what was
)

// Level is the losses that have so many binary digits in nHYPER.
type Level struct {
	_      struct{} `cbor:",toarray"`
	Digits uint8
	Count  uint64
	Sum    chain.Amount // modulo 2^64: nothing bounds what nodes say that they lost; see most
}

// Division is how far what is held has been divided. No loss counts meanwhile.
type Division struct {
	_    struct{}     `cbor:",toarray"`
	Most chain.Amount // that a loss is paid
	Last bool         // nothing more will be taken: what is not paid is not paid any more
	Next []byte       // the node and owner whose loss comes next; empty: the first
	More bool         // something was taken in the meantime, and is divided next
}

// lossesAtOnce bounds what one deadline pays: the rest waits for the next block.
const lossesAtOnce = 16

// breachShare is the part of a lost bond that is held for those who lost: one in so many. A
// cluster that breaks its word to itself and loses by it to itself burns the most of the rest.
const breachShare = 2

const partBreach part = kindBreach

// BreachKey returns the key of what a cluster lost for broken acceptances.
func BreachKey(cluster crypto.PublicKey) []byte { return keyOf(kindBreach, cluster[:]) }

// lossKey returns the key of what an owner's node lost by a cluster.
func lossKey(cluster, node crypto.PublicKey, owner chain.Address) []byte {
	return keyOf(kindLoss, cluster[:], node[:], owner[:])
}

// BreachOf returns what a cluster lost and was not divided yet, and false if there is
// nothing.
func BreachOf(r state.Reader, cluster crypto.PublicKey) (Breach, bool) {
	return state.Load[Breach](r, BreachKey(cluster))
}

// ReportAcceptance takes a cluster's bonds, once for each sequence of a consumer's, if it is
// shown to have broken its word: what is free of them at once, and what claims lock as soon
// as it is free. No cluster gives a sequence twice, or promises
// more than it can have seen in the escrow's balance when it accepted the order. signed
// says whether the cluster's signatures verified.
func ReportAcceptance(kv state.KV, env *Env, from chain.Address, m chain.ReportAcceptance, signed bool) (chain.Event, *chain.Rejection) {
	a := &m.First.Acceptance
	consumer := m.First.Order.ConsumerAddress()
	if why := checkAccepted(env, &m.First, "first"); why != nil {
		return nil, why
	}
	if !signed {
		return nil, chain.Reject("a signature of the cluster does not verify")
	}
	ends, why := checkBroken(kv, env, &m, consumer)
	if why != nil {
		return nil, why
	}
	evidence := evidenceMark(a.Cluster, consumer, a.Sequence)
	if _, known := markOf(kv, evidence); known {
		return nil, chain.Reject("acceptance %d of %s by cluster %s was reported", a.Sequence, consumer.Short(), a.Cluster.Short())
	}
	cluster, ok := ClusterOf(kv, a.Cluster)
	if !ok {
		return nil, chain.Reject("cluster %s is not registered", a.Cluster.Short())
	}
	breach, open := BreachOf(kv, a.Cluster)
	counted := open && betrayed(kv, &breach, a.Cluster, consumer)
	switch {
	case open && breach.Division != nil:
		return nil, chain.Reject("what cluster %s lost is being divided: report it in a few blocks", a.Cluster.Short())
	case counted && (cluster.Locked.IsZero() || cluster.Convicted != nil) && cluster.liable(kv, env, a.Cluster).IsZero():
		return nil, chain.Reject("cluster %s has no bond that is free, and its acceptances of %s count as broken already", a.Cluster.Short(), consumer.Short())
	case !open && cluster.Locked.IsZero() && cluster.liable(kv, env, a.Cluster).IsZero():
		return nil, chain.Reject("cluster %s has no bond", a.Cluster.Short())
	}
	if !open {
		breach.Due = queueDeadline(kv, env, env.Params.WithdrawalDelayMs, partBreach, crypto.Digest(a.Cluster))
	}
	mark{Cluster: a.Cluster}.set(kv, env, evidence, ends-uint64(env.Now))
	if !counted {
		mark{Cluster: a.Cluster, Breach: breach.Due}.set(kv, env, betrayedMark(a.Cluster, consumer), 2*env.Params.WithdrawalDelayMs)
	}
	event := breach.take(kv, env, a.Cluster, &cluster)
	event.Consumer, event.Sequence, event.Reporter = consumer, chain.Number(a.Sequence), from
	if cluster.Convicted == nil && !cluster.Locked.IsZero() {
		cluster.Convicted = &Conviction{Reporter: from}
	}
	state.Save(kv, BreachKey(a.Cluster), breach)
	state.Save(kv, ClusterKey(a.Cluster), cluster)
	tokens.Credit(kv, from, event.Reward)
	return event, nil
}

// take takes what is free of a cluster's bonds. The caller saves both, and credits the
// reward.
func (b *Breach) take(kv state.KV, env *Env, key crypto.PublicKey, c *Cluster) chain.AcceptanceBroken {
	lost := c.Free()
	c.Bond = c.Locked
	for _, u := range c.unbondings() {
		at, origin := u.queued(env, key)
		if left := tokens.MaturingOf(kv, at, origin); !left.IsZero() {
			lost = sound(lost.Add(tokens.TakeMaturing(kv, at, origin, left)))
		}
	}
	held, reward, burned := b.hold(kv, env, lost)
	return chain.AcceptanceBroken{
		Cluster: key, Amount: lost, Held: held, Reward: reward, Burned: burned, Locked: c.Locked, Due: chain.Number(b.Due),
	}
}

// hold divides what was taken of a bond: half of it is held, the reward is for the caller to
// credit, and the rest is burned.
func (b *Breach) hold(kv state.KV, env *Env, lost chain.Amount) (held, reward, burned chain.Amount) {
	held, reward = part1of(lost, breachShare), sound(lost.ShareFloor(uint64(env.Params.ReporterBps), wholeBps))
	burned = sound(sound(lost.Sub(held)).Sub(reward)) // chain.MaxReporterBps is below half
	b.Held = sound(b.Held.Add(held))
	tokens.Burn(kv, burned)
	return held, reward, burned
}

// liable is what of a cluster's bonds no claim locks, also of those on their way back to an
// operator.
func (c *Cluster) liable(kv state.KV, env *Env, key crypto.PublicKey) chain.Amount {
	sum := c.Free()
	for _, u := range c.unbondings() {
		sum = sound(sum.Add(u.left(kv, env, key)))
	}
	return sum
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

// checkBroken demands that what is reported is what no cluster does that keeps its word, and
// returns until when that is evidence.
func checkBroken(kv state.KV, env *Env, m *chain.ReportAcceptance, consumer chain.Address) (ends uint64, why *chain.Rejection) {
	latest := m.First.Order.Deadline
	if m.Second != nil {
		latest = max(latest, m.Second.Order.Deadline)
		why = checkConflict(env, m, consumer)
	} else {
		why = checkPromise(kv, env, &m.First, consumer)
	}
	if why != nil {
		return 0, why
	}
	return evidenceEnds(env, latest)
}

// evidenceEnds returns until when it counts that an acceptance was broken: a withdrawal's delay
// after the claims of its order are over, or of the later one of two.
func evidenceEnds(env *Env, deadline chain.TimeMs) (uint64, *chain.Rejection) {
	over, ok := checked.Add(uint64(deadline), env.Params.ClaimWindowMs)
	if ok {
		over, ok = checked.Add(over, env.Params.WithdrawalDelayMs)
	}
	switch {
	case !ok || over > endOfTime:
		return 0, chain.Reject("deadline %d ms is beyond time", deadline)
	case over <= uint64(env.Now):
		return 0, chain.Reject("acceptance of an order until %d ms is no evidence any more since %d ms", deadline, over)
	}
	return over, nil
}

// endOfTime bounds times of which something is queued.
const endOfTime = 1 << 53

// checkConflict demands that two acceptances give one sequence twice.
func checkConflict(env *Env, m *chain.ReportAcceptance, consumer chain.Address) *chain.Rejection {
	a := &m.First.Acceptance
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

// checkPromise demands that an acceptance promises more than the escrow's balance ever was
// since the order can have been accepted. An acceptance has no time, but its order does: a
// cluster looks at the escrow at a block from which the order's claim window is over before
// a withdrawal matures, or the escrow would not be liable for it. So it saw none older than
// that, and the balance was never higher since then than what is compared with.
func checkPromise(kv state.KV, env *Env, a *chain.AcceptedOrder, consumer chain.Address) *chain.Rejection {
	over, ok := checked.Add(uint64(a.Order.Deadline), env.Params.ClaimWindowMs)
	if !ok {
		return chain.Reject("deadline %d ms is beyond time", a.Order.Deadline)
	}
	since, ok := checked.Sub(over, env.Params.WithdrawalDelayMs)
	if !ok {
		since = 0
	}
	escrow := EscrowOf(kv, consumer, a.Acceptance.Cluster)
	most, known := escrow.highest(env, chain.TimeMs(since))
	switch {
	case !known:
		return chain.Reject("the order can have been accepted at %d ms already: what its escrow held then is not known any more", since)
	case !most.Less(a.Acceptance.Outstanding):
		return chain.Reject("acceptance promises %s, the escrow held %s", a.Acceptance.Outstanding, most)
	}
	return nil
}

// lost pays a claim that is in order as far as its escrow goes, and counts the rest among
// what a broken acceptance cost. why is what to say if there is none, or if it is by the
// consumer's word that the claim is in order: that moves the consumer's money, and no bond.
func (p *posted) lost(cost chain.Amount, why *chain.Rejection) (chain.Events, *chain.Rejection) {
	breach, spent, ok := p.betrayed(cost)
	if !ok {
		return nil, why
	}
	cluster := p.book.Cluster
	escrow := p.books.purse(p.book.Consumer, cluster)
	held := escrow.available()
	uncovered := sound(cost.Sub(held))
	missing := sound(uncovered.Sub(p.book.PriorityBps.Of(uncovered))) // of the priority fee the provider would have had nothing
	key := lossKey(cluster, p.Receipt.Node, p.provider)
	before, _ := state.Load[chain.Amount](p.kv, key) // none: zero
	after, ok := before.Add(missing)
	if !ok {
		return nil, why
	}
	breach.count(before, after)
	state.Save(p.kv, key, after)
	state.Save(p.kv, BreachKey(cluster), breach)
	record := p.record()
	var events chain.Events
	if !held.IsZero() {
		record.Records = p.resources(&record, p.Receipt.Usage, p.Bid.Prices, p.Receipt.Ended)
		p.pay(escrow, &record, held)
		events = chain.Events{p.settled(&record)}
	}
	record.Lost, p.book.Spent = missing, spent
	p.keep(&record)
	events = append(events, chain.ClaimLost{
		Order: p.id, Node: record.Node, Sequence: chain.Number(record.Sequence), Provider: p.provider, Cluster: cluster, Lost: missing,
	})
	return append(events, p.revealed(&record)...), nil
}

// betrayed returns what is counted of the broken acceptances of the claim's consumer, if what its escrow does not
// cover of a cost is counted there, and what is spent of the order with it.
func (p *posted) betrayed(cost chain.Amount) (breach Breach, spent chain.Amount, ok bool) {
	spent, ok = p.book.Spent.Add(cost)
	if !ok || p.book.MaxCost.Less(spent) || p.Countersigned {
		return breach, spent, false
	}
	breach, open := BreachOf(p.kv, p.book.Cluster)
	return breach, spent, open && breach.Division == nil && betrayed(p.kv, &breach, p.book.Cluster, p.book.Consumer)
}

// count moves a loss from one size to another; zero is none.
func (b *Breach) count(before, after chain.Amount) {
	if !before.IsZero() {
		l := b.level(before)
		l.Count, l.Sum = l.Count-1, chain.Nano(l.Sum.Nano()-before.Nano())
	}
	if !after.IsZero() {
		l := b.level(after)
		l.Count, l.Sum = l.Count+1, chain.Nano(l.Sum.Nano()+after.Nano())
	}
	b.Levels = slices.DeleteFunc(b.Levels, func(l Level) bool { return l.Count == 0 })
}

// level returns the level of a loss, which is added if there is none.
func (b *Breach) level(loss chain.Amount) *Level {
	digits := uint8(bits.Len64(loss.Nano()))
	at, known := slices.BinarySearchFunc(b.Levels, digits, func(l Level, d uint8) int { return int(l.Digits) - int(d) })
	if !known {
		b.Levels = slices.Insert(b.Levels, at, Level{Digits: digits})
	}
	return &b.Levels[at]
}

// most is what a loss is paid at most: small ones in full, and of larger ones so much that
// what is held is enough for all. So who makes up large losses takes nothing from those
// who have small ones: only as many nodes as there are of them would, each with its bond.
func (b *Breach) most() chain.Amount {
	left, count := b.Held.Nano(), uint64(0)
	for i := range b.Levels {
		count += b.Levels[i].Count
	}
	for i := range b.Levels {
		l := &b.Levels[i]
		if each := left / count; bits.Len64(each) <= int(l.Digits) {
			return chain.Nano(each)
		}
		left -= l.Sum.Nano() // each is more than any of its losses, so that all are within left, and the sum is exact
		count -= l.Count
	}
	return b.Held // all are paid
}

// breachDue divides what is held of what a cluster lost among those who lost by it, some in
// each block. While claims still lock a part of its bond, what is missing stays a loss; in the
// end the rest is burned.
func breachDue(kv state.KV, env *Env, cluster crypto.PublicKey) chain.Events {
	breach, ok := BreachOf(kv, cluster)
	if !ok {
		panic("settlement: a breach that is not there is due")
	}
	if breach.Division == nil {
		if breach.Stage == BreachIdle {
			panic("settlement: a breach that waits for nothing is due")
		}
		c, _ := ClusterOf(kv, cluster) // one that lost a bond had one
		breach.Division = &Division{Most: breach.most(), Last: c.Convicted == nil}
	}
	d := breach.Division
	var events chain.Events
	if d.Last || !d.Most.IsZero() {
		if paid := breach.pay(kv, cluster); len(paid) > 0 {
			events = chain.Events{chain.BreachPaid{Cluster: cluster, Paid: paid}}
		}
	}
	switch {
	case d.Next != nil:
		queueDeadline(kv, env, 0, partBreach, crypto.Digest(cluster))
	case d.Last:
		tokens.Burn(kv, breach.Held)
		kv.Delete(BreachKey(cluster))
		return append(events, chain.BreachClosed{Cluster: cluster, Paid: breach.Paid, Burned: breach.Held})
	default:
		breach.Division, breach.Stage = nil, BreachIdle
		if d.More {
			breach.next(kv, env, cluster)
		}
	}
	state.Save(kv, BreachKey(cluster), breach)
	return events
}

// next has the next block divide what was taken, if nothing else will before.
func (b *Breach) next(kv state.KV, env *Env, cluster crypto.PublicKey) {
	switch {
	case b.Division != nil:
		b.Division.More = true
	case b.Stage == BreachIdle:
		b.Stage = BreachQueued
		queueDeadline(kv, env, 0, partBreach, crypto.Digest(cluster))
	}
}

// pay pays the next losses.
func (b *Breach) pay(kv state.KV, cluster crypto.PublicKey) (paid []chain.BreachPayment) {
	prefix, d := keyOf(kindLoss, cluster[:]), b.Division
	var after [crypto.PublicKeySize + len(chain.Address{}) + 1]byte
	for i := range after {
		after[i] = 0xff
	}
	var keys [][]byte
	first := slices.Concat(prefix, d.Next)
	d.Next = nil
	for key, value := range kv.Iterate(first, slices.Concat(prefix, after[:])) {
		if len(keys) == lossesAtOnce {
			d.Next = slices.Clone(key[len(prefix):])
			break
		}
		loss := state.Decode[chain.Amount](key, value)
		amount := loss
		if d.Most.Less(loss) {
			amount = d.Most
		}
		to := chain.Address(key[len(prefix)+crypto.PublicKeySize:])
		paid = append(paid, chain.BreachPayment{To: to, Lost: loss, Amount: amount})
		keys = append(keys, slices.Clone(key))
	}
	for i, key := range keys {
		p := &paid[i]
		rest := sound(p.Lost.Sub(p.Amount))
		b.count(p.Lost, rest)
		if d.Last || rest.IsZero() {
			kv.Delete(key)
		} else {
			state.Save(kv, key, rest)
		}
		tokens.Credit(kv, p.To, p.Amount)
		b.Held, b.Paid = sound(b.Held.Sub(p.Amount)), sound(b.Paid.Add(p.Amount))
	}
	return paid
}
