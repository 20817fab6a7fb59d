package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// A gang is several orders of one consumer that begin together or not at all:
// each has its own node, bid, receipt and claim, as any order has. Its auctions
// are opened together, once every member is here and room is kept for all of
// them; who wins an auction keeps its place until all are won, and then all are
// assigned at once, and only then ends what they preempt. If one fails all places
// are given back. Once begun, each member is on its own.

type gangKey struct {
	consumer chain.Address
	id       crypto.Digest
}

// gang is the members that wait to begin.
type gang struct {
	size    uint64
	members []*Job // in order of arrival
}

// maxSeats bounds the samples that are drawn to seat a gang: on a small cluster
// that is every way to seat it, on a large one some.
const maxSeats = 4 * job.MaxGang

// maxBefore bounds the orders that are looked at for a way back to an order's
// own gang.
const maxBefore = 4_096

// ganged reports whether the job begins with its gang.
func (j *Job) ganged() bool { return j.Spec.Scheduling.Gang.Size > 0 && !j.Started }

// picked reports whether a member of a gang has won its auction and waits for
// the others.
func (j *Job) picked() bool { return len(j.Places) == 1 && j.Places[0].Picked != nil }

func (j *Job) gangKey() gangKey {
	return gangKey{consumer: j.consumer, id: j.Spec.Scheduling.Gang.ID}
}

// checkGang says why an order cannot join its gang.
func (s *State) checkGang(consumer chain.Address, c *Submit) error {
	want := c.Spec.Scheduling.Gang
	if want.Size == 0 {
		return nil
	}
	g := s.gangs[gangKey{consumer: consumer, id: want.ID}]
	switch {
	case want.Size > uint64(min(s.config.MaxActive, s.config.MaxOutboxOf)):
		return reject("gang", "a gang of %d, but a consumer may have %d active jobs", want.Size, min(s.config.MaxActive, s.config.MaxOutboxOf))
	case g != nil && g.size != want.Size:
		return reject("gang", "gang %s is of %d orders, this one says %d", want.ID.Short(), g.size, want.Size)
	case g != nil && g.members[0].Order.PriorityBps != c.Order.PriorityBps: // one place for all, which each pays for
		return reject("gang", "the orders of gang %s have a priority fee of %d bps, this one has %d", want.ID.Short(), g.members[0].Order.PriorityBps, c.Order.PriorityBps)
	case g != nil && uint64(len(g.members)) == g.size:
		return reject("gang", "gang %s has its %d orders", want.ID.Short(), g.size)
	}
	return nil
}

func (s *State) joinGang(j *Job) {
	if !j.ganged() {
		return
	}
	key := j.gangKey()
	g := s.gangs[key]
	if g == nil {
		g = &gang{size: j.Spec.Scheduling.Gang.Size}
		s.gangs[key] = g
	}
	g.members = append(g.members, j)
}

// assembled reports whether a gang can begin as soon as there is room: all its
// members are here, and none waits for orders. If it cannot, every member says
// why.
func (s *State) assembled(j *Job) bool {
	g := s.gangs[j.gangKey()]
	ready := uint64(0)
	for _, m := range g.members {
		if len(m.Waits) == 0 {
			ready++
		}
	}
	if ready == g.size {
		return true
	}
	for _, m := range g.members {
		if len(m.Waits) == 0 && m.Status == job.Queued {
			m.Reason = fmt.Sprintf("%d of the %d orders of its gang are ready", ready, g.size)
		}
	}
	return false
}

// checkCircle says why an order of a gang would wait for its own gang, which
// waits for it: because of one that it comes after, of one that that one comes
// after or begins with, and so on.
func (s *State) checkCircle(consumer chain.Address, spec *job.Spec) error {
	want := spec.Scheduling.Gang
	if want.Size == 0 {
		return nil
	}
	own := gangKey{consumer: consumer, id: want.ID}
	seen := map[crypto.Digest]bool{}
	list := slices.Clone(spec.Scheduling.After)
	for len(list) > 0 {
		id := list[0]
		list = list[1:]
		j := s.jobs[id]
		if j == nil || seen[id] || j.Status.Final() {
			continue
		}
		if seen[id] = true; len(seen) > maxBefore {
			return reject("gang", "an order of a gang comes after more than %d orders", maxBefore)
		}
		list = append(list, j.Waits...)
		switch {
		case !j.ganged():
		case j.gangKey() == own:
			return reject("gang", "order %s, which it comes after, directly or not, is of its own gang %s and would wait for it", id.Short(), want.ID.Short())
		default:
			for _, m := range s.gangs[j.gangKey()].members {
				list = append(list, m.id)
			}
		}
	}
	return nil
}

