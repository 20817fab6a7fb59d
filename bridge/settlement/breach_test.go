package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// accepted is an order with its cluster's acceptance.
func accepted(o chain.Order, sequence uint64, outstanding chain.Amount) chain.AcceptedOrder {
	return chain.AcceptedOrder{Order: o, Acceptance: chain.Acceptance{
		ChainID: testChain, Order: o.ID(), Cluster: o.Cluster, Sequence: sequence, Outstanding: outstanding,
	}}
}

// twice is a sequence that the cluster gave twice.
func (m *market) twice(who byte, sequence uint64) chain.ReportAcceptance {
	a, b := m.order(who, 100+sequence, none), m.order(who, 200+sequence, none)
	second := accepted(b, sequence, b.MaxCost)
	return chain.ReportAcceptance{First: accepted(a, sequence, a.MaxCost), Second: &second}
}

func (m *market) report(by byte, r chain.ReportAcceptance) (chain.AcceptanceBroken, *chain.Rejection) {
	e, why := settlement.ReportAcceptance(m.kv, &m.env, account(by), r, true)
	if why != nil {
		return chain.AcceptanceBroken{}, why
	}
	return e.(chain.AcceptanceBroken), nil
}

// progress lets the chain's own clock run.
func (m *market) progress(ms uint64) chain.Events {
	m.env.LastProgressMs, m.env.ProgressMs = m.env.ProgressMs, m.env.ProgressMs+ms
	events, _ := settlement.RunDeadlines(m.kv, &m.env, 10)
	return events
}

// TestReportsAreRefused changes one thing of a good report at a time.
func TestReportsAreRefused(t *testing.T) {
	for reason, change := range map[string]func(m *market, r *chain.ReportAcceptance){
		"first order is of chain": func(_ *market, r *chain.ReportAcceptance) {
			r.First.Order.ChainID = "another"
			r.First = accepted(r.First.Order, 1, chain.Hyper(10))
		},
		"first acceptance is of chain":    func(_ *market, r *chain.ReportAcceptance) { r.First.Acceptance.ChainID = "another" },
		"first acceptance is of order":    func(_ *market, r *chain.ReportAcceptance) { r.First.Order.Nonce++ },
		"first acceptance is by cluster":  func(_ *market, r *chain.ReportAcceptance) { r.First.Acceptance.Cluster = key(31).Public() },
		"second acceptance is of chain":   func(_ *market, r *chain.ReportAcceptance) { r.Second.Acceptance.ChainID = "another" },
		"second acceptance is of order":   func(_ *market, r *chain.ReportAcceptance) { r.Second.Acceptance.Order[0] ^= 1 },
		"second acceptance is by cluster": func(_ *market, r *chain.ReportAcceptance) { r.Second.Acceptance.Cluster = key(31).Public() },
		"acceptances are by clusters": func(_ *market, r *chain.ReportAcceptance) {
			r.Second.Order.Cluster = key(31).Public()
			*r.Second = accepted(r.Second.Order, 1, chain.Hyper(10))
		},
		"orders are of consumers": func(m *market, r *chain.ReportAcceptance) {
			*r.Second = accepted(m.order(other, 3, none), 1, chain.Hyper(10))
		},
		"acceptances have sequences 1 and 2": func(_ *market, r *chain.ReportAcceptance) { r.Second.Acceptance.Sequence = 2 },
		"both acceptances say the same":      func(_ *market, r *chain.ReportAcceptance) { *r.Second = r.First },
		"the escrow has held 50 HYPER": func(_ *market, r *chain.ReportAcceptance) {
			r.First.Acceptance.Outstanding, r.Second = chain.Hyper(50), nil
		},
		"is not registered": func(m *market, r *chain.ReportAcceptance) {
			a, b := r.First.Order, r.Second.Order
			a.Cluster, b.Cluster = key(31).Public(), key(31).Public()
			second := accepted(b, 1, chain.Hyper(10))
			*r = chain.ReportAcceptance{First: accepted(a, 1, chain.Hyper(10)), Second: &second}
		},
		"has no bond that is free": func(m *market, _ *chain.ReportAcceptance) {
			m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
			m.env.Now += chain.TimeMs(m.env.Params.UnbondDelayMs)
			tokens.ReleaseMatured(m.kv, m.env.Now, 8)
		},
		"was reported": func(m *market, r *chain.ReportAcceptance) {
			if _, why := m.report(5, *r); why != nil {
				m.Fatal(why.Reason())
			}
		},
	} {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(50))
		r := m.twice(consumer, 1)
		change(m, &r)
		before := string(m.dump())
		_, why := m.report(4, r)
		wantReason(t, why, reason)
		if before != string(m.dump()) {
			t.Errorf("a refused report (%s) changed the state", reason)
		}
	}
	m := newMarket(t)
	_, why := settlement.ReportAcceptance(m.kv, &m.env, account(4), m.twice(consumer, 1), false)
	wantReason(t, why, "does not verify")
}

