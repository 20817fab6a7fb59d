package server

import (
	"context"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	firstLook   = 50 * time.Millisecond
	longestLook = 5 * time.Second
	lookTimeout = 10 * time.Second
	maxLooks    = 4   // at the chain, at a time
	lookBatch   = 256 // jobs looked after at a time, the oldest first
)

// look says when to ask the chain about a job again.
type look struct {
	at   time.Time
	wait time.Duration
}

// settleAll learns from the chain what became of the claims in the outbox,
// until the reign ends. The relay is not asked: it is nobody to be trusted.
func (r *reign) settleAll() {
	looks := map[crypto.Digest]*look{}
	ticker := time.NewTicker(firstLook)
	defer ticker.Stop()
	slots := make(chan struct{}, maxLooks)
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-ticker.C:
		}
		var items []scheduler.OutboxItem
		r.replica.view(func(s *scheduler.State) { items = s.Outbox(0, lookBatch) })
		now := time.Now()
		waiting := map[crypto.Digest]bool{}
		for _, item := range items {
			if len(item.Claims) == 0 { // watchRuns'
				continue
			}
			waiting[item.Order] = true
			l := looks[item.Order]
			if l == nil {
				l = &look{at: now, wait: firstLook}
				looks[item.Order] = l
			}
			if now.Before(l.at) {
				continue
			}
			l.at, l.wait = now.Add(l.wait), min(2*l.wait, longestLook)
			r.once(assignment{order: item.Order}, func() {
				select {
				case slots <- struct{}{}:
					r.confirm(item)
					<-slots
				case <-r.ctx.Done():
				}
			})
		}
		for order := range looks {
			if !waiting[order] {
				delete(looks, order)
			}
		}
	}
}

// confirm asks the chain about one job, and tells the state what it says.
func (r *reign) confirm(item scheduler.OutboxItem) {
	ctx, cancel := context.WithTimeout(r.ctx, lookTimeout)
	defer cancel()
	r.signer.claims(item.Claims)
	outcome, err := r.chain.Outcome(ctx, item.Order, item.Claims)
	switch {
	case err != nil:
		if r.ctx.Err() == nil {
			r.log.Info("the chain cannot be asked about a job", "job", item.Order.Short(), "error", err)
		}
		return
	case !outcome.Settled && outcome.Refused == "":
		return
	}
	r.log.Info("job settled", "job", item.Order.Short(), "refused", outcome.Refused, "height", outcome.Record.Height, "cost", outcome.Record.Cost)
	r.report("confirmed", r.propose(scheduler.Confirmed{Order: item.Order, Outcome: outcome.Record, Failure: outcome.Refused}))
}
