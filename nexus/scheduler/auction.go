package scheduler

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// An auction keeps room for its job on as many nodes as it needs takers, so that
// there are never more auctions than places, and asks these nodes and others
// that fit besides. Who wins takes its own room; the room that was kept is given
// back.

// maxDoublings bounds for how long an owner's failures count: the first for
// FailureMs, the last of MaxAttempts for hours.
const maxDoublings = 10

// request is what the job asks of its next node: others than its replicas'
// owners and than those who failed it a while ago, which is longer each time.
// The second result is when the first of these may be asked again, or zero.
func (s *State) request(j *Job) (match.Request, chain.TimeMs) {
	r := j.demand()
	until := chain.TimeMs(0)
	var failures map[chain.Address]int
	for i := range j.Runs {
		switch run := &j.Runs[i]; {
		case run.Stage == Refuted: // for good
			r.Failures, r.Refuted = append(r.Failures, run.Owner), append(r.Refuted, run.Node)
		case run.Stage != Lost:
			r.Replicas = append(r.Replicas, run.Owner)
		case !run.Blameless:
			if failures == nil {
				failures = map[chain.Address]int{}
			}
			end := run.Since + chain.TimeMs(s.config.FailureMs<<min(failures[run.Owner], maxDoublings))
			failures[run.Owner]++
			if s.now < end {
				r.Failures = append(r.Failures, run.Owner)
				if until == 0 || end < until {
					until = end
				}
			}
		}
	}
	return r, until
}

// auction opens an auction for a job among nodes that fit, or has it wait if
// there are too few of them to begin: unless a search is asked for, a job whose
// like waits need not look.
func (s *State) auction(j *Job, search bool) []Effect {
	s.unqueue(j)
	s.pause(j, "")
	switch account := s.accounts[j.consumer]; {
	case len(j.Waits) > 0:
		j.Reason = fmt.Sprintf("it waits for %d orders before it", len(j.Waits))
		s.reschedule(j)
		return nil
	case j.ganged() && !s.assembled(j):
		s.reschedule(j)
		return nil
	case j.ganged():
		return s.auctionGang(j)
	case !j.active && s.full(account, 1):
		s.park(j)
		s.reschedule(j)
		return nil
	case j.IsLease():
		if why, until := s.unopenedLimit(account, j); why != "" {
			s.park(j)
			j.RetryAt = until
			s.reschedule(j)
			return nil
		}
	}
	if j.resizes != nil {
		return s.auctionResize(j)
	}
	request, until := s.request(j)
	if search || s.groups[keyOf(j, &request)] == nil {
		if ranking := s.reserve(j, &request); ranking != nil {
			return s.offer(j, ranking)
		}
	}
	s.enqueue(j, &request, until)
	return nil
}

// seed draws a job's samples: nobody can choose a node's slot, and the order's
// id is a hash of what its consumer signed.
func (s *State) seed(j *Job) uint64 { return binary.LittleEndian.Uint64(j.id[:]) ^ mix(s.auctions+1) }

// reserve keeps room for the takers that a job needs and returns the sample that
// they are of, the best first; nil, and nothing is kept, if there are too few.
func (s *State) reserve(j *Job, request *match.Request) []ranked {
	wanted := j.wanted()
	ranking := s.rank(j, request, s.sample(j, request, wanted))
	var chosen []ranked
	for _, r := range ranking {
		if len(chosen) < wanted && !ownerOf(chosen, r.node.Owner) {
			chosen = append(chosen, r)
		}
	}
	firm := len(chosen)
	if firm < wanted && !j.Spec.Scheduling.Preemptible {
		for _, n := range s.find(request, s.seed(j), s.config.Sample, true) {
			if len(chosen) < wanted && !ownerOf(chosen, n.Owner) {
				chosen = append(chosen, ranked{node: n})
			}
		}
	}
	if len(chosen) < wanted {
		return nil
	}
	for i, r := range chosen {
		s.keep(j, r, i >= firm)
	}
	j.Reserved = uint64(len(chosen))
	return append(ranking, chosen[firm:]...)
}

