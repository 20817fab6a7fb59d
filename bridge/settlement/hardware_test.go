package settlement_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// gauge is a market in which every block challenges a node.
type gauge struct {
	*market
	node crypto.PublicKey // that is challenged
	h    settlement.Hardware
}

func newGauge(t testing.TB) *gauge {
	t.Helper()
	g := &gauge{market: newMarket(t)}
	g.register(8, 80)
	g.env.Params.HardwareChallenges, g.env.Params.EpochMs, g.env.Params.HardwareMs = 10_000, 1_000, 60_000
	g.challenge()
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

// challenge makes a block with a challenge, and no more of them after.
func (g *gauge) challenge() {
	g.Helper()
	g.env.Params.HardwareChallenges, g.env.Params.EpochMs = 10_000, 1_000
	events := g.tick(1_000)
	g.hush()
	at := slices.IndexFunc(events, func(e chain.Event) bool { _, ok := e.(chain.HardwareChallenged); return ok })
	if at < 0 {
		g.Fatalf("a block has %+v, want a challenge", events)
	}
	g.see(events[at].(chain.HardwareChallenged).Node)
}

// hush has the lottery draw nobody any more; what is declared anew is challenged still.
func (g *gauge) hush() { g.env.Params.HardwareChallenges, g.env.Params.EpochMs = 1, 1<<60 }

func (g *gauge) see(node crypto.PublicKey) {
	g.node = node
	g.h, _ = settlement.HardwareOf(g.kv, node)
}

func (g *gauge) named() chain.HardwareChallenge {
	return chain.HardwareChallenge{ChainID: testChain, Node: g.node, Seed: g.h.Seed}
}

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

func (g *gauge) report(verdicts []chain.HardwareVerdict) (chain.Events, *chain.Rejection) {
	return settlement.ReportHardware(g.kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: verdicts}, true)
}

func (g *gauge) judge(verdicts []chain.HardwareVerdict) chain.HardwareJudged {
	g.Helper()
	events, why := g.report(verdicts)
	if why != nil {
		g.Fatal(why.Reason())
	}
	return events[len(events)-1].(chain.HardwareJudged)
}

func (g *gauge) refuse(part string, do func(kv state.KV) *chain.Rejection) {
	g.Helper()
	g.refused(part, do)
}

// TestChallengesAreDrawn: as many as the parameters say, of nodes that declare a core, measured
// by nodes of five other owners.
func TestChallengesAreDrawn(t *testing.T) {
	g := newGauge(t)
	p := g.recordOf(g.node)
	if len(g.h.Peers) != chain.MaxHardwarePeers-1 && len(g.h.Peers) != chain.MaxHardwarePeers || g.h.Lanes != 4 || g.h.MemoryMiB != 8_192 {
		t.Fatalf("challenge %+v", g.h)
	}
	owners := map[chain.Address]bool{p.Owner: true}
	for _, peer := range g.h.Peers {
		if owner := g.recordOf(peer).Owner; owners[owner] {
			t.Errorf("peer %s is of an owner that was drawn, or is the node's", peer.Short())
		} else {
			owners[owner] = true
		}
	}
	g.env.Params.HardwareChallenges, g.env.Params.EpochMs = 100, 1_000_000
	for seen, blocks := 0, 0; blocks < 4_000; blocks++ {
		g.env.Height++
		g.env.LastProgressMs, g.env.ProgressMs = g.env.ProgressMs, g.env.ProgressMs+1_000
		g.env.Mix = crypto.DomainMix.Hash(binary.BigEndian.AppendUint64(nil, uint64(g.env.Height)))
		seen += len(settlement.ChallengeHardware(state.NewOverlay(g.kv), &g.env)) // some are of the node that is challenged
		if blocks == 3_999 && (seen < 250 || seen > 480) {
			t.Errorf("%d challenges in four epochs, want about 400 less those of one that is open", seen)
		}
	}
	g.env.Params.HardwareChallenges = 0
	if events := settlement.ChallengeHardware(g.kv, &g.env); events != nil {
		t.Errorf("%+v without challenges", events)
	}
}

func (g *gauge) recordOf(node crypto.PublicKey) settlement.Provider {
	g.Helper()
	p, ok := settlement.ProviderOf(g.kv, node)
	if !ok {
		g.Fatal("no such node")
	}
	return p
}

