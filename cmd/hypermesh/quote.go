package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// placementFlags say where work may run, and what goes before what.
func placementFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "region", Usage: "`NAME` of the region that the node must be in"},
		&cli.Uint64Flag{Name: "gpus", Usage: "`N` GPUs of the node"},
		&cli.Uint64Flag{Name: "gpu-share", Value: job.GPUWhole, Usage: "thousandths of a GPU; less than all of it with --gpus 1 only"},
		&cli.StringFlag{Name: "gpu-kind", Usage: "`KIND` of GPU that the node must have"},
		&cli.StringFlag{Name: "class", Value: job.Standard.String(), Usage: "`CLASS`: urgent, standard or spare"},
		&cli.UintFlag{Name: "priority-bps", Usage: "`N` 1/10,000 more than the work costs, to be taken up before others of its class that wait: 10000 at most; a half is burned, the rest is the cluster's"},
		&cli.BoolFlag{Name: "preemptible", Usage: "work that is not may end it, and it waits again"},
	}
}

// placementFromFlags reads what placementFlags say.
func placementFromFlags(c *cli.Context, run *sdk.JobRun) error {
	spec, fee := &run.Spec, c.Uint("priority-bps")
	if fee > uint(chain.MaxPriorityFee) {
		return usagef(c, "--priority-bps is %d, limit %d", fee, chain.MaxPriorityFee)
	}
	run.PriorityBps = chain.PriorityFee(fee)
	spec.Region = c.String("region")
	if spec.Resources.GPUs = c.Uint64("gpus"); spec.Resources.GPUs > 0 {
		spec.Resources.GPUMilli = c.Uint64("gpu-share")
	}
	spec.Scheduling.GPUKind, spec.Scheduling.Preemptible = c.String("gpu-kind"), c.Bool("preemptible")
	if err := spec.Scheduling.Class.UnmarshalText([]byte(c.String("class"))); err != nil {
		return usagef(c, "--class: %v", err)
	}
	return nil
}

func quoteCommand() *cli.Command {
	return &cli.Command{
		Name: "quote", Usage: "ask what a job would cost, when it could begin, and what excludes whom", ArgsUsage: "PROG.wasm|IMAGE.tar [-- ARGS]",
		Description: "Takes the flags of run. Nothing is uploaded, signed or placed: the nodes that could take the job are asked for bids.\n" +
			"Where none could, it says which requirement excludes how many nodes, and when one would have room at the latest, if what\n" +
			"runs takes all of its time and nothing comes that goes first.\n\n" +
			"Example: hypermesh job quote prog.wasm --gpus 1 --gpu-kind T4 --region eu --config net.json",
		Flags:  runFlags(),
		Action: jobQuote,
	}
}

func jobQuote(c *cli.Context) error {
	run, closeBlobs, err := jobFromFlags(c)
	if err != nil {
		return err
	}
	defer closeBlobs()
	if err := nameWork(&run); err != nil {
		return err
	}
	t, err := openNetwork(c.String("config"))
	if err != nil {
		return err
	}
	if err := bindKernel(&run, t.genesis); err != nil {
		return err
	}
	limitTime(c, &run, t.genesis)
	q, err := t.client.Quote(c.Context, run.Spec, run.Policy, run.PriorityBps)
	if err != nil {
		return err
	}
	return printQuote(c, &q)
}

// nameWork fills in what depends on the blobs, without uploading them.
func nameWork(run *sdk.JobRun) error {
	ids := make([]crypto.Digest, len(run.Blobs))
	run.Spec.InputBytes = 0
	for i, content := range run.Blobs {
		data, err := io.ReadAll(io.LimitReader(content, job.MaxInputBytes+1))
		if err != nil {
			return fmt.Errorf("reading what the job takes: %w", err)
		}
		ids[i] = blob.Sum(data)
		run.Spec.InputBytes += uint64(len(data))
	}
	if run.Bind != nil {
		run.Spec.Work = job.WorkField{Work: run.Bind(ids)}
	}
	return run.Spec.Check()
}

func printQuote(c *cli.Context, q *api.Quote) error {
	if c.Bool("json") {
		return printJSON(c, q)
	}
	w := c.App.Writer
	if _, err := fmt.Fprint(w, quoteText(q)); err != nil {
		return err
	}
	return nil
}

func quoteText(q *api.Quote) string {
	text := fmt.Sprintf("costs at most     %s\n", q.MaxCost)
	if q.MaxCost.IsZero() {
		text = fmt.Sprintf("nobody takes it   %s\n", q.Reason)
	}
	if q.HeadStartMs > 0 {
		text += fmt.Sprintf("for priority      %s of that at most: as if it came %s earlier than others of its class\n", q.Priority, time.Duration(q.HeadStartMs)*time.Millisecond)
	}
	switch {
	case q.Start == 0 && q.MaxCost.IsZero():
		text += "begins            not, as the cluster is\n"
	case q.MaxCost.IsZero():
		text += fmt.Sprintf("begins            %s, if what runs takes all of its time; %d queued jobs go first\n", time.UnixMilli(int64(q.Start)).UTC().Format(time.RFC3339), q.Ahead)
	default:
		text += "begins            at once\n"
	}
	for _, b := range q.Bids {
		text += fmt.Sprintf("bid               %s of node %s, owner %s\n", b.Cost, b.Node.Short(), b.Owner)
	}
	for _, excluded := range q.Exclusions() {
		text += fmt.Sprintf("excluded          %s\n", excluded)
	}
	if q.Nodes == 0 {
		text += "nodes             the cluster knows none\n"
	}
	return text
}
