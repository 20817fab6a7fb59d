package settlement_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// gauge is a market in which nodes are challenged when a test says so.
type gauge struct {
	*market
	node crypto.PublicKey // that is challenged
	h    settlement.Hardware
	busy chain.Amount // what other work locks of node 80's bond
}

const judgedMs = 60_000

// newGauge is a market with nodes of six owners, without a challenge.
func newGauge(t testing.TB) *gauge {
	t.Helper()
	g := &gauge{market: newMarket(t)}
	g.register(8, 80)
	g.register(9, 90)
	g.env.Params.HardwareMs = judgedMs
	g.hush()
	return g
}

// challenged is a market in which a node of an owner with no other is challenged.
func challenged(t testing.TB) *gauge {
	g := newGauge(t)
	g.challenge(key(80).Public())
	return g
}

// tick makes a block a while later, and returns what begins it.
func (g *gauge) tick(ms uint64) chain.Events {
	g.env.Height++
	g.env.LastProgressMs = g.env.ProgressMs
	g.env.Last, g.env.Now, g.env.ProgressMs = g.env.Now, g.env.Now+chain.TimeMs(ms), g.env.ProgressMs+ms
	g.env.Mix = crypto.DomainMix.Hash(binary.BigEndian.AppendUint64(nil, uint64(g.env.Height)))
	events, _ := settlement.RunDraws(g.kv, &g.env, 64)
	due, _ := settlement.RunDeadlines(g.kv, &g.env, 64)
	events = slices.Concat(events, due, settlement.ChallengeHardware(g.kv, &g.env))
	g.events = append(g.events, events...)
	return events
}

// lottery makes blocks in which the lottery draws somebody for certain until it draws a node, and
// returns what that block says.
func (g *gauge) lottery(node crypto.PublicKey) chain.Events {
	g.Helper()
	defer g.hush()
	for range 200 {
		g.env.Params.HardwareEveryMs = 1
		events := g.tick(1)
		if h, ok := settlement.HardwareOf(g.kv, node); ok && h.Open() {
			g.see(node)
			return events
		}
		g.hush()
		g.tick(judgedMs + 1)
	}
	g.Fatal("the node is not drawn in 200 blocks")
	return nil
}

func (g *gauge) challenge(node crypto.PublicKey) { g.lottery(node) }

// hush has the lottery draw nobody any more; what is declared anew is challenged still.
func (g *gauge) hush() { g.env.Params.HardwareEveryMs = 1 << 62 }

func (g *gauge) see(node crypto.PublicKey) {
	g.node = node
	g.h, _ = settlement.HardwareOf(g.kv, node)
}

func (g *gauge) named() chain.HardwareChallenge {
	return chain.HardwareChallenge{ChainID: testChain, Node: g.node, Seed: g.h.Seed}
}

// lacks are verdicts of the first peers, each with so many lanes.
func (g *gauge) lacks(missing ...uint64) (list []chain.HardwareVerdict) {
	for i, n := range missing {
		list = append(list, chain.HardwareVerdict{Peer: g.h.Peers[i], Missing: n})
	}
	return list
}

func (g *gauge) quiet(n int) (list []chain.HardwareVerdict) {
	for i := range n {
		list = append(list, chain.HardwareVerdict{Peer: g.h.Peers[i], Silent: true})
	}
	return list
}

func (g *gauge) report(verdicts ...chain.HardwareVerdict) {
	g.Helper()
	if why := settlement.ReportHardware(g.kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: verdicts}, true); why != nil {
		g.Fatal(why.Reason())
	}
}

// judged ends the challenge, and returns what was found of the node: nothing, if nothing was.
func (g *gauge) judged() (found chain.HardwareJudged, events chain.Events) {
	g.Helper()
	events = g.tick(judgedMs + 1)
	if _, ok := settlement.HardwareOf(g.kv, g.node); ok {
		g.Fatal("a challenge that is over stays")
	}
	for _, e := range events {
		if j, ok := e.(chain.HardwareJudged); ok && j.Node == g.node {
			found = j
		}
	}
	if g.surplus() != 0 {
		g.Fatal("value appears or vanishes")
	}
	return found, events
}

func (g *gauge) recordOf(node crypto.PublicKey) settlement.Provider {
	g.Helper()
	p, ok := settlement.ProviderOf(g.kv, node)
	if !ok {
		g.Fatal("no such node")
	}
	return p
}

