package execution_test

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// challengeNodes challenges the node of every user, which the nodes of those after it measure.
func challengeNodes(p prepared) func(*gasWorld, *state.Overlay) {
	return func(_ *gasWorld, kv *state.Overlay) {
		for i, node := range p.nodes {
			h := settlement.Hardware{Seed: crypto.Digest(node.Public()), Millicores: 4_000, Lanes: 4, MemoryMiB: 8_192, Due: 1 << 60}
			for n := range chain.MaxHardwarePeers {
				h.Peers = append(h.Peers, p.nodes[(i+n+1)%gasUsers].Public())
			}
			state.Save(kv, settlement.HardwareKey(node.Public()), h)
		}
	}
}

// ofHardware are the messages about declared hardware, an operation each, named as in the
// table.
func ofHardware(p prepared) []operation {
	challengeOf := func(i int) chain.HardwareChallenge {
		node := p.nodes[i].Public()
		return chain.HardwareChallenge{ChainID: testChain, Node: node, Seed: crypto.Digest(node)}
	}
	signed := func(c chain.HardwareChallenge, missing uint64, by key) chain.HardwareVerdict {
		v := chain.HardwareVerdict{Peer: by.Public(), Missing: missing}
		v.Signature = by.PrivateKey.Sign(crypto.DomainHardware, chain.HardwarePayload(c, v))
		return v
	}
	report := func(i int) chain.ReportHardware {
		m := chain.ReportHardware{Challenge: challengeOf(i)}
		for n := range chain.MaxHardwarePeers {
			m.Verdicts = append(m.Verdicts, signed(m.Challenge, 2, p.nodes[(i+n+1)%gasUsers]))
		}
		return m
	}
	forged := oneOf("report_hardware/forged", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
		m := report(i)
		m.Verdicts[0].Signature[0] ^= 1
		return m
	})
	forged.want = refused
	list := []operation{
		oneOf("report_hardware", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return report(i) }),
		forged,
	}
	for i := range list {
		list[i].on = challengeNodes(p)
	}
	declare := oneOf("declare_hardware", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
		return chain.DeclareHardware{Node: p.nodes[i].Public(), Millicores: chain.MaxMillicores, MemoryMiB: chain.MaxMemoryMiB}
	})
	declare.on = func(w *gasWorld, kv *state.Overlay) { // of what grows a challenge is drawn, where there are any
		params, err := execution.ParamsOf(kv)
		if err != nil {
			w.Fatal(err)
		}
		params.HardwareEveryMs = 1 << 60
		state.Save(kv, execution.ParamsKey(), params)
	}
	home := oneOf("announce_home", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		m := chain.AnnounceHome{Home: chain.NodeHome{ChainID: testChain, Node: p.nodes[i].Public(), Cluster: p.clusters[i].Public(), At: w.now}}
		m.NodeSignature = p.nodes[i].PrivateKey.Sign(crypto.DomainHome, chain.HomePayload(m.Home))
		m.ClusterSignature = p.clusters[i].PrivateKey.Sign(crypto.DomainHome, chain.HomePayload(m.Home))
		return m
	})
	home.on = func(_ *gasWorld, kv *state.Overlay) { // it moves
		for i, node := range p.nodes {
			state.Save(kv, settlement.HomeKey(node.Public()), settlement.Home{Cluster: p.clusters[(i+1)%gasUsers].Public()})
		}
	}
	return append(list, declare, home)
}
