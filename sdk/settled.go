package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// ErrTerms is matched by the error of a job that was not ordered, because the
// cluster's servers said of themselves what cannot be believed.
var ErrTerms = errors.New("sdk: the cluster's terms are refused")

// maxClockLead is how far a cluster's clock may be ahead of the chain's, in ms.
// The deadline of an order follows from it, and with it how long money is bound.
const maxClockLead = 5 * 60 * 1000

// CheckTerms compares what a cluster's server says of itself with what the
// client was told to trust: Config.Cluster, or without it that the chain knows
// the cluster and holds its bond. Errors: ErrNoTrust, ErrTerms.
func (c *Client) CheckTerms(ctx context.Context, cluster crypto.PublicKey, status api.NexusStatus) error {
	if c.config.Genesis == nil {
		return ErrNoTrust
	}
	if status.ChainID != c.config.Genesis.ChainID {
		return fmt.Errorf("%w: it is of chain %.40q, trusted is %q", ErrTerms, string(status.ChainID), string(c.config.Genesis.ChainID))
	}
	if want := c.config.Cluster; !want.IsZero() && cluster != want {
		return fmt.Errorf("%w: it names cluster %s, configured is %s", ErrTerms, cluster, want)
	}
	known, err := c.VerifiedState(ctx, settlement.ClusterKey(cluster))
	if err != nil {
		return fmt.Errorf("sdk: looking for the cluster on the chain: %w", err)
	}
	raw, registered := known.Get()
	if !registered {
		return fmt.Errorf("%w: the chain knows no cluster %s", ErrTerms, cluster)
	}
	if record, err := settlement.DecodeCluster(raw); err != nil || record.Bond.IsZero() {
		return errors.Join(fmt.Errorf("%w: cluster %s has no bond", ErrTerms, cluster), err)
	}
	if at := known.Header().TimeMs(); status.NowMs > at+maxClockLead {
		return fmt.Errorf("%w: its clock says %d ms, the chain's %d", ErrTerms, status.NowMs, at)
	}
	return nil
}

