package settlement_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// newLocker is a court in which node 40 can stake what a cluster can.
func newLocker(t testing.TB, lot uint64) *court {
	c := newCourt(t, lot)
	c.must(settlement.AddBond(c.kv, &c.env, account(4), chain.AddBond{Node: key(40).Public(), Amount: chain.Hyper(5_000)}))
	return c
}

// locks has a claim of the cluster's own lock so much of its bond, for so long at least.
func (c *court) locks(nonce uint64, bond chain.Amount, windowMs uint64) chain.Claim {
	order := c.order(consumer, nonce, chain.PolicyOptimistic{WindowMs: windowMs, Bond: bond})
	order.MaxCost = chain.Nano(20_000_000)
	return c.claim(order, 40, 1)
}

// promised is a promise to a consumer who has nothing.
func (m *market) promised(who byte, nonce uint64) chain.ReportAcceptance {
	o := m.order(who, nonce, none)
	return chain.ReportAcceptance{First: accepted(o, nonce, chain.Hyper(100_000))}
}

func (m *market) cluster() settlement.Cluster {
	c, _ := settlement.ClusterOf(m.kv, key(cluster).Public())
	return c
}

// TestWhatIsLockedIsTakenWhenItIsFree: a cluster whose bond its own claims lock is convicted
// by a promise all the same, and loses the bond when they end, for those who lost by it.
func TestWhatIsLockedIsTakenWhenItIsFree(t *testing.T) {
	c := newLocker(t, 1)
	c.post(c.locks(1, chain.Hyper(999), 3*delay))
	c.post(c.locks(2, chain.Hyper(1), 5*delay))
	c.draw() // no audit
	broken, why := c.report(7, c.promised(other, 1))
	if why != nil || !broken.Amount.IsZero() || broken.Locked != chain.Hyper(1_000) {
		t.Fatalf("%+v, %v", broken, why)
	}
	_, why = c.report(6, c.promised(other, 1))
	wantReason(t, why, "was reported")
	_, why = settlement.UnbondCluster(c.kv, &c.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()})
	wantReason(t, why, "locked by claims")
	_, why = settlement.Deposit(c.kv, &c.env, account(consumer), chain.Deposit{Cluster: key(cluster).Public(), Amount: chain.Nano(1)})
	wantReason(t, why, "broke its word")
	c.wantRejected("free of its bond", c.locks(3, chain.Hyper(1), windowMs))
	c.loses(other, 50, 4, 10)
	before, five, six := c.balance(operator), c.balance(5), c.balance(6)
	for range 2 { // it is due, and nothing is there
		if e := c.block(delay, 0); len(e) != 0 {
			t.Fatalf("got %+v", e)
		}
	}
	c.loses(other, 60, 5, 20) // it counts as long as something is to come
	c.block(delay+1, 0)
	if c.cluster().Bond != chain.Hyper(1) || c.cluster().Convicted == nil {
		t.Fatalf("%+v", c.cluster())
	}
	c.block(1, 0)
	owed, _ := five.Add(chain.Nano(36_000_000))
	if c.balance(5) != owed || c.surplus() != 0 {
		t.Errorf("who lost 10 hours has %v, want %v, while a claim locks what is left", c.balance(5), owed)
	}
	c.block(2*delay, 0)
	events := c.block(1, 0)
	closed, ok := events[len(events)-1].(chain.BreachClosed)
	owed6, _ := six.Add(chain.Nano(72_000_000))
	if !ok || closed.Paid != chain.Nano(108_000_000) || c.balance(5) != owed || c.balance(6) != owed6 {
		t.Errorf("%+v; balances %v and %v, want %v and %v", events, c.balance(5), c.balance(6), owed, owed6)
	}
	forfeited := uint64(0)
	for _, e := range c.events {
		if f, ok := e.(chain.BondForfeited); ok && f.Reporter == account(7) {
			forfeited += f.Amount.Nano()
		}
	}
	after, _ := before.Add(chain.Hyper(1))
	if forfeited != chain.Hyper(1_000).Nano() || !c.cluster().Bond.IsZero() || c.cluster().Convicted != nil || after.Less(c.balance(operator)) || c.surplus() != 0 {
		t.Errorf("%d was taken, %+v; the operator has %v, had %v; %d came out of nowhere", forfeited, c.cluster(), c.balance(operator), before, int64(c.surplus()))
	}
}

