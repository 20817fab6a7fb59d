package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// What orders lock of the cluster's bond, and of its nodes', is promised when an auction gives them to a node, and not
// before: an order that nobody runs costs its consumer nothing, and takes nothing. An order that could never begin is refused
// at once, and one that could not begin now waits.

const (
	maxStakesAsked = 64 // nodes that are asked about before an order is refused for its stake
	stakeValid     = 30 * time.Second
	maxIdleAsked   = 256 // nodes that are asked about to see which orders cannot begin
)

// ask is what an order asks of bonds: what it locks of the cluster's, what it would if it asked for no more than its worth
// makes it, and what it locks of the node's.
type ask struct{ slice, least, stake chain.Amount }

func (s *Server) askOf(p chain.Policy, maxCost chain.Amount) ask {
	params := &s.id.genesis.Params
	return ask{settlement.ClusterSlice(p, maxCost, params), settlement.LeastClusterSlice(p, maxCost, params), settlement.NodeSlice(p)}
}

// excessive reports whether an order's consumer has it lock more than its worth does.
func (a *ask) excessive() bool { return a.least.Less(a.slice) }

// cannotBack says why an order that locks so much could not begin if nothing were promised for others; empty: it could, as
// far as is known.
func (s *Server) cannotBack(ctx context.Context, a ask) string {
	if a.slice.IsZero() {
		return ""
	}
	record, err := s.own(ctx, bondValid)
	if err != nil {
		s.log.Info("the chain cannot be asked for the cluster's bond", "error", err)
	} else if why := newPromises(&record).beyond(chain.Address{}, &a); why != "" {
		return s.ofCluster(&record, &a, why)
	}
	return s.noNodeStakes(ctx, a.stake)
}

func (s *Server) ofCluster(record *settlement.Cluster, a *ask, why string) string {
	return fmt.Sprintf("cluster %s has %s free of its bond%s; the job locks %s", s.id.cluster.Public().Short(), record.Free(), why, a.slice)
}

// noNodeStakes says that no node that is connected has so much free of its bond; empty: one has, or may have.
func (s *Server) noNodeStakes(ctx context.Context, stake chain.Amount) string {
	if stake.IsZero() {
		return ""
	}
	var nodes []crypto.PublicKey
	connected := 0
	s.replica.view(func(state *scheduler.State) {
		connected = state.Connected()
		state.EachNode(func(n *scheduler.Node) {
			if n.Connected && len(nodes) < maxStakesAsked {
				nodes = append(nodes, n.ID)
			}
		})
	})
	if connected == 0 || connected > len(nodes) || s.haveFree(nodes, stake) {
		return ""
	}
	free := s.freeOf(ctx, nodes, stakeValid)
	for _, node := range nodes {
		if of, known := free[node]; !known || !of.Less(stake) {
			return ""
		}
	}
	return fmt.Sprintf("none of the %d nodes that are connected has %s free of its bond, which the job stakes", connected, stake)
}

// haveFree reports whether one of the nodes had so much free of its bond when the chain was asked last.
func (s *Server) haveFree(nodes []crypto.PublicKey, stake chain.Amount) bool {
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	return slices.ContainsFunc(nodes, func(node crypto.PublicKey) bool {
		known, ok := s.owners[node]
		return ok && time.Since(known.at) < ownerValid && !known.provider.Free.Less(stake)
	})
}

// freeOf returns what nodes have free of their bonds, as the chain said no longer than valid ago, of those of which that is known:
// one that is not registered has nothing.
func (s *Server) freeOf(ctx context.Context, nodes []crypto.PublicKey, valid time.Duration) map[crypto.PublicKey]chain.Amount {
	free := make(map[crypto.PublicKey]chain.Amount, len(nodes))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, node := range nodes {
		wg.Go(func() {
			provider, err := s.providerWithin(ctx, node, valid, func(*Provider) bool { return true })
			if err != nil && !errors.Is(err, ErrNotRegistered) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			free[node] = provider.Free
		})
	}
	wg.Wait()
	return free
}

