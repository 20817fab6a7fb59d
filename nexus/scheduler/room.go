package scheduler

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Past is the order of a job that was forgotten to make room, before its
// deadline: until then it is not taken again.
type Past struct {
	_        struct{} `cbor:",toarray"`
	Order    crypto.Digest
	Deadline chain.TimeMs
	Arrival  uint64
}

func (p *Past) place() place { return place{at: uint64(p.Deadline), arrival: p.Arrival} }

// retire notes that nothing is due for a job any more, neither to its consumer
// nor to the chain: it gives way when there is no room for another.
func (s *State) retire(j *Job) {
	s.done.put(place{arrival: j.Arrival}, j)
	s.accounts[j.consumer].done.put(place{arrival: j.Arrival}, j)
	s.doneBytes += j.size
}

// spare returns how many of the jobs that nothing is due for may give way.
func (s *State) spare() int { return min(s.done.n, s.config.MaxPast-s.past.n) }

// makeRoom forgets the oldest jobs that nothing is due for, of a consumer that
// has as many as it may, and of all while the cluster has no room for one more
// whose specification has that size. checkRoom has said that it can.
func (s *State) makeRoom(account *Account, size int) {
	for account != nil && account.Kept >= uint64(s.config.MaxPerConsumer) && account.done.n > 0 && s.spare() > 0 {
		s.giveWay(&account.done)
	}
	for (len(s.jobs) >= s.config.MaxJobs || s.specBytes+size > s.config.MaxSpecBytes) && s.spare() > 0 {
		s.giveWay(&s.done)
	}
}

// giveWay forgets the first of a list, and remembers its order until its
// deadline.
func (s *State) giveWay(list *ordered[*Job]) {
	_, j := list.first()
	if j.Order.Deadline > s.now {
		s.remember(&Past{Order: j.id, Deadline: j.Order.Deadline, Arrival: j.Arrival})
	}
	s.forget(j)
}

func (s *State) remember(p *Past) {
	s.pastOrders[p.Order] = p
	s.past.put(p.place(), p)
}

// letPastGo forgets the orders whose deadline is over.
func (s *State) letPastGo() {
	for s.past.n > 0 {
		at, p := s.past.first()
		if at.at > uint64(s.now) {
			return
		}
		s.past.drop(at)
		delete(s.pastOrders, p.Order)
	}
}

// pastList returns the orders that are remembered, by deadline.
func (s *State) pastList() [][]Past {
	var list []*Past
	s.past.each(func(p *Past) bool {
		list = append(list, p)
		return true
	})
	return inParts(slices.Clip(list))
}
