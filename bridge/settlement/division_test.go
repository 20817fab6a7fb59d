package settlement_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/tokens"
)

// divide lets time pass until the breach is closed, and returns what each owner got.
func (m *market) divide() (got map[chain.Address]uint64, blocks int) {
	m.Helper()
	got = map[chain.Address]uint64{}
	m.progress(delay)
	for ; ; blocks++ {
		for _, e := range m.progress(1) {
			switch e := e.(type) {
			case chain.BreachPaid:
				for _, p := range e.Paid {
					got[p.To] += p.Amount.Nano()
				}
			case chain.BreachClosed:
				return got, blocks + 1
			}
		}
		if blocks > 100 {
			m.Fatal("the breach is never closed")
		}
	}
}

// loses posts a claim of a consumer that the escrow does not cover, of so many hours of a core.
func (m *market) loses(who, node byte, nonce, hours uint64) {
	m.Helper()
	m.losesOf(chain.Hyper(1_000_000), who, node, nonce, hours)
}

// losesAny is loses of as much as an order may say.
func (m *market) losesAny(who, node byte, nonce, hours uint64) {
	m.Helper()
	m.losesOf(chain.Nano(math.MaxUint64), who, node, nonce, hours)
}

func (m *market) losesOf(most chain.Amount, who, node byte, nonce, hours uint64) {
	m.Helper()
	o := m.order(who, nonce, none)
	o.MaxCost = most
	c := m.claim(o, node, 1)
	c.Receipt.Usage[0].Amount = 1_000 * hours
	events := m.settle(c)
	if _, ok := events[len(events)-1].(chain.ClaimLost); !ok {
		m.Fatalf("got %+v", events)
	}
}

// TestACrowdOfItsOwnTakesNothingFromWhoLost: a cluster reports forty acceptances of its own
// consumers first, and nodes of its own lose whatever they like by them; who lost little by
// it is counted, and paid in full.
func TestACrowdOfItsOwnTakesNothingFromWhoLost(t *testing.T) {
	m := newMarket(t)
	for n := byte(42); n <= 49; n++ {
		m.register(7, n)
	}
	for n := byte(51); n <= 59; n++ {
		m.register(7, n)
	}
	for who := byte(60); who < 98; who++ {
		if _, why := m.report(7, m.twice(who, 1)); why != nil {
			t.Fatalf("consumer %d: %s", who, why.Reason())
		}
	}
	nonce := uint64(0)
	for n := byte(42); n <= 59; n++ {
		if n != 50 {
			nonce++
			m.loses(60, n, nonce, 10_000_000) // 36,000 HYPER each; 500 are held
		}
	}
	if _, why := m.report(5, m.twice(consumer, 1)); why != nil {
		t.Fatal(why.Reason())
	}
	m.loses(consumer, 40, 1_000, 3)
	m.loses(consumer, 50, 1_001, 5)
	m.loses(consumer, 40, 1_002, 4)
	got, blocks := m.divide()
	if got[account(4)] != 7*3_600_000 || got[account(5)] != 5*3_600_000 {
		t.Errorf("who lost 7 and 5 hours got %d and %d nHYPER", got[account(4)], got[account(5)])
	}
	if each := got[account(7)] / 17; each > chain.Hyper(500).Nano()/17 || each < chain.Hyper(499).Nano()/17 {
		t.Errorf("the cluster's own got %d each", each)
	}
	if blocks != 2 || m.surplus() != 0 {
		t.Errorf("it took %d blocks to pay 19 losses; %d came out of nowhere", blocks, int64(m.surplus()))
	}
}