// declare has the challenged node's owner declare anew, with 2,048 MiB.
func (g *gauge) declare(kv state.KV, millicores uint64) *chain.Rejection {
	_, why := settlement.DeclareHardware(kv, &g.env, g.recordOf(g.node).Owner, chain.DeclareHardware{Node: g.node, Millicores: millicores, MemoryMiB: 2_048})
	return why
}

// TestChallengesAreDrawn: a node is measured by nodes of five other owners, on all that it
// declares.
func TestChallengesAreDrawn(t *testing.T) {
	g := challenged(t)
	if len(g.h.Peers) != chain.MaxHardwarePeers || g.h.Lanes != 4 || g.h.Millicores != 4_000 || g.h.MemoryMiB != 8_192 || g.h.Since != g.env.Now {
		t.Fatalf("challenge %+v", g.h)
	}
	owners := map[chain.Address]bool{g.recordOf(g.node).Owner: true}
	for _, peer := range g.h.Peers {
		if owner := g.recordOf(peer).Owner; owners[owner] {
			t.Errorf("peer %s is of an owner that was drawn, or is the node's", peer.Short())
		} else {
			owners[owner] = true
		}
	}
}

// TestOddsGoByProgress: as many challenges in a time, whether it has many blocks or few, and
// none if the parameters ask for none.
func TestOddsGoByProgress(t *testing.T) {
	const every, draws = 40_000, 400
	for _, ms := range []uint64{20, 500, 2_000} {
		g := newGauge(t)
		g.env.Params.HardwareEveryMs = every
		seen := 0
		for range draws * every / ms {
			g.env.Height++
			g.env.LastProgressMs, g.env.ProgressMs = g.env.ProgressMs, g.env.ProgressMs+ms
			binary.BigEndian.PutUint64(g.env.Mix[:], uint64(g.env.Height)*ms)
			if len(settlement.ChallengeHardware(state.NewOverlay(g.kv), &g.env)) > 0 {
				seen++
			}
		}
		if seen < draws*8/10 || seen > draws*12/10 { // four deviations
			t.Errorf("blocks of %d ms: %d challenges, want about %d", ms, seen, draws)
		}
		g.env.Params.HardwareEveryMs = 0
		if events := g.tick(ms); events != nil {
			t.Errorf("%+v without challenges", events)
		}
	}
}

// TestNodesOfOneOwnerAreChallengedTogether: so one machine does not show itself for one of them
// after the other. They are bounded, and the drawn one is among them.
func TestNodesOfOneOwnerAreChallengedTogether(t *testing.T) {
	g := newGauge(t)
	want := map[crypto.PublicKey]bool{key(40).Public(): true, key(41).Public(): true}
	both := g.lottery(key(41).Public())
	for _, e := range both {
		c, ok := e.(chain.HardwareChallenged)
		if !ok || !want[c.Node] {
			t.Fatalf("challenged %+v", e)
		}
		for _, peer := range c.Peers {
			if want[peer] {
				t.Errorf("node %s is measured by its owner's", c.Node.Short())
			}
		}
	}
	if len(both) != 2 || both[0].(chain.HardwareChallenged).Seed == both[1].(chain.HardwareChallenged).Seed {
		t.Fatalf("challenged %+v, want both nodes, each with its seed", both)
	}
	g.tick(judgedMs + 1)
	var all []crypto.PublicKey
	for n := byte(42); n < 50; n++ {
		g.hushed(func() { g.register(4, n) })
	}
	for n := byte(40); n < 50; n++ {
		all = append(all, key(n).Public())
	}
	for _, node := range all {
		events := g.lottery(node)
		if len(events) != 8 {
			t.Fatalf("%d nodes of one owner are challenged at once, want 8", len(events))
		}
		g.tick(judgedMs + 1)
	}
}

// hushed does something with no challenges at all.
func (g *gauge) hushed(do func()) {
	g.env.Params.HardwareEveryMs = 0
	do()
	g.hush()
}

