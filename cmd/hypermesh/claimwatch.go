package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func claimWatchCommand() *cli.Command {
	return &cli.Command{
		Name: "watch", Usage: "run the jobs of claims again while they are in their windows, and challenge what is wrong",
		Description: "Follows the chain for claims under the policy optimistic, fetches each job's program and inputs from its cluster, runs it in a directory of\n" +
			"its own, and challenges the claim if it gives something else, or if its data cannot be had. The account stakes half of the policy's bond on\n" +
			"each challenge, and never more than --stake. Ends with Ctrl-C.\n" +
			"Example: hypermesh claim watch --nexus https://nexus.example:7280 --stake 10 --genesis genesis.json",
		Flags: append(append([]cli.Flag{
			clusterURLFlag(),
			&cli.StringFlag{Name: "stake", Usage: "the most to stake on one challenge, in `HYPER`; 0: only say what is wrong", Value: "0"},
			&cli.StringSliceFlag{Name: "order", Usage: "`ID` of an order to look at, and then end; may be given again", DefaultText: "those that come"},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` to run in, which is made empty", DefaultText: "one for temporary files"},
		}, accountFlags()...), chainFlags()...),
		Action: claimWatch,
	}
}

func claimWatch(c *cli.Context) (err error) {
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	nexus, err := clusterURLs(c)
	if err != nil {
		return err
	}
	w := &claimWatcher{sender: s, log: slog.New(slog.DiscardHandler), say: func(format string, args ...any) {
		fmt.Fprintf(c.App.Writer, format+"\n", args...)
	}}
	if w.stake, err = parseHyper(c.String("stake")); err != nil {
		return usagef(c, "--stake: %v", err)
	}
	var orders []crypto.Digest
	for _, text := range c.StringSlice("order") {
		order, err := crypto.ParseDigest(text)
		if err != nil {
			return usagef(c, "--order: %v", err)
		}
		orders = append(orders, order)
	}
	if w.cluster, err = sdk.New(sdk.Config{Nexus: nexus, Genesis: s.genesis}); err != nil {
		return err
	}
	dir := c.String("dir")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "hypermesh-claims-"); err != nil {
			return fmt.Errorf("making a directory to run in: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if w.again, err = agent.OpenAgain(dir, compilerCommand(), w.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.again.Close()) }()
	if len(orders) > 0 {
		return w.lookAt(c.Context, orders)
	}
	return w.follow(c.Context)
}

// claimWatcher keeps nothing: what it does follows from the claims that come and the state.
type claimWatcher struct {
	*sender
	cluster *sdk.Client
	again   *agent.Again
	stake   chain.Amount
	log     *slog.Logger
	say     func(format string, args ...any)
}

// lookAt looks at some claims, each once, as they are when it is asked.
func (w *claimWatcher) lookAt(ctx context.Context, orders []crypto.Digest) error {
	status, err := w.client.Status(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, order := range orders {
		if err := w.look(ctx, order, status.Height); err != nil {
			errs = append(errs, fmt.Errorf("order %s: %w", order.Short(), err))
		}
	}
	return errors.Join(errs...)
}

// follow looks at the claims that come, until ctx ends. A failure about one keeps it from no
// other.
func (w *claimWatcher) follow(ctx context.Context) error {
	for event, err := range w.client.Events(ctx, sdk.EventFilter{Types: []string{chain.EventName(chain.ClaimPending{})}}) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var pending chain.ClaimPending
		if err := json.Unmarshal(event.Data, &pending); err != nil {
			return err
		}
		if err := w.look(ctx, pending.Order, event.Height); err != nil && ctx.Err() == nil {
			w.say("order %s: %v", pending.Order, err)
		}
	}
	return nil
}

// dataTries is how often a job's data is asked for before it counts as missing, and how often for a state that is new enough.
const dataTries = 5

// look runs the job of a claim that is there since a block of a height, or was before it, unless
// somebody has challenged the claim already, and challenges it if it is wrong.
func (w *claimWatcher) look(ctx context.Context, order crypto.Digest, since chain.Height) error {
	v, err := w.claim(ctx, order, since)
	if err != nil {
		return err
	}
	o, open := v.Get()
	if !open || o.Stage != settlement.InWindow {
		w.say("order %s: no claim of it waits in a window that nobody has challenged", order)
		return nil
	}
	yield, err := w.run(ctx, order, &o)
	switch {
	case errors.Is(err, agent.ErrUnavailable):
		w.say("order %s: its data cannot be had: %v", order, err)
	case err != nil:
		return err
	case yield == o.Claimed().Result:
		w.say("order %s: the claim of node %s is right", order, o.Claim.Node)
		return nil
	default:
		w.say("order %s: node %s claims result %s, which with its usage is %s: the job yields %s", order, o.Claim.Node, o.Claim.Result, o.Claimed().Result, yield)
	}
	return w.challenge(ctx, order, &o)
}

// claim returns an order's claim after the block of a height, or a later one: that block is final
// before the next one proves what it made, and a node that is asked may be behind.
func (w *claimWatcher) claim(ctx context.Context, order crypto.Digest, since chain.Height) (v sdk.VerifiedClaim, err error) {
	for try := range dataTries {
		if try > 0 {
			select {
			case <-time.After(time.Second << try):
			case <-ctx.Done():
				return v, ctx.Err()
			}
		}
		if err = w.client.WaitHeight(ctx, since+1); err != nil {
			return v, err
		}
		if v, err = w.client.VerifiedClaim(ctx, order); err != nil || v.Height() >= since {
			return v, err
		}
	}
	return v, fmt.Errorf("the nodes show the state of height %d alone, the claim is of %d", v.Height(), since)
}

// run runs a claim's job; it tries again while the cluster does not answer.
func (w *claimWatcher) run(ctx context.Context, order crypto.Digest, o *settlement.OpenClaim) (yield crypto.Digest, err error) {
	for try := range dataTries {
		if try > 0 {
			select {
			case <-time.After(time.Second << try):
			case <-ctx.Done():
				return yield, ctx.Err()
			}
		}
		var j api.Job
		if j, err = w.cluster.Job(ctx, order); err != nil {
			err = fmt.Errorf("%w: the job's specification: %w", agent.ErrUnavailable, err)
			continue
		}
		spec, wrong := api.SpecFromJSON(j.Spec)
		if wrong != nil || spec.Digest() != o.Spec {
			err = fmt.Errorf("%w: the cluster shows another specification", agent.ErrUnavailable)
			continue
		}
		if yield, err = w.again.Run(ctx, order, &spec, w.cluster); !errors.Is(err, agent.ErrUnavailable) {
			return yield, err
		}
	}
	return yield, err
}

// challenge stakes on a claim being wrong.
func (w *claimWatcher) challenge(ctx context.Context, order crypto.Digest, o *settlement.OpenClaim) error {
	asked := o.StakeAsked()
	if w.stake.Less(asked) {
		w.say("order %s: not challenged: %s is asked, --stake is %s", order, asked, w.stake)
		return nil
	}
	tx, err := w.client.NewBuilder(w.account, sdk.BuilderOptions{}).Build(ctx, chain.Challenge{Order: order, Stake: asked})
	if err != nil {
		return err
	}
	sent, err := w.submit(ctx, &tx)
	if err != nil {
		return err
	}
	w.say("order %s: challenged with %s, in block %d", order, asked, sent.Height)
	return nil
}
