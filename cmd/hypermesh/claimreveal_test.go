package main

import (
	"errors"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestReceiptsAreShownWhenTheirNodesPassForSilent: of what a node is bound to, no more is shown than the chain holds against it: neither what is not due
// yet, where others are not bound, nor what another committed to, nor what is judged.
func TestReceiptsAreShownWhenTheirNodesPassForSilent(t *testing.T) {
	node := crypto.PublicKey{7}
	m := chain.RevealRun{Receipt: chain.UsageReceipt{Order: crypto.Digest{1}, Node: node}, Salt: [32]byte{2}}
	commitment := chain.RunCommitment(m.Receipt.Digest(), node, m.Salt)
	run := func(of crypto.PublicKey, state settlement.RunState, c crypto.Digest) settlement.Run {
		return settlement.Run{Bidder: settlement.Bidder{Node: of}, State: state, Commitment: c}
	}
	for name, c := range map[string]struct {
		stage settlement.RunStage
		run   settlement.Run
		shown bool
	}{
		"silent, and to be judged": {settlement.StagePanel, run(node, settlement.RunSilent, commitment), true},
		"silent, others run it":    {settlement.StageRun, run(node, settlement.RunSilent, commitment), true},
		"judged":                   {settlement.StageOwed, run(node, settlement.RunSilent, commitment), false},
		"not due":                  {settlement.StageRun, run(node, settlement.RunCommitted, commitment), false},
		"shown":                    {settlement.StagePanel, run(node, settlement.RunUnattested, commitment), false},
		"another node":             {settlement.StagePanel, run(crypto.PublicKey{8}, settlement.RunSilent, commitment), false},
		"another commitment":       {settlement.StagePanel, run(node, settlement.RunSilent, crypto.Digest{3}), false},
		"no runs":                  {},
	} {
		late, err := lateReceipts([]chain.RevealRun{m}, func(crypto.Digest) (settlement.Runs, error) {
			return settlement.Runs{Stage: c.stage, Runs: []settlement.Run{c.run}}, nil
		})
		if err != nil || (len(late) == 1) != c.shown {
			t.Errorf("%s: shows %d, %v", name, len(late), err)
		}
	}
}

// TestOneOrderKeepsNoOtherFromBeingShown: the chain cannot be asked about the first of two orders, and the second's stake is saved.
func TestOneOrderKeepsNoOtherFromBeingShown(t *testing.T) {
	list := []chain.RevealRun{{Receipt: chain.UsageReceipt{Order: crypto.Digest{1}}}, {Receipt: chain.UsageReceipt{Order: crypto.Digest{2}}}}
	gone := errors.New("the node is gone")
	late, err := lateReceipts(list, func(order crypto.Digest) (settlement.Runs, error) {
		if order == list[0].Receipt.Order {
			return settlement.Runs{}, gone
		}
		r := &list[1]
		return settlement.Runs{Stage: settlement.StagePanel, Runs: []settlement.Run{{
			State: settlement.RunSilent, Commitment: chain.RunCommitment(r.Receipt.Digest(), r.Receipt.Node, r.Salt),
		}}}, nil
	})
	if !errors.Is(err, gone) || len(late) != 1 || late[0].Receipt.Order != list[1].Receipt.Order {
		t.Errorf("shows %d, %v", len(late), err)
	}
}