// auctionGang opens the auctions of all members, or has the gang wait: its first
// member in the queue, and the others for it.
func (s *State) auctionGang(j *Job) []Effect {
	members := s.gangs[j.gangKey()].members
	for _, m := range members {
		s.unqueue(m)
		s.pause(m, "its gang waits for room")
		s.reschedule(m)
	}
	if s.full(s.accounts[j.consumer], len(members)) {
		s.park(members[0])
		s.reschedule(members[0])
		return nil
	}
	t := &seating{state: s, order: hardestFirst(members), rankings: map[*Job][]ranked{}}
	if t.blocked = s.hopeless(t.order); t.blocked != nil || !t.seat(0) {
		s.enqueueGang(members, t)
		return nil
	}
	var effects []Effect
	for _, m := range members {
		effects = append(effects, s.offer(m, t.rankings[m])...)
	}
	return effects
}

// hardestFirst sorts the members of a gang by what they ask.
func hardestFirst(members []*Job) []*Job {
	out := slices.Clone(members)
	slices.SortStableFunc(out, func(a, b *Job) int {
		x, y := &a.Spec.Resources, &b.Spec.Resources
		return cmp.Or(cmp.Compare(usedGPU(y), usedGPU(x)), cmp.Compare(y.Millicores, x.Millicores), cmp.Compare(y.MemoryMiB, x.MemoryMiB))
	})
	return out
}

// hopeless returns the first member that no node has room for, were it alone.
func (s *State) hopeless(members []*Job) *Job {
	for i, m := range members {
		if i > 0 && sameAsk(m, members[i-1]) {
			continue
		}
		request, _ := s.request(m)
		if len(s.find(&request, s.seed(m), 1, false)) == 0 && (m.Spec.Scheduling.Preemptible || len(s.find(&request, s.seed(m), 1, true)) == 0) {
			return m
		}
	}
	return nil
}

// sameAsk reports whether two members of a gang ask the same of a node.
func sameAsk(a, b *Job) bool {
	x, y := Request(&a.Spec), Request(&b.Spec)
	alike := x.Region == y.Region && x.Kernel == y.Kernel && x.GPUKind == y.GPUKind && a.Spec.Resources == b.Spec.Resources
	return alike && a.Spec.Scheduling.Preemptible == b.Spec.Scheduling.Preemptible
}

// seating is the search for places of a whole gang.
type seating struct {
	state    *State
	order    []*Job
	rankings map[*Job][]ranked
	seats    int  // samples drawn
	best     int  // members that had a place at once
	blocked  *Job // that no node has room for even alone
}

// seat keeps a place for each member from the k-th on, and reports whether it
// could; if not nothing is kept for them. Where members are alike, it does not
// matter which of them sits where, and nothing is tried twice.
func (t *seating) seat(k int) bool {
	if t.best = max(t.best, k); k == len(t.order) {
		return true
	}
	if t.seats++; t.seats > maxSeats {
		return false
	}
	s, m := t.state, t.order[k]
	request, _ := s.request(m)
	ranking := s.rank(m, &request, s.sample(m, &request, 1))
	firm := len(ranking)
	if !m.Spec.Scheduling.Preemptible {
		for _, n := range s.find(&request, s.seed(m), s.config.Sample, true) {
			ranking = append(ranking, ranked{node: n})
		}
	}
	for i, r := range ranking {
		s.keep(m, r, i >= firm)
		m.Reserved, t.rankings[m] = 1, ranking
		if t.seat(k + 1) {
			return true
		}
		s.dropPlaces(m) // nobody else saw that it was kept: nothing came free
		if t.uniform(k) || t.seats > maxSeats {
			return false
		}
	}
	return false
}

// uniform reports whether all members from the k-th on ask the same: then
// another node for the k-th leaves as many places for the rest.
func (t *seating) uniform(k int) bool {
	return !slices.ContainsFunc(t.order[k+1:], func(m *Job) bool { return !sameAsk(m, t.order[k]) })
}

