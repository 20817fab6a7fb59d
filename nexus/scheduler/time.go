package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// dueAt returns when time has something to do for a job.
func (s *State) dueAt(j *Job) chain.TimeMs {
	switch {
	case j.Held != 0:
		return j.Held + 1
	case j.Status.Final():
		return max(j.Order.Deadline+1, j.Changed+chain.TimeMs(s.config.RetentionMs))
	case j.Status == job.Settling:
		return s.last(j) + 1
	}
	due := s.last(j) + 1
	for i := range j.Runs {
		if j.Runs[i].Stage == Live {
			due = min(due, j.overdueAt(&j.Runs[i])+1)
		}
	}
	if j.RetryAt != 0 {
		due = min(due, j.RetryAt)
	}
	return due
}

// reschedule puts a job where it belongs among those that time does something
// for.
func (s *State) reschedule(j *Job) {
	at := place{at: uint64(s.dueAt(j)), arrival: j.Arrival}
	if at == j.timer {
		return
	}
	if j.timer != (place{}) {
		s.timers.drop(j.timer)
	}
	j.timer = at
	s.timers.put(at, j)
}

func (s *State) tick() ([]Effect, error) {
	var effects []Effect
	s.explained = 0
	s.letPastGo()
	effects = append(effects, s.letNodesGo()...)
	for s.timers.n > 0 {
		at, j := s.timers.first()
		if at.at > uint64(s.now) {
			break
		}
		held := j.Held
		effects = append(effects, s.elapse(j)...)
		if next, same := s.firstTimer(); same == j && next == at && j.Held == held {
			panic(fmt.Sprintf("scheduler: time does not go on for job %s, which is %s: it is due at %d, it is %d; retry %d, last %d", j.id.Short(), j.Status, at.at, s.now, j.RetryAt, s.last(j)))
		}
	}
	return effects, nil
}

func (s *State) firstTimer() (place, *Job) {
	if s.timers.n == 0 {
		return place{}, nil
	}
	return s.timers.first()
}

// elapse does what time does for a job.
func (s *State) elapse(j *Job) []Effect {
	switch {
	case j.Held != 0: // no claim can spend its cap any more
		s.lapse(j, j.Held)
		s.letCapGo(j)
		return nil
	case j.Status.Final():
		s.forget(j)
		return nil
	case s.last(j) < s.now && j.Status == job.Settling:
		s.lapse(j, j.Order.Deadline+chain.TimeMs(s.config.ClaimWindowMs))
		return s.end(j, job.Failed, "the claim window ended and the chain's verdict did not come")
	case s.last(j) < s.now:
		s.letLapse(j, min(j.OpenUntil(), s.now))
		return s.end(j, job.Failed, "the deadline passed: "+s.lastReason(j))
	}
	effects := s.loseOverdue(j)
	if j.RetryAt != 0 && j.RetryAt <= s.now {
		s.unqueue(j)
		effects = append(effects, s.advance(j)...)
	}
	return effects
}

// maxExplained bounds the jobs of which one Tick says what excluded which nodes.
const maxExplained = 16

// lastReason is Reason of a job that waits no longer.
func (s *State) lastReason(j *Job) string {
	if j.group == nil || j.Backoff || j.Parked {
		return j.Reason
	}
	if s.explained++; s.explained > maxExplained {
		return "no node had room for it"
	}
	return s.Reason(j)
}

// last is the last instant of a job that is not final: for its work, or, long
// after its claims could be paid, for the chain's verdict on them. Runs that the chain has are over when it says so: each
// of their stages ends by itself, some long after the claim window, and nodes whose receipts nobody shows then lose their
// stakes.
func (s *State) last(j *Job) chain.TimeMs {
	switch {
	case j.Status == job.Settling && j.replicated() && j.OnChain.Begun:
		return never
	case j.Status == job.Settling:
		return j.Order.Deadline + chain.TimeMs(s.config.ClaimWindowMs+s.config.RetentionMs)
	case j.Leased:
		return never
	case j.Award() != nil: // it may have been opened in time: the chain is asked
		return j.Order.Deadline + chain.TimeMs(s.config.ClaimWindowMs)
	}
	return j.Order.Deadline
}

// A run may take until its start, twice its time limit, and a second for each
// MiB that is moved, and then some: a node that never ends one would otherwise
// hold the job until its deadline.
const (
	maxStartMs = 600_000
	spareMs    = 60_000
)

func (j *Job) overdueAt(run *Run) chain.TimeMs {
	if j.IsLease() {
		return never
	}
	moved := (j.Spec.InputBytes + j.Spec.Limits.OutputBytes) >> 20
	start := max(run.Since, min(run.Bid.Expiry, run.Since+maxStartMs))
	return start + chain.TimeMs(2*j.Spec.Limits.WallMs+1_000*moved+spareMs)
}

func (s *State) loseOverdue(j *Job) []Effect {
	var effects []Effect
	for i := range j.Runs {
		if run := &j.Runs[i]; run.Stage == Live && j.overdueAt(run) < s.now {
			const reason = "it took too long"
			s.lose(j, run.Node, reason)
			effects = append(effects, SendCancel{Node: run.Node, Order: j.id, Reason: reason})
			effects = append(effects, s.strike(s.nodes[run.Node], reason)...)
		}
	}
	if len(effects) > 0 {
		effects = append(effects, s.advance(j)...)
	}
	return effects
}

// forget drops a final job whose retention is over, or that makes room, and its
// account if it has no other. The sequence of an account that comes back goes on
// above the floor, and its escrow has to be as new as any settlement or lapse that
// is forgotten. Until its deadline the order at least is remembered: were it
// not known, it could be submitted again.
func (s *State) forget(j *Job) {
	s.timers.drop(j.timer)
	delete(s.jobs, j.id)
	s.dropMisses(func(m *Miss) bool { return m.Report.Epoch.Lease.Order == j.id })
	s.specBytes -= j.size
	s.all.drop(j.newest())
	s.byStatus[j.Status]--
	account := s.accounts[j.consumer]
	account.jobs.drop(j.newest())
	account.done.drop(place{arrival: j.Arrival})
	account.specBytes -= j.size
	account.doneBytes -= j.size
	s.done.drop(place{arrival: j.Arrival})
	s.doneBytes -= j.size
	if account.Kept--; account.Kept == 0 {
		s.floor, s.settled, s.since = max(s.floor, account.Sequence), max(s.settled, account.Settled), max(s.since, account.Since)
		delete(s.accounts, account.Consumer)
	}
}
