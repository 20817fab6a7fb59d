package settlement_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
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
	settlement.ExpireMarks(m.kv, &m.env, 10)
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
		"the escrow held 50 HYPER": func(_ *market, r *chain.ReportAcceptance) {
			r.First.Acceptance.Outstanding, r.Second = chain.Hyper(50), nil
		},
		"is not known any more": func(_ *market, r *chain.ReportAcceptance) {
			r.First.Order.Deadline = start - delay
			r.First, r.Second = accepted(r.First.Order, 1, chain.Hyper(51)), nil
		},
		"is beyond time": func(_ *market, r *chain.ReportAcceptance) {
			r.First.Order.Deadline = 1<<64 - 1
			r.First, r.Second = accepted(r.First.Order, 1, chain.Hyper(51)), nil
		},
		"is not registered": func(m *market, r *chain.ReportAcceptance) {
			a, b := r.First.Order, r.Second.Order
			a.Cluster, b.Cluster = key(31).Public(), key(31).Public()
			second := accepted(b, 1, chain.Hyper(10))
			*r = chain.ReportAcceptance{First: accepted(a, 1, chain.Hyper(10)), Second: &second}
		},
		"was reported": func(m *market, r *chain.ReportAcceptance) {
			if _, why := m.report(5, *r); why != nil {
				m.Fatal(why.Reason())
			}
		},
	} {
		wantRefused(t, reason, change)
	}
	m := newMarket(t)
	_, why := settlement.ReportAcceptance(m.kv, &m.env, account(4), m.twice(consumer, 1), false)
	wantReason(t, why, "does not verify")
}

