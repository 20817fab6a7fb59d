package sdk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// ResizeRequest says what RequestResize makes of a lease.
type ResizeRequest struct {
	Lease      chain.LeaseID
	Consumer   chain.Signer
	Millicores uint64        // 0: as many as now
	MemoryMiB  uint64        // 0: as much as now
	Hold       chain.Amount  // that the lease holds more
	Notice     time.Duration // 0: as now
	Patience   time.Duration // how long it may take to post the deal; 0: ten minutes
	Progress   func(stage string, j *api.Job)
}

// RequestResize has the lease's cluster ask its node for a bid on other cores and other memory,
// and returns the deal that all three signed. Nothing changes before it is posted
// in a chain.ResizeLease. What the service promises stays. Errors: ErrNotSettled if
// there is no such lease, or the node does not take it, or it was resized less than an hour ago and what was
// promised before may still be reported.
func (c *Client) RequestResize(ctx context.Context, r ResizeRequest) (chain.LeaseDeal, error) {
	if r.Progress == nil {
		r.Progress = func(string, *api.Job) {}
	}
	v, err := c.VerifiedLease(ctx, r.Lease)
	if err != nil {
		return chain.LeaseDeal{}, err
	}
	lease, live := v.Get()
	if !live {
		return chain.LeaseDeal{}, fmt.Errorf("%w: node %s has no lease of order %s", ErrNotSettled, r.Lease.Node.Short(), r.Lease.Order.Short())
	}
	spec, err := c.resizedSpec(ctx, &lease, &r)
	if err != nil {
		return chain.LeaseDeal{}, err
	}
	promised, err := c.Promised(ctx, r.Lease)
	if err != nil {
		return chain.LeaseDeal{}, err
	}
	if former := promised.Former; promised.Live && former != nil {
		return chain.LeaseDeal{}, fmt.Errorf("%w: the lease was resized at %d ms, and the terms before may still be reported: it is resized once in an hour",
			ErrNotSettled, former.Lease.Expires)
	}
	if err := c.EnsureEscrowFor(ctx, r.Consumer, lease.Cluster, r.Hold); err != nil {
		return chain.LeaseDeal{}, err
	}
	status, err := c.NexusStatus(ctx)
	if err != nil {
		return chain.LeaseDeal{}, fmt.Errorf("sdk: asking the cluster: %w", err)
	}
	order := resizeOrder(&lease, &r, &spec, status)
	if promised.Live {
		order.Term.Service = &promised.Service.Terms
	}
	request, err := SignOrder(order, spec, r.Consumer)
	if err != nil {
		return chain.LeaseDeal{}, err
	}
	run := JobRun{Consumer: r.Consumer, MaxCost: r.Hold}
	submitted, err := c.submitCovered(ctx, &run, lease.Cluster, request)
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
	deal, err := c.awaitDeal(ctx, submitted, r.Progress)
	if err == nil && deal.Bid.Node != r.Lease.Node {
		return chain.LeaseDeal{}, refusef("the deal is with node %s, the lease's is %s", deal.Bid.Node.Short(), r.Lease.Node.Short())
	}
	return deal, err
}

// resizedSpec is the specification whose terms hold, with what is to be another. The chain
// has its digest, so that the server is not believed.
func (c *Client) resizedSpec(ctx context.Context, lease *settlement.Lease, r *ResizeRequest) (job.Spec, error) {
	j, err := c.Job(ctx, lease.Order)
	if err != nil {
		return job.Spec{}, fmt.Errorf("sdk: asking for the lease's terms: %w", err)
	}
	spec, err := api.SpecFromJSON(j.Spec)
	if err != nil {
		return job.Spec{}, refusef("the specification of order %s: %v", lease.Order, err)
	}
	if spec.Digest() != lease.Spec {
		return job.Spec{}, refusef("the server shows another specification of order %s than the chain", lease.Order)
	}
	if r.Millicores > 0 {
		spec.Resources.Millicores = r.Millicores
	}
	if r.MemoryMiB > 0 {
		spec.Resources.MemoryMiB, spec.Limits.MemoryBytes = r.MemoryMiB, r.MemoryMiB<<20
	}
	return spec, nil
}

// resizeOrder is the order of a resize: caps a little above what the lease costs now.
func resizeOrder(lease *settlement.Lease, r *ResizeRequest, spec *job.Spec, status api.NexusStatus) chain.Order {
	patience, notice := r.Patience, lease.NoticeMs
	if patience == 0 {
		patience = 10 * time.Minute
	}
	if r.Notice > 0 {
		notice = uint64(r.Notice.Milliseconds())
	}
	order := chain.Order{
		ChainID: status.ChainID, Nonce: rand.Uint64(), Cluster: lease.Cluster, Policy: chain.PolicyField{Policy: chain.PolicyNone{}},
		MaxCost: r.Hold, Deadline: status.NowMs + chain.TimeMs(patience.Milliseconds()),
		Term: &chain.Term{Resources: job.Kept(spec), NoticeMs: notice, Resizes: r.Lease.Order}, PriorityBps: lease.PriorityBps,
	}
	for _, p := range lease.Prices {
		if slices.ContainsFunc(order.Term.Resources, func(q chain.Quantity) bool { return q.Resource == p.Resource }) {
			order.Caps = append(order.Caps, chain.UnitPrice{Resource: p.Resource, Price: capFor(p.Price, lease.PriorityBps)})
		}
	}
	return order
}
