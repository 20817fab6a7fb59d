package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// An order with a term is for a lease. It is queued, offered and given to a node as any
// other; with the award, whoever likes may open it on the chain. From then on the chain says
// what becomes of it: the cluster counts what it holds of its node, and nothing else.

// LeaseSeen says what a finalized state has of the lease of a node that an order was given
// to, which the leader read with proof.
type LeaseSeen struct {
	_      struct{} `cbor:",toarray"`
	Order  crypto.Digest
	Node   crypto.PublicKey
	Height chain.Height // of the state
	Live   bool
	Opened bool // it is there, or was: the order is used
	Late   bool // it is not there, and cannot be opened any more
}

func (LeaseSeen) sealedCommand() {}

// never is when time has nothing to do for a lease that lives.
const never = chain.TimeMs(1) << 62

// IsLease reports whether the job's order is for a lease.
func (j *Job) IsLease() bool { return j.Order.Term != nil }

// Award returns the run whose bid has the lease, or will have it once somebody opens it; nil
// if there is none.
func (j *Job) Award() *Run {
	for i := range j.Runs {
		if j.IsLease() && j.Runs[i].Stage == Live {
			return &j.Runs[i]
		}
	}
	return nil
}

// OpenUntil is until when the chain opens the lease that a job was awarded; zero if it was not.
func (j *Job) OpenUntil() chain.TimeMs {
	run := j.Award()
	if run == nil {
		return 0
	}
	return min(j.Order.Deadline, run.Bid.Expiry)
}

// Leases returns jobs for leases that were given to nodes, in the order of arrival, those
// after a number and at most limit. An order that has resized a lease is no other.
func (s *State) Leases(after uint64, limit int) (list []*Job) {
	s.open.each(func(j *Job) bool {
		if j.Arrival > after && j.Award() != nil && !(j.Leased && j.resizes != nil) {
			list = append(list, j)
		}
		return len(list) < limit
	})
	return list
}

func (s *State) leaseSeen(c LeaseSeen) ([]Effect, error) {
	j := s.jobs[c.Order]
	if j == nil || !j.IsLease() || j.Status.Final() || j.liveOn(c.Node) == nil {
		return nil, nil
	}
	account := s.accounts[j.consumer]
	if c.Height < account.Settled {
		return nil, nil // a state from before what is known
	}
	if c.Opened {
		account.Settled = c.Height
	}
	switch {
	case j.Leased && j.resizes != nil:
		return nil, nil // the lease that it resized ends it
	case c.Live && !j.Leased && j.resizes != nil:
		return s.resize(j), nil
	case c.Live && !j.Leased: // its money has left the escrow
		s.free(j)
		j.Leased = true
		s.changed(j)
		s.reschedule(j)
		return nil, nil
	case c.Live:
		return nil, nil
	case j.Leased || c.Opened:
		return s.end(j, job.Settled, ""), nil
	case c.Late && j.resizes != nil:
		return s.tooLate(j, "nobody posted the deal before the order's deadline and the bid's expiry"), nil
	case c.Late:
		return s.tooLate(j, "nobody opened the lease before the order's deadline and the bid's expiry"), nil
	}
	return nil, nil
}

// tooLate ends a lease that the chain, by a state of its own, does not have and opens no more: what the escrow held before is there still. The
// longer bid of a node that was given it before keeps its cap outstanding.
func (s *State) tooLate(j *Job, why string) []Effect {
	late := j.OpenUntil()
	s.letLapse(j, min(late, s.now))
	effects := s.end(j, job.Failed, why)
	if j.Held != 0 && j.Held <= late {
		s.letCapGo(j)
	}
	return effects
}

// leaseCost is what bids for a lease are compared by: what it costs for the least time that a
// lease may last, which the order's cap has to cover.
func leaseCost(order *chain.Order, b *chain.Bid) (chain.Amount, error) {
	rate, err := order.Rate(b.Prices)
	if err != nil {
		return chain.Amount{}, fmt.Errorf("scheduler: %w", err)
	}
	return chain.RateCost(rate, job.MinLeaseMs), nil
}
