package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk"
)

func claimRevealCommand() *cli.Command {
	return &cli.Command{
		Name: "reveal", Usage: "show receipts of replicated runs that a cluster did not carry, before a panel has judged them",
		Flags: append(append([]cli.Flag{agentHomeFlag()}, accountFlags()...), chainFlags()...),
		Description: "A node that is bound to a receipt and does not show it in time loses its stake when a panel has judged, whoever kept the receipt from the\n" +
			"chain. Until then its owner shows it, without the cluster's word: if the panel finds the same, the stake is free, and the run is not\n" +
			"paid unless that word comes after all. Call it from time to time, more often than a panel takes. The agent may run or not.\n" +
			"Shows each transaction in words and asks before it is signed.\n" +
			"Example: hypermesh claim reveal --home agent --key-file owner.key --genesis genesis.json --rpc https://node.example:7180",
		Action: claimReveal,
	}
}

func claimReveal(c *cli.Context) error {
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	config, err := agentConfig(c)
	if err != nil {
		return err
	}
	list, err := agent.ReadPledged(&config)
	if err != nil {
		return err
	}
	late, err := lateReceipts(list, func(order crypto.Digest) (settlement.Runs, error) {
		value, err := s.client.VerifiedState(c.Context, settlement.RunsKey(order))
		if err != nil {
			return settlement.Runs{}, err
		}
		raw, there := value.Get()
		if !there {
			return settlement.Runs{}, nil
		}
		return settlement.DecodeRuns(raw)
	})
	if len(late) == 0 && err == nil {
		return errors.New("there is no receipt that is late: a panel that has judged hears nobody any more, and before a receipt is due its cluster carries it")
	}
	for i := range late {
		r, sendErr := s.send(c, sdk.BuilderOptions{}, late[i])
		if sendErr == nil {
			sendErr = printSent(c, r, fmt.Sprintf("order        %s", late[i].Receipt.Order))
		}
		err = errors.Join(err, sendErr)
	}
	return err
}

// lateReceipts returns those receipts whose nodes pass for silent, as the chain has the runs of their orders, and an error
// that names the orders of which it could not be asked: a stake that can be saved does not wait for the others.
func lateReceipts(list []chain.RevealRun, runsOf func(crypto.Digest) (settlement.Runs, error)) (late []chain.RevealRun, failed error) {
	for i := range list {
		receipt := &list[i].Receipt
		runs, err := runsOf(receipt.Order)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("order %s: %w", receipt.Order, err))
			continue
		}
		silent := func(r settlement.Run) bool {
			return r.Bidder.Node == receipt.Node && r.State == settlement.RunSilent &&
				r.Commitment == chain.RunCommitment(receipt.Digest(), receipt.Node, list[i].Salt)
		}
		if runs.Stage != settlement.StageOwed && slices.ContainsFunc(runs.Runs, silent) {
			late = append(late, list[i])
		}
	}
	return late, failed
}
