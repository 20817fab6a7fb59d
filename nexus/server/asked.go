package server

import (
	"context"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What the chain was asked, and for how long its answers are kept.

const (
	ownerTimeout = 5 * time.Second  // of one question
	ownerValid   = 10 * time.Minute // of its answer
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
	// the answer is of), or by this cluster's own claims, which are outstanding
	// here until they are confirmed, and then an answer from before does not
	// count (Account.Settled).
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

// feeCache is the cluster's fee as the chain last said.
type feeCache struct {
	mu    sync.Mutex
	bps   uint16
	known bool
	err   error // of the last question
	until time.Time
}

const (
	feeValid = time.Minute
	feeRetry = 2 * time.Second
)

// feeBps returns the cluster's fee; while the chain cannot be asked, the last
// known.
func (s *Server) feeBps(ctx context.Context) (uint16, error) {
	f := &s.fee
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().After(f.until) {
		ctx, cancel := context.WithTimeout(ctx, escrowTimeout)
		defer cancel()
		var bps uint16
		if bps, f.err = s.chain.FeeBps(ctx); f.err == nil {
			f.bps, f.known, f.until = bps, true, time.Now().Add(feeValid)
		} else {
			f.until = time.Now().Add(feeRetry)
		}
	}
	if f.known {
		return f.bps, nil
	}
	return 0, f.err
}

// providerOf asks the chain, and keeps its answer for a while.
func (s *Server) providerOf(ctx context.Context, node crypto.PublicKey) (Provider, error) {
	s.ownersMu.Lock()
	known, ok := s.owners[node]
	s.ownersMu.Unlock()
	if ok && time.Since(known.at) < ownerValid {
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
	provider, err := s.chain.Provider(ctx, node)
	if err != nil {
		return Provider{}, err
	}
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	if len(s.owners) >= maxOwners {
		clear(s.owners)
	}
	s.owners[node] = knownOwner{provider: provider, at: time.Now()}
	return provider, nil
}

type knownOwner struct {
	provider Provider
	at       time.Time
}