// sample draws nodes that fit; the node that made the job's input is among them
// if it fits.
func (s *State) sample(j *Job, request *match.Request, wanted int) []*Node {
	sample := s.find(request, s.seed(j), max(s.config.Sample, 4*wanted), false)
	if n := s.nodes[j.InputNode]; n != nil && !j.Input.IsZero() && n.fits(request) && !slices.Contains(sample, n) {
		sample = append(sample, n)
	}
	return sample
}

// keep has an auction hold a place.
func (s *State) keep(j *Job, r ranked, evict bool) {
	j.Places = append(j.Places, Place{Node: r.node.ID, Devices: r.devices, Evict: evict})
	if !evict {
		s.take(r.node, j, r.devices)
		return
	}
	r.node.preemptor = j
	r.node.join(j)
	s.reindex(r.node)
}

// dropPlace gives up the i-th place of an auction.
func (s *State) dropPlace(j *Job, i int) {
	p := j.Places[i]
	j.Places = slices.Delete(j.Places, i, i+1)
	n := s.nodes[p.Node]
	if !p.Evict {
		s.give(n, j, p.Devices)
		return
	}
	n.preemptor = nil
	n.leave(j)
	s.reindex(n)
}

func (s *State) dropPlaces(j *Job) {
	for len(j.Places) > 0 {
		s.dropPlace(j, len(j.Places)-1)
	}
}

// vacate is dropPlaces, and others may have the room.
func (s *State) vacate(j *Job) {
	for i := range j.Places {
		s.gain(s.nodes[j.Places[i].Node])
	}
	s.dropPlaces(j)
}

// offer opens the auction of a job for which room is kept.
func (s *State) offer(j *Job, ranking []ranked) []Effect {
	s.auctions++
	j.Auction = s.auctions
	s.setStatus(j, job.Bidding, "")
	candidates := s.candidates(j, ranking)
	return []Effect{OpenAuction{Order: j.id, Auction: j.Auction, Want: j.wanted(), Candidates: candidates}}
}

// candidates are the nodes where room is kept, and the best of the others.
func (s *State) candidates(j *Job, ranking []ranked) []crypto.PublicKey {
	limit := max(s.config.Candidates, 4*len(j.Places))
	out := make([]crypto.PublicKey, 0, min(limit, len(j.Places)+len(ranking)))
	for i := range j.Places {
		out = append(out, j.Places[i].Node)
	}
	kept := len(out)
	for _, r := range ranking {
		if len(out) < limit && !slices.Contains(out[:kept], r.node.ID) {
			out = append(out, r.node.ID)
		}
	}
	return out
}

func (s *State) closeAuction(c CloseAuction) ([]Effect, error) {
	if n := len(c.Bids) + len(c.Checks); n > MaxBids {
		return nil, reject("size", "%d bids, limit %d", n, MaxBids)
	}
	j := s.jobs[c.Order]
	if j == nil || j.Status != job.Bidding || j.Auction != c.Auction || j.picked() {
		return nil, nil // closed already, or the job is gone
	}
	evictable := map[crypto.PublicKey]bool{}
	for i := range j.Places {
		if j.Places[i].Evict {
			evictable[j.Places[i].Node] = true
		}
	}
	want, broken := j.wanted(), uint64(len(j.Places)) < j.Reserved
	s.vacate(j)
	bids := map[crypto.PublicKey]*SignedBid{}
	offers, crowded := s.offers(j, c.Bids, evictable, bids)
	picked := match.Pick(c.Order, offers, want)
	slate, counted := c.Bids, len(picked)
	if 0 < counted && counted < want && j.replicated() {
		more, _ := s.offers(j, c.Checks, evictable, bids)
		slate, counted = slices.Concat(c.Bids, c.Checks), len(match.Pick(c.Order, append(more, offers...), want))
	}
	if counted < want {
		if j.ganged() {
			s.disband(j)
		}
		if j.resizes != nil {
			return s.end(j, job.Failed, "the lease's node made no bid: it is away, has no room for the difference, or its prices are above the order's caps"), nil
		}
		reason := tooFew(counted, want)
		if broken || crowded { // a node went away meanwhile, or its room to another auction: nobody declined
			return s.again(j, reason), nil
		}
		s.backOff(j, reason)
		return nil, nil
	}
	j.Declined = 0
	if j.ganged() { // whose haste ends when all of it begins
		return s.pickMember(j, s.nodes[picked[0].Node], bids[picked[0].Node]), nil
	}
	j.Rushed = 0
	if j.replicated() { // the first begins; the chain says who else
		j.Slate, picked = slateOf(picked[0].Node, slate, bids), picked[:1]
	}
	var effects []Effect
	for _, p := range picked {
		n := s.nodes[p.Node]
		effects = append(effects, s.evict(n, j)...)
		request := j.demand()
		devices, _ := s.standing(j, &request, n)
		s.take(n, j, devices)
		effects = append(effects, s.assign(j, n, bids[p.Node], devices)...)
	}
	s.setStatus(j, job.Running, "")
	return append(effects, s.advance(j)...), nil
}

