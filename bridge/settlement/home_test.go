package settlement_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// secondCluster is another cluster, of an operator that has none.
const secondCluster = 98

func (m *market) registerSecond() {
	m.Helper()
	r := m.registerCluster(operator)
	r.Cluster = key(secondCluster).Public()
	r.Possession = key(secondCluster).Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, account(operator)))
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), r))
}

// home is what a node, and a cluster, say now.
func (m *market) home(node, at byte) chain.AnnounceHome {
	return chain.AnnounceHome{Home: chain.NodeHome{ChainID: testChain, Node: key(node).Public(), Cluster: key(at).Public(), At: m.env.Now}}
}

func (m *market) move(h chain.AnnounceHome) *chain.Rejection {
	_, why := settlement.AnnounceHome(m.kv, &m.env, h, true)
	return why
}

func (m *market) wantHome(node, at byte) {
	m.Helper()
	if h, ok := settlement.HomeOf(m.kv, key(node).Public()); !ok || h.Cluster != key(at).Public() {
		m.Errorf("node %d is at home at %s, %t", node, h.Cluster.Short(), ok)
	}
}

// TestANodesHome: it is announced, moves by what node and cluster said later, and goes with its registration.
func TestANodesHome(t *testing.T) {
	m := newMarket(t)
	m.registerSecond()
	if _, ok := settlement.HomeOf(m.kv, key(70).Public()); ok {
		t.Fatal("a node is at home before it said so")
	}
	first := m.home(70, cluster)
	e := m.must(settlement.AnnounceHome(m.kv, &m.env, first, true))
	if e != (chain.HomeAnnounced{Node: key(70).Public(), Cluster: key(cluster).Public(), At: first.Home.At}) {
		t.Errorf("%+v", e)
	}
	m.wantHome(70, cluster)
	m.pass(chain.HomeMs)
	m.must(settlement.AnnounceHome(m.kv, &m.env, m.home(70, secondCluster), true))
	m.wantHome(70, secondCluster)
	if why := m.move(first); why == nil {
		t.Error("what it said before moves it back")
	}
	m.must(settlement.UnbondProvider(m.kv, &m.env, account(7), chain.UnbondProvider{Node: key(70).Public()}))
	if _, ok := settlement.HomeOf(m.kv, key(70).Public()); ok {
		t.Error("a node that left is at home")
	}
}

// TestHomesAreRefusedByName, and change nothing.
func TestHomesAreRefusedByName(t *testing.T) {
	m := newMarket(t)
	m.registerSecond()
	m.must(settlement.AnnounceHome(m.kv, &m.env, m.home(70, cluster), true))
	with := func(node, at byte, change func(h *chain.NodeHome)) chain.AnnounceHome {
		a := m.home(node, at)
		change(&a.Home)
		return a
	}
	same := func(*chain.NodeHome) {}
	for part, a := range map[string]chain.AnnounceHome{
		"is of chain":                 with(60, cluster, func(h *chain.NodeHome) { h.ChainID = "other-1" }),
		"600000 ms apart":             with(60, cluster, func(h *chain.NodeHome) { h.At -= chain.HomeMs + 1 }),
		"more than 600000 ms":         with(60, cluster, func(h *chain.NodeHome) { h.At += chain.HomeMs + 1 }),
		"more than 600000":            with(60, cluster, func(h *chain.NodeHome) { h.At = 1<<64 - 1 }),
		"more than":                   with(60, cluster, func(h *chain.NodeHome) { h.At = 0 }),
		"provider " + short(99):       with(99, cluster, same),
		"cluster " + short(60):        with(60, 60, same),
		"already":                     with(70, cluster, func(h *chain.NodeHome) { h.At++ }),
		"moves 600000 ms later":       with(70, secondCluster, same),
		"600000 ms later at the earl": with(70, secondCluster, func(h *chain.NodeHome) { h.At += chain.HomeMs - 1 }),
		"later at the earliest":       with(70, secondCluster, func(h *chain.NodeHome) { h.At-- }),
	} {
		m.refused(part, func(kv state.KV) *chain.Rejection {
			_, why := settlement.AnnounceHome(kv, &m.env, a, true)
			return why
		})
	}
	m.refused("is not signed", func(kv state.KV) *chain.Rejection {
		_, why := settlement.AnnounceHome(kv, &m.env, m.home(60, cluster), false)
		return why
	})
	m.unbondCluster()
	m.refused("cluster "+short(cluster)+" is not registered", func(kv state.KV) *chain.Rejection {
		_, why := settlement.AnnounceHome(kv, &m.env, m.home(60, cluster), true)
		return why
	})
	m.wantHome(70, cluster)
}

func short(n byte) string { return key(n).Public().Short() }

// TestAChallengedNodeDoesNotMove: who measures it knows where to ask; where it is for the first time may be said.
func TestAChallengedNodeDoesNotMove(t *testing.T) {
	g := challenged(t)
	g.registerSecond()
	g.must(settlement.AnnounceHome(g.kv, &g.env, g.home(80, cluster), true))
	g.env.Now += chain.HomeMs
	if why := g.move(g.home(80, secondCluster)); why == nil || !bytes.Contains([]byte(why.Reason()), []byte("is being challenged")) {
		t.Errorf("%v", why)
	}
	g.wantHome(80, cluster)
	g.judged()
	if why := g.move(g.home(80, secondCluster)); why != nil {
		t.Error(why.Reason())
	}
	g.wantHome(80, secondCluster)
}

// TestHomesGoForward: whoever brings what nodes and clusters said, in any order and again, the home of a node is what
// was said last of what was brought, no two that counted are less than HomeMs apart, and nothing else changes.
func TestHomesGoForward(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		m.registerSecond()
		var said []chain.AnnounceHome
		last := map[byte]chain.TimeMs{}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			m.env.Now += chain.TimeMs(rapid.Uint64Range(0, chain.HomeMs).Draw(rt, "passes"))
			node := rapid.SampledFrom([]byte{60, 70}).Draw(rt, "node")
			said = append(said, m.home(node, rapid.SampledFrom([]byte{cluster, secondCluster}).Draw(rt, "at")))
			h := rapid.SampledFrom(said).Draw(rt, "brought")
			node = 60
			if h.Home.Node == key(70).Public() {
				node = 70
			}
			before := m.dump()
			if why := m.move(h); why != nil {
				if !bytes.Equal(before, m.dump()) {
					rt.Fatal("what is refused changes the state")
				}
				continue
			}
			if at, ok := last[node]; ok && h.Home.At < at+chain.HomeMs {
				rt.Fatalf("it moved by what was said %d ms after", int64(h.Home.At)-int64(at))
			}
			last[node] = h.Home.At
			if now, _ := settlement.HomeOf(m.kv, h.Home.Node); now != (settlement.Home{Cluster: h.Home.Cluster, At: h.Home.At}) {
				rt.Fatalf("%+v", now)
			}
		}
	})
}
