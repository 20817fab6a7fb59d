package server

import (
	"context"
	"fmt"
	"math/bits"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const batchesPath = "/v1/batches"

func (s *Server) registerBatches(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "attest-batch", Method: http.MethodPost, Path: batchesPath, Summary: "Attest what a batch of usage records sums up to",
		Description: "For a node's finished work under an order that waits to be settled. The records are not shown: the totals must be exactly those of the\n" +
			"receipts that the cluster has of the node, from the first sequence on. Asking again answers the same.",
		RequestBody:  &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.BatchRequest](hapi)}}},
		MaxBodyBytes: api.MaxJobRequestBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.attestBatch)
}

func (s *Server) attestBatch(_ context.Context, in *requestInput) (*body[api.BatchAttestation], error) {
	var request api.BatchRequest
	if err := api.DecodeJSON(in.RawBody, &request); err != nil {
		return nil, web.InvalidBody(err)
	}
	summary := &request.Summary
	if err := summary.Check(); err != nil {
		return nil, web.Invalid("body.summary", err)
	}
	if summary.ChainID != s.id.genesis.ChainID {
		return nil, web.Invalid("body.summary.chain_id", fmt.Errorf("is %.32q, this is %q", summary.ChainID, s.id.genesis.ChainID))
	}
	var claims []chain.Claim
	s.replica.view(func(state *scheduler.State) {
		if j, ok := state.Job(summary.Order); ok && j.Status == job.Settling {
			claims = j.Claims()
		}
	})
	var receipts []chain.UsageReceipt
	for i := range claims {
		_, metered := claims[i].Order.Policy.Policy.(chain.PolicyNone)
		if metered && !claims[i].Order.Fair && claims[i].Receipt.Node == summary.Node {
			receipts = append(receipts, claims[i].Receipt)
		}
	}
	if len(receipts) == 0 {
		return nil, web.NotFound("no metered work of this node under this order waits to be settled")
	}
	if err := sumsUp(summary, receipts); err != nil {
		return nil, web.Invalid("body.summary", err)
	}
	return &body[api.BatchAttestation]{api.BatchAttestation{Attestation: s.signer.sign(crypto.DomainBatch, summary.Payload())}}, nil
}

// sumsUp demands that a batch is all of the node's work under an order: of its receipts the
// totals, and the time. The chain takes one batch that begins at the beginning, whatever it
// is called, so that nothing is paid for twice.
func sumsUp(s *chain.BatchSummary, receipts []chain.UsageReceipt) error {
	var want [len(chain.Resources)][2]uint64
	started, ended := receipts[0].Started, receipts[0].Ended
	for i := range receipts {
		started, ended = min(started, receipts[i].Started), max(ended, receipts[i].Ended)
		for _, u := range receipts[i].Usage {
			high, low := bits.Mul64(u.Amount, u.DurationMs)
			if u.Resource == chain.Network {
				high, low = 0, u.Amount
			}
			sum := &want[u.Resource-chain.CPU]
			total, carry := bits.Add64(sum[1], low, 0)
			sum[1] = total
			sum[0] += high + carry // receipts are few, and their products below 2⁸⁸
		}
	}
	for _, t := range s.Totals {
		sum := &want[t.Resource-chain.CPU]
		if *sum != [2]uint64{uint64(t.High), uint64(t.Low)} {
			return fmt.Errorf("total of %s is %d · 2^64 + %d, the receipts have %d · 2^64 + %d", t.Resource, t.High, t.Low, sum[0], sum[1])
		}
		*sum = [2]uint64{}
	}
	for i, sum := range want {
		if sum != [2]uint64{} {
			return fmt.Errorf("there is no total of %s, the receipts have %d · 2^64 + %d", chain.Resources[i], sum[0], sum[1])
		}
	}
	switch {
	case s.After != 0:
		return fmt.Errorf("begins after sequence %d: what the cluster has is all of the work", s.After)
	case s.Started != started || s.Ended != ended:
		return fmt.Errorf("is of the time from %d to %d ms, the receipts from %d to %d", s.Started, s.Ended, started, ended)
	}
	return nil
}
