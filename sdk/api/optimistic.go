package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// PolicyOptimistic is the data of "optimistic".
type PolicyOptimistic struct {
	WindowMs Uint64       `json:"window_ms" doc:"of the chain's progress, in which anybody may challenge; 1,000 to 7,776,000,000"`
	Bond     chain.Amount `json:"bond_nhyper" doc:"that the provider and the cluster stake each: 1 HYPER or more, and 32 times the max cost"`
}

// Challenge is the data of "challenge".
type Challenge struct {
	Order crypto.Digest `json:"order" doc:"whose claim is in its window"`
	Stake chain.Amount  `json:"stake_nhyper" doc:"the most that the sender stakes; half of the policy's bond is taken"`
}

// Appeal is the data of "appeal".
type Appeal struct {
	Order crypto.Digest `json:"order" doc:"whose claim a panel has judged"`
	Stake chain.Amount  `json:"stake_nhyper" doc:"the most that the sender stakes; half of the policy's bond is taken"`
}

func disputeCases() []Case {
	return []Case{caseOf[Challenge]("challenge"), caseOf[Appeal]("appeal")}
}

// disputeData is the data of a message about a claim in its window.
func disputeData(m any) any {
	switch m := m.(type) {
	case chain.Challenge:
		return Challenge{Order: m.Order, Stake: m.Stake}
	case chain.Appeal:
		return Appeal{Order: m.Order, Stake: m.Stake}
	}
	return nil
}

// readDispute reads a message about a claim in its window, and is false if the name is of
// none.
func readDispute(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "challenge":
		d, err := dataOf[Challenge](t)
		return chain.Challenge{Order: d.Order, Stake: d.Stake}, true, err
	case "appeal":
		d, err := dataOf[Appeal](t)
		return chain.Appeal{Order: d.Order, Stake: d.Stake}, true, err
	}
	return nil, false, nil
}