// sift takes out the bids of nodes that have less free of their bonds than the order stakes, as far as the chain can be
// asked: what they would be given could not begin, and would keep a part of the cluster's bond from others.
func (r *reign) sift(a *auction) {
	nodes := make([]crypto.PublicKey, len(a.bids))
	for i := range a.bids {
		nodes[i] = a.bids[i].Bid.Node
	}
	a.free = r.freeOf(r.ctx, nodes, bondValid)
	r.keepBids(a, &promises{})
}

// keepBids takes out the bids of nodes that could not stake what the order asks for, beside what is promised.
func (r *reign) keepBids(a *auction, p *promises) {
	a.bids = slices.DeleteFunc(a.bids, func(b scheduler.SignedBid) bool {
		if p.stakes(b.Bid.Node, a) {
			return false
		}
		a.reasons["less is free of its bond than the order stakes"]++
		return true
	})
}

// promises is what is promised of the bonds of the cluster and of its nodes, and not known to be locked.
type promises struct {
	known      bool         // what the chain has of the cluster
	free, bond chain.Amount // of it
	later      chain.Amount // that is not known to be locked
	live       chain.Amount // locked, too: free is of a while ago
	excess     chain.Amount // of later, for orders that lock more than their worth
	of         map[chain.Address]chain.Amount
	nodes      map[crypto.PublicKey]chain.Amount
}

func newPromises(record *settlement.Cluster) *promises {
	return &promises{known: true, free: record.Free(), bond: record.Bond}
}

// more adds two amounts, or returns the largest that there is: what bonds could be asked for no cluster has.
func more(a, b chain.Amount) chain.Amount {
	sum, ok := a.Add(b)
	if !ok {
		return chain.Nano(math.MaxUint64)
	}
	return sum
}

// beside returns the same promises, to be counted on from.
func (p *promises) beside() *promises {
	out := *p
	out.of, out.nodes = maps.Clone(p.of), maps.Clone(p.nodes)
	return &out
}

// promise counts what an order locks.
func (p *promises) promise(consumer chain.Address, holder crypto.PublicKey, a *ask, locksLater bool) {
	p.live = more(p.live, a.slice)
	if !locksLater {
		return
	}
	if p.of == nil {
		p.of, p.nodes = map[chain.Address]chain.Amount{}, map[crypto.PublicKey]chain.Amount{}
	}
	p.later = more(p.later, a.slice)
	p.of[consumer] = more(p.of[consumer], a.slice)
	if a.excessive() {
		p.excess = more(p.excess, a.slice)
	}
	if !holder.IsZero() {
		p.nodes[holder] = more(p.nodes[holder], a.stake)
	}
}

// beyond says why an order of a consumer cannot have what it asks for beside what is promised; empty: it can. Of what is free
// one consumer's orders that have not begun, but for the first, get no more than half; nor do all those together that lock more than
// their worth makes them: those cost next to nothing.
func (p *promises) beyond(consumer chain.Address, a *ask) string {
	if !p.known {
		return ""
	}
	fits := func(limit, taken chain.Amount) bool {
		left, ok := limit.Sub(taken)
		return ok && !left.Less(a.slice)
	}
	half, _ := p.free.ShareFloor(1, 2) // below it
	switch theirs := p.of[consumer]; {
	case !fits(p.free, p.later) || !fits(p.bond, p.live):
		return fmt.Sprintf(", of which %s is promised", p.later)
	case a.excessive() && !fits(half, p.excess):
		return fmt.Sprintf(", half of it for orders that lock more than they are worth, of which %s is taken", p.excess)
	case !theirs.IsZero() && !fits(half, theirs):
		return fmt.Sprintf(", half of it for one consumer's orders that have not begun, of which %s is taken", theirs)
	}
	return ""
}

// stakes reports whether a node that bid in an auction can stake what its order asks for beside what is promised.
func (p *promises) stakes(node crypto.PublicKey, a *auction) bool {
	free, known := a.free[node]
	if !known {
		return true
	}
	left, ok := free.Sub(p.nodes[node])
	return ok && !left.Less(a.ask.stake)
}