// tooFew says how many bids an auction lacks: of those within the order's caps from nodes that have
// room, one for each owner counts.
func tooFew(bids, wanted int) string {
	switch {
	case bids == 0 && wanted == 1:
		return "no bid counted"
	case bids == 0:
		return fmt.Sprintf("no bid counted, those of %d owners are needed", wanted)
	default:
		return fmt.Sprintf("%d bids of different owners are needed, %d counted", wanted, bids)
	}
}

// maxRushed bounds the auctions of a job that follow one another at once: who
// comes and goes during each of them must not keep everybody busy.
const maxRushed = 4

// again holds another auction for a job whose last one failed through what
// happened meanwhile, at once or, if that has been so often, later.
func (s *State) again(j *Job, reason string) []Effect {
	if j.Rushed++; j.Rushed > maxRushed {
		j.Rushed = 0
		s.backOff(j, reason)
		return nil
	}
	s.pause(j, "")
	return s.advance(j)
}

// offers are the bids that count, each of which is put into bids, and whether
// others would count had their nodes room.
func (s *State) offers(j *Job, list []SignedBid, evictable map[crypto.PublicKey]bool, bids map[crypto.PublicKey]*SignedBid) (offers []match.Offer, crowded bool) {
	request, _ := s.request(j)
	for i := range list {
		b := &list[i]
		n := s.nodes[b.Bid.Node]
		if n == nil || s.checkBid(j, &b.Bid) != nil || j.resizes != nil && n.ID != j.resizes.Award().Node {
			continue
		}
		cost, ok := j.bidCost(&b.Bid)
		if _, twice := bids[b.Bid.Node]; twice || !ok {
			continue
		}
		factor := uint64(match.One)
		if n.fits(&request) {
			_, factor = s.standing(j, &request, n)
		} else {
			reach := n.viewWith(n.evicted())
			if !evictable[n.ID] || n.preemptor != nil || match.Check(&request, &reach) != match.Fits {
				crowded = crowded || n.open()
				continue
			}
		}
		bids[b.Bid.Node] = b
		offers = append(offers, match.Offer{Node: b.Bid.Node, Owner: n.Owner, Cost: cost, Factor: factor})
	}
	return offers, crowded
}

// evict ends runs of preemptible jobs on a node until the job fits there: the
// last in rank first.
func (s *State) evict(n *Node, j *Job) []Effect {
	var effects []Effect
	request := j.demand()
	for free := n.free(); free.Short(&request) != match.Fits; free = n.free() {
		var last *Job
		for _, other := range n.jobs {
			if other.Spec.Scheduling.Preemptible && other.liveOn(n.ID) != nil && (last == nil || s.rankOf(last).compare(s.rankOf(other)) < 0) {
				last = other
			}
		}
		if last == nil {
			panic(fmt.Sprintf("scheduler: node %s has nothing to preempt for job %s", n.ID.Short(), j.id.Short()))
		}
		const reason = "preempted: its node was given to work that is not preemptible"
		s.endRun(last, last.liveOn(n.ID), reason)
		effects = append(effects, SendCancel{Node: n.ID, Order: last.id, Reason: reason})
		s.displaced = append(s.displaced, last)
	}
	return effects
}