// VerifySettled checks that the chain paid a job as the cluster says: who was
// paid for which result at what cost, and that the output belongs to that
// result. For nodes that lag behind it waits Config.Timeout. The error matches
// light.ErrRefused if the chain's state does not show it.
func (c *Client) VerifySettled(ctx context.Context, j *api.Job) error {
	if c.config.Genesis == nil {
		return ErrNoTrust
	}
	deadline := time.Now().Add(c.config.Timeout)
	for {
		err := c.checkSettled(ctx, j)
		if err == nil || !errors.Is(err, light.ErrRefused) || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func refusef(format string, args ...any) error {
	return fmt.Errorf("sdk: %w: %w", light.ErrRefused, fmt.Errorf(format, args...))
}

func (c *Client) checkSettled(ctx context.Context, j *api.Job) error {
	if j.Settlement == nil || len(j.Settlement.Providers) == 0 || len(j.Settlement.Providers) > chain.MaxReplicas {
		return refusef("job %s names no settlement of 1 to %d providers", j.ID.Short(), chain.MaxReplicas)
	}
	order, err := provenRecord(ctx, c, settlement.OrderKey(j.ID), settlement.DecodeOrder)
	if err != nil {
		return fmt.Errorf("sdk: order %s: %w", j.ID.Short(), err)
	}
	said := j.Settlement
	var cost, burned chain.Amount
	paid := map[crypto.PublicKey]bool{}
	_, replicated := order.Policy.Policy.(chain.PolicyReplicate)
	for i, node := range said.Providers {
		receipt, shown, err := receiptOf(j, node)
		if err != nil {
			return err
		}
		if !shown && replicated && i > 0 { // who came from the roll voted for what the first one showed
			receipt.Sequence, shown = 1, true
		}
		if !shown {
			return refusef("job %s shows no receipt of node %s", j.ID.Short(), node.Short())
		}
		claim, inside := order.ClaimOf(node, receipt.Sequence)
		if order.Batched(node) {
			claim, err = c.batched(ctx, j, &receipt)
			if err != nil {
				return fmt.Errorf("sdk: batches of node %s: %w", node.Short(), err)
			}
		} else if !inside {
			key := chain.ClaimKey{Order: j.ID, Node: node, Sequence: receipt.Sequence}
			if claim, err = provenRecord(ctx, c, settlement.ClaimKey(key), settlement.DecodeClaim); err != nil {
				return fmt.Errorf("sdk: claim of node %s: %w", node.Short(), err)
			}
		}
		if !claim.Settled() || claim.Result != j.Result || claim.ProofVerified != said.ProofVerified || paid[node] {
			return refusef("node %s: settled %v for result %s, proof verified %v; the cluster says result %s, proof verified %v",
				node.Short(), claim.Settled(), claim.Result.Short(), claim.ProofVerified, j.Result.Short(), said.ProofVerified)
		}
		paid[node] = true
		cost, burned = orZero(cost.Add(claim.Cost)), orZero(burned.Add(claim.Burned))
	}
	if order.Spent != cost {
		kept, err := c.keptOfRefuted(ctx, j)
		if err != nil {
			return err
		}
		cost = orZero(cost.Add(kept))
	}
	if order.Spent != said.Cost || cost != said.Cost || burned != said.Burned {
		return refusef("the chain has %s spent, %s paid by these claims and %s burned; the cluster says %s and %s",
			order.Spent, cost, burned, said.Cost, said.Burned)
	}
	return nil
}

// keptOfRefuted adds up what the chain could not give back of a job's claims that it refuted.
func (c *Client) keptOfRefuted(ctx context.Context, j *api.Job) (kept chain.Amount, err error) {
	for i := range j.Runs {
		if j.Runs[i].Stage != api.StageRefuted {
			continue
		}
		key := chain.ClaimKey{Order: j.ID, Node: j.Runs[i].Node, Sequence: 1}
		claim, err := provenRecord(ctx, c, settlement.ClaimKey(key), settlement.DecodeClaim)
		if err != nil {
			return kept, fmt.Errorf("sdk: refuted claim of node %s: %w", key.Node.Short(), err)
		}
		if claim.Refuted == 0 {
			return kept, refusef("node %s: the chain has not refuted its claim", key.Node.Short())
		}
		kept = orZero(kept.Add(claim.Cost))
	}
	return kept, nil
}

// orZero makes of a sum that does not fit one that no settlement has.
func orZero(sum chain.Amount, ok bool) chain.Amount {
	if !ok {
		return chain.Amount{}
	}
	return sum
}

// receiptOf returns a paid node's receipt, whose result must be the job's and
// that of the job's output; false: none is shown.
func receiptOf(j *api.Job, node crypto.PublicKey) (receipt chain.UsageReceipt, shown bool, err error) {
	for i := range j.Runs {
		if j.Runs[i].Node != node || j.Runs[i].Receipt == nil {
			continue
		}
		r := api.ReceiptFromJSON(*j.Runs[i].Receipt)
		result := job.ResultDigest(&job.Outcome{Exit: r.Exit, ExitCode: r.ExitCode, Output: j.Output, Outputs: r.Outputs})
		if result != j.Result {
			return r, true, refusef("output %s with %q is result %s of node %s, the job's is %s", j.Output.Short(), r.Exit, result.Short(), node.Short(), j.Result.Short())
		}
		return r, true, nil
	}
	return chain.UsageReceipt{}, false, nil
}

func provenRecord[T any](ctx context.Context, c *Client, key []byte, decode func([]byte) (T, error)) (T, error) {
	var none T
	value, err := c.VerifiedState(ctx, key)
	if err != nil {
		return none, err
	}
	raw, ok := value.Get()
	if !ok {
		return none, refusef("the chain has no such record at height %d", value.Height())
	}
	return decode(raw)
}
