package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// moves has a node leave its owner and come back with another one, if it may.
func (f *field) moves(node, to byte) bool {
	p := f.provider(node)
	e, why := settlement.UnbondProvider(f.kv, &f.env, p.Owner, chain.UnbondProvider{Node: key(node).Public()})
	if why != nil {
		return false
	}
	f.events = append(f.events, e)
	e, why = settlement.RegisterProvider(f.kv, &f.env, account(to), f.registerProvider(to, node))
	if why != nil {
		return false
	}
	f.events = append(f.events, e)
	return true
}

// TestNobodyChecksItsOwnRun: a primary of an order that asks for no stake has one all the same, so that it cannot leave, and come back with
// another owner while its run waits for a check, to be the one who checks it.
func TestNobodyChecksItsOwnRun(t *testing.T) {
	policy := staked
	policy.Stake = chain.Amount{}
	f := newField(t, policy)
	f.lockBonds([]byte{41, 50, 60, 70, 80, 90, 95}, chain.Hyper(96)) // too little is free for a juror
	f.do(f.begin(40, 50))
	if f.moves(40, 9) {
		t.Fatal("the primary leaves")
	}
	if nodes := f.drawnNodes(); len(nodes) != 1 || nodes[0] != 50 {
		t.Fatalf("drew %v, want a bidder, as nobody else of the roll can stake enough", nodes)
	}
	f.do(f.commit(50))
	f.do(f.reveal(50))
	f.do(f.reveal(40))
	f.drawn() // nor does it judge it
	f.step(10)
	f.lockBonds([]byte{41, 50, 60, 70, 80, 90, 95}, chain.Amount{})
	f.over(chain.RunUnjudged)
}

// TestRunsWhoseWorldLeaves has orders run while their cluster breaks its word, or leaves and comes
// back, and nodes change hands: nothing that is locked is lost sight of, nothing is gained or lost, and all of
// it comes to an end.
func TestRunsWhoseWorldLeaves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newField(t, staked)
		f.gather()
		f.deposit(other, chain.Hyper(50))
		f.env.Params.ClaimWindowMs, f.env.Params.WithdrawalDelayMs = 2*hour, 12*hour
		var orders []chain.Order
		for nonce := range rapid.Uint64Range(1, 4).Draw(rt, "orders") {
			k := rapid.Uint8Range(2, 3).Draw(rt, "k")
			orders = append(orders, f.market.order(rapid.SampledFrom([]byte{consumer, other}).Draw(rt, "consumer"), nonce, chain.PolicyReplicate{
				K: k, N: rapid.Uint8Range(k, 4).Draw(rt, "n"), Stake: chain.Hyper(rapid.Uint64Range(0, 3).Draw(rt, "stake") * 13), WindowMs: 60_000,
			}))
		}
		everybody := []byte{40, 41, 50, 60, 70, 80, 90, 95}
		f.checkAccounts(rt)
		for range rapid.IntRange(1, 90).Draw(rt, "steps") {
			f.use(rapid.SampledFrom(orders).Draw(rt, "order"))
			switch rapid.IntRange(0, 9).Draw(rt, "leaves") {
			case 0:
				f.moves(rapid.SampledFrom(everybody).Draw(rt, "node"), rapid.SampledFrom([]byte{4, 5, 6, 9, 12}).Draw(rt, "owner"))
			case 1:
				f.clusterLeaves(rt)
			default:
				f.anything(rt, rapid.SampledFrom(everybody).Draw(rt, "node"))
			}
			f.checkAccounts(rt)
		}
		for n := range 300 {
			f.step(hour / 10)
			if n%10 == 0 {
				f.checkAccounts(rt)
			}
		}
		f.checkAccounts(rt)
		f.free()
		if c := f.cluster(); c.Convicted != nil {
			rt.Fatalf("the cluster owes what is locked still: %+v", c)
		}
		f.checkEnded(rt, orders)
	})
}

