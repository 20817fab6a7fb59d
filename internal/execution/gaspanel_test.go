package execution_test

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// panelSeats is the most that a panel has, and deepest the round of the one whose links are followed furthest: the
// third auditor of the last claim that an order may have.
const (
	panelSeats = 9
	deepest    = 15*5 + 2
)

// panelID names the panel of user i on which nobody has voted, or on which all but its
// node have.
func panelID(i int, revealing bool) crypto.Digest {
	id := crypto.Digest{1: 'j'}
	if revealing {
		id[0] = 1
	}
	binary.BigEndian.PutUint64(id[2:], uint64(i))
	return id
}

// ballot is what the node of user i votes.
func ballot(id crypto.Digest, node key) (chain.Testimony, crypto.Digest, crypto.Digest) {
	found := chain.Testimony{Finding: chain.FoundResult, Work: crypto.Digest{5}, Other: crypto.Digest{7}, Link: crypto.Digest{8}}
	return found, crypto.Digest{6}, found.Commitment(id, node.Public(), crypto.Digest{6})
}

// openPanels puts every user's node on two panels.
func (w *gasWorld) openPanels(p *prepared) {
	for i := range gasUsers {
		for _, revealing := range []bool{false, true} {
			id := panelID(i, revealing)
			panel := settlement.Panel{Of: 'a', Subject: id, Round: 2, Seats: panelSeats, Slice: chain.Hyper(1), Due: 1 << 50, Revealing: revealing}
			if revealing { // what a round takes more in the record a slice takes less: the record was measured at this length
				panel.Round, panel.Slice = deepest, chain.Nano(60_000)
			}
			for n := range panelSeats {
				node := p.nodes[(i+n)%gasUsers]
				j := settlement.Juror{Node: node.Public(), Owner: w.users[(i+n)%gasUsers].address()}
				if revealing {
					_, _, j.Commitment = ballot(id, node)
				}
				panel.Jurors = append(panel.Jurors, j)
			}
			state.Save(w.state, settlement.PanelKey(id), panel)
		}
	}
}

// ofPanels are the messages about bonds and panels, an operation each, named as in the table.
func ofPanels(p prepared) []operation {
	commit := func(i int, node key) chain.CommitVote {
		id := panelID(i, false)
		_, _, commitment := ballot(id, node)
		return chain.CommitVote{
			Panel: id, Node: p.nodes[i].Public(), Commitment: commitment,
			Signature: node.PrivateKey.Sign(crypto.DomainVote, chain.VotePayload(testChain, id, commitment)),
		}
	}
	forged := oneOf("commit_vote/forged", gasUsers, func(w *gasWorld, i int, from key) chain.Msg { return commit(i, from) })
	forged.want = refused
	return []operation{
		oneOf("add_bond", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.AddBond{Node: p.nodes[i].Public(), Amount: chain.Hyper(1)}
		}),
		oneOf("commit_vote", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return commit(i, p.nodes[i]) }),
		forged,
		oneOf("reveal_vote", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			id := panelID(i, true)
			found, salt, _ := ballot(id, p.nodes[i])
			return chain.RevealVote{Panel: id, Node: p.nodes[i].Public(), Testimony: found, Salt: salt}
		}),
	}
}
