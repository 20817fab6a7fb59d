package scheduler

import (
	"math"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// liveOn returns the job's live run on a node, or nil.
func (j *Job) liveOn(node crypto.PublicKey) *Run {
	for i := range j.Runs {
		if j.Runs[i].Node == node && j.Runs[i].Stage == Live {
			return &j.Runs[i]
		}
	}
	return nil
}

// NoPart says why a node has no part in an order; empty: it was given it.
func (s *State) NoPart(order crypto.Digest, node crypto.PublicKey) string {
	j := s.jobs[order]
	switch {
	case j == nil:
		return "the job is not known"
	case !slices.ContainsFunc(j.Runs, func(r Run) bool { return r.Node == node }):
		return "the job was given to others"
	}
	return ""
}

// Over answers the end of an assignment that changes nothing: the run has ended already, or there is none.
func (s *State) Over(order crypto.Digest, node crypto.PublicKey) (ack SendAck, over bool) {
	refuse := func(why string) (SendAck, bool) { return SendAck{Node: node, Order: order, Refuse: why}, true }
	if why := s.NoPart(order, node); why != "" {
		return refuse(why)
	}
	j := s.jobs[order]
	i := slices.IndexFunc(j.Runs, func(r Run) bool { return r.Node == node && r.Stage != Lost })
	switch {
	case i < 0:
		return refuse("the assignment was given to others")
	case j.Runs[i].Stage == Refuted:
		return refuse("the chain refuted its claim")
	case j.Runs[i].Stage == Ended:
		return j.Runs[i].ack(order), true
	}
	return SendAck{}, false
}

// stop ends a live run in a stage, and gives back what it held.
func (s *State) stop(j *Job, run *Run, stage Stage) {
	n := s.nodes[run.Node]
	run.Stage, run.Since = stage, s.now
	s.census.live--
	if j.Spec.Scheduling.Preemptible {
		n.evictable--
	}
	s.give(n, j, run.Devices)
	s.gain(n)
	s.changed(j)
}

// lose ends a live run without a result, which counts against its node, and reports whether
// there was one.
func (s *State) lose(j *Job, node crypto.PublicKey, reason string) bool {
	ended := s.drop(j, node, reason)
	if ended {
		s.nodes[node].Lost++
	}
	return ended
}

// drop is lose for what does not say anything of the node.
func (s *State) drop(j *Job, node crypto.PublicKey, reason string) bool {
	run := j.liveOn(node)
	if run == nil || j.Leased {
		return false // a lease is its node's until the chain ends it
	}
	run.Reason = reason
	s.stop(j, run, Lost)
	return true
}

// endRun ends a live run through no fault of its node.
func (s *State) endRun(j *Job, run *Run, reason string) {
	run.Reason, run.Blameless = reason, true
	s.stop(j, run, Lost)
}

// endRuns ends what still runs for a job, through no fault of its nodes.
func (s *State) endRuns(j *Job, reason string) []Effect {
	var effects []Effect
	for i := range j.Runs {
		if run := &j.Runs[i]; run.Stage == Live {
			s.endRun(j, run, reason)
			effects = append(effects, SendCancel{Node: run.Node, Order: j.id, Reason: reason})
		}
	}
	return effects
}

func (s *State) refused(c Refused) ([]Effect, error) {
	j := s.jobs[c.Order]
	end, doubts := s.lose, strings.HasPrefix(c.Reason, job.ClusterDoubted)
	if doubts { // the cluster is what is wrong: the node is not asked again for this job, and that is all
		end = s.drop
	}
	if j == nil || j.Status.Final() || !end(j, c.Node, "refused: "+c.Reason) {
		return nil, nil
	}
	if doubts {
		return s.advance(j), nil
	}
	return append(s.strike(s.nodes[c.Node], "it refused what it had bid for"), s.advance(j)...), nil
}

func (s *State) finished(c Finished) ([]Effect, error) {
	id, node := c.Done.Receipt.Order, c.Done.Receipt.Node
	if ack, over := s.Over(id, node); over {
		return []Effect{ack}, nil
	}
	j := s.jobs[id]
	run := j.runOn(node)
	if j.replicated() {
		return s.showed(j, run, &c.Done), nil
	}
	if err := s.checkDone(j, run, &c.Done); err != nil {
		s.lose(j, node, err.Error())
		effects := append([]Effect{SendAck{Node: node, Order: id, Refuse: err.Error()}}, s.strike(s.nodes[node], "its receipt was refused")...)
		return append(effects, s.advance(j)...), nil
	}
	done := c.Done
	run.Done = &done
	s.stop(j, run, Ended)
	n := s.nodes[node]
	n.Finished++
	n.Strikes -= min(n.Strikes, 1)
	return append([]Effect{run.ack(id)}, s.advance(j)...), nil
}

// checkDone says why a signed end is no end of the run. What passes is what the
// chain will pay: the cluster attests to it.
func (s *State) checkDone(j *Job, run *Run, d *job.Done) error {
	r := &d.Receipt
	if err := r.Check(); err != nil {
		return reject("receipt", "%v", err)
	}
	result := job.Outcome{Exit: r.Exit, ExitCode: r.ExitCode, Output: d.Output, Outputs: r.Outputs}
	_, zk := j.Order.Policy.Policy.(chain.PolicyZK)
	switch {
	case j.IsLease():
		return reject("receipt", "a lease is paid without one")
	case r.ChainID != s.config.ChainID || r.Sequence != 1:
		return reject("receipt", "receipt is for chain %s, sequence %d", r.ChainID, r.Sequence)
	case r.Ended > j.Order.Deadline:
		return reject("receipt", "work ended at %d, after the deadline %d", r.Ended, j.Order.Deadline)
	case r.Exit == chain.ExitCancelled:
		return reject("receipt", "the node cancelled the work")
	case r.Started > run.Bid.Expiry:
		return reject("receipt", "work started at %d, after the bid expired at %d", r.Started, run.Bid.Expiry)
	case r.Result != job.ResultDigest(&result):
		return reject("receipt", "the result is not that of the output")
	case (r.Sealed != nil) != j.Order.Fair:
		return reject("receipt", "fair exchange is asked for: %t, the output is sealed: %t", j.Order.Fair, r.Sealed != nil)
	case d.Blob().IsZero() != d.Output.IsZero():
		return reject("receipt", "of the output and what it is sealed in one is missing")
	case r.CheckTrace(j.Order.Policy.Policy) != nil:
		return reject("receipt", "%v", r.CheckTrace(j.Order.Policy.Policy))
	case zk && (r.Exit != chain.ExitOK || len(d.Proof) == 0 || len(d.Proof) > chain.MaxProof):
		return reject("receipt", "the kernel ended with %q and a proof of %d bytes: %s", r.Exit, len(d.Proof), d.Detail)
	case !zk && len(d.Proof) != 0:
		return reject("receipt", "a proof of %d bytes for work without one", len(d.Proof))
	}
	return s.checkUsage(j, run, d)
}

// clockSlackMs is how much longer than the cluster saw it a run may say it took.
const clockSlackMs = 10_000

// checkUsage demands that a run used no more than the specification's limits
// allow, nor more than follows from its fuel, its output and the time since it
// was assigned: the cluster attests to no more than it could see.
func (s *State) checkUsage(j *Job, run *Run, d *job.Done) error {
	seen := job.Outcome{
		Fuel: d.Receipt.Fuel, PeakMemoryBytes: j.Spec.Limits.MemoryBytes, WallMs: uint64(s.now-run.Placed) + clockSlackMs,
		CPUMs: math.MaxUint64, // Meter bounds it by the time and the cores
	}
	if !d.Output.IsZero() {
		seen.OutputBytes = d.OutputSize
	}
	most := job.Meter(&j.Spec, &seen)
	for _, u := range d.Receipt.Usage {
		i := slices.IndexFunc(most, func(m chain.Usage) bool { return m.Resource == u.Resource })
		switch {
		case i < 0:
			return reject("receipt", "%s is not what this work uses", u.Resource)
		case u.Amount > most[i].Amount || u.DurationMs > most[i].DurationMs:
			return reject("receipt", "usage of %s is %d over %d ms, at most %d over %d ms", u.Resource, u.Amount, u.DurationMs, most[i].Amount, most[i].DurationMs)
		}
	}
	return nil
}