// TestMissingHardwareIsCut: what more than half of the peers say is missing at least counts no
// longer when the challenge is over, and its part of the slash is burned.
func TestMissingHardwareIsCut(t *testing.T) {
	g := challenged(t)
	before := g.recordOf(g.node)
	g.report(g.lacks(4, 3, 1, 2)...)
	if p := g.recordOf(g.node); p != before {
		t.Errorf("before the challenge is over: %+v", p)
	}
	judged, _ := g.judged()
	if judged.Missing != 2 || judged.Finding != "short" || judged.Millicores != 2_000 || judged.MemoryMiB != 4_096 || judged.Owner != before.Owner {
		t.Fatalf("judged %+v", judged)
	}
	after := g.recordOf(g.node)
	slashed := before.Bond.Nano() / 2 * 2_000 / 10_000
	if after.Millicores != 2_000 || after.MemoryMiB != 4_096 || before.Bond.Nano()-after.Bond.Nano() != slashed || judged.Burned.Nano() != slashed ||
		!after.Locked.IsZero() || !after.Owed.IsZero() || after.Record.Debt == 0 || after.Record.Slashed == 0 {
		t.Errorf("record %+v, judged %+v", after, judged)
	}
	for _, peer := range g.h.Peers {
		if p := g.recordOf(peer); !p.Locked.IsZero() || p.Bond != chain.Hyper(100) {
			t.Errorf("peer %+v", p)
		}
	}
}

// TestWhoPostsDecidesNothing: however words that split are divided among messages, and whatever
// comes first, the same is judged; who is left out may be added, and none is taken back.
func TestWhoPostsDecidesNothing(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}} {
		g := challenged(t)
		words := g.lacks(1, 4, 4, 3, 1) // a friend's is the first, and the last
		for _, i := range order {
			g.report(words[i])
		}
		lower := g.lacks(1, 1, 2)
		g.refused("as much was said", func(kv state.KV) *chain.Rejection {
			return settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: lower}, true)
		})
		if judged, _ := g.judged(); judged.Missing != 3 || judged.Millicores != 1_000 {
			t.Errorf("posted in the order %v: judged %+v, want 3 missing", order, judged)
		}
	}
	g := challenged(t)
	g.report(g.lacks(1, 1, 1)...)
	g.report(g.lacks(4, 1, 4)...) // of the first and the third
	g.report(chain.HardwareVerdict{Peer: g.h.Peers[4], Missing: 4})
	if judged, _ := g.judged(); judged.Missing != 4 {
		t.Errorf("judged %+v, want that the highest word of each counts", judged)
	}
}

// TestMinorityFindsNothing: fewer than more than half have no say.
func TestMinorityFindsNothing(t *testing.T) {
	g := challenged(t)
	before := g.recordOf(g.node)
	g.report(g.quiet(2)...)
	judged, _ := g.judged()
	if judged != (chain.HardwareJudged{}) || g.recordOf(g.node) != before {
		t.Errorf("two of five: judged %+v", judged)
	}
}

// TestPeersStakeOnTheirWord: a slice of a peer's bond is locked with its first word, and a part of
// that is lost if the others do not bear it out by half of the lanes; else it is free again.
func TestPeersStakeOnTheirWord(t *testing.T) {
	g := challenged(t)
	slice := g.env.Params.JurorSlice
	g.report(g.lacks(2, 4)...)
	g.report(g.lacks(3)...)
	for i, peer := range g.h.Peers[:3] {
		if p := g.recordOf(peer); p.Locked != slice && i < 2 || i == 2 && !p.Locked.IsZero() {
			t.Errorf("peer %d locks %s", i, p.Locked)
		}
	}
	peer := g.h.Peers[0]
	g.refused("locked by jobs", func(kv state.KV) *chain.Rejection {
		_, why := settlement.UnbondProvider(kv, &g.env, g.recordOf(peer).Owner, chain.UnbondProvider{Node: peer})
		return why
	})
	_, events := g.judged()
	if len(events) != 2 || events[0].(chain.BondSlashed).Node != g.h.Peers[0] || events[1].(chain.BondSlashed).Node != g.h.Peers[1] {
		t.Fatalf("%+v, want that both lose a part", events)
	}
	for i, want := range []uint64{1, 1, 0, 0, 0} {
		if p := g.recordOf(g.h.Peers[i]); !p.Locked.IsZero() || chain.Hyper(100).Nano()-p.Bond.Nano() != want*slice.Nano()/10 {
			t.Errorf("peer %d: %+v", i, p)
		}
	}

	g.challenge(g.node)
	g.report(g.lacks(4, 4, 2, 1)...) // 2 are missing: nobody is beyond that by more than half
	if _, events := g.judged(); len(events) != 2 {
		t.Errorf("%+v, want that only the node loses", events)
	}

	g.hushed(func() {
		g.must(settlement.AddBond(g.kv, &g.env, account(8), chain.AddBond{Node: g.node, Amount: chain.Hyper(1)}))
	})
	if why := g.declare(g.kv, 4_000); why != nil {
		t.Fatal(why.Reason())
	}
	for range settlement.DrawDelay {
		g.tick(1)
	}
	g.see(g.node)
	p := g.recordOf(g.h.Peers[0])
	p.Locked = p.Bond
	state.Save(g.kv, settlement.ProviderKey(g.h.Peers[0]), p)
	g.refused("free of its bond", func(kv state.KV) *chain.Rejection {
		return settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: g.lacks(1)}, true)
	})
}

