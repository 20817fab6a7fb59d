package execution_test

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// disputed names the order of user i's claim in its window, or of one that a panel judged.
func disputed(i int, judged bool) crypto.Digest {
	n := uint64(i) << 1
	if judged {
		n++
	}
	return crypto.DomainOrder.Hash(binary.BigEndian.AppendUint64([]byte("disputed"), n))
}

// openClaims gives every user's node a claim in its window, and a judged one.
func (w *gasWorld) openClaims(p *prepared) {
	for i, node := range p.nodes {
		for _, judged := range []bool{false, true} {
			id := disputed(i, judged)
			provider, _ := settlement.ProviderOf(w.state, node.Public())
			o := settlement.OpenClaim{
				Claim:    settlement.Claim{Node: node.Public(), Provider: provider.Owner, Sequence: 1, Result: id, Exit: chain.ExitOK},
				Consumer: consumer.address(), Cluster: cluster.Public(), Spec: id, Bond: chain.Hyper(2), WindowMs: 60_000, Stage: settlement.InWindow,
				Policy: chain.PolicyField{Policy: chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(2)}}, Due: 1 << 50, Audit: settlement.NoAudit,
			}
			for _, r := range chain.Resources {
				o.Claim.Records = append(o.Claim.Records, chain.ResourceTransaction{
					NodeID: node.Public(), ResourceType: r, Amount: 1_000, DurationMs: 1_000, Consumer: o.Consumer, Provider: provider.Owner,
				})
			}
			if judged {
				o.Stage, o.Challenger = settlement.Judged, &settlement.Party{By: o.Consumer}
			}
			state.Save(w.state, settlement.OpenClaimKey(id), o)
			deadline := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 't'}, o.Due)
			w.state.Set(append(append(deadline, 'a'), id[:]...), []byte{})
		}
	}
}

// ofDisputes are the messages about claims in their windows, an operation each, named as in
// the table.
func ofDisputes() []operation {
	return []operation{
		oneOf("challenge", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Challenge{Order: disputed(i, false), Stake: chain.Hyper(1)}
		}),
		oneOf("appeal", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Appeal{Order: disputed(i, true), Stake: chain.Hyper(1)}
		}),
	}
}
