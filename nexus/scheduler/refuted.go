package scheduler

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Under optimistic a claim waits in its window, and may be refuted: then the chain takes one of
// another node. As long as the order's deadline allows it, the job is given to another owner's
// node. Its result counted for those that come after it: they keep what they took.

// Refutation says whose claim the chain refuted.
type Refutation struct {
	_     struct{} `cbor:",toarray"`
	Node  crypto.PublicKey
	Wrong bool // a panel found another result; else nobody found anything
}

// claimSeen notes that the chain has the claim of a job under optimistic: what that locks of bonds is promised no longer. Another
// node's was refuted.
func (s *State) claimSeen(j *Job, seen *Replication) {
	_, optimistic := j.Order.Policy.Policy.(chain.PolicyOptimistic)
	if !optimistic || len(seen.Replicas) != 1 {
		return
	}
	if run := j.runOn(seen.Replicas[0].Node); run != nil && run.Stage == Ended {
		j.OnChain = *seen
		s.touch(j)
	}
}

// refuted takes the word that the claim of a job was refuted, and has the job run elsewhere if it
// may.
func (s *State) refuted(j *Job, c *Confirmed) ([]Effect, error) {
	run := j.runOn(c.Refuted.Node)
	spent, ok := j.Spent.Add(c.Outcome.Cost)
	_, optimistic := j.Order.Policy.Policy.(chain.PolicyOptimistic)
	switch {
	case !optimistic || c.Failure == "":
		return nil, reject("refuted", "no claim of a job under %s is refuted because of %q", j.Order.Policy, c.Failure)
	case run == nil || run.Stage != Ended:
		return nil, nil // it was said before, and another claim waits
	case !ok || j.Order.MaxCost.Less(spent):
		return nil, reject("cost", "a refuted claim cost %s after %s, the order's cap is %s", c.Outcome.Cost, j.Spent, j.Order.MaxCost)
	}
	j.Spent, j.OnChain = spent, Replication{}
	run.Stage, run.Reason, run.Since, run.Done, run.Key = Refuted, "its claim was refuted: "+c.Failure, s.now, nil, nil
	s.changed(j)
	var effects []Effect
	if n := s.nodes[run.Node]; n != nil && c.Refuted.Wrong { // else it went away, and was forgotten
		n.Lost++
		effects = s.strike(n, "the chain found its result wrong")
	}
	account := s.accounts[j.consumer]
	account.Settled = max(account.Settled, c.Outcome.Height)
	if s.now >= j.Order.Deadline {
		return append(effects, s.end(j, job.Failed, "the chain refused the claims: "+c.Failure+"; the deadline has passed")...), nil
	}
	s.unpost(j)
	j.Outbox = 0
	s.pause(j, "")
	return append(effects, s.advance(j)...), nil
}
