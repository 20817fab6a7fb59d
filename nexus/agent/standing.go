package agent

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	lookEvery   = 10 * time.Second
	maxClusters = 64              // of those that the chain knows, and of others
	hearTimeout = 2 * time.Second // that an offer waits at most for what its cluster has to lose
	looksAtOnce = 4
)

// unbounded is the max cost of a draft that a quote asks with: no escrow covers as much, and
// the order that follows names its own.
var unbounded = chain.Nano(math.MaxUint64)

// Standing is what a cluster has to lose, as the chain proves it.
type Standing struct {
	Known      bool         // false: the chain was not asked yet, or did not answer
	Bond       chain.Amount // that no claim locks; zero: it was lost, or the cluster is not registered
	Broke      bool         // it broke its word, and what it lost is not divided yet
	Registered bool         // once, at least: that took a bond
}

// Doubt says why no work is done for an order of a cluster, whose bond must be so many times
// the order's max cost: what its word is worth if no escrow covers the order. Of a cluster
// that is not known nothing is said.
func (s *Standing) Doubt(order *chain.Order, cover uint64) string {
	cluster := order.Cluster.Short()
	switch {
	case !s.Known:
		return ""
	case s.Broke:
		return fmt.Sprintf("cluster %s broke its word, and what it lost is not divided yet", cluster)
	case s.Bond.IsZero():
		return fmt.Sprintf("cluster %s has no bond that is free", cluster)
	case cover == 0 || order.MaxCost == unbounded:
		return ""
	}
	if part, ok := s.Bond.ShareFloor(1, cover); !ok || part.Less(order.MaxCost) {
		return fmt.Sprintf("cluster %s has a free bond of %s, below %d times the order's max cost of %s", cluster, s.Bond, cover, order.MaxCost)
	}
	return ""
}

// standings is what the clusters have to lose that the node heard of. Those that the chain
// knows cost somebody a bond, and those that somebody made up take no place of theirs. Safe for
// concurrent use.
type standings struct {
	ask     func(context.Context, crypto.PublicKey) (Standing, error)
	heard   chan struct{} // holds a token when there is a new one
	looking chan struct{} // holds a token for each that is being asked for at once

	mu       sync.Mutex
	known    places // to the chain
	rumoured places // others
}

func newStandings(ask func(context.Context, crypto.PublicKey) (Standing, error)) *standings {
	return &standings{ask: ask, heard: make(chan struct{}, 1), looking: make(chan struct{}, looksAtOnce)}
}

// places holds the standings of the maxClusters clusters that were heard of last.
type places struct {
	of    map[crypto.PublicKey]Standing
	order []crypto.PublicKey // the one heard of last is last
}

// get returns a standing, and notes that its cluster was heard of.
func (p *places) get(cluster crypto.PublicKey) (Standing, bool) {
	s, ok := p.of[cluster]
	if ok {
		p.put(cluster, s)
	}
	return s, ok
}

func (p *places) put(cluster crypto.PublicKey, s Standing) {
	p.drop(cluster)
	if len(p.order) == maxClusters {
		p.drop(p.order[0])
	}
	if p.of == nil {
		p.of = map[crypto.PublicKey]Standing{}
	}
	p.of[cluster], p.order = s, append(p.order, cluster)
}

func (p *places) drop(cluster crypto.PublicKey) {
	if _, ok := p.of[cluster]; ok {
		delete(p.of, cluster)
		p.order = slices.DeleteFunc(p.order, func(c crypto.PublicKey) bool { return c == cluster })
	}
}

// get returns a cluster's standing, and whether it was heard of before.
func (s *standings) get(cluster crypto.PublicKey) (Standing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if standing, ok := s.known.get(cluster); ok {
		return standing, true
	}
	return s.rumoured.get(cluster)
}

// note remembers what the chain said of a cluster; if that was nothing, what it said before
// stands.
func (s *standings) note(cluster crypto.PublicKey, standing Standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.known.of[cluster]
	switch {
	case standing.Registered:
		s.rumoured.drop(cluster)
		s.known.put(cluster, standing)
	case !known:
		if _, heard := s.rumoured.of[cluster]; !heard || standing.Known {
			s.rumoured.put(cluster, standing)
		}
	}
}

// look asks for the standing of a cluster.
func (s *standings) look(ctx context.Context, cluster crypto.PublicKey) error {
	standing, err := s.ask(ctx, cluster)
	s.note(cluster, standing)
	return err
}

// lookAll asks for the standing of every cluster that is remembered.
func (s *standings) lookAll(ctx context.Context) error {
	s.mu.Lock()
	list := slices.Concat(s.known.order, s.rumoured.order)
	s.mu.Unlock()
	for _, cluster := range list {
		if err := s.look(ctx, cluster); err != nil {
			return err
		}
	}
	return nil
}

// unheard reports whether a cluster was not heard of before.
func (m *market) unheard(cluster crypto.PublicKey) bool {
	if m == nil {
		return false
	}
	_, heard := m.standings.get(cluster)
	return !heard
}

// hear asks the chain for the standing of a cluster that was not heard of before, and waits a
// little for the answer: not longer than half the time that bids are taken, if that is known.
func (m *market) hear(ctx context.Context, cluster crypto.PublicKey, closeMs uint64) {
	wait := hearTimeout
	if closeMs > 0 {
		wait = min(wait, time.Duration(min(closeMs, uint64(hearTimeout.Milliseconds())*2))*time.Millisecond/2)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case m.standings.looking <- struct{}{}:
		defer func() { <-m.standings.looking }()
	case <-ctx.Done():
	}
	if m.unheard(cluster) && m.standings.look(ctx, cluster) != nil {
		m.standings.wake() // it is asked again without haste
	}
}

func (s *standings) wake() {
	select {
	case s.heard <- struct{}{}:
	default:
	}
}

// doubt says why the node does no work for an order's home cluster. It asks nobody: one that
// it did not hear of yet is looked up from now on.
func (m *market) doubt(order *chain.Order, cover uint64) string {
	if m == nil {
		return ""
	}
	standing, heard := m.standings.get(order.Cluster)
	if !heard {
		m.standings.note(order.Cluster, standing)
		m.standings.wake()
	}
	return standing.Doubt(order, cover)
}

// followClusters asks the chain for the standing of the clusters that the node heard of, and for what is free of its own bond.
func (a *Agent) followClusters(ctx context.Context) {
	if a.market == nil {
		return
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := a.lookAtBond(ctx); err != nil && ctx.Err() == nil {
			a.log.Debug("agent: asking the chain for the node's bond", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.market.standings.heard:
		}
		if err := a.market.standings.lookAll(ctx); err != nil && ctx.Err() == nil {
			a.log.Debug("agent: asking the chain for a cluster's bond", "error", err)
		}
	}
}

func (m *market) standingOf(ctx context.Context, cluster crypto.PublicKey) (Standing, error) {
	value, err := m.client.VerifiedState(ctx, settlement.ClusterKey(cluster))
	if err != nil {
		return Standing{}, err
	}
	out := Standing{Known: true}
	if raw, there := value.Get(); there {
		record, err := settlement.DecodeCluster(raw)
		if err != nil {
			return Standing{}, err
		}
		out.Registered = true
		out.Bond = record.Free() // what claims lock is paid late, or to others
	}
	if value, err = m.client.VerifiedState(ctx, settlement.BreachKey(cluster)); err != nil {
		return Standing{}, err
	}
	_, out.Broke = value.Get()
	return out, nil
}
