package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	maxQuotes     = 16             // dry runs at a time
	draftPatience = 10 * 60 * 1000 // ms until a draft order's deadline, beside the work's own time
)

// quote asks the nodes that fit for bids on a draft of an order.
func (s *Server) quote(ctx context.Context, in *requestInput) (*body[api.Quote], error) {
	request, spec, err := readQuote(in.RawBody)
	if err != nil {
		return nil, err
	}
	order := s.draft(&spec, &request)
	if err := errors.Join(job.CheckOrder(&order, &spec), job.CheckJudged(&order, &spec, &s.id.genesis.Params)); err != nil {
		return nil, web.Invalid("body.policy", err)
	}
	r := s.current.Load()
	if r == nil {
		return nil, web.Busy("the leader has changed")
	}
	select {
	case r.quotes <- struct{}{}:
		defer func() { <-r.quotes }()
	default:
		return nil, web.Busy(fmt.Sprintf("quotes made now: limit %d", maxQuotes))
	}
	least, most := replicas(request.Policy.Policy)
	var said scheduler.Explanation
	var forecast scheduler.Forecast
	var settings job.Settings
	var head uint64
	s.replica.view(func(state *scheduler.State) {
		said, forecast = state.Explain(&spec, maxAsked), state.Forecast(&spec, request.PriorityBps, least)
		head = state.HeadStartMs(spec.Scheduling.Class, request.PriorityBps)
		settings, _ = state.Settings()
	})
	asked := make([]crypto.PublicKey, len(said.Fit))
	sellers := map[crypto.PublicKey]scheduler.Seller{}
	for i, seller := range said.Fit {
		asked[i], sellers[seller.ID] = seller.ID, seller
	}
	a := &auction{number: dryRun | rand.Uint64(), id: order.ID(), order: order, spec: spec, want: least, candidates: asked}
	if !r.newRound([]*auction{a}).run(ctx, func([]*auction) {}) {
		return nil, web.Busy("the request ended before its answer")
	}
	out := s.tally(&order, &spec, a.bids, sellers)
	out.Nodes, out.Looked, out.Ahead = said.Nodes, said.Looked, forecast.Ahead
	for _, e := range said.Excluded {
		out.Excluded = append(out.Excluded, api.Exclusion{Reason: e.Reason, Nodes: e.Nodes})
	}
	for _, reason := range slices.Sorted(maps.Keys(a.reasons)) {
		out.Excluded = append(out.Excluded, api.Exclusion{Reason: "declined: " + reason, Nodes: a.reasons[reason]})
	}
	price(&out, least, most)
	of := s.askOf(request.Policy.Policy, out.MaxCost)
	if out.MaxCost.IsZero() { // nobody says what it is worth
		of.least = of.slice
	}
	if lacks := s.cannotBack(ctx, of); lacks != "" {
		out.MaxCost, out.Reason = chain.Amount{}, lacks
	}
	out.Priority, out.HeadStartMs = request.PriorityBps.Of(out.MaxCost), api.Uint64(head)
	switch {
	case !out.MaxCost.IsZero(): // who bid has room
		out.Start, out.Ahead = s.now()+chain.TimeMs(settings.AuctionWindowMs), 0
	case len(said.Fit) == 0:
		out.Start = forecast.At
	}
	return &body[api.Quote]{out}, nil
}

// readQuote reads the body of a request for a quote.
func readQuote(body []byte) (request api.QuoteRequest, spec job.Spec, err error) {
	if err := api.DecodeJSON(body, &request); err != nil {
		return request, spec, web.InvalidBody(err)
	}
	if spec, err = api.SpecFromJSON(request.Spec); err != nil {
		return request, spec, web.InvalidBody(err)
	}
	switch {
	case request.Policy.Policy == nil:
		return request, spec, web.Invalid("body.policy", fmt.Errorf("missing"))
	case request.PriorityBps > chain.MaxPriorityFee:
		return request, spec, web.Invalid("body.priority_bps", fmt.Errorf("it is %d, limit %d", request.PriorityBps, chain.MaxPriorityFee))
	}
	return request, spec, nil
}

