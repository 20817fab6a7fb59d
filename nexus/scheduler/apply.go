package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/nexus/job"
)

// Rejection says which rule a command broke; the state is as it was.
type Rejection struct {
	Rule string // short and stable, for programs
	Text string // for people
}

// Error returns the text.
func (r *Rejection) Error() string { return r.Text }

func reject(rule, format string, args ...any) error {
	return &Rejection{Rule: rule, Text: fmt.Sprintf(format, args...)}
}

// Apply carries out an entry's commands one after the other. The effects are
// those of all of them, in order; the errors, one for each command, are nil or a
// *Rejection.
func (s *State) Apply(e Entry) ([]Effect, []error) {
	s.now = max(s.now, e.TimeMs)
	s.entries++
	s.touched = nil
	var effects []Effect
	errs := make([]error, len(e.Commands))
	for i, c := range e.Commands {
		var caused []Effect
		caused, errs[i] = s.dispatch(c)
		effects = append(effects, caused...)
		effects = append(effects, s.settleDown()...)
	}
	return effects, errs
}

func (s *State) dispatch(c Command) ([]Effect, error) {
	switch c := c.(type) {
	case Submit:
		return s.submit(c)
	case NodeUp:
		return s.nodeUp(c)
	case NodeDown:
		return s.nodeDown(c)
	case NodeLoad:
		return s.nodeLoad(c)
	case CloseAuction:
		return s.closeAuction(c)
	case Refused:
		return s.refused(c)
	case Finished:
		return s.finished(c)
	case CancelJob:
		return s.cancelJob(c)
	case Confirmed:
		return s.confirmed(c)
	case Tick:
		return s.tick()
	case SetSettings:
		return nil, s.setSettings(c)
	case LeaseSeen:
		return s.leaseSeen(c)
	case MadePledge:
		return s.madePledge(c)
	case Observed:
		return s.observed(c)
	case FoundMiss:
		return s.foundMiss(c)
	case ClosedMiss:
		return s.closedMiss(c)
	case Revealed:
		return s.revealed(c)
	}
	panic(fmt.Sprintf("scheduler: command of type %T", c))
}

// Pending returns what a new leader has to do: the open auctions, the live
// assignments and the outbox.
func (s *State) Pending() []Effect {
	var effects []Effect
	s.open.each(func(j *Job) bool {
		if j.Status == job.Bidding && !j.picked() { // whether or not the nodes with its places are still there
			var ranking []ranked
			if j.resizes == nil { // else its lease's node alone is asked
				request, _ := s.request(j)
				ranking = s.rank(j, &request, s.sample(j, &request, j.wanted()))
			}
			effects = append(effects, OpenAuction{Order: j.id, Auction: j.Auction, Want: j.wanted(), Candidates: s.candidates(j, ranking)})
		}
		for i := range j.Runs {
			if j.Runs[i].Stage == Live {
				effects = append(effects, j.sendAssign(&j.Runs[i])...)
			}
		}
		return true
	})
	if s.outbox.n > 0 || len(s.misses) > 0 {
		effects = append(effects, Post{Cursor: s.cursor})
	}
	return effects
}
