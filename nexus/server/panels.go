package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Nodes that the chain draws for a panel may be connected to any cluster. Every server
// watches for panels in which its agents sit, fetches what they need from the cluster whose
// order is judged, has them run it, and lists their votes for relays. It keeps all of this in
// memory: a server that starts asks the chain again, and an agent repeats its vote.

// Sitting is a panel as a finalized state has it.
type Sitting struct {
	Order   crypto.Digest // that it judges
	Runs    bool          // under replicate; else a claim under optimistic
	Reveals bool          // its jurors show their votes
	Decided bool
	Seats   []scheduler.Seat
}

// Matter is what a finalized state has of an order that a panel judges.
type Matter struct {
	Spec      crypto.Digest
	Endpoints []string // of the order's home cluster
}

const (
	lookAtPanels   = 500 * time.Millisecond
	panelLookEvery = time.Second
	maxPanels      = 1_024 // that are looked after at a time
	fetchAgain     = 5 * time.Second
	longestFetch   = 5 * time.Minute
)

// docket is what a server knows of the panels in which its agents sit. Safe for concurrent
// use.
type docket struct {
	mu     sync.Mutex
	panels map[crypto.Digest]*hearing
}

// hearing is one panel.
type hearing struct {
	panel    crypto.Digest
	jurors   []crypto.PublicKey // who was said to be drawn
	since    time.Time          // the last of them was
	looks    time.Time          // when the chain is asked again
	busy     bool               // it is being asked, or what is judged is fetched
	sitting  *Sitting           // as the chain has it; nil: not known yet
	judge    *job.Judge
	fetches  time.Time // when fetching is tried again
	asked    map[crypto.PublicKey]time.Time
	ballots  map[crypto.PublicKey]job.Ballot
	messages [][]byte // to be posted now
}

func newDocket() *docket { return &docket{panels: map[crypto.Digest]*hearing{}} }

// drawn notes jurors of a panel. Whether there is one is for the chain to prove.
func (d *docket) drawn(panel crypto.Digest, jurors []crypto.PublicKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[panel]
	if h == nil {
		if len(d.panels) >= maxPanels && !d.forget() {
			return
		}
		h = &hearing{panel: panel, since: time.Now(), asked: map[crypto.PublicKey]time.Time{}, ballots: map[crypto.PublicKey]job.Ballot{}}
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
		if !h.busy && h.sitting == nil && (oldest == nil || h.since.Before(oldest.since)) {
			oldest = h
		}
	}
	if oldest != nil {
		delete(d.panels, oldest.panel)
	}
	return oldest != nil
}

// wants reports whether a node's vote on a panel may be taken.
func (d *docket) wants(panel crypto.Digest, node crypto.PublicKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.panels[panel]
	return h != nil && slices.Contains(h.jurors, node)
}

// ballot takes the vote of an agent that sits on a panel. Its signature is known to be its
// node's.
func (d *docket) ballot(b job.Ballot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.panels[b.Panel]; h != nil && slices.Contains(h.jurors, b.Node) {
		h.ballots[b.Node] = b
		h.write()
	}
}

// write makes the messages that are due. The caller holds d.mu.
func (h *hearing) write() {
	h.messages = nil
	if h.sitting == nil {
		return
	}
	for _, seat := range h.sitting.Seats {
		b, ok := h.ballots[seat.Node]
		var m chain.Msg
		switch {
		case !ok:
			continue
		case !seat.Committed && !h.sitting.Reveals:
			m = chain.CommitVote{Panel: b.Panel, Node: b.Node, Commitment: b.Vote.Commitment(b.Panel, b.Node, b.Salt), Signature: b.Signature}
		case seat.Committed && !seat.Shown && h.sitting.Reveals:
			m = chain.RevealVote{Panel: b.Panel, Node: b.Node, Vote: b.Vote, Salt: b.Salt}
		default:
			continue
		}
		h.messages = append(h.messages, codec.Marshal(chain.Msgs{m}))
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

// watchPanels follows the chain until ctx ends.
func (s *Server) watchPanels(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for failed := 0; ctx.Err() == nil; failed++ {
			err := s.chain.Panels(ctx, s.docket.drawn)
			if ctx.Err() == nil {
				s.log.Info("the chain's panels cannot be followed", "error", err)
				pause(ctx, min(time.Second<<min(failed, 6), time.Minute))
			}
		}
	})
	ticker := time.NewTicker(lookAtPanels)
	defer ticker.Stop()
	slots := make(chan struct{}, maxLooks)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, h := range s.docket.due(time.Now(), s.sitsHere) {
			wg.Go(func() {
				select {
				case slots <- struct{}{}:
					s.hear(ctx, h)
					<-slots
				case <-ctx.Done():
				}
				s.docket.rest(h)
			})
		}
	}
}

func (s *Server) sitsHere(node crypto.PublicKey) bool { return s.sessions.get(node) != nil }

// due returns the panels to look at now, which are busy until rest: those with a juror who
// is here, or has voted here.
func (d *docket) due(now time.Time, here func(crypto.PublicKey) bool) (list []*hearing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.panels { // order-free: each for itself
		if !h.busy && !now.Before(h.looks) && (len(h.ballots) > 0 || slices.ContainsFunc(h.jurors, here)) {
			h.busy, h.looks = true, now.Add(panelLookEvery)
			list = append(list, h)
		}
	}
	return list
}

func (d *docket) rest(h *hearing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.busy = false
}

