package server

import (
	"context"
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
	looks := map[crypto.Digest]*look{}
	ticker := time.NewTicker(leaseTick)
	defer ticker.Stop()
	slots := make(chan struct{}, maxLooks)
	after := uint64(0) // the number of the last one of the part before
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-ticker.C:
		}
		var due []leaseLook
		due, after = r.leases(after)
		now := time.Now()
		for _, d := range due {
			l := looks[d.of.Order]
			if l == nil {
				l = &look{at: now, wait: leaseTick}
				looks[d.of.Order] = l
			}
			if now.Before(l.at) {
				continue
			}
			l.at, l.wait = now.Add(l.wait), min(2*l.wait, longestLease)
			r.once(assignment{order: d.of.Order}, func() {
				select {
				case slots <- struct{}{}:
					r.seeLease(d)
					<-slots
				case <-r.ctx.Done():
				}
			})
		}
		for order, l := range looks {
			if now.Sub(l.at) > 4*longestLease { // it is no longer among them
				delete(looks, order)
			}
		}
	}
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
