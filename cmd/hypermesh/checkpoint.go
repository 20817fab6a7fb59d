package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// queryCheckpointCommand prints what node run --checkpoint takes.
func queryCheckpointCommand(rpc cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "the block that closed an epoch, for a node that joins",
		Description: "Prints one line for node run --checkpoint. Whoever uses it trusts the node that was asked; with --genesis the line is\n" +
			"verified first, by every epoch's committee from genesis on.\nExample: hypermesh query checkpoint --rpc https://node.example:7180",
		Flags: []cli.Flag{
			rpc,
			&cli.Uint64Flag{Name: "epoch", Usage: "the epoch that the block closed; 0: the last one that has ended"},
			&cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` to verify from"},
			jsonFlag(),
		},
		Action: queryCheckpoint,
	}
}

// checkpointResult is what query checkpoint prints as JSON.
type checkpointResult struct {
	Checkpoint light.Checkpoint `json:"checkpoint"`
	Epoch      uint64           `json:"epoch"`
	Height     uint64           `json:"height"`
	Time       time.Time        `json:"time"`
	Verified   bool             `json:"verified"`
}

func queryCheckpoint(c *cli.Context) error {
	config := sdk.Config{Nodes: c.StringSlice("rpc")}
	if path := c.String("genesis"); path != "" {
		genesis, err := node.ReadGenesisFile(path)
		if err != nil {
			return err
		}
		config.Genesis = genesis
	}
	client, err := sdk.New(config)
	if err != nil {
		return err
	}
	var checkpoint light.Checkpoint
	if config.Genesis != nil {
		checkpoint, err = client.VerifiedCheckpoint(c.Context, c.Uint64("epoch"))
	} else {
		var end api.EpochEnd
		end, err = client.EpochEnd(c.Context, c.Uint64("epoch"))
		h := api.HeaderFromJSON(end.Header)
		checkpoint = light.Checkpoint{
			ChainID: h.ChainID, Epoch: consensus.Epoch(h.Epoch), Height: h.Height, TimeMs: h.TimeMs, Digest: h.Digest(), NextCommittee: h.NextCommittee,
		}
	}
	if err != nil {
		return fmt.Errorf("reading the end of the epoch: %w", err)
	}
	if c.Bool("json") {
		return printJSON(c, checkpointResult{
			Checkpoint: checkpoint, Epoch: uint64(checkpoint.Epoch), Height: uint64(checkpoint.Height),
			Time: time.UnixMilli(int64(checkpoint.TimeMs)).UTC(), Verified: config.Genesis != nil,
		})
	}
	fmt.Fprintln(c.App.Writer, checkpoint)
	return nil
}
