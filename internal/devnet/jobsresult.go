package devnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	maxClaimBytes = 1 << 20
	benchCheckers = 2 // goroutines that verify receipts
	benchAskers   = 8 // that ask the chain
)

// signedReceipt is a provider's word for what it did.
type signedReceipt struct {
	receipt   chain.UsageReceipt
	signature crypto.Signature
}

// receiptsOf returns the receipts that a cluster shows of a job.
func receiptsOf(j *api.Job) []signedReceipt {
	var out []signedReceipt
	for i := range j.Runs {
		if r := &j.Runs[i]; r.Receipt != nil && r.ReceiptSig != nil {
			out = append(out, signedReceipt{receipt: api.ReceiptFromJSON(*r.Receipt), signature: *r.ReceiptSig})
		}
	}
	return out
}

// result verifies every receipt, reads when jobs were placed, and counts.
func (b *jobBench) result(ctx context.Context) (JobResult, error) {
	if err := b.verifyAll(); err != nil {
		return JobResult{}, err
	}
	if err := b.readPlacements(ctx); err != nil {
		return JobResult{}, err
	}
	o := &b.options
	r := JobResult{Count: o.Count, InFlight: o.InFlight, Settle: o.Settle}
	var accepted, completed time.Duration
	var submitted, placed chain.TimeMs // by the cluster's clock
	var latencies []float64
	for _, j := range b.jobs {
		if j.accepted == 0 {
			continue
		}
		r.Accepted++
		accepted = max(accepted, j.accepted)
		if j.placed != 0 {
			r.Placed++
			placed = max(placed, j.placed)
		}
		if at := j.submitted; at != 0 && (submitted == 0 || at < submitted) {
			submitted = at
		}
		switch {
		case j.ended == 0:
			r.Lost++
			continue
		case len(j.shown) == 0 || j.shown[0].receipt.Exit != chain.ExitOK:
			if r.Failed++; r.Failed == 1 {
				r.Failure = j.failure
			}
			continue
		}
		r.Completed++
		completed = max(completed, j.ended)
		latencies = append(latencies, float64(j.ended-j.sent)/float64(time.Millisecond))
		if len(j.shown) > 1 {
			r.Duplicated++
		}
	}
	r.AcceptedPerSecond = perSecond(r.Accepted, accepted)
	r.CompletedPerSecond = perSecond(r.Completed, completed)
	if placed > submitted {
		r.PlacedPerSecond = perSecond(r.Placed, time.Duration(placed-submitted)*time.Millisecond)
	}
	r.Seconds = completed.Seconds()
	r.Latency = percentiles(latencies)
	return r, nil
}

