package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// What the chain was asked, and for how long its answers are kept.

const (
	ownerTimeout = 5 * time.Second  // of one question
	ownerValid   = 10 * time.Minute // of its answer
	leasedValid  = time.Minute      // of what it says that leases keep of a node's hardware
	maxOwners    = 10_000           // answers kept
	maxAsking    = 8                // questions at a time
)

// escrowCache is what consumers were last known to have in escrow.
type escrowCache struct {
	mu     sync.Mutex
	known  map[chain.Address]knownEscrow
	asking map[chain.Address]*escrowQuestion
}

type knownEscrow struct {
	escrow Escrow
	at     time.Time
}

// escrowQuestion is a question under way, which everybody who would ask the same
// waits for.
type escrowQuestion struct {
	done   chan struct{}
	escrow Escrow
	err    error
}

const (
	maxEscrows = 10_000
	// escrowFresh is for how long an answer of the chain is used again. It may
	// be: the balance can have shrunk since by a withdrawal alone, which stays
	// liable (scheduler.Config.Liable is held against the time of the block that
	// the answer is of), or by claims and deals for this cluster's orders, which are
	// outstanding here until they are confirmed, or can be posted no more, and then
	// an answer from before does not count (State.EscrowFrom).
	escrowFresh = 10 * time.Second
	// escrowValid is for how long it stands in while the chain cannot be asked.
	escrowValid   = time.Hour
	escrowTimeout = 5 * time.Second
)

// escrowOf returns what a consumer has in escrow: as the chain said a short while
// ago, if that serves, or says now, or, while it cannot be asked, last said.
func (s *Server) escrowOf(ctx context.Context, consumer chain.Address, serves func(Escrow) bool) (Escrow, error) {
	c := &s.escrows
	c.mu.Lock()
	known, ok := c.known[consumer]
	c.mu.Unlock()
	if ok && time.Since(known.at) < escrowFresh && serves(known.escrow) {
		return known.escrow, nil
	}
	c.mu.Lock()
	q := c.asking[consumer]
	if q == nil {
		q = &escrowQuestion{done: make(chan struct{})}
		if c.asking == nil {
			c.asking = map[chain.Address]*escrowQuestion{}
		}
		c.asking[consumer] = q
		s.tasks.Go(func() { s.askEscrow(consumer, q) })
	}
	c.mu.Unlock()
	select {
	case <-q.done:
		return q.escrow, q.err
	case <-ctx.Done():
		return Escrow{}, context.Cause(ctx)
	}
}

// askEscrow answers a question.
func (s *Server) askEscrow(consumer chain.Address, q *escrowQuestion) {
	ctx, cancel := context.WithTimeout(s.ctx, escrowTimeout)
	defer cancel()
	q.escrow, q.err = s.chain.Escrow(ctx, consumer)
	c := &s.escrows
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(q.done)
	delete(c.asking, consumer)
	if q.err != nil {
		if known, ok := c.known[consumer]; ok && time.Since(known.at) < escrowValid {
			s.log.Warn("the chain cannot be asked, the last known escrow stands", "consumer", consumer, "error", q.err)
			q.escrow, q.err = known.escrow, nil
		}
		return
	}
	if c.known == nil || len(c.known) >= maxEscrows {
		c.known = map[chain.Address]knownEscrow{}
	}
	c.known[consumer] = knownEscrow{escrow: q.escrow, at: time.Now()}
}

// ownCache is this cluster's record as the chain last said.
type ownCache struct {
	mu     sync.Mutex
	record Own
	known  bool
	err    error     // of the last question
	asked  time.Time // when that was
}

const (
	feeValid  = time.Minute
	bondValid = 2 * time.Second // and until the chain is asked again that could not be
)

// own returns the cluster's record as it was no longer than valid ago; while the chain cannot
// be asked, the last known.
func (s *Server) own(ctx context.Context, valid time.Duration) (Own, error) {
	o := &s.ownRecord
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		valid = bondValid
	}
	if time.Since(o.asked) >= valid {
		ctx, cancel := context.WithTimeout(ctx, escrowTimeout)
		defer cancel()
		var record Own
		if record, o.err = s.chain.Own(ctx); o.err == nil {
			o.record, o.known = record, true
		}
		o.asked = time.Now()
	}
	if o.known {
		return o.record, nil
	}
	return Own{}, o.err
}

// providerOf asks the chain, and keeps its answer for a while, as long as it serves.
func (s *Server) providerOf(ctx context.Context, node crypto.PublicKey, serves func(*Provider) bool) (Provider, error) {
	return s.providerWithin(ctx, node, ownerValid, serves)
}