// TestMissingHardwareIsCut: what more than half of the peers miss counts no longer, and its
// part of the slash is burned.
func TestMissingHardwareIsCut(t *testing.T) {
	g := newGauge(t)
	want := chain.Quorum(len(g.h.Peers))
	verdicts := g.lacks([]uint64{4, 3, 1, 2, 2}[:want]...)
	before := g.recordOf(g.node)
	judged := g.judge(verdicts)
	least := uint64(1) // the least of as many as decide
	if got := uint64(judged.Missing); got != least || judged.Finding != "short" || judged.Millicores != 3_000 || judged.MemoryMiB != 6_144 {
		t.Fatalf("judged %+v", judged)
	}
	after := g.recordOf(g.node)
	slashed := before.Bond.Nano() / 4 * 2_000 / 10_000
	if after.Millicores != 3_000 || after.MemoryMiB != 6_144 || before.Bond.Nano()-after.Bond.Nano() != slashed || judged.Burned.Nano() != slashed || !after.Locked.IsZero() {
		t.Errorf("record %+v, judged %+v", after, judged)
	}
	g.refuse("was judged", func(kv state.KV) *chain.Rejection {
		_, why := settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: verdicts}, true)
		return why
	})
	g.tick(60_001)
	if _, ok := settlement.HardwareOf(g.kv, g.node); ok {
		t.Error("a challenge that is over stays")
	}
	if g.surplus() != 0 {
		t.Error("value appears or vanishes")
	}
}

// TestOwnersDoNotMeasureTheirOwn: of a node whose owner has another, that one is never a peer.
func TestOwnersDoNotMeasureTheirOwn(t *testing.T) {
	g := newGauge(t)
	own := []crypto.PublicKey{key(40).Public(), key(41).Public()}
	for seen := 0; seen < 6; {
		if slices.Contains(own, g.node) {
			seen++
			if slices.ContainsFunc(own, func(n crypto.PublicKey) bool { return slices.Contains(g.h.Peers, n) }) {
				t.Fatalf("node %s is measured by its owner's", g.node.Short())
			}
		}
		g.tick(60_001)
		g.challenge()
	}
}

// TestWhatIsLockedIsNotBurned: what backs other work does not pay for missing hardware, and
// the cut holds.
func TestWhatIsLockedIsNotBurned(t *testing.T) {
	g := newGauge(t)
	p := g.recordOf(g.node)
	p.Locked = chain.Nano(p.Bond.Nano() - 7)
	state.Save(g.kv, settlement.ProviderKey(g.node), p)
	judged := g.judge(g.lacks(slices.Repeat([]uint64{4}, len(g.h.Peers))...))
	if after := g.recordOf(g.node); judged.Burned != chain.Nano(7) || after.Bond != p.Locked || after.Locked != p.Locked || after.Millicores != 0 || g.surplus() != 0 {
		t.Errorf("judged %+v, record %+v", judged, after)
	}
}

// TestVerdictsThatAreRefused: each by name.
func TestVerdictsThatAreRefused(t *testing.T) {
	g := newGauge(t)
	n := len(g.h.Peers)
	same := func(v uint64) []chain.HardwareVerdict { return g.lacks(slices.Repeat([]uint64{v}, n)...) }
	for part, m := range map[string]chain.ReportHardware{
		"is of chain":          {Challenge: chain.HardwareChallenge{ChainID: "another", Node: g.node, Seed: g.h.Seed}, Verdicts: same(1)},
		"not challenged":       {Challenge: chain.HardwareChallenge{ChainID: testChain, Node: key(consumer).Public(), Seed: g.h.Seed}, Verdicts: same(1)},
		"another seed":         {Challenge: chain.HardwareChallenge{ChainID: testChain, Node: g.node}, Verdicts: same(1)},
		"verdict, want":        {Challenge: g.named(), Verdicts: same(1)[:1]},
		"never silent":         {Challenge: g.named(), Verdicts: same(0)},
		"misses 5 of 4":        {Challenge: g.named(), Verdicts: same(5)},
		"is not a peer":        {Challenge: g.named(), Verdicts: append(same(1)[:n-1], chain.HardwareVerdict{Peer: g.node, Missing: 1})},
		"has two verdicts":     {Challenge: g.named(), Verdicts: append(same(1)[:n-1], same(1)[0])},
		"differ in what they ": {Challenge: g.named(), Verdicts: append(same(1)[:n-1], g.quiet(n)[n-1])},
	} {
		g.refuse(part, func(kv state.KV) *chain.Rejection {
			_, why := settlement.ReportHardware(kv, &g.env, m, true)
			return why
		})
	}
	g.refuse("not signed", func(kv state.KV) *chain.Rejection {
		_, why := settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: same(1)}, false)
		return why
	})
	g.refuse("is being challenged", func(kv state.KV) *chain.Rejection {
		_, why := settlement.UnbondProvider(kv, &g.env, g.recordOf(g.node).Owner, chain.UnbondProvider{Node: g.node})
		return why
	})
	g.refuse("is being challenged", func(kv state.KV) *chain.Rejection {
		_, why := settlement.DeclareHardware(kv, &g.env, g.recordOf(g.node).Owner, chain.DeclareHardware{Node: g.node})
		return why
	})
}

