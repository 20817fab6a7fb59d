package settlement_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// known returns what the chain remembers of a node, and of the consumer.
func (m *market) known(node byte) match.Facts {
	m.Helper()
	p, ok := settlement.ProviderOf(m.kv, key(node).Public())
	if !ok {
		m.Fatalf("node %d is not known", node)
	}
	return p.Record.At(m.env.Now)
}

func (m *market) knownConsumer() match.Facts { return m.escrow(consumer).Record.At(m.env.Now) }

// near allows for what the sums of a day are rounded down by.
func near(got chain.Amount, want uint64) bool {
	return got.Nano() <= want && want-got.Nano() <= 2
}

// Every way for paid work to end is a fact for both sides, of the weight of what was
// burned, but for work that was ended on request.
func TestPaidWorkIsAFactForBothSides(t *testing.T) {
	for exit := chain.ExitOK; exit <= chain.ExitCancelled; exit++ {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(50))
		c := m.claim(m.order(consumer, 1, none), 40, 1)
		c.Receipt.Exit = exit
		burned := m.wantSettled(c)[0].Burned.Nano()
		for side, f := range map[string]match.Facts{"node": m.known(40), "consumer": m.knownConsumer()} {
			var ok bool
			about := func(n uint64) bool { return n <= match.One && n >= match.One-2 }
			switch exit {
			case chain.ExitOK:
				ok = about(f.Completed) && near(f.Credit, burned) && f.Debt.IsZero()
			case chain.ExitTime:
				ok = about(f.Late) && f.Completed == 0 && near(f.Debt, burned) && f.Credit.IsZero()
			case chain.ExitCancelled:
				ok = f == match.Facts{}
			default:
				ok = about(f.Failed) && f.Completed == 0 && near(f.Debt, burned) && f.Credit.IsZero()
			}
			if !ok {
				t.Errorf("%v of a claim that burned %d: the %s's facts are %+v", exit, burned, side, f)
			}
		}
	}
}

// A lease credits both sides with what is burned as it is paid, and is one completed work
// at its end.
func TestLeaseIsAFactForBothSides(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	lease := m.open(m.deal(consumer, 1, 40, 1_000, chain.Nano(100_000_000)))
	m.env.Now += hour
	var burned uint64
	count := func(events chain.Events) {
		for _, e := range events {
			if paid, ok := e.(chain.LeasePaid); ok {
				burned += paid.Burned.Nano()
			}
		}
	}
	events, why := settlement.CollectLease(m.kv, &m.env, chain.CollectLease{Lease: lease.Lease})
	if why != nil {
		t.Fatal(why.Reason())
	}
	count(events)
	if f := m.known(40); burned == 0 || !near(f.Credit, burned) || f.Completed != 0 {
		t.Errorf("%d were burned so far, the facts are %+v", burned, f)
	}
	m.env.Now = lease.Expires
	count(m.expire(10))
	for side, f := range map[string]match.Facts{"node": m.known(40), "consumer": m.knownConsumer()} {
		// It is of two days, or of more: what was burned first has aged.
		if f.Completed < match.One-2 || burned < f.Credit.Nano() || f.Credit.Nano() < burned/10*8 {
			t.Errorf("%d were burned in all, the %s's facts are %+v", burned, side, f)
		}
	}
}

// A record is not shed: not by taking all money out of the escrow, nor by registering the
// node again, under another owner.
func TestReputationIsNotShed(t *testing.T) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(1))
	c := m.claim(m.order(consumer, 1, none), 40, 1)
	c.Receipt.Exit = chain.ExitTrapped
	m.wantSettled(c)
	m.withdraw(consumer, m.escrow(consumer).Balance)
	m.pass(delay + 1)
	m.deposit(consumer, chain.Hyper(1))
	if f := m.knownConsumer(); f.Failed == 0 || f.Debt.IsZero() {
		t.Errorf("after a withdrawal of everything the consumer's facts are %+v", f)
	}
	before := m.known(40)
	node := key(40).Public()
	m.must(settlement.UnbondProvider(m.kv, &m.env, account(4), chain.UnbondProvider{Node: node}))
	m.register(5, 40)
	if f := m.known(40); f != before || f.Failed == 0 {
		t.Errorf("registered again, the node's facts are %+v, were %+v", f, before)
	}
	// The node is listed under its new owner, and there alone.
	if list, more := settlement.NodesOf(m.kv, account(5)); more || len(list) != 2 || !slices.Contains(list, node) {
		t.Errorf("owner 5 has %v", list)
	}
	if list, _ := settlement.NodesOf(m.kv, account(4)); len(list) != 1 || list[0] != key(41).Public() {
		t.Errorf("owner 4 has %v", list)
	}
	if list, more := settlement.EscrowsOf(m.kv, account(consumer)); more || len(list) != 1 || list[0] != key(cluster).Public() {
		t.Errorf("the consumer has escrows at %v", list)
	}
}

// A pair that trades with itself has in its records at most what was burned for them, in
// whatever trades, and none of them in another's.
func TestSelfDealingOnChain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.deposit(consumer, chain.Hyper(500))
		var burned uint64
		for n := range rapid.Uint64Range(1, 12).Draw(rt, "trades") {
			c := m.claim(m.order(consumer, n, none), 40, 1)
			c.Receipt.Usage[0].Amount = rapid.Uint64Range(0, 2_500).Draw(rt, "millicores")
			for _, s := range m.wantSettled(c) {
				burned += s.Burned.Nano()
			}
			m.pass(rapid.Uint64Range(0, 3*delay).Draw(rt, "wait"))
		}
		for side, f := range map[string]match.Facts{"node": m.known(40), "consumer": m.knownConsumer()} {
			if f.Credit.Nano() > burned {
				rt.Fatalf("%d were burned, the %s's credit is %s", burned, side, f.Credit)
			}
		}
		if f := m.known(41).Plus(m.known(50)); f != (match.Facts{}) {
			rt.Fatalf("the facts of others are %+v", f)
		}
	})
}
