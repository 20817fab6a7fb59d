package server

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	// maxAsked bounds the nodes asked in one auction; of more, so many are
	// drawn.
	maxAsked = 256
	// An auction with fewer bids than it needs stays open for so many windows, and
	// for minPatience, unless all who were asked have answered: an agent of a busy
	// machine answers late, and a second auction costs more than to wait for it.
	patienceWindows = 4
	minPatience     = 500 * time.Millisecond
	// dryRun marks the numbers of auctions that place nothing.
	dryRun = uint64(1) << 63
)

// auction is one round of sealed bids.
type auction struct {
	number uint64
	order  crypto.Digest
	want   int // takers

	mu      sync.Mutex
	waiting map[crypto.PublicKey]bool // who has not answered
	missing int                       // answers that do not count yet
	over    bool                      // none counts any more
	bids    []scheduler.SignedBid
	reasons map[string]int // of those who declined
	full    chan struct{}  // closed once everybody has answered
}

// hold runs a real auction to its end.
func (r *reign) hold(e scheduler.OpenAuction) {
	var order chain.Order
	var spec job.Spec
	open := false
	r.replica.view(func(s *scheduler.State) {
		j, ok := s.Job(e.Order)
		if ok && j.Auction == e.Auction && j.Status == job.Bidding {
			order, spec, open = j.Order, j.Spec, true
		}
	})
	if !open {
		return
	}
	a := &auction{number: e.Auction, order: e.Order, want: e.Want}
	if !r.collect(r.ctx, a, e.Candidates, job.Offer{Auction: e.Auction, Order: order, Spec: spec}) {
		return
	}
	close := scheduler.CloseAuction{Order: e.Order, Auction: e.Auction, Bids: a.bids}
	r.log.Info("auction closed", "job", e.Order.Short(), "auction", e.Auction, "bids", len(a.bids), "declined", a.reasons)
	r.replica.board.answered(e.Auction, a.reasons)
	r.report("close auction", r.propose(close))
}

// collect offers the order to the candidates and waits for their bids: until
// all have answered, or the window is over and there are bids enough, or they
// will not come. It is false if ctx ended. Afterwards the auction is its
// caller's alone.
func (r *reign) collect(ctx context.Context, a *auction, candidates []crypto.PublicKey, offer job.Offer) bool {
	a.waiting, a.reasons, a.full = map[crypto.PublicKey]bool{}, map[string]int{}, make(chan struct{})
	if len(candidates) > maxAsked {
		rand.Shuffle(len(candidates), func(i, k int) { candidates[i], candidates[k] = candidates[k], candidates[i] })
		candidates = candidates[:maxAsked]
	}
	asked := make([]*session, 0, len(candidates))
	for _, node := range candidates {
		if s := r.sessions.get(node); s != nil {
			asked = append(asked, s)
			a.waiting[node] = true
			a.missing++
		}
	}
	if len(asked) == 0 {
		return ctx.Err() == nil
	}
	r.mu.Lock()
	r.auctions[a.number] = a
	r.mu.Unlock()
	defer r.strike(a)
	settings, _ := r.settings()
	window := time.Duration(settings.AuctionWindowMs) * time.Millisecond
	offer.CloseMs = uint64(window.Milliseconds())
	encoded := job.EncodeMessage(offer)
	for _, s := range asked {
		s.sendEncoded(encoded)
	}
	first, last := time.NewTimer(window), time.NewTimer(max(patienceWindows*window, minPatience))
	defer first.Stop()
	defer last.Stop()
	select {
	case <-a.full:
		return true
	case <-ctx.Done():
		return false
	case <-first.C:
	}
	if a.enough() {
		return true
	}
	select {
	case <-a.full:
	case <-ctx.Done():
		return false
	case <-last.C:
	}
	return true
}

// strike takes an auction off the list; no bid reaches it any more.
func (r *reign) strike(a *auction) {
	r.mu.Lock()
	delete(r.auctions, a.number)
	r.mu.Unlock()
	a.mu.Lock()
	a.over = true
	a.mu.Unlock()
}

func (a *auction) enough() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.bids) >= a.want
}

// bid takes an agent's answer to an offer. One that comes late, or was not
// asked for, or is not signed by its node, does not count.
func (s *Server) bid(from *session, m job.BidReply) {
	r := s.current.Load()
	if r == nil {
		return
	}
	r.mu.Lock()
	a := r.auctions[m.Auction]
	r.mu.Unlock()
	if a == nil {
		return
	}
	a.mu.Lock()
	asked := a.waiting[from.node]
	delete(a.waiting, from.node) // one answer each
	a.mu.Unlock()
	if !asked {
		return
	}
	if m.Decline != "" || m.Bid.Node != from.node || m.Bid.Order != a.order {
		a.take(from, m, false)
		return
	}
	s.verifier.ask(crypto.SignedBy(from.node, crypto.DomainBid, m.Bid.Payload(), m.BidSig), func(valid bool) { a.take(from, m, valid) })
}

// take counts the answer of a node that was asked.
func (a *auction) take(from *session, m job.BidReply, valid bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	switch {
	case valid:
		a.bids = append(a.bids, scheduler.SignedBid{Bid: m.Bid, BidSig: m.BidSig})
	case m.Decline != "":
		a.reasons[m.Decline]++
	default:
		from.log.Warn("bid refused: it is for another order or node, or not signed by its node", "job", a.order.Short())
		a.reasons["the bid was not valid"]++
	}
	if a.missing--; a.missing == 0 {
		close(a.full)
	}
}
