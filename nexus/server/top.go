package server

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	topPath = "/v1/top"
	// topFresh is for how long one look at the state serves all who ask: a look
	// holds up whoever changes it.
	topFresh = 250 * time.Millisecond
	// topPeers is how long the other servers have to say how far they are.
	topPeers = 250 * time.Millisecond
)

// glance is the newest look at the state.
type glance struct {
	mu sync.Mutex
	at time.Time
	of scheduler.Overview // of api.MaxTopRows rows; not changed any more
}

type topInput struct {
	Rows int `query:"rows" minimum:"1" maximum:"200" default:"20" doc:"of each list, at most"`
	ReadInput
}

func (s *Server) registerTop(hapi huma.API) {
	op := getOperation("get-top", topPath, "Queues, shares, nodes, auctions and rates at a glance")
	op.Description = "What a live view shows. A look at the state serves everybody for a quarter of a second. Bids of open auctions are sealed: their number alone is told, by the leader."
	huma.Register(hapi, op, s.top)
}

func (s *Server) top(ctx context.Context, in *topInput) (*body[api.NexusTop], error) {
	o := s.overview()
	now := s.now()
	out := api.NexusTop{
		NowMs: now, ChainID: s.id.genesis.ChainID, Cluster: s.id.cluster.Public(), Server: s.self, Leader: s.consensus.leader(),
		Term: api.Uint64(s.consensus.raft.CurrentTerm()), AgeMs: api.Uint64(s.age(time.Now()).Milliseconds()), Version: s.cfg.Version,
		Servers: s.topServers(ctx), Rates: s.replica.board.rates(now), OpenJobs: o.Open, Looked: o.Looked, MaxActive: o.MaxActive, MaxKept: o.MaxKept,
		Classes: topClasses(o.Classes), Next: topNext(o.Next, in.Rows), Auctions: s.topAuctions(o.Bidding, in.Rows), Closed: s.replica.board.newest(in.Rows),
	}
	out.Consumers, out.Others = topConsumers(o.Consumers, in.Rows)
	t := &o.Totals
	out.Totals = api.TopTotals{Nodes: t.Nodes, Connected: t.Connected, Accepting: t.Accepting, Running: t.Running, Total: t.Total, Used: t.Used}
	out.Nodes = s.topNodes(o.Nodes, in.Rows)
	return &body[api.NexusTop]{out}, nil
}

// overview returns a look at the state that is at most topFresh old.
func (s *Server) overview() scheduler.Overview {
	g := &s.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.at.IsZero() || time.Since(g.at) >= topFresh {
		s.replica.view(func(state *scheduler.State) { g.of = state.Overview(api.MaxTopRows) })
		g.at = time.Now()
	}
	return g.of
}

// topServers asks every server how far it is.
func (s *Server) topServers(ctx context.Context) []api.TopServer {
	ctx, cancel := context.WithTimeout(ctx, topPeers)
	defer cancel()
	members, leader := s.roster.list(), s.consensus.leader()
	out := make([]api.TopServer, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		out[i] = api.TopServer{ID: m.ID, Leader: m.ID == leader}
		if m.ID == s.self {
			out[i].Applied, out[i].Reached = api.Uint64(s.replica.news.newest()), true
			continue
		}
		wg.Go(func() {
			if applied, err := s.askApplied(ctx, m.ID); err == nil {
				out[i].Applied, out[i].Reached = api.Uint64(applied), true
			}
		})
	}
	wg.Wait()
	return out
}

func topClasses(list []scheduler.ClassLoad) []api.TopClass {
	out := make([]api.TopClass, len(list))
	for i, c := range list {
		out[i] = api.TopClass{
			Class: c.Class, DelayMs: api.Uint64(c.DelayMs), Queued: c.Queued, Backing: c.Backing, Held: c.Held, Parked: c.Parked,
			Bidding: c.Bidding, Running: c.Running, Settling: c.Settling, Aged: c.Aged, Oldest: c.Oldest,
		}
	}
	return out
}

func topNext(list []scheduler.Waiting, rows int) []api.TopWaiting {
	out := make([]api.TopWaiting, min(rows, len(list)))
	for i := range out {
		w := &list[i]
		out[i] = api.TopWaiting{
			ID: w.Order, Label: w.Label, Class: w.Class, Consumer: w.Consumer, SubmittedMs: w.Submitted, AgedMs: w.Aged, RetryMs: w.Retry,
			Alike: w.Alike, Resources: w.Resources, Reason: w.Reason,
		}
	}
	return out
}

// topConsumers lists who uses the most, and counts the others.
func topConsumers(of []scheduler.ConsumerLoad, rows int) (out []api.TopConsumer, others int) {
	list, all := slices.Clone(of), uint64(0)
	for i := range list {
		all += list[i].Used.Millicores
	}
	slices.SortFunc(list, func(x, y scheduler.ConsumerLoad) int {
		return cmp.Or(cmp.Compare(y.Used.Millicores, x.Used.Millicores), cmp.Compare(y.Active, x.Active), cmp.Compare(y.Queued, x.Queued), x.Consumer.Compare(y.Consumer))
	})
	others = max(0, len(list)-rows)
	out = make([]api.TopConsumer, len(list)-others)
	for i := range out {
		c := &list[i]
		out[i] = api.TopConsumer{
			Consumer: c.Consumer, Active: c.Active, Queued: c.Queued, Parked: c.Parked, Held: c.Held, Running: c.Running, Settling: c.Settling,
			Kept: c.Kept, Outstanding: c.Outstanding, Used: c.Used, ShareBps: int(c.Used.Millicores * 10_000 / max(1, all)),
		}
	}
	return out, others
}

// topNodes lists the busiest nodes.
func (s *Server) topNodes(list []scheduler.NodeView, rows int) []api.TopNode {
	out := make([]api.TopNode, min(rows, len(list)))
	for i := range out {
		n := &list[i]
		bids := s.replica.board.bidsOf(n.ID)
		out[i] = api.TopNode{
			ID: n.ID, Owner: n.Owner, Region: n.Region, Connected: n.Connected, Accepting: n.Accepting, Total: n.Total, Used: n.Used, GPUKind: n.GPUKind,
			Running: n.Running, Evictable: n.Evictable, Places: n.Places, Bids: api.Uint64(bids.bids), Won: api.Uint64(bids.won),
			Finished: api.Uint64(n.Finished), Lost: api.Uint64(n.Lost),
		}
	}
	return out
}

// topAuctions lists open auctions, with the number of bids if this server has them.
func (s *Server) topAuctions(list []scheduler.OpenRound, rows int) []api.TopAuction {
	r := s.current.Load()
	out := make([]api.TopAuction, min(rows, len(list)))
	for i := range out {
		a := &list[i]
		out[i] = api.TopAuction{
			ID: a.Order, Label: a.Label, Class: a.Class, Consumer: a.Consumer, Auction: api.Uint64(a.Auction), SinceMs: a.Since, Want: a.Want,
			Places: a.Places, Bids: r.bidsSoFar(a.Auction), Picked: a.Picked,
		}
	}
	return out
}

// bidsSoFar returns how many valid bids an open auction has; −1 if nobody reigns
// here.
func (r *reign) bidsSoFar(auction uint64) int {
	if r == nil {
		return -1
	}
	r.mu.Lock()
	a := r.auctions[auction]
	r.mu.Unlock()
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.bids)
}
