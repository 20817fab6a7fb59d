package simulation

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// challengeEveryMs has hardware be challenged when it is declared anew, and by the lottery never
// in the time of a market.
const challengeEveryMs = 1 << 62

// spoof has the hand's nodes declare twice what they have, on a chain that challenges it.
func (w *world) spoof() {
	w.env.Params.HardwareEveryMs = challengeEveryMs
	for _, n := range w.hand() {
		if n.spoofs {
			m := chain.DeclareHardware{Node: n.id, Millicores: 2 * millicores, MemoryMiB: 2 * memoryMiB}
			w.must(settlement.DeclareHardware(w.kv, &w.env, n.owner.address, m))
		}
	}
}

// excess reports whether a node is given more work than it has hardware for.
func (w *world) excess(n *node) bool {
	p, _ := settlement.ProviderOf(w.kv, n.id) // every node is registered
	return p.Millicores > millicores
}

// measured has the peers of a challenge say what is missing. They are others' nodes.
func (w *world) measured(e chain.HardwareChallenged) {
	if !w.excess(w.byNode[e.Node]) {
		return
	}
	challenge := chain.HardwareChallenge{ChainID: chainID, Node: e.Node, Seed: e.Seed}
	for _, peer := range e.Peers {
		n := w.byNode[peer]
		v := chain.HardwareVerdict{Peer: peer, Missing: uint64(e.Lanes) - chain.Lanes(millicores)}
		v.Signature = n.key.Sign(crypto.DomainHardware, chain.HardwarePayload(challenge, v))
		w.send(post{by: n.owner, do: reportedHardware(chain.ReportHardware{Challenge: challenge, Verdicts: chain.HardwareVerdicts{v}})})
	}
}

func reportedHardware(m chain.ReportHardware) act {
	return func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) {
		return nil, settlement.ReportHardware(w.kv, &w.env, m, true)
	}
}
