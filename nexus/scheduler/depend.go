package scheduler

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// An order may wait for others of its consumer. It names them by their ids, which
// are hashes, and they have to be here before it: so there are no circles. It
// goes on once their results count and say that they ended well; if one of them
// fails, it fails.

// checkAfter says why an order cannot wait for those that it names.
func (s *State) checkAfter(consumer chain.Address, spec *job.Spec) error {
	for _, id := range spec.Scheduling.After {
		before := s.jobs[id]
		switch {
		case before == nil:
			return reject("after", "order %s, which it comes after, is not known", id.Short())
		case before.consumer != consumer:
			return reject("after", "order %s, which it comes after, is another consumer's", id.Short())
		case before.Order.Fair && spec.Scheduling.InputOf == id:
			return reject("after", "order %s, whose output it takes, is under fair exchange: the output is sealed until it is paid", id.Short())
		}
	}
	return nil
}

// await has a new job wait for the orders before it that have not ended. It is
// false, and Reason says why, if one of them will not serve it.
func (s *State) await(j *Job) bool {
	for _, id := range j.Spec.Scheduling.After {
		before := s.jobs[id]
		if before.Status == job.Settling && !before.replicated() || before.Status.Final() {
			if !j.accept(before) {
				return false
			}
			continue
		}
		j.Waits = append(j.Waits, id)
		s.depend(j, id)
	}
	return true
}

// depend lists a job among those that wait for an order.
func (s *State) depend(j *Job, id crypto.Digest) {
	if s.dependents[id] == nil {
		s.dependents[id] = &ordered[*Job]{}
	}
	s.dependents[id].put(place{arrival: j.Arrival}, j)
}

// accept takes the result of an order before the job.
func (j *Job) accept(before *Job) bool {
	id := before.id
	counted := before.Counted()
	if len(counted) == 0 || before.Status == job.Failed || before.Status == job.Cancelled {
		j.Reason = fmt.Sprintf("order %s, which it comes after, is %s", id.Short(), before.Status)
		return false
	}
	run := counted[0]
	switch receipt := &run.Done.Receipt; {
	case receipt.Exit != chain.ExitOK:
		j.Reason = fmt.Sprintf("order %s, which it comes after, ended with %q", id.Short(), receipt.Exit)
		return false
	case j.Spec.Scheduling.InputOf != id:
		return true
	case run.Done.Output.IsZero():
		j.Reason = fmt.Sprintf("order %s, whose output it takes, has none", id.Short())
		return false
	case run.Done.OutputSize > j.Spec.InputBytes:
		j.Reason = fmt.Sprintf("order %s has an output of %d bytes, and input_bytes is %d", id.Short(), run.Done.OutputSize, j.Spec.InputBytes)
		return false
	}
	j.Input, j.InputNode = run.Done.Output, run.Node
	return true
}

// release takes those on that waited for a job whose results count now, or that
// failed.
func (s *State) release(before *Job) []Effect {
	waiting := s.dependents[before.id]
	var effects []Effect
	for waiting != nil && waiting.n > 0 { // one that ends may take others with it
		at, j := waiting.first()
		waiting.drop(at)
		j.Waits = slices.DeleteFunc(j.Waits, func(id crypto.Digest) bool { return id == before.id })
		if !j.accept(before) {
			effects = append(effects, s.end(j, job.Failed, j.Reason)...)
		} else {
			effects = append(effects, s.advance(j)...)
		}
	}
	delete(s.dependents, before.id)
	return effects
}

// forgo has a job wait for no other any more.
func (s *State) forgo(j *Job) {
	for _, id := range j.Waits {
		waiting := s.dependents[id]
		if waiting.drop(place{arrival: j.Arrival}); waiting.n == 0 {
			delete(s.dependents, id)
		}
	}
	j.Waits = nil
}