// TestNothingCountsWhileABreachIsDivided: shares are fixed by then.
func TestNothingCountsWhileABreachIsDivided(t *testing.T) {
	m := newMarket(t)
	for n := byte(42); n <= 59; n++ {
		if n != 50 {
			m.register(7, n)
		}
	}
	if _, why := m.report(5, m.twice(consumer, 1)); why != nil {
		t.Fatal(why.Reason())
	}
	for n := byte(42); n <= 59; n++ {
		m.loses(consumer, n, uint64(n), 2)
	}
	m.progress(delay)
	if e := m.progress(1); len(e) != 1 || len(e[0].(chain.BreachPaid).Paid) != 16 {
		t.Fatalf("got %+v", e)
	}
	if m.surplus() != 0 {
		t.Errorf("%d came out of nowhere in the middle of a division", int64(m.surplus()))
	}
	_, why := m.report(5, m.twice(other, 1))
	wantReason(t, why, "is being divided")
	m.wantRejected("the escrow holds", m.claim(m.order(consumer, 99, none), 40, 1))
	if e := m.progress(1); len(e) != 2 || len(e[0].(chain.BreachPaid).Paid) != 2 || m.surplus() != 0 {
		t.Fatalf("got %+v", e)
	}
	// The next breach is another one: who was betrayed in the last has no part in it.
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	if _, why = m.report(5, m.twice(other, 1)); why != nil {
		t.Fatal(why.Reason())
	}
	m.wantRejected("the escrow holds", m.claim(m.order(consumer, 99, none), 40, 1))
}

// TestRegisteringAnewHidesNoBond: an operator that unbonds and comes back with the least
// bond, as often as it may, is liable with every bond that is on its way.
func TestRegisteringAnewHidesNoBond(t *testing.T) {
	m := newMarket(t)
	name := chain.UnbondCluster{Cluster: key(cluster).Public()}
	for round := range settlement.MaxEarlier {
		m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), name))
		if round != 1 {
			m.pass(1) // two of them in one block
		}
		m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	}
	m.pass(1)
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), name))
	m.pass(1)
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), name))
	m.pass(1)
	_, why := settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator))
	wantReason(t, why, "5 bonds on their way back, the limit is 4")
	before := m.balance(operator)
	broken, why := m.report(7, m.twice(consumer, 1))
	if why != nil || broken.Amount != chain.Hyper(6_000) {
		t.Fatalf("%+v, %v", broken, why)
	}
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator))) // nothing is on its way any more
	m.env.Now += chain.TimeMs(m.env.Params.UnbondDelayMs)
	tokens.ReleaseMatured(m.kv, m.env.Now, 8)
	if back, _ := m.balance(operator).Add(chain.Hyper(1_000)); back != before || m.surplus() != 0 {
		t.Errorf("the operator has %v, had %v; %d came out of nowhere", m.balance(operator), before, int64(m.surplus()))
	}
}

// TestBreakingOnesWordToOneselfBurns: operator, consumers, providers and reporter of one
// hand lose a quarter of the bond at least, whatever they do and the parameters are.
func TestBreakingOnesWordToOneselfBurns(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.env.Params.ReporterBps = rapid.Uint16Max(chain.MaxReporterBps).Draw(rt, "reporter_bps")
		if err := m.env.Params.Check(); err != nil {
			rt.Fatal(err)
		}
		c, _ := settlement.ClusterOf(m.kv, key(cluster).Public())
		bond := c.Bond.Nano()
		if rapid.Bool().Draw(rt, "leaves") {
			m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
		}
		all := func() (sum uint64) {
			for n := byte(1); n <= 12; n++ {
				sum += m.balance(n).Nano()
			}
			return sum
		}
		before := all()
		for sequence := range rapid.Uint64Range(1, 3).Draw(rt, "reports") {
			if _, why := m.report(operator, m.twice(consumer, sequence+1)); why != nil && sequence == 0 {
				rt.Fatal(why.Reason())
			}
		}
		for nonce := range rapid.Uint64Range(0, 5).Draw(rt, "claims") {
			m.loses(consumer, rapid.SampledFrom([]byte{40, 41, 50, 60, 70}).Draw(rt, "node"), nonce, rapid.Uint64Range(1, 10_000_000).Draw(rt, "hours"))
		}
		m.divide()
		if back := all() - before; bond-back < bond/4 {
			rt.Fatalf("%d of a bond of %d came back", back, bond)
		}
		if m.surplus() != 0 {
			rt.Fatalf("%d came out of nowhere", int64(m.surplus()))
		}
	})
}