// replicas returns how many takers a policy needs, and how many it may come to
// ask for.
func replicas(p chain.Policy) (least, most int) {
	if r, ok := p.(chain.PolicyReplicate); ok {
		return int(r.K), int(r.N)
	}
	return 1, 1
}

// draft is an order that nobody signed, without bounds on its price.
func (s *Server) draft(spec *job.Spec, request *api.QuoteRequest) chain.Order {
	policy := request.Policy.Policy
	order := chain.Order{
		ChainID: s.id.genesis.ChainID, Consumer: crypto.AccountKeyOf(s.id.cluster.Public()), Nonce: rand.Uint64(),
		Cluster: s.id.cluster.Public(), Spec: spec.Digest(), Policy: chain.PolicyField{Policy: policy},
		FixedCap: chain.Nano(math.MaxUint64), MaxCost: chain.Nano(math.MaxUint64), PriorityBps: request.PriorityBps,
		Deadline: s.now() + chain.TimeMs(spec.Limits.WallMs) + draftPatience,
	}
	if p, ok := policy.(chain.PolicyOptimistic); ok {
		order.MaxCost = p.MostCovered()
	}
	for _, r := range chain.Resources {
		order.Caps = append(order.Caps, chain.UnitPrice{Resource: r, Price: math.MaxUint64})
	}
	return order
}

// tally lists the bids, the best first.
func (s *Server) tally(order *chain.Order, spec *job.Spec, bids []scheduler.SignedBid, sellers map[crypto.PublicKey]scheduler.Seller) api.Quote {
	out := api.Quote{Cluster: s.id.cluster.Public(), Bids: []api.QuoteBid{}, Excluded: []api.Exclusion{}}
	byNode := map[crypto.PublicKey]chain.Bid{}
	var offers []match.Offer
	for _, b := range bids {
		cost, err := scheduler.BidCost(order, spec, &b.Bid)
		if err != nil {
			s.log.Info("bid without a price for all that the job uses", "node", b.Bid.Node.Short(), "error", err)
			continue
		}
		byNode[b.Bid.Node] = b.Bid
		offers = append(offers, match.Offer{Node: b.Bid.Node, Owner: sellers[b.Bid.Node].Owner, Cost: cost, Factor: sellers[b.Bid.Node].Factor})
	}
	match.Rank(order.ID(), offers)
	for _, o := range offers {
		bid := api.BidToJSON(byNode[o.Node])
		out.Bids = append(out.Bids, api.QuoteBid{Node: o.Node, Owner: o.Owner, Prices: bid.Prices, Fixed: bid.Fixed, Cost: o.Cost})
	}
	return out
}

// lacksBids says that too few owners' nodes bid for a job: each replica is another owner's.
func lacksBids(least, bid int) string {
	switch {
	case least == 1:
		return "no node bid for it"
	case bid == 0:
		return fmt.Sprintf("bids of %d owners are needed, and none bid", least)
	}
	return fmt.Sprintf("bids of %d owners are needed, and only %d bid", least, bid)
}

// price says what the job can cost, or why it would wait: the dearest of the
// takers, for each of the replicas that the policy may come to ask for.
func price(q *api.Quote, least, most int) {
	seen := map[chain.Address]bool{}
	var dearest chain.Amount
	for _, b := range q.Bids {
		if len(seen) == most {
			break
		}
		if !seen[b.Owner] {
			seen[b.Owner] = true
			dearest = chain.Nano(max(dearest.Nano(), b.Cost.Nano())) // they are sorted by more than their cost
		}
	}
	if len(seen) < least {
		q.Reason = lacksBids(least, len(seen))
		return
	}
	total, ok := dearest.ShareFloor(uint64(most), 1)
	if !ok {
		q.Reason = "the price does not fit an amount"
		return
	}
	q.MaxCost = chain.Nano(max(1, total.Nano())) // 0 says that nobody can
}
