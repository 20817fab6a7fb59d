package server

import (
	"context"
	"maps"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	firstLook   = 50 * time.Millisecond
	longestLook = 5 * time.Second
	lookTimeout = 10 * time.Second
	maxLooks    = 4   // at the chain, at a time
	lookBatch   = 256 // jobs looked after at a time
)

// watch calls round at every tick until the reign ends, with what looks at something on the chain: few
// things at a time, and each once at a time.
func (r *reign) watch(tick time.Duration, round func(now time.Time, see func(about assignment, do func()))) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	slots := make(chan struct{}, maxLooks)
	see := func(about assignment, do func()) {
		r.once(about, func() {
			select {
			case slots <- struct{}{}:
				do()
				<-slots
			case <-r.ctx.Done():
			}
		})
	}
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-ticker.C:
		}
		round(time.Now(), see)
	}
}

// looks says when to ask the chain about each of some orders again.
type looks map[crypto.Digest]*look

type look struct {
	at   time.Time
	wait time.Duration
}

// due reports whether it is time for an order, and puts the next time off: by first, and each time
// twice as long, to longest.
func (l looks) due(order crypto.Digest, now time.Time, first, longest time.Duration) bool {
	next := l[order]
	if next == nil {
		next = &look{at: now, wait: first}
		l[order] = next
	}
	if now.Before(next.at) {
		return false
	}
	next.at, next.wait = now.Add(next.wait), min(2*next.wait, longest)
	return true
}

// settleAll learns from the chain what became of the claims in the outbox,
// until the reign ends. The relay is not asked: it is nobody to be trusted.
func (r *reign) settleAll() {
	looks, waiting := looks{}, map[crypto.Digest]bool{}
	after := uint64(0) // the cursor of the last one of the part before: what is never paid keeps no other from being looked at
	r.watch(firstLook, func(now time.Time, see func(assignment, func())) {
		var items []scheduler.OutboxItem
		r.replica.view(func(s *scheduler.State) { items, after = s.Unsettled(after, lookBatch) })
		for _, item := range items {
			waiting[item.Order] = true
			if looks.due(item.Order, now, firstLook, longestLook) {
				see(assignment{order: item.Order}, func() { r.confirm(item) })
			}
		}
		if after == 0 { // all that wait were among the parts
			maps.DeleteFunc(looks, func(order crypto.Digest, _ *look) bool { return !waiting[order] })
			clear(waiting)
		}
	})
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
	case outcome.Waits != 0 && !item.Seen:
		seen := scheduler.Replication{Begun: true, Height: outcome.Waits, Replicas: []scheduler.Replica{{Node: item.Claims[0].Receipt.Node, State: scheduler.ReplicaShown}}}
		r.report("observed", r.propose(scheduler.Observed{Order: item.Order, OnChain: seen}))
		return
	case !outcome.Settled && outcome.Refused == "":
		return
	}
	r.log.Info("job settled", "job", item.Order.Short(), "refused", outcome.Refused, "height", outcome.Record.Height, "cost", outcome.Record.Cost)
	r.report("confirmed", r.propose(scheduler.Confirmed{Order: item.Order, Outcome: outcome.Record, Failure: outcome.Refused, Refuted: outcome.Refuted}))
}
