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
	lasts time.Duration // a panel, at the longest
	room  uint64        // bytes that what panels judge takes here, of other clusters
	news  chan struct{} // there is something to do at once

	mu     sync.Mutex
	panels map[crypto.Digest]*hearing
	turns  map[crypto.PublicKey]*fetchTurn
}

// hearing is one panel.
type hearing struct {
	panel    crypto.Digest
	jurors   []crypto.PublicKey // who was said to be drawn
	since    time.Time          // the last of them was
	drawn    chain.Height       // of the block that is said to have drawn it
	height   chain.Height       // of the newest state that was seen
	looks    time.Time          // when the chain is asked again
	told     time.Time          // when an event said something new
	toldAt   chain.Height       // the height that it named
	busy     bool               // it is being asked
	sitting  *Sitting           // as the chain has it; nil: not known yet
	fetching bool               // what is judged is fetched
	fetches  time.Time          // when fetching is tried again
	lacking  bool               // it could not be had from its cluster the last time
	judge    *job.Judge         // nil: it is not here yet
	cluster  crypto.PublicKey   // whose order is judged, of what is borrowed
	borrowed []crypto.Digest    // blobs of that cluster, which are kept until the panel is over
	bytes    uint64             // that they take
	asked    map[crypto.PublicKey]time.Time
	ballots  map[crypto.PublicKey]job.Ballot // the first of each: another may be on its way to the chain
	openings map[crypto.PublicKey]job.Opening
	messages [][]byte // to be posted now
}

// fetchTurn is how what is judged is fetched from one cluster: one order at a time, and not one
// right after another. Whoever answers slowly holds up its own orders.
type fetchTurn struct {
	busy  bool
	began time.Time
	next  time.Time
}

// newDocket returns a docket of panels that last no longer than lasts, and of what they judge that
// takes no more than room.
func newDocket(lasts time.Duration, room uint64) *docket {
	return &docket{lasts: lasts, room: room, news: make(chan struct{}, 1), panels: map[crypto.Digest]*hearing{}, turns: map[crypto.PublicKey]*fetchTurn{}}
}

// drawn notes jurors of a panel, which a block of that height is said to have drawn. Whether there
// is one is for the chain to prove.
func (d *docket) drawn(panel crypto.Digest, at chain.Height, jurors []crypto.PublicKey, here func(crypto.PublicKey) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[panel]
	if h == nil {
		if len(d.panels) >= maxPanels && !d.forget(here) {
			return
		}
		h = &hearing{
			panel: panel, since: time.Now(), drawn: at,
			asked: map[crypto.PublicKey]time.Time{}, ballots: map[crypto.PublicKey]job.Ballot{}, openings: map[crypto.PublicKey]job.Opening{},
		}
		d.panels[panel] = h
	}
	for _, node := range jurors {
		if len(h.jurors) < 3*chain.MaxReplicas && !slices.Contains(h.jurors, node) {
			h.jurors = append(h.jurors, node)
			h.since = time.Now() // it may have taken somebody's place
			if here(node) {
				d.look(h, at)
			}
		}
	}
}

// look has the chain be asked about a panel at once, of which a block of that height is said to have
// news; 0: it is this server that has. The caller holds d.mu.
func (d *docket) look(h *hearing, at chain.Height) {
	if !h.looks.IsZero() { // else it was never asked, and is due
		h.looks = time.Now()
	}
	if at > 0 {
		h.told, h.toldAt = time.Now(), at
	}
	select {
	case d.news <- struct{}{}:
	default: // somebody is told already
	}
}

// soon has the chain be asked at once about a panel whose jurors are said to show their votes.
func (d *docket) soon(panel crypto.Digest, at chain.Height) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.panels[panel]; h != nil && len(h.ballots) > 0 {
		d.look(h, at)
	}
}

// forget drops a panel, and reports whether there was one to drop: the one that was heard of longest
// ago of those whose jurors are all elsewhere, and else of those that the chain was asked about and
// has not shown. The caller holds d.mu.
func (d *docket) forget(here func(crypto.PublicKey) bool) bool {
	var elsewhere, unknown *hearing
	for _, h := range d.panels { // order-free: the least
		switch {
		case h.busy || h.fetching || h.judge != nil:
		case len(h.ballots) == 0 && !slices.ContainsFunc(h.jurors, here):
			if elsewhere == nil || h.since.Before(elsewhere.since) {
				elsewhere = h
			}
		case h.sitting == nil && !h.looks.IsZero():
			if unknown == nil || h.since.Before(unknown.since) {
				unknown = h
			}
		}
	}
	if elsewhere == nil {
		elsewhere = unknown
	}
	if elsewhere != nil {
		delete(d.panels, elsewhere.panel)
	}
	return elsewhere != nil
}

