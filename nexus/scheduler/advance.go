package scheduler

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// replicas returns how many agreeing results the policy asks for, and how many
// nodes it allows in all.
func (j *Job) replicas() (k, n int) {
	switch p := j.Order.Policy.Policy.(type) {
	case chain.PolicyNone:
		return 1, 1
	case chain.PolicyReplicate:
		return int(p.K), int(p.N)
	case chain.PolicyZK:
		return 1, 1
	}
	panic(fmt.Sprintf("scheduler: policy of type %T", j.Order.Policy.Policy))
}

// count returns how many runs are live, ended and lost.
func (j *Job) count() (live, ended, lost int) {
	for i := range j.Runs {
		switch j.Runs[i].Stage {
		case Live:
			live++
		case Ended:
			ended++
		case Lost:
			lost++
		}
	}
	return live, ended, lost
}

// agreeing returns the largest set of ended runs with equal results, in the
// order of their assignment; of equally large sets, the one that began first.
func (j *Job) agreeing() []int {
	var best []int
	for i := range j.Runs {
		if j.Runs[i].Stage != Ended {
			continue
		}
		var set []int
		for k := range j.Runs {
			if j.Runs[k].Stage == Ended && sameResult(&j.Runs[i], &j.Runs[k]) {
				set = append(set, k)
			}
		}
		if len(set) > len(best) {
			best = set
		}
	}
	return best
}

// sameResult reports whether two ended runs agree: on the result, and on what it
// took, which is the same wherever a deterministic program ran. The chain pays
// all who agree for the least that any of them reports; a node that reported
// too little would have the others work for nothing. Only where the clock ended
// a program does each machine count for itself.
func sameResult(a, b *Run) bool {
	x, y := &a.Done.Receipt, &b.Done.Receipt
	same := x.Result == y.Result && x.Exit == y.Exit
	return same && (x.Exit == chain.ExitTime || x.Fuel == y.Fuel && slices.Equal(x.Usage, y.Usage))
}

// wanted returns how many more nodes the job needs now.
func (j *Job) wanted() int {
	k, n := j.replicas()
	live, ended, _ := j.count()
	return max(0, min(k-len(j.agreeing())-live, n-live-ended))
}

// enough reports whether an auction that found only picked takers may assign
// them and ask for the rest later: it may once the job has begun.
func (j *Job) enough(picked int) bool {
	live, ended, _ := j.count()
	return picked > 0 && live+ended > 0
}

// advance takes the job as far as it goes now: to its claims, to another
// auction, or to its end. An open auction goes on from where it is closed.
func (s *State) advance(j *Job) []Effect {
	if j.Status.Final() || j.Status == job.Settling {
		return nil
	}
	k, _ := j.replicas()
	if len(j.agreeing()) >= k {
		return s.settle(j)
	}
	if j.Status == job.Bidding {
		return nil
	}
	live, ended, lost := j.count()
	want := j.wanted()
	switch {
	case lost >= s.config.MaxAttempts:
		return s.end(j, job.Failed, fmt.Sprintf("%d assignments were lost, the last because %s", lost, j.lastLoss()))
	case want == 0 && live > 0:
		if j.Status != job.Running {
			s.setStatus(j, job.Running, "")
		}
		return nil
	case want == 0:
		return s.end(j, job.Failed, fmt.Sprintf("no %d of %d results agree", k, ended))
	}
	return s.auction(j)
}

func (j *Job) lastLoss() string {
	for i := len(j.Runs) - 1; i >= 0; i-- {
		if j.Runs[i].Stage == Lost {
			return j.Runs[i].Reason
		}
	}
	return ""
}

// candidates returns the nodes that fit the job's next assignment, how many
// owners they have, and what excludes the others.
func (s *State) candidates(j *Job) (nodes []crypto.PublicKey, owners int, excluded []match.Exclusion) {
	request := s.request(j)
	seen := map[chain.Address]bool{}
	views := make([]match.Node, 0, len(s.nodes))
	for _, n := range s.Nodes() {
		view := n.view()
		views = append(views, view)
		if match.Check(&request, &view) == match.Fits {
			nodes = append(nodes, n.ID)
			seen[n.Owner] = true
		}
	}
	_, excluded = match.Explain(&request, views)
	return nodes, len(seen), excluded
}

// auction opens an auction among the nodes that fit, or waits if there are too
// few of them to begin.
func (s *State) auction(j *Job) []Effect {
	nodes, owners, excluded := s.candidates(j)
	want := j.wanted()
	if owners < want && !j.enough(owners) {
		return s.wait(j, fmt.Sprintf("%d owners needed, nodes of %d fit; %s", want, owners, describe(excluded)))
	}
	s.auctions++
	j.Auction = s.auctions
	s.setStatus(j, job.Bidding, "")
	return []Effect{OpenAuction{Order: j.ID(), Auction: j.Auction, Want: want, Candidates: nodes}}
}

// wait puts the job back into the queue until its retry, or until capacity
// changes.
func (s *State) wait(j *Job, reason string) []Effect {
	status := job.Queued
	if live, _, _ := j.count(); live > 0 {
		status = job.Running
	}
	s.setStatus(j, status, reason)
	j.RetryAt = s.now + chain.TimeMs(s.config.RetryMs)
	return nil
}