// TestSilenceCountsInTheEnd: a node may be away twice; whoever shows its hardware in between
// may again.
func TestSilenceCountsInTheEnd(t *testing.T) {
	g := newGauge(t)
	node := g.node
	again := func() {
		t.Helper()
		g.tick(60_001)
		for g.challenge(); g.node != node; g.challenge() {
			g.tick(60_001)
		}
	}
	for range 2 {
		if judged := g.judge(g.quiet(len(g.h.Peers))); judged.Burned != chain.Nano(500_000_000) || judged.Millicores != 4_000 || judged.Finding != "silent" {
			t.Fatalf("judged %+v, want a tenth of a slice", judged)
		}
		again()
	}
	if g.h.Silences != 2 {
		t.Fatalf("%d silences are remembered", g.h.Silences)
	}
	if judged := g.judge(g.lacks(make([]uint64, len(g.h.Peers))...)); judged.Finding != "shown" || !judged.Burned.IsZero() || judged.Millicores != 4_000 {
		t.Fatalf("judged %+v, want that it showed its hardware", judged)
	}
	for range 2 {
		again()
		g.judge(g.quiet(len(g.h.Peers)))
	}
	again()
	bond := g.recordOf(node).Bond
	judged := g.judge(g.quiet(len(g.h.Peers)))
	if judged.Millicores != 0 || judged.MemoryMiB != 0 || judged.Missing != 4 || judged.Burned.Nano() != bond.Nano()/5 {
		t.Fatalf("judged %+v, want that nothing showed up", judged)
	}
	g.tick(60_001)
	owner := g.recordOf(node).Owner
	g.must(settlement.DeclareHardware(g.kv, &g.env, owner, chain.DeclareHardware{Node: node, Millicores: 2_000, MemoryMiB: 1_024}))
	var said chain.Events
	for range settlement.DrawDelay {
		said = append(said, g.tick(1)...)
	}
	if len(said) != 1 || said[0].(chain.HardwareChallenged).Node != node || said[0].(chain.HardwareChallenged).Lanes != 2 {
		t.Errorf("what was declared anew gives %+v, want a challenge of it", said)
	}
}

// declare has the challenged node's owner declare anew, with 2,048 MiB.
func (g *gauge) declare(kv state.KV, millicores uint64) *chain.Rejection {
	_, why := settlement.DeclareHardware(kv, &g.env, g.recordOf(g.node).Owner, chain.DeclareHardware{Node: g.node, Millicores: millicores, MemoryMiB: 2_048})
	return why
}

// TestCutIsNotDeclaredAway: nobody declares again what was cut while the challenge that found it
// would keep another from being opened, nor less until what grew is challenged.
func TestCutIsNotDeclaredAway(t *testing.T) {
	g := newGauge(t)
	g.judge(g.lacks(slices.Repeat([]uint64{g.h.Lanes}, len(g.h.Peers))...))
	again := func(kv state.KV) *chain.Rejection { return g.declare(kv, 4_000) }
	g.refuse("is being challenged", again)
	g.tick(60_001)
	if why := again(g.kv); why != nil {
		t.Fatal(why.Reason())
	}
	for range settlement.DrawDelay - 1 {
		g.tick(1)
		g.refuse("is being challenged", func(kv state.KV) *chain.Rejection { return g.declare(kv, 0) })
	}
	said := g.tick(1)
	if len(said) != 1 || said[0].(chain.HardwareChallenged).Node != g.node || said[0].(chain.HardwareChallenged).Lanes != 4 {
		t.Errorf("what was declared anew gives %+v, want a challenge of it", said)
	}
	g.tick(60_001)
	if _, ok := settlement.HardwareOf(g.kv, g.node); ok {
		t.Error("a challenge that is over stays")
	}
}

// TestNobodyIsChallengedWithoutChallenges: not what grew either, as no node could answer.
func TestNobodyIsChallengedWithoutChallenges(t *testing.T) {
	g := newGauge(t)
	g.tick(60_001)
	g.env.Params.HardwareChallenges = 0
	if why := g.declare(g.kv, 64_000); why != nil {
		t.Fatal(why.Reason())
	}
	for range settlement.DrawDelay {
		if said := g.tick(1); len(said) != 0 {
			t.Fatalf("without challenges, what grew gives %+v", said)
		}
	}
	if _, ok := settlement.HardwareOf(g.kv, g.node); ok {
		t.Error("a record of a challenge without challenges")
	}
}