// TestVerdictsThatAreRefused: each by name.
func TestVerdictsThatAreRefused(t *testing.T) {
	g := challenged(t)
	for part, m := range map[string]chain.ReportHardware{
		"is of chain":    {Challenge: chain.HardwareChallenge{ChainID: "another", Node: g.node, Seed: g.h.Seed}, Verdicts: g.lacks(1)},
		"not challenged": {Challenge: chain.HardwareChallenge{ChainID: testChain, Node: key(40).Public(), Seed: g.h.Seed}, Verdicts: g.lacks(1)},
		"another seed":   {Challenge: chain.HardwareChallenge{ChainID: testChain, Node: g.node}, Verdicts: g.lacks(1)},
		"misses 5 of 4":  {Challenge: g.named(), Verdicts: g.lacks(1, 5)},
		"is not a peer":  {Challenge: g.named(), Verdicts: []chain.HardwareVerdict{{Peer: g.node, Missing: 1}}},
	} {
		g.refused(part, func(kv state.KV) *chain.Rejection { return settlement.ReportHardware(kv, &g.env, m, true) })
	}
	g.refused("not signed", func(kv state.KV) *chain.Rejection {
		return settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: g.lacks(1)}, false)
	})
	g.refused("is being challenged", func(kv state.KV) *chain.Rejection {
		_, why := settlement.UnbondProvider(kv, &g.env, g.recordOf(g.node).Owner, chain.UnbondProvider{Node: g.node})
		return why
	})
	g.refused("is being challenged", func(kv state.KV) *chain.Rejection { return g.declare(kv, 0) })
	g.judged()
	g.refused("not challenged", func(kv state.KV) *chain.Rejection {
		return settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: g.lacks(1)}, true)
	})
}

// TestSilenceIsCheaper: of a node that was silent to more than half of its peers nothing counts
// until it is declared anew, which is challenged; it loses no more than a slice. Who was heard
// by so many that was wrong was not silent.
func TestSilenceIsCheaper(t *testing.T) {
	g := challenged(t)
	g.report(g.quiet(3)...)
	judged, _ := g.judged()
	if judged.Finding != "silent" || judged.Missing != 4 || judged.Millicores != 0 || judged.MemoryMiB != 0 || judged.Burned != g.env.Params.JurorSlice {
		t.Fatalf("judged %+v, want a slice", judged)
	}
	if why := g.declare(g.kv, 4_000); why != nil {
		t.Fatal(why.Reason())
	}
	g.refused("is being challenged", func(kv state.KV) *chain.Rejection { return g.declare(kv, 0) })
	for range settlement.DrawDelay - 1 {
		if said := g.tick(1); len(said) != 0 {
			t.Fatalf("too early: %+v", said)
		}
	}
	said := g.tick(1)
	if len(said) != 1 || said[0].(chain.HardwareChallenged).Node != g.node || said[0].(chain.HardwareChallenged).Lanes != 4 {
		t.Fatalf("what was declared anew gives %+v, want a challenge of it", said)
	}
	g.see(g.node)
	bond := g.recordOf(g.node).Bond.Nano()
	g.report(append(g.quiet(2), g.lacks(4, 4, 4, 4, 4)[2:]...)...)
	g.report(g.lacks(4)...) // to whom it had been silent
	if judged, _ := g.judged(); judged.Finding != "short" || judged.Burned.Nano() != bond/5 {
		t.Errorf("judged %+v", judged)
	}
}

