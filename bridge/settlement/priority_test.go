package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// dues are what was charged for one piece of work, and how it was divided.
type dues struct{ cost, paid, burned, treasury, clusterFee, priorityBurned, priorityFee uint64 }

func chargeOf(e chain.Event) (c dues, ok bool) {
	of := func(amounts ...chain.Amount) dues {
		return dues{amounts[0].Nano(), amounts[1].Nano(), amounts[2].Nano(), amounts[3].Nano(), amounts[4].Nano(), amounts[5].Nano(), amounts[6].Nano()}
	}
	switch e := e.(type) {
	case chain.ClaimSettled:
		return of(e.Cost, e.Paid, e.Burned, e.Treasury, e.ClusterFee, e.PriorityBurned, e.PriorityFee), true
	case chain.LeasePaid:
		return of(e.Cost, e.Paid, e.Burned, e.Treasury, e.ClusterFee, e.PriorityBurned, e.PriorityFee), true
	case chain.BatchSettled:
		return of(e.Cost, e.Paid, e.Burned, e.Treasury, e.ClusterFee, e.PriorityBurned, e.PriorityFee), true
	}
	return c, false
}

// waysToPay are those in which work of node 40 under an order with a priority fee is paid, each at the same prices whatever the fee.
var waysToPay = map[string]func(t *testing.T, fee chain.PriorityFee) *market{
	"a claim": func(t *testing.T, fee chain.PriorityFee) *market {
		m := feeMarket(t, fee)
		m.wantSettled(m.claim(m.order(consumer, 1, none), 40, 1))
		return m
	},
	"a proven claim": func(t *testing.T, fee chain.PriorityFee) *market {
		m := feeMarket(t, fee)
		m.wantSettled(m.claim(m.order(consumer, 1, product), 40, 1))
		return m
	},
	"a batch": func(t *testing.T, fee chain.PriorityFee) *market {
		m := feeMarket(t, fee)
		m.registerMeter(4, 40)
		m.events = append(m.events, m.post(m.batch(m.order(consumer, 1, none), 40, 0, records(0, 3))))
		return m
	},
	"a lease": func(t *testing.T, fee chain.PriorityFee) *market {
		m := feeMarket(t, fee)
		id := m.open(m.deal(consumer, 1, 40, 1_000, chain.Nano(100_000_000))).Lease
		m.env.Now += hour
		events, why := settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: id})
		if why != nil {
			t.Fatal(why.Reason())
		}
		m.events = append(m.events, events...)
		return m
	},
	"a run": func(t *testing.T, fee chain.PriorityFee) *market {
		f := newField(t, staked)
		f.fee = fee
		f.use(f.market.order(consumer, 2, staked))
		f.agree()
		return f.market
	},
	"a claim after its window": func(t *testing.T, fee chain.PriorityFee) *market {
		c := newCourt(t, 1<<62)
		c.fee = fee
		c.post(c.claimOf(1, worth/2, right.Result))
		c.draw()
		c.expire()
		return c.market
	},
}

// agree has the order run by node 40, and by one of the roll to the same end.
func (f *field) agree() {
	f.do(f.begin(40, 50, 60, 70))
	f.vouch(found("right"))
	f.do(f.reveal(40))
}

func feeMarket(t *testing.T, fee chain.PriorityFee) *market {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	m.fee = fee
	return m
}

// TestPriorityFeeComesUponTheCost has the same work paid in every way with fees and without: the provider and the treasury get what they
// do without, the consumer pays the fee above that, of which the parameter's share is burned and the cluster has the rest; and no
// fact weighs more for it.
func TestPriorityFeeComesUponTheCost(t *testing.T) {
	for way, pay := range waysToPay {
		plain := pay(t, 0)
		base := plain.charged()
		for _, fee := range []chain.PriorityFee{1, 2_500, chain.MaxPriorityFee} {
			m := pay(t, fee)
			got, extra := m.charged(), base.cost*uint64(fee)/10_000
			priority := got.priorityBurned + got.priorityFee
			premium := uint64(0)
			if way == "a claim after its window" { // a 16th of it is the audits'
				premium = got.treasury - base.treasury
				if want := (base.cost+extra)/16 - base.cost/16; premium != want {
					t.Errorf("%s, %d bps: the audits' fund gets %d more, want %d", way, fee, premium, want)
				}
			}
			if extra == 0 || got.cost != base.cost+extra || got.paid > base.paid || got.paid+1 < base.paid || got.treasury-premium != base.treasury {
				t.Errorf("%s, %d bps: charged %+v, without %+v", way, fee, got, base)
			}
			if got.priorityBurned+extra/16+1 < (extra+1)/2 || got.priorityFee != extra/2 || priority+extra/16 < extra || priority > extra {
				t.Errorf("%s, %d bps: of a fee of %d %d is burned and the cluster has %d", way, fee, extra, got.priorityBurned, got.priorityFee)
			}
			if got.burned-got.priorityBurned != base.burned || got.clusterFee-got.priorityFee != base.clusterFee {
				t.Errorf("%s, %d bps: beside the fee %+v, without %+v", way, fee, got, base)
			}
			if got.paid+got.burned+got.treasury+got.clusterFee != got.cost {
				t.Errorf("%s, %d bps: the parts of %+v are not its cost", way, fee, got)
			}
			if m.known(40) != plain.known(40) || m.knownConsumer() != plain.knownConsumer() {
				t.Errorf("%s, %d bps: the facts are %+v and %+v, without %+v and %+v", way, fee, m.known(40), m.knownConsumer(), plain.known(40), plain.knownConsumer())
			}
		}
	}
}