// TestABrokenWordPaysWhoLost: a cluster that gave a sequence twice pays the provider whose
// claim the escrow does not cover, and no other.
func TestABrokenWordPaysWhoLost(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Nano(4_000_000))
	m.deposit(other, chain.Nano(1))
	m.wantSettled(m.claim(m.order(consumer, 1, none), 40, 1))
	unpaid, stranger := m.claim(m.order(consumer, 2, none), 50, 1), m.claim(m.order(other, 3, none), 60, 1)
	m.wantRejected("the escrow holds", unpaid, stranger)
	broken, why := m.report(7, m.twice(consumer, 1))
	if why != nil {
		t.Fatal(why.Reason())
	}
	// 1,000 HYPER of bond: half is held, 5 % is for who told.
	if broken.Amount != chain.Hyper(1_000) || broken.Held != chain.Hyper(500) || broken.Reward != chain.Hyper(50) || broken.Burned != chain.Hyper(450) {
		t.Errorf("%+v", broken)
	}
	_, why = settlement.Deposit(m.kv, &m.env, account(consumer), chain.Deposit{Cluster: key(cluster).Public(), Amount: chain.Nano(1)})
	wantReason(t, why, "has lost its bond")
	m.wantRejected("the escrow holds", stranger) // its consumer was not betrayed
	e := m.settle(unpaid)[0]
	if lost, ok := e.(chain.ClaimLost); !ok || lost.Provider != account(5) || lost.Lost != chain.Nano(3_600_000) {
		t.Fatalf("got %+v", e)
	}
	m.wantRejected("sequence is 1, the next", unpaid)
	before := m.balance(5)
	if events := m.progress(delay); len(events) != 0 {
		t.Errorf("divided too early: %+v", events)
	}
	closed := m.progress(1)[0].(chain.BreachClosed)
	want, _ := before.Add(chain.Nano(3_600_000))
	if m.balance(5) != want || len(closed.Paid) != 1 || closed.Burned != chain.Nano(chain.Hyper(500).Nano()-3_600_000) {
		t.Errorf("balance %v, want %v: %+v", m.balance(5), want, closed)
	}
	if surplus := m.surplus(); surplus != 0 {
		t.Errorf("%d came out of nowhere", int64(surplus))
	}
	_, why = m.report(7, m.twice(consumer, 1))
	wantReason(t, why, "was reported")
	// The operator may leave, come back with another bond, and is not liable for it again.
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	_, why = m.report(7, m.twice(consumer, 1))
	wantReason(t, why, "was reported")
	if _, why = m.report(7, m.twice(consumer, 2)); why != nil {
		t.Error(why.Reason())
	}
}

// TestMoreThanTheEscrowEverHeld: the balance may have been that high when the acceptance was
// signed, so only what it never was is evidence, also when the money is gone.
func TestMoreThanTheEscrowEverHeld(t *testing.T) {
	m := newMarket(t)
	o := m.order(consumer, 1, none)
	m.deposit(consumer, chain.Hyper(30))
	m.withdraw(consumer, chain.Hyper(30))
	m.pass(2 * delay)
	m.pass(1)
	_, why := m.report(4, chain.ReportAcceptance{First: accepted(o, 1, chain.Hyper(30))})
	wantReason(t, why, "the escrow has held 30 HYPER")
	if _, why = m.report(4, chain.ReportAcceptance{First: accepted(o, 1, chain.Nano(chain.Hyper(30).Nano()+1))}); why != nil {
		t.Error(why.Reason())
	}
}

// TestLeavingDoesNotOutrunAReport: the bond is liable until it has matured.
func TestLeavingDoesNotOutrunAReport(t *testing.T) {
	m := newMarket(t)
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
	m.pass(hour)
	before := m.balance(operator)
	broken, why := m.report(7, m.twice(consumer, 1))
	if why != nil || broken.Amount != chain.Hyper(1_000) {
		t.Fatalf("%+v, %v", broken, why)
	}
	m.env.Now += chain.TimeMs(m.env.Params.UnbondDelayMs)
	tokens.ReleaseMatured(m.kv, m.env.Now, 8)
	if m.balance(operator) != before || m.surplus() != 0 {
		t.Errorf("the operator has %v, had %v; %d came out of nowhere", m.balance(operator), before, int64(m.surplus()))
	}
}