// TestABondThatIsLockedAfterABreachIsOwedToo: a cluster that is registered anew and has its own claims
// lock all of its new bond loses that too if it breaks its word again, also to who lost by it before.
func TestABondThatIsLockedAfterABreachIsOwedToo(t *testing.T) {
	c := newLocker(t, 1)
	if _, why := c.report(7, c.promised(other, 1)); why != nil {
		t.Fatal(why.Reason())
	}
	name := key(cluster).Public()
	c.must(settlement.UnbondCluster(c.kv, &c.env, account(operator), chain.UnbondCluster{Cluster: name}))
	c.must(settlement.RegisterCluster(c.kv, &c.env, account(operator), c.registerCluster(operator)))
	c.post(c.locks(1, chain.Hyper(1_000), 3*delay))
	c.draw()
	if _, why := c.report(6, c.promised(other, 2)); why != nil || c.cluster().Convicted == nil {
		t.Fatalf("%v, %+v", why, c.cluster())
	}
	_, why := c.report(6, c.promised(other, 3))
	wantReason(t, why, "count as broken already")
	for range 4 {
		c.block(delay, 0)
		c.block(1, 0)
	}
	if _, open := settlement.BreachOf(c.kv, name); open || !c.cluster().Bond.IsZero() || c.surplus() != 0 {
		t.Errorf("the breach is open: %v; the bond is %v", open, c.cluster().Bond)
	}
}

// TestWhatAPanelTakesOfAConvictedClusterIsNotBurned: what nobody is owed for the dispute goes
// to those who lost by the cluster.
func TestWhatAPanelTakesOfAConvictedClusterIsNotBurned(t *testing.T) {
	c := newLocker(t, 1)
	id := c.post(c.locks(1, chain.Hyper(1_000), delay))
	if _, why := c.report(7, c.promised(other, 1)); why != nil {
		t.Fatal(why.Reason())
	}
	c.must(settlement.Challenge(c.kv, &c.env, account(6), chain.Challenge{Order: id, Stake: chain.Hyper(1_000)}))
	c.draw()
	c.vote(settlement.PanelOf(id, false), func(int) *chain.Vote { return &unavailable })
	var slashed chain.BondSlashed
	var forfeited chain.BondForfeited
	for _, e := range c.block(delay+1, 0) {
		switch e := e.(type) {
		case chain.BondSlashed:
			slashed = e
		case chain.BondForfeited:
			forfeited = e
		}
	}
	if slashed.Node != key(cluster).Public() || !slashed.Burned.IsZero() || forfeited.Subject != id || forfeited.Amount.Less(chain.Hyper(500)) {
		t.Errorf("%+v, %+v", slashed, forfeited)
	}
	if b, open := settlement.BreachOf(c.kv, key(cluster).Public()); !open || b.Held != forfeited.Held || !c.cluster().Bond.IsZero() || c.surplus() != 0 {
		t.Errorf("%+v holds what was not taken; %d came out of nowhere", b, int64(c.surplus()))
	}
}

// marks counts what is kept of evidence.
func (m *market) marks() (n int) {
	for range m.kv.Iterate([]byte{settlement.Prefix, 'f'}, []byte{settlement.Prefix, 'f' + 1}) {
		n++
	}
	return n
}

