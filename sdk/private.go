package sdk

import (
	"context"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// AttestBatch asks a cluster to attest to a batch, and checks that the attestation is the
// cluster's. Asking again is harmless.
func (c *Client) AttestBatch(ctx context.Context, cluster crypto.PublicKey, summary chain.BatchSummary) (crypto.Signature, error) {
	r, err := post(c.nexus, "/v1/batches", api.BatchRequest{Summary: summary})
	if err != nil {
		return crypto.Signature{}, err
	}
	r.repeatable = true
	answer, err := ask[api.BatchAttestation](ctx, c, r)
	if err != nil {
		return crypto.Signature{}, err
	}
	if !cluster.Verify(crypto.DomainBatch, summary.Payload(), answer.Attestation) {
		return crypto.Signature{}, errors.New("sdk: the attestation of the batch is not the cluster's")
	}
	return answer.Attestation, nil
}

// VerifiedMeter returns the metering key that a finalized state has of a node, and false if
// it has none.
func (c *Client) VerifiedMeter(ctx context.Context, node crypto.PublicKey) (chain.MeterKey, bool, error) {
	value, err := c.VerifiedState(ctx, settlement.MeterKey(node))
	if err != nil {
		return chain.MeterKey{}, false, err
	}
	raw, ok := value.Get()
	if !ok {
		return chain.MeterKey{}, false, nil
	}
	meter, err := settlement.DecodeMeter(raw)
	if err != nil {
		return chain.MeterKey{}, false, fmt.Errorf("sdk: metering key of node %s: %w", node.Short(), err)
	}
	return meter.Key, true, nil
}

// batched returns what batches paid of a receipt's work, as a claim: verified receipts of the
// settlement's transactions say how much. Of the result the chain knows nothing; its receipt is the node's.
func (c *Client) batched(ctx context.Context, j *api.Job, receipt *chain.UsageReceipt) (settlement.Claim, error) {
	claim := settlement.Claim{Result: receipt.Result}
	seen := map[crypto.Digest]bool{}
	for _, id := range j.Settlement.Txs[:min(len(j.Settlement.Txs), maxBatchTxs)] {
		if seen[id] {
			continue
		}
		seen[id] = true
		found, height, err := c.VerifiedReceipt(ctx, id)
		if err != nil {
			return claim, err
		}
		for _, event := range found.Events {
			if b, ok := event.(chain.BatchSettled); ok && b.Order == j.ID && b.Node == receipt.Node {
				claim.Cost, claim.Burned = orZero(claim.Cost.Add(b.Cost)), orZero(claim.Burned.Add(b.Burned))
				claim.Height = height
			}
		}
	}
	if claim.Height == 0 {
		return claim, refusef("no transaction of the settlement pays a batch of node %s", receipt.Node.Short())
	}
	return claim, nil
}

// maxBatchTxs bounds the transactions that a cluster has a client look at.
const maxBatchTxs = 64
