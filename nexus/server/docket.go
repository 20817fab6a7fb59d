package server

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// docket is what a server knows of the panels in which its agents sit. Safe for concurrent
// use; so is what it knows of each panel under its lock alone.
type docket struct {
	mu     sync.Mutex
	panels map[crypto.Digest]*hearing
	turns  map[crypto.PublicKey]*fetchTurn
}

// hearing is one panel.
type hearing struct {
	panel    crypto.Digest
	jurors   []crypto.PublicKey // who was said to be drawn
	since    time.Time          // the last of them was
	looks    time.Time          // when the chain is asked again
	busy     bool               // it is being asked
	sitting  *Sitting           // as the chain has it; nil: not known yet
	fetching bool               // what is judged is fetched
	fetches  time.Time          // when fetching is tried again
	lacking  bool               // it could not be had from its cluster the last time
	judge    *job.Judge         // nil: it is not here yet
	asked    map[crypto.PublicKey]time.Time
	ballots  map[crypto.PublicKey]job.Ballot // the first of each: another may be on its way to the chain
	openings map[crypto.PublicKey]job.Opening
	messages [][]byte // to be posted now
}

// fetchTurn is how what is judged is fetched from one cluster: one order at a time, and not one
// right after another. Whoever answers slowly holds up its own orders.
type fetchTurn struct {
	busy bool
	next time.Time
}

func newDocket() *docket {
	return &docket{panels: map[crypto.Digest]*hearing{}, turns: map[crypto.PublicKey]*fetchTurn{}}
}

// drawn notes jurors of a panel. Whether there is one is for the chain to prove.
func (d *docket) drawn(panel crypto.Digest, jurors []crypto.PublicKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[panel]
	if h == nil {
		if len(d.panels) >= maxPanels && !d.forget() {
			return
		}
		h = &hearing{
			panel: panel, since: time.Now(),
			asked: map[crypto.PublicKey]time.Time{}, ballots: map[crypto.PublicKey]job.Ballot{}, openings: map[crypto.PublicKey]job.Opening{},
		}
		d.panels[panel] = h
	}
	for _, node := range jurors {
		if len(h.jurors) < 3*chain.MaxReplicas && !slices.Contains(h.jurors, node) {
			h.jurors = append(h.jurors, node)
			h.since = time.Now() // it may have taken somebody's place
		}
	}
}

// forget drops the panel that was heard of longest ago, of those for which nothing was done:
// their jurors are elsewhere. The caller holds d.mu.
func (d *docket) forget() bool {
	var oldest *hearing
	for _, h := range d.panels { // order-free: the least
		if !h.busy && !h.fetching && len(h.ballots) == 0 && h.judge == nil && (oldest == nil || h.since.Before(oldest.since)) {
			oldest = h
		}
	}
	if oldest != nil {
		delete(d.panels, oldest.panel)
	}
	return oldest != nil
}

// due returns the panels to look at now, which are busy until rest: those with a juror who
// is here, or has voted here, and from time to time those that the chain knew: they end, and
// are forgotten.
func (d *docket) due(now time.Time, here func(crypto.PublicKey) bool) (list []*hearing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.panels { // order-free: each for itself
		if h.busy || now.Before(h.looks) {
			continue
		}
		every := panelLookEvery
		if len(h.ballots) == 0 && !slices.ContainsFunc(h.jurors, here) {
			if h.sitting == nil {
				continue
			}
			every = idlePanelLookEvery
		}
		h.busy, h.looks = true, now.Add(every)
		list = append(list, h)
	}
	return list
}

func (d *docket) rest(h *hearing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.busy = false
}

// learn notes what the chain says, and reports whether there may be somebody to ask. What is
// over, or was never there, is forgotten.
func (d *docket) learn(h *hearing, sitting *Sitting, there bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !there || sitting.Decided {
		if there || h.sitting != nil || time.Since(h.since) > time.Minute { // a node may be behind the event's
			delete(d.panels, h.panel)
		}
		return false
	}
	h.sitting = sitting
	for _, seat := range sitting.Seats { // of those alone votes are taken
		if !slices.Contains(h.jurors, seat.Node) {
			h.jurors = append(h.jurors, seat.Node)
		}
	}
	h.write()
	return true
}

// ballot takes the sealed vote of an agent that sits on a panel, the first one. Its signature
// is known to be its node's.
func (d *docket) ballot(b job.Ballot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[b.Panel]
	if h == nil || !slices.Contains(h.jurors, b.Node) {
		return
	}
	if _, voted := h.ballots[b.Node]; !voted {
		h.ballots[b.Node] = b
		h.write()
	}
}

// opening takes the vote that a seat is bound to, once the chain has the jurors show theirs.
func (d *docket) opening(o job.Opening) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[o.Panel]
	if h == nil || h.sitting == nil || !h.sitting.Reveals {
		return
	}
	commitment := o.Vote.Commitment(o.Panel, o.Node, o.Salt)
	if slices.ContainsFunc(h.sitting.Seats, func(s Seat) bool { return s.Node == o.Node && s.Commitment == commitment }) {
		h.openings[o.Node] = o
		h.write()
	}
}