// TestALockedBondDoesNotUseUpEvidence: a cluster that has claims lock its bond, and reports
// itself meanwhile, loses what was locked by the same evidence afterwards.
func TestALockedBondDoesNotUseUpEvidence(t *testing.T) {
	m := newMarket(t)
	name := key(cluster).Public()
	c, _ := settlement.ClusterOf(m.kv, name)
	c.Locked = chain.Nano(c.Bond.Nano() - 1)
	state.Save(m.kv, settlement.ClusterKey(name), c)
	evidence := m.twice(consumer, 1)
	if broken, why := m.report(7, evidence); why != nil || broken.Amount != chain.Nano(1) {
		t.Fatalf("%+v, %v", broken, why)
	}
	if _, why := m.report(7, evidence); why == nil {
		t.Error("evidence was taken again, for nothing")
	}
	c, _ = settlement.ClusterOf(m.kv, name)
	c.Locked = chain.Amount{}
	state.Save(m.kv, settlement.ClusterKey(name), c)
	if broken, why := m.report(7, evidence); why != nil || broken.Amount != chain.Nano(chain.Hyper(1_000).Nano()-1) {
		t.Fatalf("%+v, %v", broken, why)
	}
	if _, why := m.report(7, evidence); why == nil || m.surplus() != 0 {
		t.Errorf("evidence was taken a third time; %d came out of nowhere", int64(m.surplus()))
	}
}

// TestAnHonestClusterIsNeverSlashed: one that counts what it accepted against a balance that
// it saw at any time before, and gives each sequence once, whatever consumers, providers
// and their friends do and report.
func TestAnHonestClusterIsNeverSlashed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		var seen []chain.Amount
		var given []chain.AcceptedOrder
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			amount := chain.Nano(rapid.Uint64Range(1, 20_000_000).Draw(rt, "amount"))
			seen = append(seen, m.escrow(consumer).Balance)
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				m.deposit(consumer, amount)
			case 1:
				if e, why := settlement.Withdraw(m.kv, &m.env, account(consumer), chain.Withdraw{Cluster: key(cluster).Public(), Amount: amount}); why == nil {
					m.events = append(m.events, e)
				}
			case 2:
				m.pass(rapid.Uint64Range(1, 2*delay).Draw(rt, "wait"))
			case 3:
				o := m.order(consumer, uint64(len(given)), none)
				saw := rapid.SampledFrom(seen).Draw(rt, "saw")
				given = append(given, accepted(o, uint64(len(given)+1), chain.Nano(rapid.Uint64Range(0, saw.Nano()).Draw(rt, "outstanding"))))
				m.settle(m.claim(o, 40, 1))
			default:
				if len(given) == 0 {
					continue
				}
				r := chain.ReportAcceptance{First: rapid.SampledFrom(given).Draw(rt, "first")}
				if rapid.Bool().Draw(rt, "two") {
					second := rapid.SampledFrom(given).Draw(rt, "second")
					r.Second = &second
				}
				if e, why := m.report(4, r); why == nil {
					rt.Fatalf("an honest cluster was slashed: %+v", e)
				}
			}
		}
		if c, _ := settlement.ClusterOf(m.kv, key(cluster).Public()); c.Bond != chain.Hyper(1_000) {
			rt.Fatalf("the bond is %v", c.Bond)
		}
	})
}

// TestABreachNeverPaysMoreThanItHolds: whoever claims what they lost, and however much.
func TestABreachNeverPaysMoreThanItHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		if _, why := m.report(7, m.twice(consumer, 1)); why != nil {
			rt.Fatal(why.Reason())
		}
		if rapid.Bool().Draw(rt, "again") {
			if e, why := m.report(7, m.twice(other, 1)); why != nil || !e.Amount.IsZero() {
				rt.Fatalf("%+v, %v", e, why)
			}
		}
		lost := map[chain.Address]uint64{}
		for nonce := range rapid.Uint64Range(0, 12).Draw(rt, "claims") {
			o := m.order(consumer, nonce, none)
			o.MaxCost = chain.Hyper(1_000_000)
			c := m.claim(o, rapid.SampledFrom([]byte{40, 41, 50, 60, 70}).Draw(rt, "node"), 1)
			c.Receipt.Usage[0].Amount = rapid.SampledFrom([]uint64{1, 1_000, 30_000_000, 90_000_000}).Draw(rt, "used")
			for _, e := range m.settle(c, c) {
				if l, ok := e.(chain.ClaimLost); ok {
					lost[l.Provider] += l.Lost.Nano()
				}
			}
		}
		held := chain.Hyper(500).Nano()
		closed := m.progress(delay + 1)[0].(chain.BreachClosed)
		sum := closed.Burned.Nano()
		for _, p := range closed.Paid {
			sum += p.Amount.Nano()
			if p.Amount.Nano() > lost[p.To] || p.Lost.Nano() != lost[p.To] {
				rt.Fatalf("%s got %v and lost %d", p.To.Short(), p.Amount, lost[p.To])
			}
		}
		if sum != held || len(closed.Paid) != len(lost) || m.surplus() != 0 {
			rt.Fatalf("%d of %d held went out: %+v", sum, held, closed)
		}
		if _, open := settlement.BreachOf(m.kv, key(cluster).Public()); open {
			rt.Fatal("it is open still")
		}
		if tokens.SupplyOf(m.kv).Burned.IsZero() {
			rt.Fatal("nothing was burned")
		}
	})
}