// TestEvidenceEnds: what is kept of it goes when it is none any more, and not before.
func TestEvidenceEnds(t *testing.T) {
	c := newCourt(t, 1)
	evidence := c.twice(other, 1)
	late := evidence.Second.Order
	late.Deadline += hour
	*evidence.Second = accepted(late, 1, late.MaxCost)
	if _, why := c.report(7, evidence); why != nil {
		t.Fatal(why.Reason())
	}
	if c.marks() != 2 {
		t.Fatalf("%d marks, want the sequence's and the consumer's", c.marks())
	}
	c.block(delay, 0)
	if c.block(1, 0); c.marks() != 2 {
		t.Fatalf("%d marks when the breach is closed", c.marks())
	}
	ends := late.Deadline + window + delay
	c.block(uint64(ends-c.env.Now)-1, 0)
	_, why := c.report(7, evidence)
	wantReason(t, why, "was reported")
	c.block(1, 0)
	_, why = c.report(7, evidence)
	wantReason(t, why, "is no evidence any more")
	c.block(1, 0)
	if c.block(delay, 0); c.marks() != 0 {
		t.Errorf("%d marks stay", c.marks())
	}
}

// TestMarksHoldUpNobody: while a breach is open whoever makes up consumers leaves as many marks as it
// pays gas for, which may all end together. Nobody's claim waits behind them, and they go all the same.
func TestMarksHoldUpNobody(t *testing.T) {
	c := newCourt(t, 1)
	for who := byte(60); who < 98; who++ {
		if _, why := c.report(7, c.promised(who, 1)); why != nil {
			t.Fatal(why.Reason())
		}
	}
	name := key(cluster).Public()
	c.must(settlement.UnbondCluster(c.kv, &c.env, account(operator), chain.UnbondCluster{Cluster: name}))
	c.must(settlement.RegisterCluster(c.kv, &c.env, account(operator), c.registerCluster(operator)))
	id := c.post(c.locks(1, chain.Hyper(1), 3*delay))
	c.draw()
	over, _ := settlement.OpenClaimOf(c.kv, id)
	c.env.Last, c.env.LastProgressMs = c.env.Now, c.env.ProgressMs
	c.env.ProgressMs = over.Due + 1
	c.pass(3 * delay)
	n := 0
	for range 4 { // blocks with room for one deadline, of which the breach has two at most
		settlement.RunDeadlines(c.kv, &c.env, 1)
		n += settlement.ExpireMarks(c.kv, &c.env, 30)
		c.env.LastProgressMs, c.env.ProgressMs = c.env.ProgressMs, c.env.ProgressMs+1
	}
	if _, waits := settlement.OpenClaimOf(c.kv, id); waits {
		t.Error("the claim waits behind marks")
	}
	if n != 76 || c.marks() != 0 {
		t.Errorf("%d marks went, %d are left, of 76", n, c.marks())
	}
}

// TestAConsumersMarkStaysAsLongAsItsBreach: a claim that locks the bond for weeks does not make
// those forgotten whose acceptances were broken.
func TestAConsumersMarkStaysAsLongAsItsBreach(t *testing.T) {
	c := newLocker(t, 1)
	c.post(c.locks(1, chain.Hyper(1_000), 9*delay))
	if _, why := c.report(7, c.promised(other, 1)); why != nil {
		t.Fatal(why.Reason())
	}
	for range 8 {
		c.block(delay, 0)
	}
	c.loses(other, 50, 4, 10)
	for range 3 {
		c.block(delay, 0)
		c.block(1, 0)
	}
	if _, open := settlement.BreachOf(c.kv, key(cluster).Public()); open || c.marks() != 0 {
		t.Errorf("the breach is open: %v; %d marks stay", open, c.marks())
	}
}

// TestWhatBecomesFreeGoesToWhoLost: whatever claims lock a bond, when they end and how, and
// whatever else is done meanwhile: what a convicted cluster had locked is taken, none of it is
// the operator's again, who lost gets it, the smallest losses first, and no unit twice.
func TestWhatBecomesFreeGoesToWhoLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newLocker(t, rapid.Uint64().Draw(rt, "lot"))
		c.env.Params.CommitMs, c.env.Params.RevealMs = 20_000, 10_000
		c.env.Params.ReporterBps = rapid.Uint16Max(chain.MaxReporterBps).Draw(rt, "reporter_bps")
		orders := []crypto.Digest{{9}}
		for step := range rapid.Uint64Range(5, 50).Draw(rt, "steps") {
			c.anyOfBreaches(rt, step, &orders)
			c.checkConvicted(rt)
		}
		for range 30 {
			c.draw()
			c.block(delay/2, 0)
			c.checkConvicted(rt)
		}
		c.checkNothingLocked()
		if _, open := settlement.BreachOf(c.kv, key(cluster).Public()); open || c.marks() != 0 {
			rt.Fatalf("in the end a breach is open: %v, and %d marks stay", open, c.marks())
		}
	})
}