// wants reports whether a node's vote on a panel may be taken.
func (d *docket) wants(panel crypto.Digest, node crypto.PublicKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[panel]
	return h != nil && slices.Contains(h.jurors, node)
}

// write makes the messages that are due. The caller holds d.mu.
func (h *hearing) write() {
	h.messages = nil
	if h.sitting == nil {
		return
	}
	for _, seat := range h.sitting.Seats {
		b, sealed := h.ballots[seat.Node]
		o, open := h.openings[seat.Node]
		var m chain.Msg
		switch {
		case sealed && seat.Commitment.IsZero() && !h.sitting.Reveals:
			m = chain.CommitVote{Panel: b.Panel, Node: b.Node, Commitment: b.Commitment, Signature: b.Signature}
		case open && seat.missing(h) == owesOpening:
			m = chain.RevealVote{Panel: o.Panel, Node: o.Node, Vote: o.Vote, Salt: o.Salt}
		default:
			continue
		}
		h.messages = append(h.messages, codec.Marshal(chain.Msgs{m}))
	}
}

// owed is what a juror has still to give.
type owed uint8

const (
	owesNothing owed = iota
	owesBallot       // also one that has committed by another server: who is to show its vote has to know it
	owesOpening
)

// missing returns what the chain waits for from a seat.
func (s *Seat) missing(h *hearing) owed {
	switch {
	case !h.sitting.Reveals:
		return owesBallot
	case !s.Commitment.IsZero() && !s.Shown:
		return owesOpening
	}
	return owesNothing
}

// toAsk returns the jurors who are here and have still to give something, and what they are
// sent: without what is judged, if that is not here and they may remember, or wait for it
// themselves; nil: nothing yet.
func (d *docket) toAsk(h *hearing, now time.Time, here func(crypto.PublicKey) bool) (nodes []crypto.PublicKey, m *job.Judge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.sitting == nil {
		return nil, nil
	}
	reveals := h.sitting.Reveals
	for _, seat := range h.sitting.Seats {
		_, sealed := h.ballots[seat.Node]
		_, open := h.openings[seat.Node]
		has := map[owed]bool{owesNothing: true, owesBallot: sealed, owesOpening: open}[seat.missing(h)]
		if !has && here(seat.Node) && now.Sub(h.asked[seat.Node]) >= askAgain {
			nodes = append(nodes, seat.Node)
		}
	}
	if len(nodes) == 0 {
		return nil, nil
	}
	m = &job.Judge{Panel: h.panel, Order: h.sitting.Order, Open: reveals}
	switch {
	case h.judge != nil:
		m.Assignment = h.judge.Assignment
	case !reveals && !h.lacking:
		return nodes, nil
	}
	for _, node := range nodes {
		h.asked[node] = now
	}
	return nodes, m
}

// begin reports whether something is to be fetched from a cluster now; if so, end gives the
// turn back. Nobody waits for one.
func (d *docket) begin(cluster crypto.PublicKey, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, p := range d.turns { // order-free: each for itself
		if !p.busy && now.After(p.next) {
			delete(d.turns, key)
		}
	}
	if d.turns[cluster] != nil {
		return false
	}
	d.turns[cluster] = &fetchTurn{busy: true, next: now.Add(fetchPace)}
	return true
}

// claimFetch reports whether it is this caller who is to fetch what a panel judges.
func (d *docket) claimFetch(h *hearing, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.judge != nil || h.fetching || now.Before(h.fetches) {
		return false
	}
	h.fetching = true
	return true
}

// fetchEnd is what came of a fetch.
type fetchEnd uint8

const (
	fetchPutOff fetchEnd = iota // it was not begun
	fetchGot
	fetchLacking // what is judged cannot be had from its cluster
	fetchFailed  // here
)

// fetched notes what came of a claimFetch.
func (d *docket) fetched(h *hearing, end fetchEnd, judge *job.Judge) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.fetching = false
	switch end {
	case fetchPutOff:
		return
	case fetchGot:
		h.judge, h.lacking = judge, false
		return
	case fetchLacking:
		h.lacking = true
	case fetchFailed:
	}
	h.fetches = time.Now().Add(fetchAgain)
}

// end gives a cluster's turn back.
func (d *docket) end(cluster crypto.PublicKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.turns[cluster]; p != nil {
		p.busy = false
	}
}

// votes lists the messages that are to be posted now.
func (d *docket) votes() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := [][]byte{}
	for _, h := range d.panels { // order-free: sorted below
		out = append(out, h.messages...)
	}
	slices.SortFunc(out, bytes.Compare)
	return out[:min(len(out), api.MaxVotes)]
}