// charged is what was charged last.
func (m *market) charged() dues {
	m.Helper()
	for i := len(m.events) - 1; i >= 0; i-- {
		if c, ok := chargeOf(m.events[i]); ok {
			return c
		}
	}
	m.Fatal("nothing was paid")
	return dues{}
}

// TestPriorityBurnIsAParameter: all of a fee may be burned, and then the cluster has nothing of it.
func TestPriorityBurnIsAParameter(t *testing.T) {
	for share, want := range map[uint16][2]uint64{2_500: {225_000, 675_000}, 5_000: {450_000, 450_000}, 10_000: {900_000, 0}} {
		m := feeMarket(t, 2_500)
		m.env.Params.PriorityBurnBps = share
		m.wantSettled(m.claim(m.order(consumer, 1, none), 40, 1))
		if got := m.charged(); got.priorityBurned != want[0] || got.priorityFee != want[1] {
			t.Errorf("%d bps are burned: %+v, want %v", share, got, want)
		}
	}
}

// TestMaxCostIncludesThePriorityFee takes a claim whose cost is the order's max cost with the fee, and none beyond.
func TestMaxCostIncludesThePriorityFee(t *testing.T) {
	for most, refusal := range map[uint64]string{4_500_000: "", 4_499_999: "cost 0.0045 HYPER on top of 0 HYPER is above the max cost"} {
		m := feeMarket(t, 2_500)
		order := m.order(consumer, 1, none)
		order.MaxCost = chain.Nano(most)
		if c := m.claim(order, 40, 1); refusal != "" {
			m.wantRejected(refusal, c)
		} else if s := m.wantSettled(c)[0]; s.Cost != order.MaxCost {
			t.Errorf("it cost %s", s.Cost)
		}
	}
	m := newMarket(t)
	m.fee = 2_500
	m.deposit(consumer, chain.Nano(4_499_999))
	m.wantRejected("the escrow holds", m.claim(m.order(consumer, 1, none), 40, 1))
}

// TestReplicasShareTheMaxCostWithTheirFee: a run that no part of the max cost covers is paid that part, the fee being in it.
func TestReplicasShareTheMaxCostWithTheirFee(t *testing.T) {
	f := newField(t, staked)
	f.fee = chain.MaxPriorityFee
	order := f.market.order(consumer, 2, staked)
	order.MaxCost = chain.Nano(8_000_000) // 4,000,000 for each of two, who ask 7,200,000 with the fee
	f.use(order)
	f.agree()
	if got := f.charged(); got.cost != 4_000_000 || got.priorityBurned != 1_000_000 || got.priorityFee != 1_000_000 || got.paid != 2_000_000-40_000-100_000 {
		t.Errorf("charged %+v", got)
	}
}

// TestAResizeKeepsThePriorityFee: the place that the fee pays for was had when the lease was opened, so that no resize is rid of it.
func TestAResizeKeepsThePriorityFee(t *testing.T) {
	m := feeMarket(t, 2_500)
	opened := m.deal(consumer, 1, 40, 1_000, chain.Nano(100_000_000))
	id := m.open(opened).Lease
	l, _ := settlement.LeaseOf(m.kv, id)
	if l.Rate != 1_250_000_000_000 || l.PriorityBps != 2_500 {
		t.Errorf("the lease costs %d attoHYPER a second with %d bps", l.Rate, l.PriorityBps)
	}
	m.fee = 0
	rid := resizing(m.deal(consumer, 2, 40, 2_000, chain.Nano(100_000_000)), opened)
	if _, why := settlement.ResizeLease(m.kv, &m.env, chain.ResizeLease{Lease: id, Deal: rid}, true); why == nil || why.Reason() != "order has a priority fee of 0 bps, the lease's is 2500" {
		t.Errorf("a resize without the fee: %v", why)
	}
	m.fee = 2_500
	kept := resizing(m.deal(consumer, 3, 40, 2_000, chain.Nano(100_000_000)), opened)
	if _, why := settlement.ResizeLease(m.kv, &m.env, chain.ResizeLease{Lease: id, Deal: kept}, true); why != nil {
		t.Errorf("a resize with it: %s", why.Reason())
	}
}

