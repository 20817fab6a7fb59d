package server

import (
	"context"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Nodes that the chain draws for a panel may be connected to any cluster. Every server
// watches for panels in which its agents sit, fetches what they need from the cluster whose
// order is judged, has them run it, and lists their votes for relays. It keeps all of this in
// memory: a server that starts asks the chain again, and an agent repeats its vote, also unasked
// when it begins a session.

// Sitting is a panel as a finalized state has it.
type Sitting struct {
	Height  chain.Height  // of the state
	Order   crypto.Digest // that it judges
	Runs    bool          // under replicate; else a claim under optimistic
	Reveals bool          // its jurors show their votes
	Decided bool
	Seats   []Seat
}

// Seat is a juror of a panel.
type Seat struct {
	Node       crypto.PublicKey
	Commitment crypto.Digest // zero: none yet
	Shown      bool
}

// Matter is what a finalized state has of an order that a panel judges.
type Matter struct {
	Spec      crypto.Digest
	Cluster   crypto.PublicKey // the order's home
	Endpoints []string         // of it
}

const (
	lookAtPanels       = 100 * time.Millisecond
	newsLasts          = 5 * time.Second // for which a state is awaited that has what an event said
	panelLookEvery     = time.Second
	idlePanelLookEvery = 30 * time.Second // at panels whose jurors are all elsewhere
	maxPanels          = 8_192            // that are looked after at a time
	maxRecalls         = 64               // ballots on panels that are not known, of one session
	maxFetches         = 64               // orders that are fetched at a time, of different clusters
	roomParts          = 4                // of the room for what is fetched, of which a cluster has one
	fetchPace          = 250 * time.Millisecond
	fetchAgain         = 5 * time.Second
	longestFetch       = 5 * time.Minute
)

// watchPanels follows the chain until ctx ends.
func (s *Server) watchPanels(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for failed := 0; ctx.Err() == nil; failed++ {
			err := s.chain.Panels(ctx, PanelNews{Drawn: s.drawn, Revealing: s.docket.soon, Challenged: s.challenged, Cluster: s.egress.note, Peers: s.peersDrawn})
			if ctx.Err() == nil {
				s.log.Info("the chain's panels cannot be followed", "error", err)
				pause(ctx, min(time.Second<<min(failed, 6), time.Minute))
			}
		}
	})
	ticker := time.NewTicker(lookAtPanels)
	defer ticker.Stop()
	looks, fetches := make(chan struct{}, maxLooks), make(chan struct{}, maxFetches)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.docket.news:
		}
		for _, h := range s.docket.due(time.Now(), s.sitsHere) {
			wg.Go(func() {
				defer s.docket.rest(h)
				select {
				case looks <- struct{}{}:
				case <-ctx.Done():
					return
				}
				sitting := s.hear(ctx, h)
				<-looks
				if sitting != nil && s.summon(h) && s.docket.claimFetch(h, time.Now()) {
					wg.Go(func() { s.fetch(ctx, h, sitting, fetches) })
				}
			})
		}
	}
}

func (s *Server) drawn(panel crypto.Digest, at chain.Height, jurors []crypto.PublicKey) {
	s.docket.drawn(panel, at, jurors, s.sitsHere)
}

func (s *Server) sitsHere(node crypto.PublicKey) bool { return s.sessions.get(node) != nil }

// hear asks the chain about a panel; nil: there is nothing to do for it.
func (s *Server) hear(ctx context.Context, h *hearing) *Sitting {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	sitting, there, err := s.chain.Panel(ctx, h.panel)
	if err != nil {
		s.log.Info("the chain cannot be asked about a panel", "panel", h.panel.Short(), "error", err)
		return nil
	}
	if !s.docket.learn(h, &sitting, there) {
		return nil
	}
	return &sitting
}

// summon asks the jurors who are here for what is missing of them, and reports whether there
// are any.
func (s *Server) summon(h *hearing) bool {
	s.docket.check(h, s.blobs.Has)
	nodes, m := s.docket.toAsk(h, time.Now(), s.sitsHere)
	if m == nil {
		return len(nodes) > 0
	}
	for _, node := range nodes {
		if agent := s.sessions.get(node); agent != nil {
			agent.send(*m)
		}
	}
	return len(nodes) > 0
}

// hearBallot takes a sealed vote for the docket, whoever leads.
func (s *Server) hearBallot(from *session, b *job.Ballot) {
	known := s.docket.wants(b.Panel, b.Node)
	_, judges := settlement.LinkOf(b.Panel, b.Order)
	if b.Node != from.node || !known && (!judges || !from.mayRecall()) {
		return
	}
	switch {
	case !from.node.Verify(crypto.DomainVote, chain.VotePayload(s.id.genesis.ChainID, b.Panel, b.Commitment), b.Signature):
	case known:
		s.docket.ballot(*b)
	default:
		s.docket.recall(*b, s.sitsHere)
	}
}

// hearOpening takes a vote for the docket: what the chain has says whether it is the node's.
func (s *Server) hearOpening(from *session, o *job.Opening) {
	if o.Node == from.node {
		s.docket.opening(*o)
	}
}
