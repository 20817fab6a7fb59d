package server

import (
	"time"

	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// What a cluster does with its processors while more comes than they can do at
// once: it accepts before it places, and places before agents work. Orders that
// clients submit are few instructions each and make room for nothing, while what
// is placed brings bids, assignments and receipts. So auctions wait while many
// orders are submitted, but not for long, and then take turns with them. What
// agents say is never kept waiting: receipts free capacity.

const (
	// roundSize bounds the auctions of a round, and those that may lack answers
	// before others open: what an agent is asked for meanwhile would only wait there.
	roundSize = job.MaxList
	// roundPace is after how long a round that lacks answers no longer keeps others
	// from opening, and how often one opens beside a burst that does not end.
	roundPace = 100 * time.Millisecond
	// burst is from how many orders on, submitted at a time, auctions wait, and
	// maxHeldUp for how long.
	burst     = 64
	maxHeldUp = time.Second
	// burstPoll is how often it is looked whether a burst is over.
	burstPoll = 5 * time.Millisecond
)

// auctioneer is the auctions that are to be opened, and the rounds that lack
// answers. It belongs to the reign's loop.
type auctioneer struct {
	waiting []opening // the oldest first
	rounds  []*round
	last    time.Time // when a round was opened
}

// opening is an auction to be opened, and since when.
type opening struct {
	effect scheduler.OpenAuction
	since  time.Time
}

// next returns how many of the waiting auctions may be opened now, and, if not
// all, when to look again.
func (a *auctioneer) next(now time.Time, admitting int64) (n int, again time.Duration) {
	unanswered, oldest := 0, now
	kept := a.rounds[:0]
	for _, r := range a.rounds {
		if left := r.unanswered(); left > 0 && now.Sub(r.began) < roundPace {
			unanswered += left
			oldest = minTime(oldest, r.began)
			kept = append(kept, r)
		}
	}
	clear(a.rounds[len(kept):])
	a.rounds = kept
	if len(a.waiting) == 0 {
		return 0, 0
	}
	if admitting >= burst && (now.Sub(a.waiting[0].since) < maxHeldUp || now.Sub(a.last) < roundPace) {
		return 0, burstPoll
	}
	n = min(len(a.waiting), max(0, roundSize-unanswered))
	if n < len(a.waiting) {
		again = max(time.Millisecond, oldest.Add(roundPace).Sub(now))
	}
	return n, again
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// openAuctions opens those that may be, and returns when to look again, or zero.
func (r *reign) openAuctions() time.Duration {
	a := &r.auctioneer
	now := time.Now()
	n, again := a.next(now, r.admitting.Load())
	if n == 0 {
		return again
	}
	list := a.waiting[:n]
	if a.waiting = a.waiting[n:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	auctions := make([]*auction, 0, n)
	r.replica.view(func(s *scheduler.State) {
		for i := range list {
			e := &list[i].effect
			if j, ok := s.Job(e.Order); ok && j.Auction == e.Auction && j.Status == job.Bidding {
				auctions = append(auctions, &auction{number: e.Auction, id: e.Order, order: j.Order, spec: j.Spec, want: e.Want, candidates: e.Candidates})
			}
		}
	})
	if len(auctions) == 0 {
		return time.Millisecond
	}
	round := r.newRound(auctions)
	a.rounds, a.last = append(a.rounds, round), now
	r.async(func() {
		round.run(r.ctx, r.closeAuctions)
	})
	return again
}

// closeAuctions tells the state what was bid: of auctions whose orders lock a part of bonds, once that is promised to them.
func (r *reign) closeAuctions(list []*auction) {
	var plain []*auction
	for _, a := range list {
		if a.ask = r.askOf(a.order.Policy.Policy, a.order.MaxCost); a.ask.slice.IsZero() {
			plain = append(plain, a)
			continue
		}
		r.async(func() {
			r.sift(a)
			r.award(a)
		})
	}
	if len(plain) > 0 {
		r.tellClosed(plain)
	}
}

// tellClosed tells the state what was bid.
func (r *reign) tellClosed(list []*auction) {
	waits := r.queueClosed(list)
	r.async(func() { r.awaitClosed(waits) })
}

// queueClosed queues what tells the state what was bid.
func (r *reign) queueClosed(list []*auction) []<-chan outcome {
	waits := make([]<-chan outcome, 0, len(list))
	for _, a := range list {
		r.log.Info("auction closed", "job", a.id.Short(), "auction", a.number, "bids", len(a.bids), "declined", a.reasons)
		r.replica.board.answered(a.number, a.reasons)
		waits = append(waits, r.queue(scheduler.CloseAuction{Order: a.id, Auction: a.number, Bids: a.bids, Checks: a.checks}))
	}
	select {
	case r.answered <- struct{}{}: // others may open
	default:
	}
	return waits
}

func (r *reign) awaitClosed(waits []<-chan outcome) {
	for _, done := range waits {
		r.report("close auction", (<-done).err)
	}
}