// assign gives a job to a node whose resources it holds.
func (s *State) assign(j *Job, n *Node, b *SignedBid, devices []byte) []Effect {
	for i := range j.Runs {
		if j.Runs[i].Stage != Lost && j.Runs[i].Owner == n.Owner {
			panic(fmt.Sprintf("scheduler: owner %s is given job %s twice", n.Owner, j.id.Short()))
		}
	}
	j.Started = true
	s.census.live++
	j.Runs = append(j.Runs, Run{Node: n.ID, Owner: n.Owner, Bid: b.Bid, BidSig: b.BidSig, Devices: devices, Stage: Live, Since: s.now, Placed: s.now})
	if j.Spec.Scheduling.Preemptible {
		n.evictable++
		s.reindex(n)
		s.gain(n) // what the auction held nobody could preempt; now work that is not preemptible can
	}
	s.changed(j)
	return j.sendAssign(&j.Runs[len(j.Runs)-1])
}

// checkBid says why a bid does not count.
func (s *State) checkBid(j *Job, b *chain.Bid) error {
	switch {
	case b.ChainID != s.config.ChainID || b.Order != j.id:
		return reject("bid", "bid is for another order")
	case b.Expiry <= s.now:
		return reject("bid", "bid has expired")
	}
	if err := b.Check(); err != nil {
		return reject("bid", "%v", err)
	}
	_, zk := j.Order.Policy.Policy.(chain.PolicyZK)
	switch {
	case !zk && !b.Fixed.IsZero():
		return reject("bid", "fixed price %s for metered work", b.Fixed)
	case zk && j.Order.FixedPriceCap().Less(b.Fixed):
		return reject("bid", "fixed price %s is above the cap of %s", b.Fixed, j.Order.FixedPriceCap())
	}
	for _, p := range b.Prices {
		if limit, ok := j.Order.Cap(p.Resource); !ok || p.Price > limit {
			return reject("bid", "price of %s is above its cap", p.Resource)
		}
	}
	return nil
}

// BidCost is what ranking compares: the fixed price of a proof, else the cost
// of the worst case at the bid's prices, with the order's priority fee. It is an error if the bid has no price
// for something that the job uses, or the cost fits no amount.
func BidCost(order *chain.Order, spec *job.Spec, b *chain.Bid) (chain.Amount, error) {
	if order.Term != nil {
		return leaseCost(order, b)
	}
	cost := b.Fixed
	if _, zk := order.Policy.Policy.(chain.PolicyZK); !zk {
		var err error
		if cost, err = job.WorstCost(spec, b.Prices); err != nil {
			return chain.Amount{}, err
		}
	}
	charge, ok := order.PriorityBps.Charge(cost)
	if !ok {
		return chain.Amount{}, fmt.Errorf("scheduler: %s with a priority fee of %d bps does not fit an amount", cost, order.PriorityBps)
	}
	return charge, nil
}

// bidCost is BidCost, and false for a bid that could cost more than the order's
// cap, all replicas together: no work is begun that the chain would not pay in
// full.
func (j *Job) bidCost(b *chain.Bid) (chain.Amount, bool) {
	cost, err := BidCost(&j.Order, &j.Spec, b)
	if err != nil {
		return chain.Amount{}, false
	}
	k, _ := j.replicas()
	all, ok := cost.ShareFloor(uint64(k), 1)
	left, _ := j.Order.MaxCost.Sub(j.Spent) // refuted bounds it
	return cost, ok && !left.Less(all)
}
