package server

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Where hardware is challenged the leader has the chain know which nodes are at home at its cluster: of an agent
// that is not, by the chain, it asks for its word, adds the cluster's, and lists both for relays.

const (
	homeTick   = time.Second
	homeAgain  = 5 * time.Second // until the chain has what is listed
	homeStands = askEndpoints    // once it has
	homeListed = time.Minute     // a relay looks each second; what the chain refused is said anew then
)

// homes is what the leader knows of its agents' homes.
type homes struct {
	mu    sync.Mutex
	known map[crypto.PublicKey]*homing
}

// homing is one agent's way to being at home here. What it knows is under homes.mu.
type homing struct {
	next  time.Time // when the chain is asked again
	busy  bool
	asked bool                // the agent, whose word is awaited
	least chain.TimeMs        // from when that has to be: the chain takes no earlier one
	said  *chain.AnnounceHome // to be posted; nil: nothing is
	since time.Time           // when it was said
}

// watchHomes does so until ctx ends.
func (s *Server) watchHomes(ctx context.Context) {
	if s.id.genesis.Params.HardwareEveryMs == 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ticker := time.NewTicker(homeTick)
	defer ticker.Stop()
	looks := make(chan struct{}, maxLooks)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if s.current.Load() == nil {
			s.homes.forget(func(crypto.PublicKey) bool { return false })
			continue
		}
		s.homes.forget(s.sitsHere)
		for _, from := range s.sessions.all() {
			h := s.homes.of(from.node)
			if !s.homes.due(h, time.Now()) {
				continue
			}
			select {
			case looks <- struct{}{}:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				defer func() { <-looks }()
				s.lookHome(ctx, from, h)
			})
		}
	}
}

// of returns what is known of an agent, of which nothing may have been.
func (d *homes) of(node crypto.PublicKey) *homing {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.known[node]
	if h == nil {
		h = &homing{}
		d.known[node] = h
	}
	return h
}

// forget drops those who are not here.
func (d *homes) forget(here func(crypto.PublicKey) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for node := range d.known { // order-free: each for itself
		if !here(node) {
			delete(d.known, node)
		}
	}
}

func (d *homes) due(h *homing, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.busy || now.Before(h.next) {
		return false
	}
	h.busy, h.next = true, now.Add(homeAgain)
	return true
}

// lookHome asks the chain where an agent is at home, and the agent, if it is not here and the chain would take that it is.
func (s *Server) lookHome(ctx context.Context, from *session, h *homing) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	by := s.homeByChain(ctx, from)
	s.homes.mu.Lock()
	h.busy = false
	if by.stands {
		h.next = time.Now().Add(homeStands)
	}
	if !by.moves || time.Since(h.since) >= homeListed {
		h.said = nil // the chain has it, would refuse it now, or it is too old
	}
	ask := by.moves && h.said == nil
	h.asked, h.least = ask, by.least
	s.homes.mu.Unlock()
	if ask {
		from.send(job.AskHome{Cluster: s.id.cluster.Public()})
	}
}

// homed is what the chain has of an agent's home.
type homed struct {
	stands bool         // it is at home here
	moves  bool         // the chain would take that it is
	least  chain.TimeMs // if that was said no earlier
}

// homeByChain asks the chain where an agent is at home.
func (s *Server) homeByChain(ctx context.Context, from *session) (by homed) {
	home, err := s.chain.Home(ctx, from.node)
	if err == nil && home.Cluster == s.id.cluster.Public() {
		return homed{stands: true}
	}
	if err == nil {
		_, err = s.providerOf(ctx, from.node, func(*Provider) bool { return true })
	}
	var seen Challenge
	if err == nil && !home.Cluster.IsZero() {
		by.least = home.At + chain.HomeMs
		seen, err = s.chain.Hardware(ctx, from.node)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Debug("where an agent is at home by the chain is not known", "node", from.node.Short(), "error", err)
	}
	by.moves = err == nil && !seen.Open && chain.TimeMs(time.Now().UnixMilli()) >= by.least
	return by
}

// hearAtHome takes an agent's word that it is at home here, for which it was asked.
func (s *Server) hearAtHome(from *session, m *job.AtHome) {
	s.homes.mu.Lock()
	h, least := s.homes.known[from.node], chain.TimeMs(0)
	wanted := h != nil && h.asked
	if wanted {
		h.asked, least = false, h.least
	}
	s.homes.mu.Unlock()
	now := chain.TimeMs(time.Now().UnixMilli())
	off := max(now, m.Home.At) - min(now, m.Home.At)
	switch {
	case !wanted:
		return
	case m.Home.ChainID != s.id.genesis.ChainID || m.Home.Cluster != s.id.cluster.Public():
		from.log.Warn("an agent says that it is at home elsewhere", "cluster", m.Home.Cluster.Short())
		return
	case off >= chain.HomeMs/2 || m.Home.At < least:
		from.log.Warn("an agent's clock is wrong: what it says of its home is not posted", "off_ms", uint64(off))
		return
	}
	payload := chain.HomePayload(m.Home)
	if !from.node.Verify(crypto.DomainHome, payload, m.Signature) {
		from.log.Warn("an agent sent word of its home that it did not sign")
		return
	}
	said := &chain.AnnounceHome{Home: m.Home, NodeSignature: m.Signature, ClusterSignature: s.id.cluster.Sign(crypto.DomainHome, payload)}
	s.homes.mu.Lock()
	defer s.homes.mu.Unlock()
	h.said, h.since = said, time.Now()
}

// list lists what is to be posted.
func (d *homes) list(now time.Time) (out [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.known { // order-free: sorted below
		if h.said != nil && now.Sub(h.since) < homeListed {
			out = append(out, codec.Marshal(chain.Msgs{*h.said}))
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}
