package api

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// AddBond is the data of "add_bond".
type AddBond struct {
	Node   crypto.PublicKey `json:"node_id"`
	Amount chain.Amount     `json:"amount_nhyper"`
}

// CommitVote is the data of "commit_vote".
type CommitVote struct {
	Panel      crypto.Digest    `json:"panel"`
	Node       crypto.PublicKey `json:"node_id" doc:"the juror"`
	Commitment crypto.Digest    `json:"commitment" doc:"of panel, node, testimony and salt"`
	Signature  crypto.Signature `json:"signature" doc:"by the node, over chain id, panel and commitment"`
}

// RevealVote is the data of "reveal_vote".
type RevealVote struct {
	Panel     crypto.Digest    `json:"panel"`
	Node      crypto.PublicKey `json:"node_id" doc:"the juror"`
	Testimony chain.Testimony  `json:"testimony" doc:"from which the vote follows"`
	Salt      crypto.Digest    `json:"salt" doc:"that the commitment was made with"`
}

func panelCases() []Case {
	return []Case{caseOf[AddBond]("add_bond"), caseOf[CommitVote]("commit_vote"), caseOf[RevealVote]("reveal_vote")}
}

// panelData is the data of a message about bonds and panels.
func panelData(m any) any {
	switch m := m.(type) {
	case chain.AddBond:
		return AddBond{Node: m.Node, Amount: m.Amount}
	case chain.CommitVote:
		return CommitVote{Panel: m.Panel, Node: m.Node, Commitment: m.Commitment, Signature: m.Signature}
	case chain.RevealVote:
		return RevealVote{Panel: m.Panel, Node: m.Node, Testimony: m.Testimony, Salt: m.Salt}
	}
	panic(fmt.Sprintf("api: message of type %T", m))
}

// readPanel reads a message about bonds and panels, and is false if the name is of none.
func readPanel(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "add_bond":
		d, err := dataOf[AddBond](t)
		return chain.AddBond{Node: d.Node, Amount: d.Amount}, true, err
	case "commit_vote":
		d, err := dataOf[CommitVote](t)
		return chain.CommitVote{Panel: d.Panel, Node: d.Node, Commitment: d.Commitment, Signature: d.Signature}, true, err
	case "reveal_vote":
		d, err := dataOf[RevealVote](t)
		return chain.RevealVote{Panel: d.Panel, Node: d.Node, Testimony: d.Testimony, Salt: d.Salt}, true, err
	}
	return nil, false, nil
}
