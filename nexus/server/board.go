package server

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// The bounds of what a board remembers.
const (
	boardSeconds  = 64  // of rates
	boardShown    = 60  // of these
	boardMean     = 10  // over which a rate is taken
	boardClosings = 64  // auctions that are over
	boardWaits    = 512 // placements
	boardAnswers  = 256 // auctions that the leader has closed and the log has not
	boardNodes    = 20_000
)

// board is what happened lately, as the log tells it, so that every server knows
// it: rates, waiting times, auctions that are over. Its clock is the cluster's:
// what a server that restarts reads again counts for the time at which it was.
type board struct {
	mu       sync.Mutex
	arrivals uint64 // that were counted
	total    tally
	seconds  [boardSeconds]second
	waits    [boardWaits]uint64
	placed   int // waits ever
	closings [boardClosings]closing
	closed   int // closings ever
	nodes    map[crypto.PublicKey]nodeBids
	answers  map[uint64]map[string]int // by auction: why who was asked declined
}

type tally struct{ accepted, placed, completed uint64 }

type second struct {
	at uint64 // s
	tally
}

type nodeBids struct{ bids, won uint64 }

// closing is an auction that is over. What its bids cost is worked out when
// somebody asks.
type closing struct {
	order    crypto.Digest
	spec     job.Spec
	terms    chain.Order
	consumer chain.Address
	auction  uint64
	at       chain.TimeMs
	came     chain.TimeMs // of the job
	want     int
	bids     []scheduler.SignedBid
	winners  []crypto.PublicKey
	picked   bool // the winner waits for its gang
	declined map[string]int
	reason   string // why there is no winner
}

func newBoard() *board {
	return &board{nodes: map[crypto.PublicKey]nodeBids{}, answers: map[uint64]map[string]int{}}
}

// begin says from which state on to count.
func (b *board) begin(state *scheduler.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrivals = state.Arrivals()
}

// answered notes who declined in an auction, before it is closed.
func (b *board) answered(auction uint64, declined map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.answers) >= boardAnswers {
		clear(b.answers) // of auctions that another leader closed
	}
	b.answers[auction] = maps.Clone(declined)
}

// note takes in an entry that the state has just carried out.
func (b *board) note(state *scheduler.State, entry *scheduler.Entry, effects []scheduler.Effect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := state.Now()
	var t tally
	if arrivals := state.Arrivals(); arrivals > b.arrivals { // a state that is built anew may be behind for a while
		t.accepted, b.arrivals = arrivals-b.arrivals, arrivals
	}
	for _, e := range effects {
		if assign, ok := e.(scheduler.SendAssign); ok {
			t.placed += b.assigned(state, &assign, now)
		} else if _, ok := e.(scheduler.Post); ok {
			t.completed++
		}
	}
	for _, c := range entry.Commands {
		if c, ok := c.(scheduler.CloseAuction); ok {
			b.close(state, &c, now)
		}
	}
	if t == (tally{}) {
		return
	}
	b.total.add(t)
	at := uint64(now) / 1_000
	s := &b.seconds[at%boardSeconds]
	if s.at != at {
		*s = second{at: at}
	}
	s.add(t)
}

func (t *tally) add(o tally) {
	t.accepted += o.accepted
	t.placed += o.placed
	t.completed += o.completed
}

// assigned counts an assignment that is new, and how long its job waited for the
// first.
func (b *board) assigned(state *scheduler.State, e *scheduler.SendAssign, now chain.TimeMs) uint64 {
	j, ok := state.Job(e.Assignment.Order.ID())
	if !ok {
		return 0
	}
	earlier := false
	for i := range j.Runs {
		if r := &j.Runs[i]; r.Node == e.Node && r.Stage == scheduler.Live && r.Placed != now {
			return 0 // it is sent again
		} else if r.Placed != now {
			earlier = true
		}
	}
	if !earlier {
		b.waits[b.placed%boardWaits] = uint64(now - j.Submitted)
		b.placed++
	}
	return 1
}

// close notes an auction that is over.
func (b *board) close(state *scheduler.State, c *scheduler.CloseAuction, now chain.TimeMs) {
	declined := b.answers[c.Auction]
	delete(b.answers, c.Auction)
	j, ok := state.Job(c.Order)
	if !ok {
		return
	}
	out := closing{
		order: c.Order, spec: j.Spec, terms: j.Order, consumer: j.Consumer(), auction: c.Auction, at: now, came: j.Submitted,
		bids: slices.Concat(c.Bids, c.Checks), winners: j.Picked(), declined: declined, reason: j.Reason,
	}
	out.picked = len(out.winners) > 0
	for i := range j.Runs {
		if r := &j.Runs[i]; r.Placed == now && r.Stage == scheduler.Live && bidOf(out.bids, r.Node) != nil {
			out.winners = append(out.winners, r.Node)
		}
	}
	out.want = max(1, len(out.winners))
	if len(b.nodes) > boardNodes {
		clear(b.nodes)
	}
	for i := range out.bids {
		node := out.bids[i].Bid.Node
		count := b.nodes[node]
		count.bids++
		if slices.Contains(out.winners, node) {
			count.won++
		}
		b.nodes[node] = count
	}
	b.closings[b.closed%boardClosings] = out
	b.closed++
}