func (c *court) anyOfBreaches(rt *rapid.T, step uint64, orders *[]crypto.Digest) {
	name, note := key(cluster).Public(), func(e chain.Event, why *chain.Rejection) {
		if why == nil {
			c.events = append(c.events, e)
		}
	}
	who := rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "who")
	amount := chain.Nano(rapid.Uint64Range(1, 30_000_000).Draw(rt, "amount"))
	switch rapid.IntRange(0, 10).Draw(rt, "what") {
	case 0, 1:
		bond := chain.Hyper(rapid.SampledFrom([]uint64{1, 2, 300, 999, 1_000}).Draw(rt, "bond"))
		claim := c.locks(step, bond, rapid.SampledFrom([]uint64{windowMs, delay / 2, 2 * delay}).Draw(rt, "window"))
		if _, ok := c.settle(claim)[0].(chain.ClaimRecorded); ok {
			*orders = append(*orders, claim.Order.ID())
		}
	case 2, 3:
		report := c.promised(who, step)
		if rapid.Bool().Draw(rt, "twice") {
			report = c.twice(who, rapid.Uint64Range(1, 3).Draw(rt, "sequence"))
		}
		note(settlement.ReportAcceptance(c.kv, &c.env, account(7), report, true))
	case 4:
		note(settlement.Deposit(c.kv, &c.env, account(who), chain.Deposit{Cluster: name, Amount: amount}))
	case 5:
		note(settlement.Withdraw(c.kv, &c.env, account(who), chain.Withdraw{Cluster: name, Amount: amount}))
	case 6:
		note(settlement.UnbondCluster(c.kv, &c.env, account(operator), chain.UnbondCluster{Cluster: name}))
		note(settlement.RegisterCluster(c.kv, &c.env, account(operator), c.registerCluster(operator)))
	case 7:
		order := rapid.SampledFrom(*orders).Draw(rt, "order")
		note(settlement.Challenge(c.kv, &c.env, account(6), chain.Challenge{Order: order, Stake: chain.Hyper(500)}))
	case 8:
		c.draw()
		c.anyVotes(rt)
	case 9:
		o := c.order(who, step, none)
		o.MaxCost = chain.Nano(1<<64 - 1)
		claim := c.claim(o, rapid.SampledFrom([]byte{40, 50, 60, 70}).Draw(rt, "node"), 1)
		claim.Receipt.Usage[0].Amount = rapid.SampledFrom([]uint64{1, 1_000, 30_000_000, 90_000_000, 2_562_047_788_015_000, 2_562_047_788_016_000, 2_562_047_788_016_001, 5_000_000_000_000_000}).Draw(rt, "used")
		c.settle(claim)
	default:
		c.block(rapid.SampledFrom([]uint64{1, windowMs, delay / 2, delay}).Draw(rt, "ms"), 0)
	}
}

// account of one breach, as its events tell it.
type breachBooks struct {
	open, late        bool
	held, out, locked uint64
	lost, paid        map[chain.Address]uint64
	slashed           map[crypto.Digest]bool
}