// due returns the panels to look at now, which are busy until rest: those with a juror who
// is here, or has voted here, and from time to time those that the chain knew: they end, and
// are forgotten, as are those of others that nobody asked about for as long as a panel lasts.
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
				if now.Sub(h.since) > d.lasts {
					delete(d.panels, h.panel)
				}
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
	if !time.Now().Before(h.looks) { // there is news since
		d.look(h, 0)
	}
}

// learn notes what the chain says, and reports whether there may be somebody to ask. What is
// over, or was never there, is forgotten. A node that is behind what was seen says nothing; nor
// does one that has not come to the block that is said to have drawn the panel.
func (d *docket) learn(h *hearing, sitting *Sitting, there bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sitting.Height < h.height {
		return false
	}
	h.height = sitting.Height
	if sitting.Height < h.toldAt && time.Since(h.told) < newsLasts { // what was said cannot be proven yet
		h.looks = time.Now().Add(lookAtPanels)
	}
	if !there || sitting.Decided {
		awaited := !there && h.sitting == nil && sitting.Height < h.drawn && time.Since(h.since) < d.lasts
		if !awaited && d.panels[h.panel] == h {
			delete(d.panels, h.panel)
		}
		return false
	}
	if sitting.Reveals && (h.sitting == nil || !h.sitting.Reveals) {
		clear(h.asked) // for something else
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

// recall takes the ballot of an agent for a panel that this server has not heard of, or not with
// that juror: it may have been away when the panel was drawn. The chain is asked once whether there
// is such a panel.
func (d *docket) recall(b job.Ballot, here func(crypto.PublicKey) bool) {
	d.drawn(b.Panel, 0, []crypto.PublicKey{b.Node}, here)
	d.ballot(b)
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
	commitment := o.Testimony.Commitment(o.Panel, o.Node, o.Salt)
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
			m = chain.RevealVote{Panel: o.Panel, Node: o.Node, Testimony: o.Testimony, Salt: o.Salt}
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
	d.turns[cluster] = &fetchTurn{busy: true, began: now}
	return true
}

// reserve reports whether there is room for the blobs of what a panel judges, of a cluster that may
// fill a part of it; if so, they are kept until the panel is over.
func (d *docket) reserve(h *hearing, cluster crypto.PublicKey, blobs []crypto.Digest, bytes uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, same := uint64(0), uint64(0)
	for _, other := range d.panels { // order-free: sums
		if other == h {
			continue
		}
		if all += other.bytes; other.cluster == cluster {
			same += other.bytes
		}
	}
	if all > 0 && bytes > d.room-min(d.room, all) || same > 0 && bytes > d.room/roomParts-min(d.room/roomParts, same) {
		return false
	}
	h.cluster, h.borrowed, h.bytes = cluster, blobs, bytes
	return true
}

// blobs adds what panels judge that are not over.
func (d *docket) blobs(wanted map[crypto.Digest]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.panels { // order-free: a set
		for _, id := range h.borrowed {
			wanted[id] = true
		}
	}
}

// check has what a panel judges fetched again if a blob of it was lost here.
func (d *docket) check(h *hearing, has func(crypto.Digest) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.judge != nil && slices.ContainsFunc(h.borrowed, func(id crypto.Digest) bool { return !has(id) }) {
		h.judge = nil
	}
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
	if end == fetchGot {
		h.judge, h.lacking = judge, false
		d.look(h, 0)
		return
	}
	h.borrowed, h.bytes = nil, 0
	if end != fetchPutOff {
		h.lacking = end == fetchLacking
		h.fetches = time.Now().Add(fetchAgain)
	}
}

// end gives a cluster's turn back. The next one comes after as long as this one took: whoever
// answers slowly has half of the time, and no more.
func (d *docket) end(cluster crypto.PublicKey, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.turns[cluster]; p != nil {
		p.busy, p.next = false, now.Add(max(fetchPace, now.Sub(p.began)))
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