// wantRefused demands that a good report that was changed is refused, and changes nothing.
func wantRefused(t *testing.T, reason string, change func(m *market, r *chain.ReportAcceptance)) {
	t.Helper()
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

// TestReportsThatTakeNothing: because nothing is left, or they come too late.
func TestReportsThatTakeNothing(t *testing.T) {
	for reason, change := range map[string]func(m *market, r *chain.ReportAcceptance){
		"has no bond": func(m *market, r *chain.ReportAcceptance) {
			m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
			m.env.Now += chain.TimeMs(m.env.Params.UnbondDelayMs)
			tokens.ReleaseMatured(m.kv, m.env.Now, 8)
			r.First.Order.Deadline = m.env.Now
			*r = chain.ReportAcceptance{First: accepted(r.First.Order, 1, chain.Hyper(51))}
		},
		"count as broken already": func(m *market, _ *chain.ReportAcceptance) {
			if _, why := m.report(5, m.twice(consumer, 2)); why != nil {
				m.Fatal(why.Reason())
			}
		},
		"is no evidence any more": func(m *market, r *chain.ReportAcceptance) {
			*r.Second = accepted(r.Second.Order, 1, chain.Hyper(11))
			m.env.Now = r.First.Order.Deadline + window + delay
		},
	} {
		wantRefused(t, reason, change)
	}
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
	before := m.balance(5)
	made := m.settle(unpaid)
	part, isPart := made[0].(chain.ClaimSettled)
	if lost, ok := made[len(made)-1].(chain.ClaimLost); !ok || !isPart || lost.Provider != account(5) || lost.Lost != chain.Nano(3_200_000) || part.Cost != chain.Nano(400_000) {
		t.Fatalf("got %+v", made)
	}
	before, _ = before.Add(part.Paid)
	m.wantRejected("sequence is 1, the next", unpaid)
	_, claims, _ := settlement.Settlement(m.kv, unpaid.Order.ID())
	if c := claims[0]; c.Settled() || !c.Final() || c.Lost != chain.Nano(3_200_000) || c.Paid != part.Paid || c.Paid.IsZero() {
		t.Errorf("the claim's record is %+v", c)
	}
	if events := m.progress(delay); len(events) != 0 {
		t.Errorf("divided too early: %+v", events)
	}
	events := m.progress(1)
	paid, closed := events[0].(chain.BreachPaid), events[1].(chain.BreachClosed)
	want, _ := before.Add(chain.Nano(3_200_000)) // the escrow had the rest
	if m.balance(5) != want || len(paid.Paid) != 1 || closed.Paid != chain.Nano(3_200_000) || closed.Burned != chain.Nano(chain.Hyper(500).Nano()-3_200_000) {
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

// TestMoreThanTheEscrowHeld: the balance may have been that high when the order was
// accepted, so only what it never was since then is evidence, also when the money is gone;
// and what was there long before excuses nothing.
func TestMoreThanTheEscrowHeld(t *testing.T) {
	m := newMarket(t)
	thirty, more := chain.Hyper(30), chain.Nano(chain.Hyper(30).Nano()+1)
	m.deposit(consumer, thirty)
	m.pass(hour)
	m.withdraw(consumer, thirty)
	m.pass(delay) // the money is gone
	early := m.order(consumer, 1, none)
	early.Deadline = start + delay - window + hour // an escrow that was read an hour after the start is liable for it
	_, why := m.report(4, chain.ReportAcceptance{First: accepted(early, 1, thirty)})
	wantReason(t, why, "the escrow held 30 HYPER")
	if _, why = m.report(4, chain.ReportAcceptance{First: accepted(early, 1, more)}); why != nil {
		t.Error(why.Reason())
	}
	m.divide()
	m.must(settlement.UnbondCluster(m.kv, &m.env, account(operator), chain.UnbondCluster{Cluster: key(cluster).Public()}))
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	m.pass(2 * delay)
	late := m.order(consumer, 2, none)
	if _, why = m.report(4, chain.ReportAcceptance{First: accepted(late, 2, chain.Nano(1))}); why != nil {
		t.Errorf("what the escrow held three days ago excuses a promise of today: %s", why.Reason())
	}
	_, why = m.report(4, chain.ReportAcceptance{First: accepted(early, 3, more)})
	wantReason(t, why, "is not known any more")
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

// TestAnHonestClusterIsNeverSlashed: one that counts what it accepted against a balance that
// it saw when the escrow was liable for the order, and gives each sequence once, whatever consumers, providers
// and their friends do and report.
func TestAnHonestClusterIsNeverSlashed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		type sight struct {
			at      chain.TimeMs
			balance chain.Amount
		}
		var seen []sight
		var given []chain.AcceptedOrder
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			amount := chain.Nano(rapid.Uint64Range(1, 20_000_000).Draw(rt, "amount"))
			seen = append(seen, sight{m.env.Now, m.escrow(consumer).Balance})
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
				o.Deadline = m.env.Now + chain.TimeMs(rapid.Uint64Range(1, delay-window).Draw(rt, "deadline"))
				liable := slices.DeleteFunc(slices.Clone(seen), func(s sight) bool { return s.at+delay < o.Deadline+window })
				saw := rapid.SampledFrom(liable).Draw(rt, "saw").balance
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
		events := m.progress(delay + 1)
		closed := events[len(events)-1].(chain.BreachClosed)
		sum, losses := uint64(0), uint64(0)
		for _, e := range events[:len(events)-1] {
			for _, p := range e.(chain.BreachPaid).Paid {
				sum += p.Amount.Nano()
				losses += p.Lost.Nano()
				lost[p.To] -= p.Lost.Nano()
				if p.Lost.Less(p.Amount) {
					rt.Fatalf("%s got %v and lost %v", p.To.Short(), p.Amount, p.Lost)
				}
			}
		}
		for to, rest := range lost {
			if rest != 0 {
				rt.Fatalf("%d of what %s lost were not divided", rest, to.Short())
			}
		}
		if sum != closed.Paid.Nano() || sum+closed.Burned.Nano() != held || losses <= held && sum != losses || m.surplus() != 0 {
			rt.Fatalf("%d of %d held went out for %d lost: %+v", sum, held, losses, closed)
		}
		if _, open := settlement.BreachOf(m.kv, key(cluster).Public()); open {
			rt.Fatal("it is open still")
		}
		if tokens.SupplyOf(m.kv).Burned.IsZero() {
			rt.Fatal("nothing was burned")
		}
	})
}