// checkConvicted goes through all events with a simpler eye than the package's.
func (c *court) checkConvicted(rt *rapid.T) {
	var b breachBooks
	for _, e := range c.events {
		switch e := e.(type) {
		case chain.AcceptanceBroken:
			if !b.open {
				b = breachBooks{open: true, lost: map[chain.Address]uint64{}, paid: map[chain.Address]uint64{}, slashed: map[crypto.Digest]bool{}}
			}
			b.held, b.locked = b.held+e.Held.Nano(), e.Locked.Nano()
		case chain.BondSlashed:
			if b.open && b.locked > 0 && e.Node == key(cluster).Public() {
				b.slashed[e.Subject], b.locked = true, b.locked-e.Amount.Nano()
			}
		case chain.BondForfeited:
			if !b.slashed[e.Subject] {
				b.locked -= e.Amount.Nano()
			}
			if b.held += e.Held.Nano(); b.locked != e.Locked.Nano() || e.Reporter != account(7) {
				rt.Fatalf("%d is locked still, but %+v", b.locked, e)
			}
		case chain.ClusterUnbonded:
			if b.open && !e.Bond.IsZero() && b.locked > 0 {
				rt.Fatalf("a convicted cluster leaves with %v", e.Bond)
			}
		case chain.ClaimLost:
			b.late = b.late || b.out > 0
			b.lost[e.Provider] = atMost(b.lost[e.Provider], e.Lost.Nano())
		case chain.BreachPaid:
			for _, p := range e.Paid {
				b.paid[p.To] += p.Amount.Nano()
				b.out += p.Amount.Nano()
			}
		case chain.BreachClosed:
			if b.locked != 0 || b.out != e.Paid.Nano() || b.out+e.Burned.Nano() != b.held {
				rt.Fatalf("%d was held, %d went out, %d is locked: %+v", b.held, b.out, b.locked, e)
			}
			b.checkShares(rt)
			b = breachBooks{}
		}
	}
	breach, open := settlement.BreachOf(c.kv, key(cluster).Public())
	if open != b.open || breach.Held.Nano() != b.held-b.out {
		rt.Fatalf("a breach is open: %v, want %v; it holds %v of %d − %d", open, b.open, breach.Held, b.held, b.out)
	}
	if cl := c.cluster(); (cl.Convicted != nil) != (b.locked > 0) || cl.Convicted != nil && (cl.Locked.Nano() != b.locked || cl.Bond != cl.Locked) {
		rt.Fatalf("%d is owed, %+v", b.locked, cl)
	}
	c.checkSupply()
	c.checkLocks(rt)
}

// atMost adds up to the most that there is: nothing bounds what is said to be lost.
func atMost(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint64
}

// checkShares: everybody was paid what they lost, or as much as anybody.
func (b *breachBooks) checkShares(rt *rapid.T) {
	most, lost := uint64(0), uint64(0)
	for who := range b.lost {
		most, lost = max(most, b.paid[who]), atMost(lost, b.lost[who])
	}
	for who, mine := range b.lost {
		got := b.paid[who]
		if got > mine || lost <= b.held && got != mine || !b.late && got < mine && got < most {
			rt.Fatalf("%s lost %d and got %d of %d held; others got up to %d", who.Short(), mine, got, b.held, most)
		}
	}
	for who := range b.paid {
		if b.lost[who] == 0 {
			rt.Fatalf("%s lost nothing and got %d", who.Short(), b.paid[who])
		}
	}
}

// TestAClusterIsLiableUntilItsPromisesAreOver: also on a chain whose bonds come back sooner.
func TestAClusterIsLiableUntilItsPromisesAreOver(t *testing.T) {
	m := newMarket(t)
	m.env.Params.UnbondDelayMs = 1
	evidence := m.twice(consumer, 1)
	e := m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
	if matures := e.(chain.ClusterUnbonded).Matures; matures != start+2*delay {
		t.Errorf("the bond matures after %d ms", matures-start)
	}
	m.pass(uint64(evidence.First.Order.Deadline-start) + window + delay - 1)
	if broken, why := m.report(7, evidence); why != nil || broken.Amount != chain.Hyper(1_000) {
		t.Errorf("%+v, %v", broken, why)
	}
	if m.surplus() != 0 {
		t.Errorf("%d came out of nowhere", int64(m.surplus()))
	}
}
