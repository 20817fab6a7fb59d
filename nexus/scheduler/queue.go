package scheduler

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// Where jobs wait. A job that needs a node is in one of these states, and
// exactly one:
//
//   - it waits for orders before it, or for the rest of its gang: an event of
//     theirs takes it on;
//   - it is parked: its consumer has as many active jobs as it may, and one of
//     those that ends takes it on; or it is for a lease, and those that are not open
//     hold as much as they may, or others lapsed: one that is opened, or RetryAt,
//     takes it on;
//   - it backs off: its last auction found too few bids, and RetryAt, or a node
//     that comes or accepts work again, takes it on;
//   - it is queued: no node had room, and capacity that comes free takes it on.
//
// Queued jobs that ask the same of a node are one group, sorted by rank, and as
// long as a group waits no node fits its request: so a job whose group waits
// need not search, and capacity that comes free is held against one request for
// each group.

// groupKey tells requests apart.
type groupKey struct {
	resources   job.Resources
	region      string
	kernel      string
	gpuKind     string
	owners      string // that may not be asked
	want        int
	gang        gangKey
	preemptible bool
}

// ask is what is asked of a node.
type ask struct {
	request     match.Request
	preemptible bool
}

// group is the queued jobs with one request, or the first member of a gang.
type group struct {
	key  groupKey
	asks []ask // one; of a gang those that matter
	jobs ordered[*Job]
	at   place // in State.queue: that of its first job
}

// served reports whether a node with that much free, or within reach, serves one
// of the asks.
func (g *group) served(view, reach *match.Node) bool {
	return slices.ContainsFunc(g.asks, func(a ask) bool {
		return match.Check(&a.request, view) == match.Fits || !a.preemptible && match.Check(&a.request, reach) == match.Fits
	})
}

// worth reports whether a group that a node serves should be tried again. A gang
// of equal members that was short of several places need not be before as many
// may have come free.
func (g *group) worth(view, reach *match.Node) bool {
	_, first := g.jobs.first()
	if g.key.gang == (gangKey{}) || first.Short <= 1 {
		return true
	}
	places := uint64(0)
	if r := &g.asks[0].request; match.Check(r, view) == match.Fits {
		places = min(view.Free.Millicores/max(1, r.Millicores), view.Free.MemoryMiB/max(1, r.MemoryMiB))
	}
	if reach.Free != view.Free {
		places++ // by preemption, which is for one auction at a time
	}
	if first.Short > places {
		first.Short -= places
		return false
	}
	return true
}

// rankOf is a job's place in the queues: the earlier it came the better, a
// class counts as a delay, and a priority fee as a head start within it.
func (s *State) rankOf(j *Job) place {
	return place{at: s.config.rankAt(j.Submitted, j.Spec.Scheduling.Class, j.Order.PriorityBps), arrival: j.Arrival}
}

func (c *Config) rankAt(submitted chain.TimeMs, class job.Class, fee chain.PriorityFee) uint64 {
	at, head := uint64(submitted)+c.delayMs(class), c.headStartMs(class, fee)
	return at - min(at, head)
}

func keyOf(j *Job, r *match.Request) groupKey {
	k := groupKey{
		resources: j.Spec.Resources, region: r.Region, kernel: r.Kernel, gpuKind: r.GPUKind, want: j.wanted(),
		preemptible: j.Spec.Scheduling.Preemptible,
	}
	if len(r.Replicas)+len(r.Failures) > 0 {
		var owners []byte
		for _, list := range [][]chain.Address{r.Replicas, r.Failures} {
			for _, o := range list {
				owners = append(owners, o[:]...)
			}
			owners = append(owners, 0)
		}
		for _, node := range r.Refuted { // as many as there are refuted runs, whose owners are listed
			owners = append(owners, node[:]...)
		}
		k.owners = string(owners)
	}
	if j.ganged() {
		k.gang = j.gangKey()
	}
	return k
}

// enqueue has a job wait for capacity; until is when an owner may be asked
// again that may not now, or zero.
func (s *State) enqueue(j *Job, r *match.Request, until chain.TimeMs) {
	key := keyOf(j, r)
	g := s.groups[key]
	if g == nil {
		g = &group{key: key, asks: []ask{{request: *r, preemptible: key.preemptible}}}
		if j.ganged() {
			g.asks = s.asks(j)
		}
		s.groups[key] = g
	} else {
		s.leaveQueue(g)
	}
	j.RetryAt, j.group, j.Queued, j.Avoids = until, g, true, r.Failures
	g.jobs.put(s.rankOf(j), j)
	s.joinQueue(g)
	s.reschedule(j)
}

// joinQueue puts a group where its first job belongs, and counts it to that one's
// consumer.
func (s *State) joinQueue(g *group) {
	at, first := g.jobs.first()
	g.at = at
	s.queue.put(at, g)
	s.accounts[first.consumer].first++
}

// leaveQueue takes a group out, before its jobs change.
func (s *State) leaveQueue(g *group) {
	_, first := g.jobs.first()
	s.queue.drop(g.at)
	s.accounts[first.consumer].first--
}