// countPromises counts what is promised by now, but for orders that cannot begin.
func (r *reign) countPromises(p *promises, idle map[crypto.Digest]bool) *promises {
	r.replica.view(func(s *scheduler.State) {
		s.Backed(func(j *scheduler.Job) {
			if !idle[j.ID()] {
				a := r.askOf(j.Order.Policy.Policy, j.Order.MaxCost)
				p.promise(j.Consumer(), j.Holder(), &a, j.LocksLater())
			}
		})
	})
	return p
}

// stuck returns the orders whose work is done and that the chain takes nothing of, because their nodes have less free of their
// bonds than they stake. Once they have, the chain takes them if the cluster's bond is free.
func (r *reign) stuck() map[crypto.Digest]bool {
	type waiting struct {
		order crypto.Digest
		node  crypto.PublicKey
		stake chain.Amount
	}
	var list []waiting
	var nodes []crypto.PublicKey
	seen := map[crypto.PublicKey]bool{}
	r.replica.view(func(s *scheduler.State) {
		s.Backed(func(j *scheduler.Job) {
			node := j.Holder()
			if j.Status != job.Settling || j.OnChain.Begun || !seen[node] && len(nodes) == maxIdleAsked {
				return
			}
			if !seen[node] {
				seen[node] = true
				nodes = append(nodes, node)
			}
			list = append(list, waiting{j.ID(), node, settlement.NodeSlice(j.Order.Policy.Policy)})
		})
	})
	free := r.freeOf(r.ctx, nodes, bondValid)
	idle := map[crypto.Digest]bool{}
	for _, w := range list {
		if of, known := free[w.node]; known && of.Less(w.stake) {
			idle[w.order] = true
		}
	}
	return idle
}

// awards are closed auctions whose orders are promised bonds one part after another: what is promised in one the state knows
// before the next.
type awards struct {
	mu      sync.Mutex
	waiting []*auction
	busy    bool
}

// award has an auction's order be given out, if bonds are free for it.
func (r *reign) award(a *auction) {
	w := &r.awards
	w.mu.Lock()
	w.waiting = append(w.waiting, a)
	first := !w.busy
	w.busy = true
	w.mu.Unlock()
	if first {
		r.async(r.giveOut)
	}
}

// giveOut tells the state of the closed auctions that wait, until there are none.
func (r *reign) giveOut() {
	w := &r.awards
	for r.ctx.Err() == nil {
		w.mu.Lock()
		list := w.waiting
		w.waiting = nil
		w.busy = len(list) > 0
		w.mu.Unlock()
		if len(list) == 0 {
			return
		}
		told, later := r.back(list)
		r.awaitClosed(r.queueClosed(told))
		w.mu.Lock()
		w.waiting = append(later, w.waiting...)
		w.mu.Unlock()
	}
}

// back takes the bids out of auctions whose orders bonds are not free for, beside what is promised and the others of the list.
// What only the others keep it from is decided later: they may come to nothing.
func (r *reign) back(list []*auction) (told, later []*auction) {
	fresh := func() *promises { return &promises{} }
	if record, err := r.own(r.ctx, bondValid); err == nil {
		fresh = func() *promises { return newPromises(&record) }
	}
	now := r.countPromises(fresh(), nil)
	if slices.ContainsFunc(list, func(a *auction) bool { return now.beyond(a.order.ConsumerAddress(), &a.ask) != "" }) {
		now = r.countPromises(fresh(), r.stuck())
	}
	then := now.beside()
	for _, a := range list {
		consumer := a.order.ConsumerAddress()
		r.keepBids(a, now)
		short := func(b scheduler.SignedBid) bool { return !then.stakes(b.Bid.Node, a) }
		switch {
		case now.beyond(consumer, &a.ask) != "":
			a.reasons["the cluster's bond is promised to other orders"] += len(a.bids)
			a.bids = nil
		case then.beyond(consumer, &a.ask) != "" || slices.ContainsFunc(a.bids, short):
			later = append(later, a)
			continue
		case len(a.bids) > 0:
			then.promise(consumer, crypto.PublicKey{}, &a.ask, true)
			for i := range a.bids { // any of them may get it
				then.nodes[a.bids[i].Bid.Node] = more(then.nodes[a.bids[i].Bid.Node], a.ask.stake)
			}
		}
		told = append(told, a)
	}
	return told, later
}
