package server

import (
	"context"
	"maps"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	leaseTick    = 500 * time.Millisecond
	longestLease = 15 * time.Second // between two looks at one
)

// watchLeases learns from the chain what became of the leases that orders were for, until the
// reign ends. Nothing else says so: neither the node nor the consumer.
func (r *reign) watchLeases() {
	looks := looks{}
	after := uint64(0) // the number of the last one of the part before
	r.watch(leaseTick, func(now time.Time, see func(assignment, func())) {
		var part []leaseLook
		part, after = r.leases(after)
		for _, d := range part {
			if looks.due(d.of.Order, now, leaseTick, longestLease) {
				see(assignment{order: d.of.Order}, func() { r.seeLease(d) })
			}
		}
		// What was due so long ago is no longer among them.
		maps.DeleteFunc(looks, func(_ crypto.Digest, l *look) bool { return now.Sub(l.at) > 4*longestLease })
	})
}

// leaseLook is a lease to look at.
type leaseLook struct {
	of     LeaseQuery
	leased bool // it was seen to be open
}

// leases returns a part of the leases that nodes were given, those after a number, and
// where the next part begins.
func (r *reign) leases(after uint64) (due []leaseLook, next uint64) {
	r.replica.view(func(s *scheduler.State) {
		list := s.Leases(after, lookBatch)
		for _, j := range list {
			due = append(due, leaseLook{of: queryOf(j), leased: j.Leased})
		}
		if len(list) == lookBatch {
			next = list[len(list)-1].Arrival
		}
	})
	return due, next
}

// queryOf asks about the lease that a job was given to a node for.
func queryOf(j *scheduler.Job) LeaseQuery {
	return LeaseQuery{Lease: j.LeaseID(), Order: j.ID(), Deadline: j.OpenUntil()}
}

// seeLease asks the chain about one lease, and tells the state what is news.
func (r *reign) seeLease(d leaseLook) {
	ctx, cancel := context.WithTimeout(r.ctx, lookTimeout)
	defer cancel()
	seen, err := r.chain.Lease(ctx, d.of)
	if err != nil {
		if r.ctx.Err() == nil {
			r.log.Info("the chain cannot be asked about a lease", "job", d.of.Order.Short(), "error", err)
		}
		return
	}
	if seen.Live == d.leased && (seen.Live || !seen.Opened && !seen.Late) {
		return
	}
	r.log.Info("lease seen", "job", d.of.Order.Short(), "node", d.of.Lease.Node.Short(), "live", seen.Live, "height", seen.Height)
	r.report("lease seen", r.propose(scheduler.LeaseSeen{
		Order: d.of.Order, Node: d.of.Lease.Node, Height: seen.Height, Live: seen.Live, Opened: seen.Opened, Late: seen.Late,
	}))
}

// openedMeanwhile returns why a lease that a node was given is not cancelled: the chain has
// it, which the state has not heard of yet, or cannot be asked.
func (s *Server) openedMeanwhile(ctx context.Context, id crypto.Digest) error {
	var at LeaseQuery
	s.replica.view(func(state *scheduler.State) {
		if j, ok := state.Job(id); ok && j.Order.Term != nil && !j.Leased && j.Award() != nil {
			at = queryOf(j)
		}
	})
	if at.Order.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := s.chain.Lease(ctx, at)
	switch {
	case err != nil:
		s.log.Info("the chain cannot be asked about a lease", "job", id.Short(), "error", err)
		return web.Busy("the chain cannot be asked now whether the lease is open")
	case !seen.Live:
		return nil
	}
	err = s.propose(scheduler.LeaseSeen{Order: id, Node: at.Lease.Node, Height: seen.Height, Live: true, Opened: seen.Opened})
	if err != nil {
		return s.answer(ctx, "noting that the lease is open", err)
	}
	return nil // the state refuses
}

// dealOf returns the deal of a job for a lease that was given to a node, signed by all three.
// The acceptance of out was signed before.
func (s *Server) dealOf(order chain.Order, out *api.Job, award *scheduler.SignedBid) *api.LeaseDeal {
	deal := api.DealToJSON(chain.LeaseDeal{
		Order: order, OrderSig: out.OrderSig, AcceptanceSig: out.AcceptanceSig, Bid: award.Bid, BidSig: award.BidSig,
		AwardSig: s.signer.sign(crypto.DomainAward, award.Bid.Payload()),
	})
	deal.Acceptance = out.Acceptance
	return &deal
}
