package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/devnet"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "load a network and measure it",
		Subcommands: []*cli.Command{{
			Name:        "transfers",
			Usage:       "transfers from many accounts, signed before the clock starts",
			Description: "Needs a devnet's faucet on the first node.\nExample: hypermesh bench transfers --rpc http://127.0.0.1:7180 --rate 1000 --seconds 10",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "rpc", Required: true, Usage: "`URL` of a node; may be given several times"},
				&cli.IntFlag{Name: "rate", Value: 1_000, Usage: "`N` transfers per second"},
				&cli.IntFlag{Name: "seconds", Value: 10, Usage: "`N` seconds"},
				&cli.IntFlag{Name: "senders", Usage: "`N` sending accounts; 0: chosen by the rate"},
				&cli.IntFlag{Name: "accounts", Usage: "`N` accounts that are made first and then paid; 0: the senders pay each other"},
				jsonFlag(),
			},
			Action: benchTransfers,
		}},
	}
}

func benchTransfers(c *cli.Context) error {
	options := devnet.BenchOptions{
		RPC: c.StringSlice("rpc"), Rate: c.Int("rate"), Seconds: c.Int("seconds"), Senders: c.Int("senders"), Accounts: c.Int("accounts"),
	}
	if err := options.Check(); err != nil {
		return usagef(c, "%v", err)
	}
	r, err := devnet.BenchTransfers(c.Context, options, devnet.PlainProgress(c.App.ErrWriter))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, r)
	}
	fmt.Fprintf(c.App.Writer, "offered         %.0f /s over %d s\ncommitted       %.0f /s\nrejected        %d\nfinality        %.1f ms median, %.1f ms p99\nblock interval  %.1f ms median, %.1f ms p99\n",
		r.OfferedPerSecond, r.Seconds, r.CommittedPerSecond, r.Rejected, r.Finality.P50, r.Finality.P99, r.BlockInterval.P50, r.BlockInterval.P99)
	return nil
}