// unqueue takes a job from wherever it waits.
func (s *State) unqueue(j *Job) {
	if j.Parked {
		j.Parked = false
		s.accounts[j.consumer].parked.drop(s.rankOf(j))
	}
	if j.inBack {
		j.inBack = false
		s.backoff.drop(place{arrival: j.Arrival})
	}
	if g := j.group; g != nil {
		j.group, j.Queued, j.Avoids = nil, false, nil
		s.leaveQueue(g)
		g.jobs.drop(s.rankOf(j))
		if g.jobs.n == 0 {
			delete(s.groups, g.key)
		} else {
			s.joinQueue(g)
		}
	}
	j.RetryAt, j.Backoff = 0, false
}

// park has a job wait until its consumer has fewer active jobs, or leases that are not open.
func (s *State) park(j *Job) {
	account := s.accounts[j.consumer]
	j.Parked, j.Reason = true, s.parkedFor(account, j)
	account.parked.put(s.rankOf(j), j)
}

const maxBackoffs = 6 // doublings of RetryMs

// backOff has a job wait for a while, since nobody wanted it.
func (s *State) backOff(j *Job, reason string) {
	s.pause(j, reason)
	j.RetryAt = s.now + chain.TimeMs(s.config.RetryMs<<min(j.Declined, maxBackoffs))
	j.Declined++
	j.Backoff, j.inBack = true, true
	s.backoff.put(place{arrival: j.Arrival}, j)
	s.reschedule(j)
}

// pause gives a job that needs nodes the status of one that waits for them.
func (s *State) pause(j *Job, reason string) {
	status := job.Queued
	if live, _, _ := j.count(); live > 0 {
		status = job.Running
	}
	s.setStatus(j, status, reason)
}

// waiting reports whether the job needs a node and no auction is open for it.
func (j *Job) waiting() bool {
	return j.Status == job.Queued || j.Status == job.Running && j.wanted() > 0
}

// settleDown does what the command under way has left to do: it begins the
// auctions of jobs that wait for what it freed.
func (s *State) settleDown() []Effect {
	var effects []Effect
	for len(s.gained)+len(s.freed)+len(s.ended)+len(s.displaced) > 0 {
		switch {
		case len(s.displaced) > 0:
			j := s.displaced[0]
			s.displaced = s.displaced[1:]
			effects = append(effects, s.advance(j)...)
		case len(s.ended) > 0:
			j := s.ended[0]
			s.ended = s.ended[1:]
			effects = append(effects, s.release(j)...)
		case len(s.freed) > 0:
			a := s.freed[0]
			s.freed = s.freed[1:]
			effects = append(effects, s.unpark(a)...)
		default:
			n := s.gained[0]
			s.gained = s.gained[1:]
			n.gained = false
			effects = append(effects, s.fill(n)...)
		}
	}
	return effects
}

// unpark takes on a consumer's parked jobs, by rank, as many as it may have: a
// gang for which too few have ended does not keep the smaller ones behind it.
func (s *State) unpark(a *Account) []Effect {
	var effects []Effect
	var tried place
	for looked := 0; looked < maxWoken && !s.full(a, 1); looked++ {
		var next *Job
		a.parked.after(tried, func(j *Job) bool {
			next = j
			return false
		})
		if next == nil {
			break
		}
		tried = s.rankOf(next)
		if !next.ganged() || !s.full(a, int(next.Spec.Scheduling.Gang.Size)) {
			effects = append(effects, s.advance(next)...)
		}
	}
	return effects
}

// fill opens auctions for queued jobs that a node, on which something came free,
// could take, by rank, until there are no more.
func (s *State) fill(n *Node) []Effect {
	var effects []Effect
	var tried place // of the last group: there is less and less, so none before it fits now that did not then
	for n.open() {
		view := n.view()
		reach := view
		if n.evictable > 0 && n.preemptor == nil {
			reach.Free = n.evicted()
		}
		var next *group
		s.queue.after(tried, func(g *group) bool {
			if g.served(&view, &reach) && g.worth(&view, &reach) {
				next = g
			}
			return next == nil
		})
		if next == nil {
			break
		}
		tried = next.at
		_, j := next.jobs.first()
		effects = append(effects, s.auction(j, true)...)
	}
	return effects
}

// maxWoken bounds the jobs that back off and are looked at for one node.
const maxWoken = 256

// wake opens the auctions of jobs that back off and that a node, which came or
// accepts work again, could take.
func (s *State) wake(n *Node) []Effect {
	var list []*Job
	looked := 0
	view := n.view()
	s.backoff.each(func(j *Job) bool {
		looked++
		if request, _ := s.request(j); match.Check(&request, &view) == match.Fits {
			list = append(list, j)
		}
		return looked < maxWoken
	})
	var effects []Effect
	for _, j := range list {
		if j.inBack {
			effects = append(effects, s.advance(j)...)
		}
	}
	return effects
}
