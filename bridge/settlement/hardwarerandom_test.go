package settlement_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// verdicts are any that peers of the challenge may sign.
func (g *gauge) verdicts(rt *rapid.T, peers []crypto.PublicKey) (list []chain.HardwareVerdict) {
	for _, peer := range peers {
		v := chain.HardwareVerdict{Peer: peer, Missing: rapid.Uint64Range(0, g.h.Lanes+1).Draw(rt, "missing")}
		v.Silent = v.Missing == 0
		list = append(list, v)
	}
	return list
}

// TestWhoIsHonestLosesNothing: whatever a minority of the peers signs, and however often and in
// whichever order anybody posts it, a node that has what it declares keeps that and its bond.
func TestWhoIsHonestLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := newGauge(t)
		node := key(rapid.SampledFrom([]byte{40, 50, 80, 90}).Draw(rt, "node")).Public()
		g.challenge(node)
		liars := g.h.Peers[:(len(g.h.Peers)-1)/2]
		before := g.recordOf(node)
		for range rapid.IntRange(1, 12).Draw(rt, "posts") {
			some := slices.DeleteFunc(slices.Clone(liars), func(crypto.PublicKey) bool { return rapid.Bool().Draw(rt, "without") })
			kv := state.NewOverlay(g.kv)
			if settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: g.verdicts(rt, some)}, true) == nil {
				g.apply(kv)
			}
			g.tick(rapid.Uint64Range(1, judgedMs/20).Draw(rt, "wait"))
		}
		judged, events := g.judged()
		if after := g.recordOf(node); judged != (chain.HardwareJudged{}) || after != before {
			rt.Fatalf("the node has %+v, had %+v: %+v", after, before, judged)
		}
		for _, e := range events {
			if s, ok := e.(chain.BondSlashed); !ok || !slices.Contains(liars, s.Node) {
				rt.Fatalf("%+v, want that only who signed loses", e)
			}
		}
		if slices.ContainsFunc(g.h.Peers[len(liars):], func(p crypto.PublicKey) bool {
			return g.recordOf(p).Bond != chain.Hyper(100) || !g.recordOf(p).Locked.IsZero()
		}) {
			rt.Fatal("a peer that said nothing lost, or has something locked")
		}
	})
}

// TestHardwareConserves does anything in any order, and demands that nothing appears or
// vanishes, that nothing is declared by a judgment, that a loss is within its share, and that
// nothing stays of what is over.
func TestHardwareConserves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := challenged(t)
		g.locked = true
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			before := map[crypto.PublicKey]settlement.Provider{}
			for _, n := range []byte{40, 41, 50, 60, 70, 80, 90} {
				before[key(n).Public()] = g.recordOf(key(n).Public())
			}
			for _, e := range g.step(rt) {
				v, ok := e.(chain.HardwareJudged)
				if !ok {
					continue
				}
				was, is := before[v.Node], g.recordOf(v.Node)
				lost := v.Burned.Nano() + v.Owed.Nano()
				if is.Millicores > was.Millicores || is.MemoryMiB > was.MemoryMiB || lost > was.Bond.Nano()/5 || is.Owed.Nano()-was.Owed.Nano() != v.Owed.Nano() {
					rt.Fatalf("judged %+v: %+v was %+v", v, is, was)
				}
			}
			g.checkConserved(rt)
		}
		g.hush()
		for range settlement.DrawDelay {
			g.tick(1)
		}
		g.tick(judgedMs + 1)
		g.tick(1)
		if left := g.dumpOf('u', 't', 'd'); len(left) != 0 {
			rt.Fatalf("left %x", left)
		}
		for _, n := range []byte{40, 41, 50, 60, 70, 80, 90} {
			p := g.recordOf(key(n).Public())
			if p.UnbondedMs == 0 && g.own(key(n).Public()) != p.Locked {
				rt.Fatalf("node %d has %s locked, of which %s is other work's", n, p.Locked, g.own(key(n).Public()))
			}
		}
		g.checkConserved(rt)
	})
}

// own is what a test locked of a node's bond for other work.
func (g *gauge) own(node crypto.PublicKey) chain.Amount {
	if node == key(80).Public() {
		return g.busy
	}
	return chain.Amount{}
}

// step does something that anybody may try, and returns what it says if it is taken.
func (g *gauge) step(rt *rapid.T) (events chain.Events) {
	kv := state.NewOverlay(g.kv)
	var why *chain.Rejection
	switch rapid.IntRange(0, 7).Draw(rt, "step") {
	case 0, 1:
		events = g.tick(rapid.Uint64Range(1, judgedMs).Draw(rt, "wait"))
		g.see(g.node)
		return events
	case 2:
		g.env.Params.HardwareEveryMs = 1
		events = g.tick(1)
		for _, e := range events {
			if c, ok := e.(chain.HardwareChallenged); ok {
				g.see(c.Node)
			}
		}
		g.hush()
		return events
	case 3, 4:
		peers := slices.DeleteFunc(slices.Clone(g.h.Peers), func(crypto.PublicKey) bool { return rapid.IntRange(0, 3).Draw(rt, "without") == 0 })
		why = settlement.ReportHardware(kv, &g.env, chain.ReportHardware{Challenge: g.named(), Verdicts: g.verdicts(rt, peers)}, true)
	case 5:
		mc, mib := rapid.Uint64Range(0, 9_000).Draw(rt, "millicores"), rapid.Uint64Range(0, 9_000).Draw(rt, "mib")
		_, why = settlement.DeclareHardware(kv, &g.env, g.recordOf(g.node).Owner, chain.DeclareHardware{Node: g.node, Millicores: mc, MemoryMiB: mib})
	case 6: // other work locks a bond, or frees it
		node := key(80).Public()
		p := g.recordOf(node)
		if g.busy.IsZero() {
			g.busy = p.Free()
			p.Locked = chain.Nano(p.Locked.Nano() + g.busy.Nano())
		} else {
			p.Locked = chain.Nano(p.Locked.Nano() - g.busy.Nano())
			g.busy = chain.Amount{}
		}
		state.Save(kv, settlement.ProviderKey(node), p)
	case 7:
		n := rapid.SampledFrom([]byte{40, 41, 50, 60, 70, 80, 90}).Draw(rt, "leaves")
		if g.recordOf(key(n).Public()).UnbondedMs != 0 {
			_, why = settlement.RegisterProvider(kv, &g.env, account(n/10), g.registerProvider(n/10, n))
		} else {
			_, why = settlement.UnbondProvider(kv, &g.env, account(n/10), chain.UnbondProvider{Node: key(n).Public()})
		}
	}
	if why == nil {
		g.apply(kv)
	}
	g.see(g.node)
	return nil
}
