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
		}, {
			Name:  "jobs",
			Usage: "jobs of a millisecond, funded and signed before the clock starts",
			Description: "Every job is an order of its own and goes the way of all: escrow, raft, auction, executor, receipt. The account's escrow is filled up to what the jobs may cost at most.\n" +
				"Lost and duplicated jobs are counted from receipts whose signatures were verified, and from payments that the chain proves; with --settle=false from receipts alone.\n" +
				"A cluster keeps 10,000 jobs of an account that the chain has not paid: beyond that it makes the bench wait.\n\n" +
				"Example: hypermesh bench jobs --config net.json --count 5000 --inflight 1000 --settle=false --json",
			Flags: append(networkFlags(),
				&cli.IntFlag{Name: "count", Value: 1_000, Usage: "`N` jobs"},
				&cli.IntFlag{Name: "inflight", Value: 100, Usage: "`M` jobs at most that were submitted and have no receipt"},
				&cli.BoolFlag{Name: "settle", Value: true, Usage: "wait until the chain has paid every job"},
				jsonFlag()),
			Action: benchJobs,
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

func benchJobs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef(c, "%q is no argument of this command", c.Args().First())
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	options := devnet.JobOptions{
		RPC: t.description.RPC, Nexus: t.description.Nexus, Genesis: t.genesis, Cluster: t.description.Cluster,
		Consumer: t.account, Count: c.Int("count"), InFlight: c.Int("inflight"), Settle: c.Bool("settle"),
	}
	if err := options.Check(); err != nil {
		return usagef(c, "%v", err)
	}
	r, err := devnet.BenchJobs(c.Context, options, devnet.PlainProgress(c.App.ErrWriter))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c, r)
	} else {
		_, err = fmt.Fprintf(c.App.Writer, "accepted     %d, %.0f /s\nplaced       %d, %.0f /s\ncompleted    %d, %.0f /s\nsettled      %d, %.0f /s\nfailed       %d\nlost         %d\nduplicated   %d\nlatency      %.1f ms median, %.1f ms p99\n",
			r.Accepted, r.AcceptedPerSecond, r.Placed, r.PlacedPerSecond, r.Completed, r.CompletedPerSecond, r.Settled, r.SettledPerSecond,
			r.Failed, r.Lost, r.Duplicated, r.Latency.P50, r.Latency.P99)
	}
	if r.Failed > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%d jobs failed, the first: %s\n", r.Failed, r.Failure)
	}
	if err == nil && r.Lost+r.Duplicated > 0 {
		err = fmt.Errorf("%d jobs were lost, %d duplicated", r.Lost, r.Duplicated)
	}
	return err
}
