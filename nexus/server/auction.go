package server

import (
	"context"
	"math/rand/v2"
	"slices"
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
	// for minPatience, and more if many are asked for together, unless all who were
	// asked have answered: an agent of a busy machine answers late, and a second
	// auction costs more than to wait for it.
	patienceWindows = 4
	minPatience     = 500 * time.Millisecond
	patienceEach    = 4 * time.Millisecond
	// windowEach is how much longer bids are awaited for each auction of a round: an agent signs
	// its bids one after the other. Were a large round over before most have answered, auctions
	// would end whose places are kept on those, and be opened again.
	windowEach = 200 * time.Microsecond
	// dryRun marks the numbers of auctions that place nothing.
	dryRun = uint64(1) << 63
	// offersPiece bounds the bytes of orders and specifications in one message, and
	// one more of each.
	offersPiece = 64 << 10
)

// auction is the sealed bids for one order.
type auction struct {
	number     uint64
	id         crypto.Digest // of the order
	order      chain.Order
	spec       job.Spec
	want       int // takers
	candidates []crypto.PublicKey

	round *round

	mu      sync.Mutex
	waiting map[crypto.PublicKey]bool // who has not answered
	missing int                       // answers that do not count yet
	over    bool                      // none counts any more
	bids    []scheduler.SignedBid
	reasons map[string]int // of those who declined

	ask  ask                           // once it is closed: what its order asks of bonds
	free map[crypto.PublicKey]Provider // those who bid, with what is free of their bonds, as far as is known
	// checks are the bids of nodes whose owners have their share of the cluster's bond: the order is not begun on one.
	checks []scheduler.SignedBid
}

// round is auctions that open at the same time: each node is asked for all of
// them in one message. They close one by one.
type round struct {
	reign    *reign
	auctions []*auction
	window   time.Duration // for which bids are awaited
	began    time.Time

	mu    sync.Mutex
	full  []*auction    // everybody has answered
	left  int           // auctions that are open and lack answers
	ready chan struct{} // has a token while some are full
}

// newRound opens auctions: it asks the candidates that are here.
func (r *reign) newRound(auctions []*auction) *round {
	settings, _ := r.settings()
	window := time.Duration(settings.AuctionWindowMs) * time.Millisecond
	o := &round{reign: r, auctions: auctions, window: window, began: time.Now(), left: len(auctions), ready: make(chan struct{}, 1)}
	asked := map[*session][]*auction{}
	var alone []*auction // nobody is here to be asked
	for _, a := range auctions {
		a.round, a.waiting, a.reasons = o, make(map[crypto.PublicKey]bool, len(a.candidates)), map[string]int{}
		if len(a.candidates) > maxAsked {
			rand.Shuffle(len(a.candidates), func(i, k int) { a.candidates[i], a.candidates[k] = a.candidates[k], a.candidates[i] })
			a.candidates = a.candidates[:maxAsked]
		}
		for _, node := range a.candidates {
			if s := r.sessions.get(node); s != nil && !a.waiting[node] {
				asked[s] = append(asked[s], a)
				a.waiting[node] = true
				a.missing++
			}
		}
		if a.missing == 0 {
			alone = append(alone, a)
		}
	}
	r.mu.Lock()
	for _, a := range auctions {
		r.auctions[a.number] = a
	}
	r.mu.Unlock()
	for _, a := range alone {
		o.answered(a)
	}
	var last []*auction
	var encoded [][]byte // of last: nodes are often asked for the same
	for s, list := range asked {
		if !slices.Equal(list, last) {
			last, encoded = list, encodeOffers(list, window)
		}
		for _, raw := range encoded {
			s.sendEncoded(raw)
		}
	}
	return o
}

// encodeOffers returns the messages that ask for bids.
func encodeOffers(list []*auction, window time.Duration) (out [][]byte) {
	for len(list) > 0 {
		m := job.Offers{CloseMs: uint64(window.Milliseconds())}
		named := map[crypto.Digest]bool{}
		size := 0
		for len(m.List) < min(len(list), job.MaxList) && size < offersPiece {
			a := list[len(m.List)]
			m.List = append(m.List, job.Offer{Auction: a.number, Order: a.order})
			size += len(a.order.Payload())
			if !named[a.order.Spec] {
				named[a.order.Spec] = true
				m.Specs = append(m.Specs, a.spec)
				size += len(a.spec.Encode())
			}
		}
		list = list[len(m.List):]
		out = append(out, job.EncodeMessage(m))
	}
	return out
}