// waiting reports whether the job needs a node and no auction is open for it.
func (j *Job) waiting() bool {
	return j.Status == job.Queued || j.Status == job.Running && j.wanted() > 0
}

// retryQueued opens the auctions of the waiting jobs that may start at the given
// time: those whose retry is due, or all of them once capacity has changed.
func (s *State) retryQueued(until chain.TimeMs) []Effect {
	var effects []Effect
	for _, id := range slices.Clone(s.open) {
		j := s.jobs[id]
		if j.waiting() && j.RetryAt <= until {
			effects = append(effects, s.advance(j)...)
		}
	}
	return effects
}

// retryOn opens the auctions of the waiting jobs that a node, whose capacity
// changed, could take.
func (s *State) retryOn(n *Node) []Effect {
	var effects []Effect
	view := n.view()
	for _, id := range slices.Clone(s.open) {
		j := s.jobs[id]
		if !j.waiting() {
			continue
		}
		if request := s.request(j); match.Check(&request, &view) == match.Fits {
			effects = append(effects, s.advance(j)...)
		}
	}
	return effects
}

// settle puts the claims of a finished job into the outbox, and ends what still
// runs for it.
func (s *State) settle(j *Job) []Effect {
	effects := s.endRuns(j, "enough results agree")
	s.setStatus(j, job.Settling, "")
	s.cursor++
	j.Outbox = s.cursor
	s.outbox = append(s.outbox, j.ID())
	return append(effects, Post{Cursor: j.Outbox})
}

// Counted returns the runs whose result counts: as many that agree as the
// policy asks for, or none if there are not as many yet.
func (j *Job) Counted() []*Run {
	k, _ := j.replicas()
	agreeing := j.agreeing()
	if len(agreeing) < k {
		return nil
	}
	out := make([]*Run, k)
	for i, at := range agreeing[:k] {
		out[i] = &j.Runs[at]
	}
	return out
}

// claims returns what is posted for a job: the policy's number of agreeing runs.
func (s *State) claims(j *Job) []chain.Claim {
	counted := j.Counted()
	out := make([]chain.Claim, 0, len(counted))
	for _, run := range counted {
		var attestation crypto.Signature
		if _, proven := j.Order.Policy.Policy.(chain.PolicyZK); !proven {
			payload := chain.AttestationPayload(s.config.ChainID, run.Done.Receipt.Digest())
			attestation = s.config.ClusterKey.Sign(crypto.DomainAttestation, payload)
		}
		assignment := j.assignment(run)
		out = append(out, assignment.Claim(run.Done, attestation))
	}
	return out
}

func (j *Job) assignment(run *Run) job.Assignment {
	return job.Assignment{
		Order: j.Order, OrderSig: j.OrderSig, Acceptance: j.Acceptance, AcceptanceSig: j.AcceptanceSig,
		Bid: run.Bid, BidSig: run.BidSig, Spec: j.Spec, Sequence: 1,
	}
}

// endRuns ends what still runs for a job, through no fault of its nodes.
func (s *State) endRuns(j *Job, reason string) []Effect {
	var effects []Effect
	for i := range j.Runs {
		if run := &j.Runs[i]; run.Stage == Live {
			run.Stage, run.Reason, run.Since = Lost, reason, s.now
			s.release(run, j)
			effects = append(effects, SendCancel{Node: run.Node, Order: j.ID(), Reason: reason})
		}
	}
	return effects
}

// end makes a job final: its runs end, and its cap is no longer outstanding,
// unless a node was given the order and may still prove its work to the chain,
// which asks nobody else.
func (s *State) end(j *Job, status job.Status, reason string) []Effect {
	id := j.ID()
	effects := s.endRuns(j, reason)
	s.setStatus(j, status, reason)
	if _, zk := j.Order.Policy.Policy.(chain.PolicyZK); zk && len(j.Runs) > 0 && status != job.Settled {
		j.Held = j.Order.Deadline + chain.TimeMs(s.config.ClaimWindowMs)
		s.held = append(s.held, id)
	} else {
		s.free(j)
	}
	same := func(other crypto.Digest) bool { return other == id }
	s.open = slices.DeleteFunc(s.open, same)
	s.outbox = slices.DeleteFunc(s.outbox, same)
	return effects
}

// Pending returns what a new leader has to do: the open auctions, the live
// assignments and the outbox.
func (s *State) Pending() []Effect {
	var effects []Effect
	for _, id := range s.open {
		j := s.jobs[id]
		if j.Status == job.Bidding {
			nodes, _, _ := s.candidates(j)
			effects = append(effects, OpenAuction{Order: id, Auction: j.Auction, Want: j.wanted(), Candidates: nodes})
		}
		for i := range j.Runs {
			if j.Runs[i].Stage == Live {
				effects = append(effects, SendAssign{Node: j.Runs[i].Node, Assignment: j.assignment(&j.Runs[i])})
			}
		}
	}
	if len(s.outbox) > 0 {
		effects = append(effects, Post{Cursor: s.cursor})
	}
	return effects
}