func bidOf(list []scheduler.SignedBid, node crypto.PublicKey) *chain.Bid {
	for i := range list {
		if list[i].Bid.Node == node {
			return &list[i].Bid
		}
	}
	return nil
}

// totals returns what was counted since the server started.
func (b *board) totals() tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// rates returns how fast work came and went before a time.
func (b *board) rates(now chain.TimeMs) api.TopRates {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := api.TopRates{History: make([]api.TopRate, boardShown)}
	last := uint64(now) / 1_000 // is not over
	for i := range out.History {
		at := last - uint64(boardShown) + uint64(i)
		s := &b.seconds[at%boardSeconds]
		if s.at != at {
			continue
		}
		rate := api.TopRate{Accepted: float64(s.accepted), Placed: float64(s.placed), Completed: float64(s.completed)}
		out.History[i] = rate
		if i >= boardShown-boardMean {
			out.PerS.Accepted += rate.Accepted / boardMean
			out.PerS.Placed += rate.Placed / boardMean
			out.PerS.Completed += rate.Completed / boardMean
		}
	}
	waits := slices.Clone(b.waits[:min(b.placed, boardWaits)])
	if len(waits) > 0 {
		slices.Sort(waits)
		out.Placed = len(waits)
		out.WaitP50Ms, out.WaitP99Ms = api.Uint64(waits[len(waits)/2]), api.Uint64(waits[len(waits)*99/100])
	}
	return out
}

// bidsOf returns what a node bid and won.
func (b *board) bidsOf(node crypto.PublicKey) nodeBids {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes[node]
}

// newest returns up to so many auctions that are over, the newest first.
func (b *board) newest(rows int) []api.TopClosed {
	b.mu.Lock()
	var list []closing
	for i := b.closed - 1; i >= max(0, b.closed-min(rows, boardClosings)); i-- {
		list = append(list, b.closings[i%boardClosings])
	}
	b.mu.Unlock()
	out := make([]api.TopClosed, len(list))
	for i := range list {
		out[i] = list[i].show()
	}
	return out
}

// show returns the auction with its prices, which are at the work's worst, as
// ranking compares them.
func (c *closing) show() api.TopClosed {
	out := api.TopClosed{
		ID: c.order, Label: c.spec.Label, Class: c.spec.Scheduling.Class, Consumer: c.consumer, Auction: api.Uint64(c.auction), AtMs: c.at,
		WaitMs: api.Uint64(c.at - c.came), Want: c.want, Bids: len(c.bids), Winners: append([]crypto.PublicKey{}, c.winners...), Reason: c.reason,
	}
	for i := range c.bids {
		cost, err := scheduler.BidCost(&c.terms, &c.spec, &c.bids[i].Bid)
		if err != nil {
			continue // it did not count
		}
		if out.Highest.IsZero() || cost.Less(out.Lowest) {
			out.Lowest = cost
		}
		if out.Highest.Less(cost) {
			out.Highest = cost
		}
		if slices.Contains(c.winners, c.bids[i].Bid.Node) && out.Price.Less(cost) {
			out.Price = cost
		}
	}
	for _, n := range c.declined { // order-free: a sum
		out.Declined += n
	}
	out.Reason = c.why(&out)
	return out
}

// why says what decided the auction.
func (c *closing) why(out *api.TopClosed) string {
	switch {
	case len(c.winners) == 0 && len(c.declined) > 0:
		most := slices.MaxFunc(slices.Sorted(maps.Keys(c.declined)), func(x, y string) int { return cmp.Compare(c.declined[x], c.declined[y]) })
		return short(c.reason + "; most declined: " + most)
	case len(c.winners) == 0:
		return c.reason
	case c.picked:
		return "won, and waits for the rest of its gang"
	case len(c.bids) == 1:
		return "the only bid"
	case len(c.bids) == len(c.winners):
		return "all who bid were needed"
	case len(c.winners) > 1:
		return "the best scores, of different owners"
	case !out.Lowest.Less(out.Price):
		return "the cheapest"
	}
	return "its standing, place or the fit of its GPUs outweighed the price"
}