// TestBreachesKeepWhatThereIs: whatever consumers, clusters and reporters do, in any order,
// nothing comes out of nowhere and nothing is lost.
func TestBreachesKeepWhatThereIs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		name := key(cluster).Public()
		note := func(e chain.Event, why *chain.Rejection) {
			if why == nil {
				m.events = append(m.events, e)
			}
		}
		for nonce := range rapid.Uint64Range(1, 40).Draw(rt, "steps") {
			who := rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "who")
			amount := chain.Nano(rapid.Uint64Range(1, 20_000_000).Draw(rt, "amount"))
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			case 0:
				note(settlement.Deposit(m.kv, &m.env, account(who), chain.Deposit{Cluster: name, Amount: amount}))
			case 1:
				note(settlement.Withdraw(m.kv, &m.env, account(who), chain.Withdraw{Cluster: name, Amount: amount}))
			case 2:
				m.pass(rapid.Uint64Range(1, delay).Draw(rt, "wait"))
			case 3:
				note(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: name}))
			case 4:
				note(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
			case 5:
				m.events = append(m.events, m.progress(rapid.Uint64Range(1, delay).Draw(rt, "progress"))...)
			case 6:
				note(settlement.ReportAcceptance(m.kv, &m.env, account(7), m.twice(who, rapid.Uint64Range(1, 3).Draw(rt, "sequence")), true))
			default:
				c := m.claim(m.order(who, nonce, none), rapid.SampledFrom([]byte{40, 41, 50}).Draw(rt, "node"), 1)
				c.Receipt.Usage[0].Amount = rapid.Uint64Range(1, 2_000_000).Draw(rt, "used")
				m.settle(c)
			}
			if m.surplus() != 0 {
				rt.Fatalf("%d came out of nowhere", int64(m.surplus()))
			}
			m.checkLosses(rt)
		}
		m.checkBooks(rt, nil)
	})
}

// checkLosses compares the levels of an open breach with the claims that it counts.
func (m *market) checkLosses(t *rapid.T) {
	var lost, paid, counted uint64
	for _, e := range m.events {
		switch e := e.(type) {
		case chain.ClaimLost:
			lost += e.Lost.Nano()
		case chain.BreachPaid:
			for _, p := range e.Paid {
				paid += p.Lost.Nano()
			}
		}
	}
	if breach, open := settlement.BreachOf(m.kv, key(cluster).Public()); open {
		for _, l := range breach.Levels {
			counted += l.Sum.Nano()
		}
	}
	if lost != paid+counted {
		t.Fatalf("%d were lost, %d of it was divided and %d is counted", lost, paid, counted)
	}
}

// TestLossesBeyondEveryAmount: what a cluster's own nodes say that they lost has no bound, and what
// is left of it when it was paid in part is no fault of the chain's. Small losses are paid all the same.
func TestLossesBeyondEveryAmount(t *testing.T) {
	for _, locked := range []uint64{0, 1} { // with one, what is not paid stays a loss
		c := newLocker(t, 1)
		if locked > 0 {
			c.post(c.locks(1, chain.Hyper(locked), 3*delay))
			c.draw()
		}
		if _, why := c.report(7, c.promised(other, 1)); why != nil {
			t.Fatal(why.Reason())
		}
		nodes := []byte{40, 50, 60, 70}
		slices.SortFunc(nodes, func(a, b byte) int { return key(a).Public().Compare(key(b).Public()) }) // as they are paid
		for i, hours := range []uint64{2_562_047_788_016, 2_562_047_788_015, 2_562_047_788_015, 1} {    // one of 2^63 nHYPER, and two of a little less
			c.losesAny(other, nodes[i], uint64(10+i), hours)
		}
		for range 4 {
			c.block(delay, 0)
			c.block(1, 0)
		}
		small := uint64(0)
		for _, e := range c.events {
			if e, ok := e.(chain.BreachPaid); ok {
				for _, p := range e.Paid {
					if p.Lost == chain.Nano(3_600_000) {
						small += p.Amount.Nano()
					}
				}
			}
		}
		if _, open := settlement.BreachOf(c.kv, key(cluster).Public()); open || small != 3_600_000 || c.surplus() != 0 {
			t.Errorf("%d HYPER locked: the breach is open: %v; who lost an hour got %d nHYPER; %d came out of nowhere", locked, open, small, int64(c.surplus()))
		}
	}
}