// clusterLeaves has the cluster be convicted, or leave, or come back.
func (f *field) clusterLeaves(t *rapid.T) {
	name := key(cluster).Public()
	switch rapid.IntRange(0, 2).Draw(t, "cluster") {
	case 0:
		lie := f.promised(rapid.SampledFrom([]byte{consumer, other}).Draw(t, "betrays"), rapid.Uint64Range(50, 59).Draw(t, "sequence"))
		if e, why := settlement.ReportAcceptance(f.kv, &f.env, account(7), lie, true); why == nil {
			f.events = append(f.events, e)
		}
	case 1:
		if e, why := settlement.UnbondCluster(f.kv, &f.env, account(operator), chain.UnbondCluster{Cluster: name}); why == nil {
			f.events = append(f.events, e)
		}
	case 2:
		if e, why := settlement.RegisterCluster(f.kv, &f.env, account(operator), f.registerCluster(operator)); why == nil {
			f.events = append(f.events, e)
		}
	}
}

// TestNoBidderIsWaitedForAfterTheWindow: bidders who never come hold nobody's stake for longer than
// the order's claim window and one turn of theirs.
func TestNoBidderIsWaitedForAfterTheWindow(t *testing.T) {
	f := newField(t, chain.PolicyReplicate{K: 3, N: 16, Stake: chain.Hyper(20), WindowMs: 20 * hour})
	m := f.begin(40, 50, 60, 70, 80, 90, 95)
	for i := range m.Slate { // accomplices bid for as long as they like
		m.Slate[i].Expiry += 1_000 * hour
	}
	f.do(m)
	for range 21 * 4 {
		f.step(hour / 4)
	}
	for range 200 { // the check and the panel are silent too
		f.step(31_000)
	}
	f.free()
}

// TestWithheldFromTheCheckAlone: a cluster that shows its data to the panel and not to the check makes
// it lose no more than it would by its silence, and itself as much.
func TestWithheldFromTheCheckAlone(t *testing.T) {
	f := newField(t, staked)
	f.order.MaxCost = chain.Hyper(20) // so that a juror stakes much
	f.use(f.order)
	f.do(f.begin(40, 50))
	check := f.vouch(found1(chain.FoundUnavailable))
	if check == 50 {
		t.Fatal("the bidder was drawn from the roll")
	}
	f.do(f.reveal(40))
	f.do(f.commit(f.drawnNodes()[0]))
	f.do(f.reveal(50))
	f.drawn()
	f.judge(found("right"))
	f.do(chain.CollectRun{Order: f.id})
	f.over(chain.RunJudged, 40, 50)
	if s := f.slashed(); s[check] != chain.Hyper(5).Nano()/10 || s[cluster] != s[check] || len(s) != 2 {
		t.Errorf("slashed %v, want of %d what a juror's silence costs, and as much of the cluster", s, check)
	}
	if surplus := f.surplus(); surplus != 0 {
		t.Errorf("holdings changed by %d", int64(surplus))
	}
}

// TestAbsentBiddersAreDrawnAFewTimes: bidders who never come, and lose nothing, are given no more rounds than
// the order pays for; then somebody of the roll checks it, and a panel judges.
func TestAbsentBiddersAreDrawnAFewTimes(t *testing.T) {
	f := newField(t, chain.PolicyReplicate{K: 3, N: 16, Stake: chain.Hyper(20), WindowMs: 60_000})
	f.gather()
	f.do(f.begin(40, 50, 60, 70, 80, 90, 95))
	for range 3 {
		if nodes := f.drawnNodes(); len(nodes) != 1 {
			t.Fatalf("drew %v", nodes)
		}
		f.step(61_000)
	}
	f.vouch(found("right"))
	f.do(f.reveal(40))
	f.drawn()
	f.judge(found("right"))
	f.do(chain.CollectRun{Order: f.id})
	if paid := f.paid(); len(paid) != 2 || paid[40] == 0 {
		t.Errorf("paid %v, want the primary and the check", paid)
	}
	f.free()
}