func perSecond(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// verifyAll decodes and verifies the receipts of all jobs. The error names the
// first that is not what its provider signed for its order.
func (b *jobBench) verifyAll() error {
	var wg sync.WaitGroup
	failures := make([]error, benchCheckers)
	for k := range benchCheckers {
		wg.Go(func() {
			for i := k; i < len(b.jobs) && failures[k] == nil; i += benchCheckers {
				failures[k] = b.verify(b.jobs[i])
			}
		})
	}
	wg.Wait()
	return errors.Join(failures...)
}

func (b *jobBench) verify(j *benchJob) error {
	for _, raw := range j.claims {
		var claim chain.Claim
		if err := codec.Unmarshal(raw, &claim, maxClaimBytes); err != nil {
			return fmt.Errorf("claim of job %s: %w", j.id, err)
		}
		switch {
		case claim.Order.ID() != j.id:
			return fmt.Errorf("a claim of order %s was given for job %s", claim.Order.ID(), j.id)
		case claim.Bid.Order != j.id || claim.Bid.Node != claim.Receipt.Node || !claim.Bid.Node.Verify(crypto.DomainBid, claim.Bid.Payload(), claim.BidSig):
			return fmt.Errorf("job %s: the bid is not one of its provider for it", j.id)
		case claim.Acceptance.Order != j.id || claim.Acceptance.Cluster != b.cluster || !b.cluster.Verify(crypto.DomainAcceptance, claim.Acceptance.Payload(), claim.AcceptanceSig):
			return fmt.Errorf("job %s: the acceptance is not one of the cluster for it", j.id)
		}
		same := func(s signedReceipt) bool {
			return s.receipt.Node == claim.Receipt.Node && s.receipt.Sequence == claim.Receipt.Sequence
		}
		if !slices.ContainsFunc(j.shown, same) { // what is claimed again is one receipt
			j.shown = append(j.shown, signedReceipt{receipt: claim.Receipt, signature: claim.ReceiptSig})
		}
	}
	for i := range j.shown {
		r := &j.shown[i]
		if r.receipt.Order != j.id || !r.receipt.Node.Verify(crypto.DomainUsage, r.receipt.Payload(), r.signature) {
			return fmt.Errorf("job %s: the receipt is not one of node %s for it", j.id, r.receipt.Node.Short())
		}
	}
	return nil
}

// readPlacements reads from the cluster's list of jobs, the newest first, when
// each was accepted and placed, by the cluster's own clock. It also shows
// receipts that went to no outbox.
func (b *jobBench) readPlacements(ctx context.Context) error {
	left := 0
	for _, j := range b.jobs {
		if j.accepted != 0 {
			left++
		}
	}
	for said, err := range b.client.Jobs(ctx, b.consumer) {
		if err != nil {
			return fmt.Errorf("listing the jobs: %w", err)
		}
		j := b.byID[said.ID]
		if j == nil || j.submitted != 0 {
			continue
		}
		j.submitted = said.SubmittedMs
		j.failure = fmt.Sprintf("job %s is %s: %s", j.id, said.Status, said.Reason)
		for i := range said.Runs {
			if run := &said.Runs[i]; run.Receipt != nil && run.Receipt.Exit != chain.ExitOK {
				j.failure = fmt.Sprintf("job %s ended on node %s with %s: %s", j.id, run.Node, run.Receipt.Exit, run.Detail)
			}
			if at := said.Runs[i].PlacedMs; j.placed == 0 || at < j.placed {
				j.placed = at
			}
		}
		if shown := receiptsOf(&said); len(shown) > len(j.shown) && j.ended != 0 {
			j.claims, j.shown = nil, shown
			if err := b.verify(j); err != nil {
				return err
			}
		}
		if left--; left == 0 {
			return nil
		}
	}
	return nil // the cluster keeps some no longer: their placement is not counted
}

// settle waits until the chain has paid every completed job, and counts the
// payments from its proven receipts.
func (b *jobBench) settle(ctx context.Context, r *JobResult) error {
	var open []*benchJob
	for _, j := range b.jobs {
		if j.ended != 0 && len(j.shown) > 0 {
			open = append(open, j)
		}
	}
	txs := map[chain.TxID]bool{}
	last, lastAt := len(open), time.Now()
	var settled time.Duration
	for len(open) > 0 && time.Since(lastAt) < jobQuiet {
		found, err := b.claimTxs(ctx, open)
		if err != nil {
			return err
		}
		for tx := range found {
			if txs[tx] {
				continue
			}
			txs[tx] = true
			if err := b.countPaid(ctx, tx); err != nil {
				return err
			}
		}
		open = slices.DeleteFunc(open, func(j *benchJob) bool { return j.paid > 0 })
		if len(open) < last {
			last, lastAt = len(open), time.Now()
			settled = lastAt.Sub(b.began)
		}
		if err := pause(ctx, jobPause); err != nil && len(open) > 0 {
			return fmt.Errorf("with %d jobs not paid yet: %w", len(open), err)
		}
	}
	r.Lost += len(open)
	for _, j := range b.jobs {
		if j.paid > 0 {
			r.Settled++
		}
		if j.paid > 1 && len(j.shown) < 2 {
			r.Duplicated++
		}
	}
	r.SettledPerSecond = perSecond(r.Settled, settled)
	return nil
}

// claimTxs asks for the transactions that paid jobs.
func (b *jobBench) claimTxs(ctx context.Context, open []*benchJob) (map[chain.TxID]bool, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	txs := map[chain.TxID]bool{}
	for k := range benchAskers {
		wg.Go(func() {
			for i := k; i < len(open); i += benchAskers {
				said, err := b.client.Settlements(ctx, open[i].id)
				mu.Lock()
				if err != nil {
					failures = append(failures, err)
				}
				for _, s := range said.Settled {
					txs[s.TxID] = true
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if len(failures) > 0 {
		return nil, fmt.Errorf("asking the chain for payments: %w", failures[0])
	}
	return txs, nil
}

// countPaid counts what a transaction's proven receipt says was paid.
func (b *jobBench) countPaid(ctx context.Context, tx chain.TxID) error {
	receipt, _, err := b.client.VerifiedReceipt(ctx, tx)
	if err != nil {
		return fmt.Errorf("the receipt of payment %s: %w", tx, err)
	}
	for _, event := range receipt.Events {
		if paid, ok := event.(chain.ClaimSettled); ok {
			if j := b.byID[paid.Order]; j != nil {
				j.paid++
			}
		}
	}
	return nil
}