// TestMeasurerOfTwoMindsIsSlashed, and measures no more.
func TestMeasurerOfTwoMindsIsSlashed(t *testing.T) {
	g := newGauge(t)
	peer := g.h.Peers[0]
	m := chain.AccuseMeasurer{Challenge: g.named(), First: g.lacks(0)[0], Second: g.lacks(2)[0]}
	bond, had := g.recordOf(peer).Bond, g.balance(12)
	event, why := settlement.AccuseMeasurer(g.kv, &g.env, account(12), m, true)
	if why != nil {
		t.Fatal(why.Reason())
	}
	slice := g.env.Params.JurorSlice.Nano()
	if bond.Nano()-g.recordOf(peer).Bond.Nano() != slice || g.balance(12).Nano()-had.Nano() != slice/2 || event.(chain.BondSlashed).Amount.Nano() != slice {
		t.Errorf("slashed %+v", event)
	}
	g.refuse("is not a peer", func(kv state.KV) *chain.Rejection {
		_, why := settlement.AccuseMeasurer(kv, &g.env, account(12), m, true)
		return why
	})
	g.refuse("not signed", func(kv state.KV) *chain.Rejection {
		_, why := settlement.AccuseMeasurer(kv, &g.env, account(12), m, false)
		return why
	})
	if h, _ := settlement.HardwareOf(g.kv, g.node); slices.Contains(h.Peers, peer) || g.surplus() != 0 {
		t.Errorf("peers %v, surplus %d", h.Peers, g.surplus())
	}
}

// TestHardwareConserves does anything in any order, and demands that nothing appears or
// vanishes, that no challenge is judged twice, that nothing is declared by a verdict, that a
// loss is within its share, and that nothing stays of what is over.
func TestHardwareConserves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := newGauge(t)
		judged := map[crypto.Digest]bool{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			before := g.recordOf(g.node)
			seed := g.h.Seed
			for _, e := range g.step(rt) {
				v, ok := e.(chain.HardwareJudged)
				if !ok {
					continue
				}
				if judged[seed] {
					rt.Fatal("a challenge was judged twice")
				}
				judged[seed] = true
				after := g.recordOf(g.node)
				lost := before.Bond.Nano() - after.Bond.Nano()
				if after.Millicores > before.Millicores || after.MemoryMiB > before.MemoryMiB || lost != v.Burned.Nano() || lost > before.Bond.Nano()/5 {
					rt.Fatalf("judged %+v: %+v was %+v", v, after, before)
				}
			}
			g.checkConserved(rt)
		}
		g.hush()
		for range settlement.DrawDelay {
			g.tick(1)
		}
		g.tick(60_001)
		for key, value := range g.kv.Iterate([]byte("bu"), []byte("bv")) {
			if h, err := settlement.DecodeHardware(value); err != nil || h.Due != 0 || h.Silences == 0 {
				rt.Fatalf("%x stays: %+v %v", key, h, err)
			}
		}
		if left := g.dumpOf('t', 'd'); len(left) != 0 {
			rt.Fatalf("left %x", left)
		}
	})
}

// step does something that anybody may try, and returns what it says if it is taken.
func (g *gauge) step(rt *rapid.T) (events chain.Events) {
	kv := state.NewOverlay(g.kv)
	var why *chain.Rejection
	n := rapid.IntRange(0, len(g.h.Peers)).Draw(rt, "peers")
	verdicts := g.quiet(n)
	switch rapid.IntRange(0, 6).Draw(rt, "step") {
	case 0:
		g.tick(rapid.Uint64Range(1, 40_000).Draw(rt, "wait"))
		g.see(g.node)
		return nil
	case 1:
		g.env.Params.HardwareChallenges, g.env.Params.EpochMs = 10_000, 1_000
		for _, e := range g.tick(1_000) {
			if c, ok := e.(chain.HardwareChallenged); ok {
				g.see(c.Node)
			}
		}
		g.hush()
		return nil
	case 2, 3:
		for i := range verdicts {
			verdicts[i].Silent, verdicts[i].Missing = false, rapid.Uint64Range(0, 5).Draw(rt, "missing")
		}
		fallthrough
	case 4:
		events, why = settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: verdicts}, true)
	case 5:
		mc, mib := rapid.Uint64Range(0, 9_000).Draw(rt, "millicores"), rapid.Uint64Range(0, 9_000).Draw(rt, "mib")
		var e chain.Event
		e, why = settlement.DeclareHardware(kv, &g.env, g.recordOf(g.node).Owner, chain.DeclareHardware{Node: g.node, Millicores: mc, MemoryMiB: mib})
		events = chain.Events{e}
	case 6:
		if n == 0 {
			return nil
		}
		_, why = settlement.AccuseMeasurer(kv, &g.env, account(12), chain.AccuseMeasurer{Challenge: g.named(), First: g.lacks(0)[0], Second: g.lacks(2)[0]}, true)
	}
	if why != nil {
		return nil
	}
	for _, c := range kv.Changes() {
		if c.Deleted {
			g.kv.Delete(c.Key)
		} else {
			g.kv.Set(c.Key, bytes.Clone(c.Value))
		}
	}
	g.see(g.node)
	return events
}
