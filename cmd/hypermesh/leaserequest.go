package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func leaseRequestCommand() *cli.Command {
	return &cli.Command{
		Name: "request", Usage: "have a cluster find a node for a program or a container, and open the lease", ArgsUsage: "PROG.wasm|IMAGE.tar [-- ARGS]",
		Description: "The order goes through the cluster's auction; the node begins once the lease is on the chain, and ends with it.\n" +
			"With --deal it is not opened: the deal is written to a file for lease open.\n" +
			"With --availability the node promises it, and stakes of its bond on that: peers that the chain draws probe it,\n" +
			"and an epoch that more than half of them find to have missed a term is repriced at once.\n\n" +
			"Example: hypermesh lease request --hold 10 --notice 1h --container --service always --config net.json image.tar",
		Flags: append(append(append(networkFlags(),
			&cli.StringFlag{Name: "hold", Usage: "`HYPER` that the lease holds at first: it lasts for as long as that pays", Required: true},
			&cli.DurationFlag{Name: "notice", Value: time.Hour, Usage: "from either side's word that the lease shall end to its end"},
			&cli.DurationFlag{Name: "patience", Value: 10 * time.Minute, Usage: "until when the lease has to be open"},
			&cli.StringFlag{Name: "deal", Usage: "`FILE` for the signed deal, in place of opening the lease"},
			&cli.StringFlag{Name: "in", Usage: "`DIR` that the program sees as /in"},
			&cli.Uint64Flag{Name: "memory-mib", Value: job.DefaultLimits().MemoryBytes >> 20, Usage: "limit of memory"},
			jsonFlag()), containerFlags()...), append(placementFlags(), serviceFlags()...)...),
		Action: leaseRequest,
	}
}

// leaseFromFlags reads what the command line says of a lease.
func leaseFromFlags(c *cli.Context) (r sdk.LeaseRequest, err error) {
	if c.NArg() < 1 {
		return r, usagef(c, "want a program (PROG.wasm) or an image")
	}
	r.Notice, r.Patience, r.Policy = c.Duration("notice"), c.Duration("patience"), chain.PolicyNone{}
	if r.MaxCost, err = parseHyper(c.String("hold")); err != nil {
		return r, usagef(c, "--hold: %v", err)
	}
	if r.Service, err = serviceFromFlags(c); err != nil {
		return r, err
	}
	if err := strayFlags(c); err != nil {
		return r, err
	}
	limits := job.DefaultLimits()
	limits.MemoryBytes = c.Uint64("memory-mib") << 20
	r.Spec = job.Spec{Resources: job.Resources{Millicores: 1_000, MemoryMiB: c.Uint64("memory-mib")}, Limits: limits}
	return r, placementFromFlags(c, &r.JobRun)
}

func leaseRequest(c *cli.Context) error {
	r, err := leaseFromFlags(c)
	if err != nil {
		return err
	}
	program, err := programFromFlags(c, &r.JobRun)
	if program != nil {
		defer func() {
			if err := program.Close(); err != nil {
				fmt.Fprintln(c.App.ErrWriter, "closing the program:", err)
			}
		}()
	}
	if err != nil {
		return err
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	r.Consumer, r.Progress = t.account, progressLines(c.App.ErrWriter)
	deal, err := t.client.RequestLease(c.Context, r)
	if err != nil {
		return err
	}
	id := chain.LeaseID{Node: deal.Bid.Node, Order: deal.Order.ID()}
	if path := c.String("deal"); path != "" {
		data, err := json.MarshalIndent(api.DealToJSON(deal), "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
			return fmt.Errorf("writing the deal: %w", err)
		}
	} else if id, err = t.client.OpenLease(c.Context, t.account, deal); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, id)
	}
	fmt.Fprintf(c.App.Writer, "node   %s\norder  %s\n", id.Node, id.Order)
	if c.String("deal") == "" {
		fmt.Fprintf(c.App.ErrWriter, "Next: hypermesh lease show, extend or close, with --node and --order of this lease; hypermesh job logs takes the order\n")
	}
	return nil
}