// enqueueGang has a gang wait, by its first member, for what it lacked: a node
// for the member that none had room for, or as many places as were missing.
func (s *State) enqueueGang(members []*Job, t *seating) {
	first := members[0]
	first.Blocked, first.Short = crypto.Digest{}, 1
	if t.blocked != nil {
		first.Blocked = t.blocked.id
	} else if t.seats <= maxSeats && t.uniform(0) {
		first.Short = uint64(len(members) - t.best)
	}
	request, until := s.request(first)
	s.enqueue(first, &request, until)
}

// asks are the requests, different from one another, of which one has to fit a
// node before another try to seat the gang of that first member can succeed.
func (s *State) asks(first *Job) []ask {
	var out []ask
	members := hardestFirst(s.gangs[first.gangKey()].members)
	for i, m := range members {
		if !first.Blocked.IsZero() && m.id != first.Blocked || first.Blocked.IsZero() && i > 0 && sameAsk(m, members[i-1]) {
			continue
		}
		out = append(out, ask{request: Request(&m.Spec), preemptible: m.Spec.Scheduling.Preemptible})
	}
	return out
}

// pickMember keeps the winner's place for a member of a gang, and begins the
// gang once it is the last. Nothing is preempted before.
func (s *State) pickMember(j *Job, n *Node, bid *SignedBid) []Effect {
	request, _ := s.request(j)
	if n.fits(&request) {
		devices, _ := s.standing(j, &request, n)
		s.keep(j, ranked{node: n, devices: devices}, false)
	} else {
		s.keep(j, ranked{node: n}, true)
	}
	picked := *bid
	j.Places[0].Picked = &picked
	members := s.gangs[j.gangKey()].members
	if slices.ContainsFunc(members, func(m *Job) bool { return !m.picked() }) {
		return nil
	}
	for _, m := range members {
		if p := &m.Places[0]; p.Evict && !s.reaches(m, s.nodes[p.Node]) { // others took what was free there
			s.disband(m)
			return s.again(m, "its room was given to others while its gang was picked")
		}
	}
	return s.beginGang(j.gangKey())
}

// reaches reports whether a job fits a node once what it may preempt there has
// ended.
func (s *State) reaches(j *Job, n *Node) bool {
	request, _ := s.request(j)
	view := n.viewWith(n.evicted())
	return match.Check(&request, &view) == match.Fits
}

// beginGang ends what the members preempt, and then assigns all of them: one
// that is assigned may be preemptible, and must not give way to the next.
func (s *State) beginGang(key gangKey) []Effect {
	members := s.gangs[key].members
	delete(s.gangs, key)
	var effects []Effect
	for _, m := range members {
		p := m.Places[0]
		if !p.Evict {
			continue
		}
		n := s.nodes[p.Node]
		s.dropPlace(m, 0)
		effects = append(effects, s.evict(n, m)...)
		request, _ := s.request(m)
		devices, _ := s.standing(m, &request, n)
		s.keep(m, ranked{node: n, devices: devices}, false)
		m.Places[0].Picked = p.Picked
	}
	for _, m := range members {
		p := m.Places[0]
		m.Places = nil
		effects = append(effects, s.assign(m, s.nodes[p.Node], p.Picked, p.Devices)...)
		m.Rushed = 0
		s.setStatus(m, job.Running, "")
	}
	return effects
}

// disband ends the auctions of a gang that has not begun, because one of its
// members could not be placed, and has the others wait for that member.
func (s *State) disband(j *Job) {
	for _, m := range s.gangs[j.gangKey()].members {
		s.vacate(m)
		if m != j {
			s.unqueue(m)
			s.pause(m, "its gang waits for room")
			s.reschedule(m)
		}
	}
}

// leaveGang takes a job that is over from a gang that has not begun, which then
// never will: the others are returned, to be ended as well.
func (s *State) leaveGang(j *Job) []*Job {
	if !j.ganged() {
		return nil
	}
	key := j.gangKey()
	g := s.gangs[key]
	if g == nil {
		return nil
	}
	delete(s.gangs, key)
	return slices.DeleteFunc(g.members, func(m *Job) bool { return m == j })
}