// answered notes that nobody's answer to an auction is missing.
func (o *round) answered(a *auction) {
	o.mu.Lock()
	o.full = append(o.full, a)
	o.left--
	o.mu.Unlock()
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// gaveUp notes that an auction ends that lacks answers.
func (o *round) gaveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left--
}

// unanswered returns how many open auctions lack answers.
func (o *round) unanswered() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left
}

func (o *round) takeFull() []*auction {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.full
	o.full = nil
	return out
}

// run gives the auctions to closed when all who were asked have answered, or the
// window is over and there are bids enough, or they will not come. It is false if
// ctx ended. Afterwards an auction is closed's alone.
func (o *round) run(ctx context.Context, closed func([]*auction)) bool {
	open := make(map[*auction]bool, len(o.auctions))
	for _, a := range o.auctions {
		open[a] = true
	}
	end := func(list []*auction) {
		list = slices.DeleteFunc(list, func(a *auction) bool { return !open[a] })
		for _, a := range list {
			delete(open, a)
		}
		if len(list) > 0 {
			o.reign.strike(list)
			closed(list)
		}
	}
	defer func() { end(keys(open)) }()
	window := o.window + time.Duration(len(o.auctions))*windowEach
	first := time.NewTimer(window)
	last := time.NewTimer(max(patienceWindows*window, minPatience) + time.Duration(len(o.auctions))*patienceEach)
	defer first.Stop()
	defer last.Stop()
	enough := false // whether bids enough end an auction now
	for len(open) > 0 {
		select {
		case <-o.ready:
			end(o.takeFull())
		case <-ctx.Done():
			clear(open)
			o.reign.strike(o.auctions)
			return false
		case <-first.C:
			enough = true
		case <-last.C:
			return true
		}
		if enough {
			end(slices.DeleteFunc(keys(open), func(a *auction) bool { return !a.enough() }))
			first.Reset(o.window)
		}
	}
	return true
}

// keys returns the auctions of a set, by number.
func keys(set map[*auction]bool) []*auction {
	out := make([]*auction, 0, len(set))
	for a := range set {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *auction) int { return int(int64(a.number - b.number)) })
	return out
}

// strike takes auctions off the list; no bid reaches them any more.
func (r *reign) strike(list []*auction) {
	r.mu.Lock()
	for _, a := range list {
		delete(r.auctions, a.number)
	}
	r.mu.Unlock()
	for _, a := range list {
		a.strike()
	}
}

// strike ends an auction: no answer counts any more, and its round lacks none for it.
func (a *auction) strike() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.missing > 0 && !a.over {
		a.round.gaveUp()
	}
	a.over = true
}

func (a *auction) enough() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.bids) >= a.want
}

// bids takes an agent's answers to offers. One that comes late, or was not
// asked for, or is not signed by its node, does not count.
func (s *Server) bids(from *session, m job.Bids) {
	r := s.current.Load()
	if r == nil {
		return
	}
	asked := make([]*auction, len(m.List))
	r.mu.Lock()
	for i := range m.List {
		asked[i] = r.auctions[m.List[i].Auction]
	}
	r.mu.Unlock()
	for i, a := range asked {
		if a == nil {
			continue
		}
		reply := m.List[i]
		a.mu.Lock()
		waited := a.waiting[from.node]
		delete(a.waiting, from.node) // one answer each
		a.mu.Unlock()
		switch {
		case !waited:
		case reply.Decline != "" || reply.Bid.Node != from.node || reply.Bid.Order != a.id:
			a.take(from, reply, false)
		default:
			s.verifier.ask(crypto.SignedBy(from.node, crypto.DomainBid, reply.Bid.Payload(), reply.BidSig), func(valid bool) { a.take(from, reply, valid) })
		}
	}
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
		from.log.Warn("bid refused: it is for another order or node, or not signed by its node", "job", a.id.Short())
		a.reasons["the bid was not valid"]++
	}
	if a.missing--; a.missing == 0 {
		a.round.answered(a)
	}
}
