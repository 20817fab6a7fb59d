package sdk

import (
	"context"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// LeaseRequest says what RequestLease leases: what the specification asks for is kept, and its
// work runs, for as long as the lease lives.
type LeaseRequest struct {
	JobRun               // MaxCost is what the lease holds at first, Patience how long it may take to open it
	Notice time.Duration // from either side's word that it shall end to its end
	// Service is what the node is to promise beside; nil: nothing.
	Service *chain.ServiceTerms
}

// RequestLease has a cluster find a node for a lease, and returns the deal that all three
// signed. The money is still the consumer's: OpenLease moves it. Errors: as RunJob's.
func (c *Client) RequestLease(ctx context.Context, r LeaseRequest) (chain.LeaseDeal, error) {
	if r.Progress == nil {
		r.Progress = func(string, *api.Job) {}
	}
	r.Policy = chain.PolicyNone{}
	r.Progress("uploading", nil)
	if err := c.uploadWork(ctx, &r.JobRun); err != nil {
		return chain.LeaseDeal{}, err
	}
	r.Progress("asking for a quote", nil)
	quote, err := c.Quote(ctx, r.Spec, r.Policy, r.PriorityBps)
	if err != nil {
		return chain.LeaseDeal{}, fmt.Errorf("sdk: quote: %w", err)
	}
	if len(quote.Bids) == 0 {
		return chain.LeaseDeal{}, fmt.Errorf("%w: nobody can take it: %s", ErrNotSettled, quote.Why())
	}
	status, err := c.NexusStatus(ctx)
	if err != nil {
		return chain.LeaseDeal{}, fmt.Errorf("sdk: asking the cluster: %w", err)
	}
	if err := c.CheckTerms(ctx, quote.Cluster, status); err != nil {
		return chain.LeaseDeal{}, err
	}
	if err := c.EnsureEscrow(ctx, r.Consumer, quote.Cluster, r.MaxCost); err != nil {
		return chain.LeaseDeal{}, err
	}
	order := orderFor(&r.JobRun, &quote, status)
	order.Term = &chain.Term{Resources: job.Kept(&r.Spec), NoticeMs: uint64(max(r.Notice.Milliseconds(), 0)), Service: r.Service}
	request, err := SignOrder(order, r.Spec, r.Consumer)
	if err != nil {
		return chain.LeaseDeal{}, err
	}
	submitted, err := c.submitCovered(ctx, &r.JobRun, quote.Cluster, request)
	if err != nil {
		return chain.LeaseDeal{}, fmt.Errorf("sdk: submitting the order: %w", err)
	}
	signed, err := api.OrderFromJSON(request.Order)
	if err != nil {
		return chain.LeaseDeal{}, err
	}
	if signed.ID() != submitted.ID {
		return chain.LeaseDeal{}, refusef("order %s was submitted, the server shows job %s", signed.ID(), submitted.ID)
	}
	return c.awaitDeal(ctx, submitted, r.Progress)
}

// awaitDeal follows an order until a node has it.
func (c *Client) awaitDeal(ctx context.Context, j api.Job, note func(stage string, j *api.Job)) (chain.LeaseDeal, error) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		note(j.Status.String(), &j)
		switch {
		case j.Deal != nil:
			deal, err := api.DealFromJSON(*j.Deal)
			if err == nil {
				err = deal.Check()
			}
			if err != nil {
				return deal, refusef("the deal of order %s: %v", j.ID, err)
			}
			if deal.Order.ID() != j.ID || deal.Bid.Order != j.ID {
				return deal, refusef("order %s was submitted, the server shows a deal of another", j.ID)
			}
			return deal, nil
		case j.Status.Final():
			return chain.LeaseDeal{}, fmt.Errorf("%w: it is %s: %s", ErrNotSettled, j.Status, j.Reason)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return chain.LeaseDeal{}, ctx.Err()
		}
		next, err := c.Job(ctx, j.ID)
		if err != nil {
			return chain.LeaseDeal{}, fmt.Errorf("sdk: following order %s: %w", j.ID.Short(), err)
		}
		if next.ID != j.ID {
			return chain.LeaseDeal{}, refusef("job %s was asked for, the server shows %s", j.ID, next.ID)
		}
		j = next
	}
}

// OpenLease posts a deal, and returns the name of the lease that it opened once the
// transaction is final.
func (c *Client) OpenLease(ctx context.Context, from chain.Signer, deal chain.LeaseDeal) (chain.LeaseID, error) {
	id := chain.LeaseID{Node: deal.Bid.Node, Order: deal.Order.ID()}
	if _, err := c.NewBuilder(from, BuilderOptions{}).SendAndWait(ctx, chain.OpenLease{Deal: deal}); err != nil {
		return id, fmt.Errorf("sdk: opening lease %s: %w", id.Order.Short(), err)
	}
	return id, nil
}
