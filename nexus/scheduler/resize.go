package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// An order whose term resizes a lease asks that lease's node alone for a bid, and holds there
// what it wants more than the lease has. Once the chain has resized the lease, the lease holds
// what the order asks for, and the order nothing: it stays open beside the lease, since its
// terms hold, until another order resizes the lease or the lease is over.

// LeaseID is the name of the lease that the job was given to a node for, on the chain.
func (j *Job) LeaseID() chain.LeaseID {
	id := chain.LeaseID{Order: j.id}
	if run := j.Award(); run != nil {
		id.Node = run.Node
	}
	if j.resizes != nil {
		id.Order = j.resizes.id
	}
	return id
}

// Promised reports whether a lease's terms promise a service.
func (j *Job) Promised() bool {
	terms := j
	if j.resized != nil {
		terms = j.resized
	}
	return terms.Order.Term != nil && terms.Order.Term.Service != nil
}

// holds is what the job takes of each node that it runs on or is kept room on.
func (j *Job) holds() job.Resources {
	switch {
	case j.resized != nil:
		return j.resized.Spec.Resources
	case j.resizes == nil:
		return j.Spec.Resources
	case j.Leased:
		return job.Resources{}
	}
	has, wants := j.resizes.holds(), j.Spec.Resources
	return job.Resources{Millicores: wants.Millicores - min(wants.Millicores, has.Millicores), MemoryMiB: wants.MemoryMiB - min(wants.MemoryMiB, has.MemoryMiB)}
}

// demand is what the job asks of a node.
func (j *Job) demand() match.Request {
	r := Request(&j.Spec)
	if j.resizes != nil {
		more := j.holds()
		r.Millicores, r.MemoryMiB, r.GPUs, r.GPUMilli = more.Millicores, more.MemoryMiB, 0, 0
	}
	return r
}

// checkResize says why an order cannot resize the lease that it names.
func (s *State) checkResize(c *Submit) error {
	term := c.Order.Term
	if term == nil || term.Resizes.IsZero() {
		return nil
	}
	j := s.jobs[term.Resizes]
	switch {
	case j == nil || !j.IsLease() || j.resizes != nil:
		return reject("resize", "no such lease: %s", term.Resizes.Short())
	case j.consumer != c.Order.ConsumerAddress():
		return reject("resize", "lease %s is another consumer's", term.Resizes.Short())
	case j.Status.Final():
		return reject("resize", "lease %s is over", term.Resizes.Short())
	case !j.Leased || j.Award() == nil:
		return reject("resize", "lease %s is not open yet", term.Resizes.Short())
	case j.Order.PriorityBps != c.Order.PriorityBps:
		return reject("resize", "the order has a priority fee of %d bps, lease %s has %d", c.Order.PriorityBps, term.Resizes.Short(), j.Order.PriorityBps)
	case j.resizing != nil:
		return reject("resize", "lease %s is being resized by order %s", term.Resizes.Short(), j.resizing.id.Short())
	}
	if !job.SameWork(&j.Spec, &c.Spec) {
		return reject("resize", "the specification differs from the lease's in more than its cores and memory")
	}
	return nil
}

// auctionResize asks the node of a lease for a bid, if it has room for what is wanted more.
func (s *State) auctionResize(j *Job) []Effect {
	n := s.nodes[j.resizes.Award().Node]
	request := j.demand()
	free := n.free()
	switch {
	case !n.Connected || !n.Accepting:
		return s.end(j, job.Failed, "the lease's node is away, or takes no more work")
	case free.Short(&request) != match.Fits:
		return s.end(j, job.Failed, fmt.Sprintf("no room: the lease's node has %d millicores and %d MiB free, %d and %d more are wanted",
			free.Millicores, free.MemoryMiB, request.Millicores, request.MemoryMiB))
	}
	at := ranked{node: n}
	s.keep(j, at, false)
	j.Reserved = 1
	return s.offer(j, []ranked{at})
}

// resize notes that the chain has resized a lease by an order.
func (s *State) resize(j *Job) []Effect {
	lease := j.resizes
	run, order := lease.Award(), j.Award()
	n := s.nodes[run.Node]
	s.free(j)
	s.give(n, j, order.Devices)
	s.give(n, lease, run.Devices)
	before := lease.resized
	j.Leased, lease.resizing, lease.resized = true, nil, j
	s.take(n, lease, run.Devices)
	s.take(n, j, order.Devices)
	s.gain(n)
	s.changed(j)
	s.touch(lease)
	if before == nil {
		return nil
	}
	return s.end(before, job.Settled, "")
}

// endResizes ends with a lease what resizes it, and forgets with such an order that it did.
func (s *State) endResizes(j *Job) (effects []Effect) {
	for _, other := range []*Job{j.resizing, j.resized} {
		switch {
		case other == nil:
		case other.Leased:
			effects = append(effects, s.end(other, job.Settled, "")...)
		default:
			effects = append(effects, s.end(other, job.Failed, "the lease is over")...)
		}
	}
	if lease := j.resizes; lease != nil && lease.resizing == j {
		lease.resizing = nil
	}
	if lease := j.resizes; lease != nil && lease.resized == j {
		lease.resized = nil
	}
	j.resizes = nil
	return effects
}

// restoreResize derives which lease an open order resizes, or has resized: one of those before
// it. What a lease holds follows from that, so that it is known before anything is taken.
func (j *Job) restoreResize(before map[crypto.Digest]*Job) error {
	if j.Status.Final() || j.Order.Term == nil || j.Order.Term.Resizes.IsZero() {
		return nil
	}
	lease := before[j.Order.Term.Resizes]
	if lease == nil || lease.Award() == nil || lease.Status.Final() {
		return fmt.Errorf("scheduler: snapshot: order %s resizes lease %s, which is not there", j.id.Short(), j.Order.Term.Resizes.Short())
	}
	if j.resizes = lease; j.Leased {
		lease.resized = j
	} else {
		lease.resizing = j
	}
	return nil
}