// TestRegistrationIsChallenged: of a node that is new, and of one that comes back under the same
// key, as of one that declares more.
func TestRegistrationIsChallenged(t *testing.T) {
	g := newGauge(t)
	g.see(key(91).Public())
	for range 2 {
		g.register(10, 91)
		g.refused("is being challenged", func(kv state.KV) *chain.Rejection {
			_, why := settlement.UnbondProvider(kv, &g.env, account(10), chain.UnbondProvider{Node: g.node})
			return why
		})
		var said chain.Events
		for range settlement.DrawDelay {
			said = append(said, g.tick(1)...)
		}
		if len(said) != 1 || said[0].(chain.HardwareChallenged).Node != g.node || said[0].(chain.HardwareChallenged).Lanes != 4 {
			t.Fatalf("a registration gives %+v, want a challenge of it", said)
		}
		g.see(g.node)
		g.judged()
		g.must(settlement.UnbondProvider(g.kv, &g.env, account(10), chain.UnbondProvider{Node: g.node}))
	}
	g.hushed(func() {
		g.register(10, 91)
		if why := g.declare(g.kv, 64_000); why != nil {
			t.Fatal(why.Reason())
		}
	})
	if g.tick(settlement.DrawDelay); len(g.dumpOf('u', 'd')) != 0 {
		t.Error("a record of a challenge without challenges")
	}
}

// TestLeasedHardwareIsLeftOut: what the chain knows to be leased runs on; nothing else is left
// out, by anybody's word. However many tiny leases of its own a node has, the rest is challenged.
func TestLeasedHardwareIsLeftOut(t *testing.T) {
	g := newGauge(t)
	g.deposit(consumer, chain.Hyper(100))
	lease := func(nonce, millicores uint64) {
		d := g.deal(consumer, nonce, 80, millicores, chain.Nano(1_000_000_000))
		d.Order.Term.Resources = append(d.Order.Term.Resources, chain.Quantity{Resource: chain.Memory, Amount: 2_048})
		d.Order.Caps = append(slices.Clone(d.Order.Caps), chain.UnitPrice{Resource: chain.Memory, Price: 5})
		id := d.Order.ID()
		d.Acceptance.Order, d.Bid.Order = id, id
		d.Bid.Prices = append(d.Bid.Prices, chain.UnitPrice{Resource: chain.Memory, Price: 1})
		d.Acceptance.Sequence = nonce
		g.open(d)
	}
	lease(1, 1_500)
	g.challenge(key(80).Public())
	if g.h.Lanes != 2 || g.h.Millicores != 2_500 || g.h.MemoryMiB != 6_144 {
		t.Fatalf("challenge %+v, want it without what is leased", g.h)
	}
	g.report(g.lacks(2, 2, 2)...)
	if judged, _ := g.judged(); judged.Millicores != 1_500 || judged.MemoryMiB != 2_048 || judged.Burned.Nano() != chain.Hyper(100).Nano()/5*2_500/4_000 {
		t.Fatalf("judged %+v, want that what is leased stays", judged)
	}
	g.hushed(func() {
		if why := g.declare(g.kv, 64_000); why != nil {
			t.Fatal(why.Reason())
		}
	})
	for n := uint64(2); n <= 100; n++ {
		lease(n, 1)
	}
	g.challenge(g.node)
	if g.h.Lanes != 62 || g.h.Millicores != 64_000-1_500-99 {
		t.Fatalf("challenge %+v of a node with a hundred leases, want it without what they keep", g.h)
	}
	g.tick(judgedMs + 1)
	g.next(1 << 40)
	g.expire(200)
	if known := settlement.LeasedOf(g.kv, g.node); known != (settlement.Leased{}) || len(g.dumpOf('U')) != 0 {
		t.Fatalf("%+v stays leased", known)
	}
}

