package execution_test

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

var gasTerms = chain.ServiceTerms{
	EpochMs: chain.MinServiceEpochMs, AvailabilityBps: 9_000, RebateBps: 10_000, Penalty: chain.Nano(1_000), Stake: chain.Nano(100_000_000),
}

// promiseLeases returns what gives every user's lease service terms, and peers: the nodes of
// the users after it. The leases are a minute older for it.
func promiseLeases(p prepared) func(*gasWorld, *state.Overlay) {
	return func(_ *gasWorld, kv *state.Overlay) {
		for i, id := range p.leases {
			l, _ := settlement.LeaseOf(kv, id)
			l.Since, l.Until, l.Promised = l.Since-60_000, l.Until-60_000, true
			state.Save(kv, settlement.LeaseKey(id), l)
			node, _ := settlement.ProviderOf(kv, id.Node)
			node.Locked, _ = node.Locked.Add(gasTerms.Stake)
			state.Save(kv, settlement.ProviderKey(id.Node), node)
			s := settlement.Service{Node: id.Node, Terms: gasTerms, Stake: gasTerms.Stake, Drawn: l.Since}
			for n := range chain.MaxServicePeers {
				s.Peers = append(s.Peers, p.nodes[(i+n+1)%gasUsers].Public())
			}
			state.Save(kv, settlement.ServiceKey(id.Order), s)
		}
	}
}

// ofServices are the messages about what is promised of leases, an operation each, named as
// in the table.
func ofServices(p prepared) []operation {
	epochOf := func(w *gasWorld, i int) chain.ServiceEpoch {
		l, _ := settlement.LeaseOf(w.state, p.leases[i])
		return chain.ServiceEpoch{ChainID: testChain, Lease: p.leases[i], Terms: l.Order}
	}
	signed := func(e chain.ServiceEpoch, r chain.ServiceReport, by key) chain.ServiceReport {
		r.Peer = by.Public()
		r.Signature = by.PrivateKey.Sign(crypto.DomainService, chain.ServicePayload(e, r))
		return r
	}
	report := func(w *gasWorld, i, peers int) chain.ReportMiss {
		m := chain.ReportMiss{Epoch: epochOf(w, i)}
		for n := range peers {
			m.Reports = append(m.Reports, signed(m.Epoch, chain.ServiceReport{Sent: 10}, p.nodes[(i+n+1)%gasUsers]))
		}
		return m
	}
	forged := oneOf("report_miss/forged", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		m := report(w, i, chain.MaxServicePeers)
		m.Reports[0].Signature[0] ^= 1
		return m
	})
	forged.want = refused
	list := []operation{
		oneOf("report_miss", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg { return report(w, i, chain.MaxServicePeers) }),
		forged,
		oneOf("draw_peers", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.DrawPeers{Lease: p.leases[i]} }),
		oneOf("leave_lease", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.LeaveLease{Lease: p.leases[i]} }),
		oneOf("accuse_peer", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			e, peer := epochOf(w, i), p.nodes[(i+1)%gasUsers]
			return chain.AccusePeer{Epoch: e, First: signed(e, chain.ServiceReport{Sent: 1}, peer), Second: signed(e, chain.ServiceReport{Sent: 2}, peer)}
		}),
	}
	for i := range list {
		list[i].on = promiseLeases(p)
	}
	return list
}