// hear asks the chain about a panel, and its jurors for what is missing of them.
func (s *Server) hear(ctx context.Context, h *hearing) {
	looking, cancel := context.WithTimeout(ctx, lookTimeout)
	sitting, there, err := s.chain.Panel(looking, h.panel)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			s.log.Info("the chain cannot be asked about a panel", "panel", h.panel.Short(), "error", err)
		}
		return
	}
	if s.ownRuns(&sitting) {
		sitting.Decided = true // for this docket
	}
	if s.docket.learn(h, &sitting, there) {
		s.summon(ctx, h, &sitting)
	}
}

// ownRuns reports whether a panel judges runs of this cluster's, of which watchRuns tells
// its jurors.
func (s *Server) ownRuns(sitting *Sitting) (own bool) {
	if sitting.Runs {
		s.replica.view(func(state *scheduler.State) { _, own = state.Job(sitting.Order) })
	}
	return own
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
	return !sitting.Reveals
}

// summon has the jurors who are here, and have not voted, run what is judged.
func (s *Server) summon(ctx context.Context, h *hearing, sitting *Sitting) {
	var missing []*session
	s.docket.mu.Lock()
	now := time.Now()
	for _, seat := range sitting.Seats {
		agent := s.sessions.get(seat.Node)
		_, voted := h.ballots[seat.Node]
		if agent != nil && !voted && !seat.Committed && now.Sub(h.asked[seat.Node]) >= askAgain {
			missing = append(missing, agent)
		}
	}
	judge, try := h.judge, !now.Before(h.fetches)
	s.docket.mu.Unlock()
	if len(missing) == 0 || judge == nil && !try {
		return
	}
	if judge == nil {
		if judge = s.prepare(ctx, h, sitting); judge == nil {
			return
		}
	}
	s.docket.mu.Lock()
	h.judge = judge
	for _, agent := range missing {
		h.asked[agent.node] = now
	}
	s.docket.mu.Unlock()
	for _, agent := range missing {
		agent.send(*judge)
	}
}

// prepare gets what is judged from its cluster; nil: not yet. When half of the time in which
// jurors commit has passed, it counts as missing.
func (s *Server) prepare(ctx context.Context, h *hearing, sitting *Sitting) *job.Judge {
	half := time.Duration(s.id.genesis.Params.CommitMs) * time.Millisecond / 2
	fetching, cancel := context.WithTimeout(ctx, min(half, longestFetch))
	defer cancel()
	matter, err := s.chain.Matter(fetching, sitting)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Info("the chain cannot be asked what a panel judges", "panel", h.panel.Short(), "error", err)
		}
		return nil
	}
	as, err := s.material(fetching, sitting.Order, &matter)
	switch {
	case err == nil:
		judge := &job.Judge{Panel: h.panel, Order: sitting.Order, Assignment: as}
		if err = judge.Check(); err != nil { // agents would leave whoever sends it
			break
		}
		s.log.Info("agents of this server are drawn to judge an order", "order", sitting.Order.Short(), "panel", h.panel.Short())
		return judge
	case ctx.Err() != nil:
		return nil
	}
	s.log.Warn("what a panel judges cannot be had from its cluster", "order", sitting.Order.Short(), "panel", h.panel.Short(), "error", err)
	if time.Since(h.since) >= half {
		return &job.Judge{Panel: h.panel, Order: sitting.Order}
	}
	s.docket.mu.Lock()
	h.fetches = time.Now().Add(fetchAgain)
	s.docket.mu.Unlock()
	return nil
}

var errOther = errors.New("the cluster shows something else than what the chain names")

// material gets an order and what it needs from its cluster, and checks it against what the
// chain says.
func (s *Server) material(ctx context.Context, order crypto.Digest, matter *Matter) (*job.Assignment, error) {
	if len(matter.Endpoints) == 0 {
		return nil, errors.New("the order's cluster names no endpoint")
	}
	from, err := sdk.New(sdk.Config{Nexus: matter.Endpoints, Genesis: s.id.genesis, Timeout: lookTimeout, Attempts: 2 * len(matter.Endpoints)})
	if err != nil {
		return nil, err
	}
	j, err := from.Job(ctx, order)
	if err != nil {
		return nil, err
	}
	spec, err := api.SpecFromJSON(j.Spec)
	if err != nil {
		return nil, err
	}
	o, err := api.OrderFromJSON(j.Order)
	if err != nil {
		return nil, err
	}
	if o.ID() != order || o.Spec != matter.Spec || spec.Digest() != matter.Spec {
		return nil, errOther
	}
	as := &job.Assignment{Order: o, OrderSig: j.OrderSig, Spec: spec}
	if of := spec.Scheduling.InputOf; !of.IsZero() {
		before, err := from.Job(ctx, of)
		if err != nil {
			return nil, err
		}
		as.Input = before.Output
	}
	for _, id := range as.Work().Blobs() {
		if err := s.borrow(ctx, id, int64(spec.InputBytes), from); err != nil {
			return nil, fmt.Errorf("blob %s: %w", id.Short(), err)
		}
	}
	return as, nil
}

// borrow has the store get a blob of another cluster.
func (s *Server) borrow(ctx context.Context, id crypto.Digest, limit int64, from *sdk.Client) error {
	if s.blobs.Has(id) {
		return nil
	}
	limit = min(limit, s.maxBlob())
	content, err := from.GetBlob(ctx, id, limit)
	if err != nil {
		return err
	}
	_, err = s.blobs.PutVerified(ctx, content, id, limit)
	return errors.Join(err, content.Close())
}
