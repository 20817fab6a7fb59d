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

// bare is what an order locks of the cluster's bond beyond what it locks of its node's.
func (a *ask) bare() chain.Amount {
	rest, _ := a.slice.Sub(a.stake) // zero, if the node stakes more
	return rest
}

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

func (s *Server) ofCluster(record *Own, a *ask, why string) string {
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
		if of, known := free[node]; !known || !of.Free.Less(stake) {
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

// freeOf returns nodes as the chain said no longer than valid ago, those of which that is known: one that is not registered has
// nothing free of a bond.
func (s *Server) freeOf(ctx context.Context, nodes []crypto.PublicKey, valid time.Duration) map[crypto.PublicKey]Provider {
	free := make(map[crypto.PublicKey]Provider, len(nodes))
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
			free[node] = provider
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

// keepBids takes out the bids of nodes that could not stake what the order asks for, beside what is promised, and puts those
// aside whose owners have their share of the cluster's bond: such a node may check what another does, which takes no part of that bond for
// its owner. Where few bid there would else be nobody to check, and orders would wait until others have begun.
func (r *reign) keepBids(a *auction, p *promises) {
	all := slices.Concat(a.bids, a.checks)
	a.bids, a.checks = nil, nil
	for i := range all {
		switch node := all[i].Bid.Node; {
		case !p.stakes(node, a):
			a.reasons["less is free of its bond than the order stakes"]++
		case !p.shares(node, a):
			a.checks = append(a.checks, all[i])
		default:
			a.bids = append(a.bids, all[i])
		}
	}
}

// promises is what is promised of the bonds of the cluster and of its nodes, and not known to be locked.
type promises struct {
	known      bool         // what the chain has of the cluster
	free, bond chain.Amount // of it
	height     chain.Height // of the state that says so
	later      chain.Amount // that is not known to be locked by then
	live       chain.Amount // locked, too: free is of a while ago
	excess     chain.Amount // of later, for orders that lock more than their worth
	bare       chain.Amount // of later, beyond what nodes stake
	of         map[chain.Address]chain.Amount
	owners     map[chain.Address]chain.Amount // beyond what nodes stake, by those who own them
	idle       map[chain.Address]chain.Amount // of that, for orders that cannot begin
	nodes      map[crypto.PublicKey]chain.Amount
	asked      map[crypto.PublicKey]chain.Height // nodes: of the first state that says what they have free
}

func newPromises(record *Own) *promises {
	return &promises{known: true, free: record.Free(), bond: record.Bond, height: record.Height}
}

// ask notes of which states it is known what those have free who bid.
func (p *promises) ask(list []*auction) *promises {
	p.asked = map[crypto.PublicKey]chain.Height{}
	for _, a := range list {
		for node, of := range a.free { // order-free: the least
			if at, asked := p.asked[node]; !asked || of.Height < at {
				p.asked[node] = of.Height
			}
		}
	}
	return p
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
	out.of, out.owners, out.idle, out.nodes = maps.Clone(p.of), maps.Clone(p.owners), maps.Clone(p.idle), maps.Clone(p.nodes)
	return &out
}

// promised is an order that bonds are promised to.
type promised struct {
	consumer chain.Address
	from     chain.Height // as of which the chain has locked what is promised; a state before may lack that
	idle     bool         // it cannot begin
}

// promise counts what an order locks of the cluster's bond.
func (p *promises) promise(to *promised, a *ask) {
	if to.idle {
		return
	}
	p.live = more(p.live, a.slice)
	if to.from <= p.height {
		return
	}
	if p.of == nil {
		p.of = map[chain.Address]chain.Amount{}
	}
	p.later = more(p.later, a.slice)
	p.bare = more(p.bare, a.bare())
	p.of[to.consumer] = more(p.of[to.consumer], a.slice)
	if a.excessive() {
		p.excess = more(p.excess, a.slice)
	}
}

// give counts what an order that a node has, or may get, locks of that node's bond, and for its owner. It counts also while
// the order cannot begin.
func (p *promises) give(node crypto.PublicKey, owner chain.Address, to *promised, a *ask) {
	if p.nodes == nil {
		p.nodes, p.owners, p.idle = map[crypto.PublicKey]chain.Amount{}, map[chain.Address]chain.Amount{}, map[chain.Address]chain.Amount{}
	}
	if p.height < to.from {
		p.owners[owner] = more(p.owners[owner], a.bare())
		if to.idle {
			p.idle[owner] = more(p.idle[owner], a.bare())
		}
	}
	if p.asked[node] < to.from {
		p.nodes[node] = more(p.nodes[node], a.stake)
	}
}

// beyond says why an order of a consumer cannot have what it asks for beside what is promised; empty: it can. Of what is free
// one consumer's orders that have not begun, but for the first, get no more than half; nor do all those together that lock more than
// their worth makes them: those cost next to nothing. Nor does one that locks so much more than its node stakes: see shares.
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
	case p.free.Less(more(p.bare, more(a.bare(), a.bare()))):
		return fmt.Sprintf(", shared among the owners of nodes for what orders lock beyond their stakes, of which %s is taken", p.bare)
	case !theirs.IsZero() && !fits(half, theirs):
		return fmt.Sprintf(", half of it for one consumer's orders that have not begun, of which %s is taken", theirs)
	}
	return ""
}

// stakes reports whether a node that bid in an auction can stake what its order asks for beside what is promised.
func (p *promises) stakes(node crypto.PublicKey, a *auction) bool {
	of, known := a.free[node]
	if !known {
		return true
	}
	left, ok := of.Free.Sub(p.nodes[node])
	return ok && !left.Less(a.ask.stake)
}

// shares reports whether an order may be given to a node that bid for what it locks beyond that node's stake. Who has a node of its own could
// else have orders of its own hold all of the cluster's bond, for next to nothing of its own: so one owner's nodes get no more
// of that than is left for others, and the next owner's no more than is left then. Its orders that cannot begin count against it as if they
// could: they may begin when it likes, posted by itself, and what is promised to others meanwhile waits for them.
func (p *promises) shares(node crypto.PublicKey, a *auction) bool {
	bare := a.ask.bare()
	of, known := a.free[node]
	if !p.known || !known || bare.IsZero() {
		return true
	}
	return !p.free.Less(more(more(p.owners[of.Owner], p.idle[of.Owner]), more(p.bare, more(bare, bare))))
}

// countPromises counts what is promised by now, of the cluster's bond but for orders that cannot begin.
func (r *reign) countPromises(p *promises, idle map[crypto.Digest]chain.Height) *promises {
	r.replica.view(func(s *scheduler.State) {
		s.Backed(func(j *scheduler.Job) {
			a := r.askOf(j.Order.Policy.Policy, j.Order.MaxCost)
			to := promised{consumer: j.Consumer(), from: j.LockedFrom()}
			if at, stuck := idle[j.ID()]; stuck { // else it may have begun since what is known of the cluster
				to.idle = at <= p.height
			}
			p.promise(&to, &a)
			p.give(j.Holder().Node, j.Holder().Owner, &to, &a)
		})
	})
	return p
}

// stuck returns the orders whose work is done and that the chain takes nothing of, because their nodes have less free of their
// bonds than they stake, and as of which state that is known. Once they have, the chain takes them if the cluster's bond is free.
func (r *reign) stuck() map[crypto.Digest]chain.Height {
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
			node := j.Holder().Node
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
	idle := map[crypto.Digest]chain.Height{}
	for _, w := range list {
		if of, known := free[w.node]; known && of.Free.Less(w.stake) {
			idle[w.order] = of.Height
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
	fresh := func(valid time.Duration) *promises {
		if record, err := r.own(r.ctx, valid); err == nil {
			return newPromises(&record).ask(list)
		}
		return (&promises{}).ask(list)
	}
	now := r.countPromises(fresh(bondValid), nil)
	if slices.ContainsFunc(list, func(a *auction) bool { return now.beyond(a.order.ConsumerAddress(), &a.ask) != "" }) {
		idle := r.stuck()
		now = r.countPromises(fresh(0), idle) // of a state that knows what has begun by then
	}
	then := now.beside()
	for _, a := range list {
		consumer := a.order.ConsumerAddress()
		r.keepBids(a, now)
		short := func(b scheduler.SignedBid) bool { return !then.stakes(b.Bid.Node, a) || !then.shares(b.Bid.Node, a) }
		switch {
		case now.beyond(consumer, &a.ask) != "":
			a.reasons["the cluster's bond is promised to other orders"] += len(a.bids) + len(a.checks)
			a.bids, a.checks = nil, nil
		case then.beyond(consumer, &a.ask) != "" || slices.ContainsFunc(a.bids, short):
			later = append(later, a)
			continue
		case len(a.bids) > 0:
			to := &promised{consumer: consumer, from: math.MaxUint64}
			then.promise(to, &a.ask)
			for i := range a.bids { // any of them may get it
				node := a.bids[i].Bid.Node
				then.give(node, a.free[node].Owner, to, &a.ask)
			}
		}
		if len(a.checks) > 0 {
			a.reasons["its owner's nodes have their share of the cluster's bond: it may check, and not begin"] += len(a.checks)
		}
		told = append(told, a)
	}
	return told, later
}
