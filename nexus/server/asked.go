package server

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
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

// ownCache is this cluster's record as the chain last said.
type ownCache struct {
	mu     sync.Mutex
	record settlement.Cluster
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
func (s *Server) own(ctx context.Context, valid time.Duration) (settlement.Cluster, error) {
	o := &s.ownRecord
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		valid = bondValid
	}
	if time.Since(o.asked) >= valid {
		ctx, cancel := context.WithTimeout(ctx, escrowTimeout)
		defer cancel()
		var record settlement.Cluster
		if record, o.err = s.chain.Own(ctx); o.err == nil {
			o.record, o.known = record, true
		}
		o.asked = time.Now()
	}
	if o.known {
		return o.record, nil
	}
	return settlement.Cluster{}, o.err
}

// pledges is what orders that are being admitted here will lock of the cluster's bond, together and each consumer's.
type pledges struct {
	mu  sync.Mutex
	sum chain.Amount
	of  map[chain.Address]chain.Amount
}

// sliceOf is what an order locks of the cluster's bond when it begins.
func (s *Server) sliceOf(p chain.Policy, maxCost chain.Amount) chain.Amount {
	return settlement.ClusterSlice(p, maxCost, &s.id.genesis.Params)
}

// lacksBond says why the cluster could not begin an order that locks a slice, beside those that it
// accepted and that have not begun, or are being admitted here; empty: it could, as far as is known.
func (s *Server) lacksBond(ctx context.Context, a ask) string {
	if a.slice.IsZero() {
		return ""
	}
	why, pledged := s.pledge(ctx, chain.Address{}, []ask{a})
	s.unpledge(chain.Address{}, pledged)
	return why[0]
}

// ask is what an order asks of the cluster's bond: what it locks, and what it would if it asked for no more than
// its worth makes it.
type ask struct{ slice, least chain.Amount }

func (s *Server) askOf(p chain.Policy, maxCost chain.Amount) ask {
	return ask{s.sliceOf(p, maxCost), settlement.LeastClusterSlice(p, maxCost, &s.id.genesis.Params)}
}

// pledge says of orders of a consumer, with what each locks, why the cluster could not begin them, each
// beside those before it, as lacksBond does; and what it pledges for the others, which the caller gives
// back. Of what is free one consumer's orders that have not begun, but for the first, get no more than
// half: orders that nobody bids for cost nothing. Nor does the first get more, if its consumer has it lock more than
// its worth does.
func (s *Server) pledge(ctx context.Context, consumer chain.Address, asks []ask) (why []string, pledged chain.Amount) {
	free := chain.Nano(math.MaxUint64)
	if record, err := s.own(ctx, bondValid); err == nil {
		free = record.Free()
	} else {
		s.log.Info("the chain cannot be asked for the cluster's bond", "error", err)
	}
	s.pledged.mu.Lock()
	defer s.pledged.mu.Unlock()
	promised, theirs, fits := s.pledged.sum, s.pledged.of[consumer], true
	s.replica.view(func(state *scheduler.State) {
		state.Unbegun(func(j *scheduler.Job) {
			slice := s.sliceOf(j.Order.Policy.Policy, j.Order.MaxCost)
			sum, ok := promised.Add(slice)
			if promised, fits = sum, fits && ok; fits && j.Consumer() == consumer {
				theirs, _ = theirs.Add(slice) // a part of the sum
			}
		})
	})
	half, _ := free.ShareFloor(1, 2) // below it
	why = make([]string, len(asks))
	for i, a := range asks {
		slice := a.slice
		left, covered := free.Sub(promised)
		if !fits || !covered || left.Less(slice) {
			why[i] = fmt.Sprintf("cluster %s has %s free of its bond, of which %s is for orders that it accepted; the job locks %s",
				s.id.cluster.Public().Short(), free, promised, slice)
			continue
		}
		mine, _ := theirs.Add(slice) // within what is free, as is what follows
		if half.Less(mine) && (!theirs.IsZero() || a.least.Less(slice)) {
			why[i] = fmt.Sprintf("cluster %s has %s free of its bond, half of it for one consumer's orders that have not begun, of which %s is taken; the job locks %s",
				s.id.cluster.Public().Short(), free, theirs, slice)
			continue
		}
		promised, _ = promised.Add(slice)
		pledged, _ = pledged.Add(slice)
		theirs = mine
	}
	s.pledged.sum, _ = s.pledged.sum.Add(pledged)
	if !pledged.IsZero() {
		if s.pledged.of == nil {
			s.pledged.of = map[chain.Address]chain.Amount{}
		}
		s.pledged.of[consumer], _ = s.pledged.of[consumer].Add(pledged) // a part of the sum
	}
	return why, pledged
}

// unpledge takes back what was pledged for orders that are accepted by now, or refused.
func (s *Server) unpledge(consumer chain.Address, amount chain.Amount) {
	s.pledged.mu.Lock()
	defer s.pledged.mu.Unlock()
	rest, ok := s.pledged.sum.Sub(amount)
	theirs, also := s.pledged.of[consumer].Sub(amount)
	if !ok || !also {
		panic("server: more is taken back than was pledged")
	}
	s.pledged.sum = rest
	if theirs.IsZero() {
		delete(s.pledged.of, consumer)
		return
	}
	s.pledged.of[consumer] = theirs
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
	s.owners[node] = knownOwner{provider: provider, at: time.Now()}
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
	if err := r.propose(scheduler.NodeLoad{Node: s.node, Accepting: hello.Accepting, Record: provider.Record}); err != nil {
		r.noteMeasured(s.node, provider.Height)
		r.report("what the chain has of a node", err)
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
}
