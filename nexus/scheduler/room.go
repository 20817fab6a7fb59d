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
	Consumer chain.Address
}

func (p *Past) place() place { return place{at: uint64(p.Deadline), arrival: p.Arrival} }

// retire notes that nothing is due for a job any more, neither to its consumer
// nor to the chain: it gives way when there is no room for another.
func (s *State) retire(j *Job) {
	s.done.put(place{arrival: j.Arrival}, j)
	s.accounts[j.consumer].done.put(place{arrival: j.Arrival}, j)
	s.doneBytes += j.size
	s.accounts[j.consumer].doneBytes += j.size
}

// spare returns how many of the jobs that nothing is due for may give way.
func (s *State) spare() int { return min(s.done.n, s.config.MaxPast-s.past.n) }

// spareOf is spare of one consumer's jobs, which may not take the memory for the
// orders of all.
func (s *State) spareOf(account *Account) int {
	return max(0, min(s.spare(), account.done.n, s.config.MaxPastOf-s.pastOf[account.Consumer]))
}

// fullShare reports whether a consumer keeps as much as it may: jobs, or bytes of
// specifications with one more of that size.
func (s *State) fullShare(account *Account, size int) bool {
	return account.Kept >= uint64(s.config.MaxPerConsumer) || account.specBytes+size > s.config.MaxSpecBytesOf
}

// checkShare says which share of a bound a consumer's order of that size is
// beyond: none of them keeps others out.
func (s *State) checkShare(account *Account, size int) error {
	spare, doneBytes := s.spareOf(account), account.doneBytes
	if spare < account.done.n {
		doneBytes = 0 // not all of them may give way: how much those would free is not counted
	}
	switch {
	case account.first >= s.config.MaxRequestsOf:
		return reject("quota", "%d different requests of this consumer wait for capacity, its limit", account.first)
	case account.outbox >= s.config.MaxOutboxOf:
		return reject("quota", "%d jobs of this consumer wait for the chain to settle them, its share", account.outbox)
	case account.specBytes-doneBytes+size > s.config.MaxSpecBytesOf:
		return reject("quota", "the cluster keeps %d bytes of specifications of this consumer's, its share is %d", account.specBytes, s.config.MaxSpecBytesOf)
	case account.Kept >= uint64(s.config.MaxPerConsumer) && account.done.n > 0 && s.pastOf[account.Consumer] >= s.config.MaxPastOf:
		return reject("quota", "%d orders of this consumer are remembered until their deadlines, its share", s.pastOf[account.Consumer])
	case account.Kept >= uint64(s.config.MaxPerConsumer) && spare == 0:
		return reject("quota", "the cluster keeps %d jobs of this consumer, its limit", account.Kept)
	}
	return nil
}

// makeRoom forgets the oldest jobs that nothing is due for, of a consumer that
// has as much as it may, and of all while the cluster has no room for one more
// whose specification has that size. checkRoom has said that it can.
func (s *State) makeRoom(account *Account, size int) {
	for account != nil && s.fullShare(account, size) && s.spareOf(account) > 0 {
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
		s.remember(&Past{Order: j.id, Deadline: j.Order.Deadline, Arrival: j.Arrival, Consumer: j.consumer})
	}
	s.forget(j)
}

func (s *State) remember(p *Past) {
	s.pastOrders[p.Order] = p
	s.past.put(p.place(), p)
	s.pastOf[p.Consumer]++
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
		if s.pastOf[p.Consumer]--; s.pastOf[p.Consumer] == 0 {
			delete(s.pastOf, p.Consumer)
		}
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