// providerWithin is providerOf with an answer that is no older than valid.
func (s *Server) providerWithin(ctx context.Context, node crypto.PublicKey, valid time.Duration, serves func(*Provider) bool) (Provider, error) {
	s.ownersMu.Lock()
	known, ok := s.owners[node]
	least, measured := s.measured[node]
	s.ownersMu.Unlock()
	if ok && !measured && time.Since(known.at) < valid && serves(&known.provider) {
		return known.provider, nil
	}
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return Provider{}, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	var open scheduler.Capacity
	s.replica.view(func(state *scheduler.State) { open = state.OpenHere(node) })
	provider, err := s.chain.Provider(ctx, node)
	if err != nil {
		return Provider{}, err
	}
	if provider.Height < least {
		return Provider{}, fmt.Errorf("server: a node that knows block %d was asked about one whose hardware was measured by block %d", provider.Height, least)
	}
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	if s.measured[node] <= provider.Height {
		delete(s.measured, node)
	}
	if len(s.owners) >= maxOwners {
		clear(s.owners)
	}
	s.owners[node] = knownOwner{provider: provider, at: time.Now(), open: open}
	return provider, nil
}

// noteMeasured notes that a node's hardware was measured by a block: what the chain has of it is read anew.
func (s *Server) noteMeasured(node crypto.PublicKey, by chain.Height) {
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	if len(s.measured) >= maxOwners {
		clear(s.measured) // who comes again is read then
	}
	s.measured[node] = max(s.measured[node], by)
}

// noteLeased has what leases keep of a node be read anew, on a chain that has hardware measured: if leases of this cluster on it
// have begun or ended since it was read, or when that was a while ago. Others' nobody tells of.
func (s *Server) noteLeased(node crypto.PublicKey) {
	var open scheduler.Capacity
	s.replica.view(func(state *scheduler.State) { open = state.OpenHere(node) })
	s.ownersMu.Lock()
	known, ok := s.owners[node]
	s.ownersMu.Unlock()
	if ok && known.provider.Record != nil && (known.open != open || time.Since(known.at) >= leasedValid) {
		s.noteMeasured(node, 0)
	}
}

func (s *Server) wasMeasured(node crypto.PublicKey) bool {
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	_, measured := s.measured[node]
	return measured
}

// readRecord tells the state what the chain has of a node whose hardware was measured.
func (r *reign) readRecord(s *session) {
	hello, version := s.said()
	r.mu.Lock()
	known := r.declared[s] == version
	r.mu.Unlock()
	if !known {
		return // it will be declared, with that
	}
	provider, err := r.providerOf(r.ctx, s.node, offer{&hello}.within)
	if err != nil {
		if r.ctx.Err() == nil {
			s.log.Info("cannot ask the chain for a node's hardware", "error", err)
		}
		return // asked again by the next survey
	}
	load, same := scheduler.NodeLoad{Node: s.node, Accepting: hello.Accepting, Record: r.recordOf(s.node, &provider)}, false
	r.replica.view(func(state *scheduler.State) {
		n, there := state.Node(s.node)
		same = there && load.Known(n)
	})
	if same {
		return
	}
	if err := r.propose(load); err != nil {
		r.noteMeasured(s.node, provider.Height)
		r.report("what the chain has of a node", err)
	}
}

// recordOf is what the chain has of a node's hardware for the work of this cluster: without what leases of others keep of it. No challenge
// measures that, and to lease one's own node by a cluster of one's own costs next to nothing: what is hidden so is not there for others. An award
// of this cluster that nobody has opened is no lease yet, and hides none.
func (r *reign) recordOf(node crypto.PublicKey, p *Provider) *scheduler.Capacity {
	if p.Record == nil {
		return nil
	}
	var own scheduler.Capacity
	r.replica.view(func(s *scheduler.State) { own = s.OpenHere(node) })
	left := func(has, leased, here uint64) uint64 { return has - min(has, leased-min(leased, here)) }
	return &scheduler.Capacity{
		Millicores: left(p.Record.Millicores, p.Leased.Millicores, own.Millicores), MemoryMiB: left(p.Record.MemoryMiB, p.Leased.MemoryMiB, own.MemoryMiB),
	}
}

// offer is what a node says it has.
type offer struct{ *job.Hello }

// within reports whether the chain has as much of a node as it offers, or measures none: what it has may have grown since
// it was asked.
func (o offer) within(p *Provider) bool {
	return p.Record == nil || o.Total.Millicores <= p.Record.Millicores && o.Total.MemoryMiB <= p.Record.MemoryMiB
}

type knownOwner struct {
	provider Provider
	at       time.Time
	open     scheduler.Capacity // what leases of this cluster that were seen to be open held of the node then
}