// TestWhatIsLockedIsOwed: what backs other work pays for missing hardware when it does so no more:
// until then it is not free, its owner does not get it back, and its reputation knows.
func TestWhatIsLockedIsOwed(t *testing.T) {
	g := challenged(t)
	p := g.recordOf(g.node)
	p.Locked = chain.Nano(p.Bond.Nano() - 7)
	state.Save(g.kv, settlement.ProviderKey(g.node), p)
	g.report(g.lacks(4, 4, 4)...)
	judged, _ := g.judged()
	slash := chain.Hyper(20).Nano()
	after := g.recordOf(g.node)
	if judged.Burned != chain.Nano(7) || judged.Owed.Nano() != slash-7 || after.Bond != p.Locked || after.Locked != p.Locked || after.Owed != judged.Owed || after.Millicores != 0 {
		t.Fatalf("judged %+v, record %+v", judged, after)
	}
	if facts := after.Record.At(g.env.Now); facts.Debt.Nano() < slash-1 || facts.Debt.Nano() > slash || facts.Slashed < 999_999 {
		t.Errorf("reputation %+v", facts)
	}
	after.Locked = chain.Amount{} // the work ends
	state.Save(g.kv, settlement.ProviderKey(g.node), after)
	if free := after.Free().Nano(); free != chain.Hyper(80).Nano() {
		t.Errorf("%d are free, want all but what is owed", free)
	}
	gone := g.must(settlement.UnbondProvider(g.kv, &g.env, account(8), chain.UnbondProvider{Node: g.node})).(chain.ProviderUnbonded)
	if gone.Burned != judged.Owed || gone.Bond != chain.Hyper(80) || g.surplus() != 0 || !g.recordOf(g.node).Owed.IsZero() {
		t.Errorf("unbonded %+v, surplus %d", gone, g.surplus())
	}
}

// TestOwedIsWithinTheBond: what is owed twice is no more than the bond, and what is added to a bond
// pays it.
func TestOwedIsWithinTheBond(t *testing.T) {
	g := newGauge(t)
	node := key(80).Public()
	for range 8 {
		p := g.recordOf(node)
		p.Locked = p.Bond
		state.Save(g.kv, settlement.ProviderKey(node), p)
		g.challenge(node)
		g.report(g.lacks(slices.Repeat([]uint64{g.h.Lanes}, 5)...)...)
		g.judged()
		if p = g.recordOf(node); p.Bond.Less(p.Owed) || !p.Free().IsZero() {
			t.Fatalf("record %+v", p)
		}
		g.hushed(func() {
			if why := g.declare(g.kv, 4_000); why != nil {
				t.Fatal(why.Reason())
			}
		})
	}
	if p := g.recordOf(node); p.Owed != chain.Hyper(100) {
		t.Errorf("%s are owed, want all", p.Owed)
	}
	g.must(settlement.AddBond(g.kv, &g.env, account(8), chain.AddBond{Node: node, Amount: chain.Hyper(30)}))
	if p := g.recordOf(node); p.Free() != chain.Hyper(0) {
		t.Errorf("%s are free", p.Free())
	}
}

// TestTooFewPeersMeasureNothing: nobody is challenged whom fewer measure than decide.
func TestTooFewPeersMeasureNothing(t *testing.T) {
	g := newGauge(t)
	for _, n := range []byte{60, 70, 80, 90} {
		g.must(settlement.UnbondProvider(g.kv, &g.env, account(n/10), chain.UnbondProvider{Node: key(n).Public()}))
	}
	for range 32 { // owners 4 and 5 are left: each has one peer
		g.env.Params.HardwareEveryMs = 1
		if said := g.tick(1); len(said) != 0 {
			t.Fatalf("with one peer: %+v", said)
		}
	}
	g.register(6, 60)
	for range settlement.DrawDelay {
		g.hush()
		g.tick(1)
	}
	g.see(key(60).Public())
	if len(g.h.Peers) != 2 || !g.h.Open() {
		t.Fatalf("challenge %+v, want two peers", g.h)
	}
	g.report(g.lacks(4, 3)...)
	if judged, _ := g.judged(); judged.Missing != 3 {
		t.Errorf("judged %+v", judged)
	}
}

// TestNodesWithoutACoreAreNotChallenged.
func TestNodesWithoutACoreAreNotChallenged(t *testing.T) {
	g := newGauge(t)
	g.see(key(80).Public())
	if why := g.declare(g.kv, 999); why != nil {
		t.Fatal(why.Reason())
	}
	for range 64 {
		g.env.Params.HardwareEveryMs = 1
		for _, e := range g.tick(1) {
			if c, ok := e.(chain.HardwareChallenged); ok && c.Node == g.node {
				t.Fatalf("challenged %+v", c)
			}
		}
	}
}

// apply writes what was done on an overlay.
func (g *gauge) apply(kv *state.Overlay) {
	for _, c := range kv.Changes() {
		if c.Deleted {
			g.kv.Delete(c.Key)
		} else {
			g.kv.Set(c.Key, bytes.Clone(c.Value))
		}
	}
}