// TestALossIsWithoutThePriorityFee: what a broken acceptance cost a provider is what it would have had to do with, not a fee that others
// would have got.
func TestALossIsWithoutThePriorityFee(t *testing.T) {
	lost := func(fee chain.PriorityFee) chain.Amount {
		m := newMarket(t)
		m.fee = fee
		m.deposit(consumer, chain.Nano(1))
		if _, why := m.report(7, m.twice(consumer, 1)); why != nil {
			t.Fatal(why.Reason())
		}
		for _, e := range m.settle(m.claim(m.order(consumer, 1, none), 40, 1)) {
			if e, ok := e.(chain.ClaimLost); ok {
				return e.Lost
			}
		}
		t.Fatal("nothing was lost")
		return chain.Amount{}
	}
	if without, with := lost(0), lost(chain.MaxPriorityFee); without.Nano() != 3_599_999 || with.Nano() != without.Nano()+1 {
		t.Errorf("lost %s, with a fee %s", without, with)
	}
}

// TestPriorityBuysNoReputation: whoever is consumer, provider and cluster in one loses the protocol fee of each trade, twice what its facts
// weigh, whatever priority fee it pays itself: that burns more, and adds nothing. Were it counted, credit would cost half.
func TestPriorityBuysNoReputation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(500))
		var fees, gone uint64
		trades := rapid.Uint64Range(1, 12).Draw(rt, "trades")
		for n := range trades {
			m.anyFee(rt)
			c := m.claim(m.order(consumer, n, none), 40, 1)
			c.Receipt.Usage[0].Amount = rapid.Uint64Range(0, 1_300).Draw(rt, "millicores")
			s := m.wantSettled(c)[0]
			fees += s.FeeBurned().Nano() + s.Treasury.Nano()
			gone += s.Cost.Nano() - s.Paid.Nano() - s.ClusterFee.Nano()
		}
		for side, f := range map[string]match.Facts{"node": m.known(40), "consumer": m.knownConsumer()} {
			if 2*f.Credit.Nano() > fees+trades || fees > gone {
				rt.Fatalf("%d are gone, %d of them protocol fees, the %s's credit is %s", gone, fees, side, f.Credit)
			}
		}
	})
}

// TestNoStakeAnswersForThePriorityFee has every epoch of a lease be missed, and more be given back than is due: what comes of the stake is at most
// what the provider was paid for, whatever fee the consumer chose, of which it would have had a part back from its cluster.
func TestNoStakeAnswersForThePriorityFee(t *testing.T) {
	const paidEpochs, heldEpochs = 3, settlement.ReportWindowMs / serviceEpoch
	terms := serviceTerms
	terms.RebateBps, terms.Penalty = 10_000, chain.Amount{}
	taken := func(fee chain.PriorityFee) (given, due uint64) {
		s := newHurriedService(t, terms, fee)
		s.must(settlement.ExtendLease(s.kv, &s.env, account(consumer), chain.ExtendLease{Lease: s.id, Amount: chain.Nano(10_000_000)}))
		s.after(paidEpochs+heldEpochs-1, 0)
		events, why := settlement.CollectLease(s.kv, &s.env, chain.CollectLease{Lease: s.id})
		if why != nil {
			t.Fatal(why.Reason())
		}
		if paid := events[0].(chain.LeasePaid); paid.Until != s.since+paidEpochs*serviceEpoch {
			t.Fatalf("paid up to %d, since %d", paid.Until, s.since)
		}
		for epoch := range uint64(paidEpochs + heldEpochs) {
			got := s.miss(epoch, s.peers...)
			given, due = given+got.FromStake.Nano(), due+got.Rebate.Nano()
		}
		return given, due
	}
	const each = 10_000
	for _, fee := range []chain.PriorityFee{0, 2_500, chain.MaxPriorityFee} {
		charge, _ := fee.Charge(chain.Nano(each))
		if given, due := taken(fee); given != paidEpochs*each || due != heldEpochs*charge.Nano() {
			t.Errorf("%d bps: %d came of the stake for %d epochs that were paid, and %d of what was due for %d", fee, given, paidEpochs, due, heldEpochs)
		}
	}
}
