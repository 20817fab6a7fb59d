package scheduler

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// A gang is several orders of one consumer that begin together or not at all:
// each has its own node, bid, receipt and claim, as any order has. Its auctions
// are opened together, once every member is here and room is kept for all of
// them; who wins an auction keeps its place until all are won, and then all are
// assigned at once. If one fails all places are given back. Once begun, each
// member is on its own.

type gangKey struct {
	consumer chain.Address
	id       crypto.Digest
}

// gang is the members that wait to begin.
type gang struct {
	size    uint64
	members []*Job // in order of arrival
}

// ganged reports whether the job begins with its gang.
func (j *Job) ganged() bool { return j.Spec.Scheduling.Gang.Size > 0 && !j.Started }

// picked reports whether a member of a gang has won its auction and waits for
// the others.
func (j *Job) picked() bool { return len(j.Places) == 1 && j.Places[0].Picked != nil }

func (j *Job) gangKey() gangKey {
	return gangKey{consumer: j.consumer, id: j.Spec.Scheduling.Gang.ID}
}

// checkGang says why an order cannot join its gang.
func (s *State) checkGang(consumer chain.Address, spec *job.Spec) error {
	want := spec.Scheduling.Gang
	if want.Size == 0 {
		return nil
	}
	g := s.gangs[gangKey{consumer: consumer, id: want.ID}]
	switch {
	case want.Size > uint64(s.config.MaxActive):
		return reject("gang", "a gang of %d, but a consumer may have %d active jobs", want.Size, s.config.MaxActive)
	case g != nil && g.size != want.Size:
		return reject("gang", "gang %s is of %d orders, this one says %d", want.ID.Short(), g.size, want.Size)
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

// auctionGang opens the auctions of all members, or has the gang wait: its first
// member in the queue, and the others for it.
func (s *State) auctionGang(j *Job) []Effect {
	members := s.gangs[j.gangKey()].members
	first := members[0]
	for _, m := range members {
		s.unqueue(m)
		s.pause(m, "its gang waits for room")
		s.reschedule(m)
	}
	rankings := make([][]ranked, 0, len(members))
	for _, m := range members {
		request, _ := s.request(m)
		ranking := s.reserve(m, &request)
		if ranking == nil {
			break
		}
		rankings = append(rankings, ranking)
	}
	short := len(rankings) < len(members)
	crowded := s.accounts[j.consumer].active+len(members) > s.config.MaxActive
	if short || crowded {
		for _, m := range members { // nobody else saw that they were kept: nothing came free
			s.dropPlaces(m)
		}
		if crowded {
			s.park(first)
			return nil
		}
		request, until := s.request(first)
		s.enqueue(first, &request, until)
		return nil
	}
	var effects []Effect
	for i, m := range members {
		effects = append(effects, s.offer(m, rankings[i])...)
	}
	return effects
}

// pickMember keeps the winner's place for a member of a gang, and begins the
// gang once it is the last.
func (s *State) pickMember(j *Job, n *Node, bid *SignedBid) []Effect {
	effects := s.evict(n, j)
	request, _ := s.request(j)
	devices, _ := s.standing(j, &request, n)
	s.keep(j, ranked{node: n, devices: devices}, false)
	picked := *bid
	j.Places[0].Picked = &picked
	key := j.gangKey()
	members := s.gangs[key].members
	if slices.ContainsFunc(members, func(m *Job) bool { return !m.picked() }) {
		return effects
	}
	delete(s.gangs, key)
	for _, m := range members {
		p := m.Places[0]
		m.Places = nil
		effects = append(effects, s.assign(m, s.nodes[p.Node], p.Picked, p.Devices))
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
