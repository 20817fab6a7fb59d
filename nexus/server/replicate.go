package server

import (
	"context"
	"maps"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	// A replicated job is looked at often at first: a draw takes some blocks. Then it may
	// wait for as long as nodes take to run it.
	firstRunLook   = 30 * time.Millisecond
	eagerRunLooks  = 100
	longestRunLook = time.Second
	// askAgain is after how long a node is asked again for what it has not given.
	askAgain = 3 * time.Second

	endsASecond = 128 // Pledges and Reveals, and Dones of what is over, that are taken of an agent, which repeats them
	endBurst    = 1_024
)

// hearEnd takes a Pledge, a PeerReport or a Reveal to the state, if this server leads, and a Ballot, an
// Opening or what is said in a hardware challenge to what it knows of those in any case: whoever gets no
// answer says it again.
func (s *Server) hearEnd(from *session, m job.Message) {
	if b, ok := m.(job.Ballot); ok {
		s.hearBallot(from, &b)
	}
	if o, ok := m.(job.Opening); ok {
		s.hearOpening(from, &o)
	}
	if !measuredBy(m).IsZero() {
		s.hearHardware(from, m)
		return
	}
	if m, ok := m.(job.AtHome); ok {
		s.hearAtHome(from, &m)
		return
	}
	report, reports := m.(job.PeerReport)
	if reports = reports && report.Report.Peer == from.node; reports {
		s.reportAbroad(from, &report)
	}
	r := s.current.Load()
	if r == nil {
		return
	}
	if p, ok := m.(job.Pledge); ok && r.mayEnd(from, p.Order) {
		payload := chain.RunPayload(s.id.genesis.ChainID, p.Order, p.Commitment, p.Place)
		r.hearSigned(from, p.Order, crypto.SignedBy(from.node, crypto.DomainRun, payload, p.Signature), scheduler.MadePledge{Node: from.node, Pledge: p})
	}
	if m, ok := m.(job.Reveal); ok && r.mayEnd(from, m.Order) {
		r.once(assignment{order: m.Order, node: from.node}, func() {
			r.report("the key of a sealed output", r.propose(scheduler.Revealed{Order: m.Order, Node: from.node, Key: m.Key}))
		})
	}
	if reports {
		r.hearPeer(&report)
	}
}

// mayEnd reports whether another step to the end of an assignment is taken of the agent that may come to
// nothing, and counts it.
func (s *session) mayEnd() bool { return s.may(&s.ends, time.Second/endsASecond, endBurst) }

// mayEnd reports whether the state is told of a step to the end of an agent's assignment, and counts
// it. An agent that has no part in an order is told so, at no cost to the log: who leads knows of
// every assignment that was sent.
func (r *reign) mayEnd(from *session, order crypto.Digest) bool {
	if !from.mayEnd() {
		return false
	}
	stranger := false
	r.replica.view(func(s *scheduler.State) { stranger = s.NoPart(order, from.node) != "" })
	if stranger {
		r.once(assignment{order: order, node: from.node}, func() { r.tellOver(from, order) })
	}
	return !stranger
}

func (r *reign) hearSigned(from *session, about crypto.Digest, signed crypto.Signed, c scheduler.Command) {
	r.once(assignment{order: about, node: from.node}, func() {
		if !r.verifier.verify(signed) {
			from.log.Warn("an agent sent what it did not sign", "about", about.Short())
			return
		}
		if err := r.propose(c); err != nil {
			r.report("the end of a replicated run", err)
		}
	})
}

// runLook is what is known of a replicated job that the chain has not settled.
type runLook struct {
	at    time.Time
	count int
	seen  time.Time                      // among those that wait
	asked map[crypto.PublicKey]time.Time // for receipts
}

// watched is a replicated job as the state has it.
type watched struct {
	order      chain.Order
	id         crypto.Digest
	onChain    scheduler.Replication
	unassigned bool
	show       []crypto.PublicKey
}

// watchRuns learns from the chain how replicated jobs stand, until the reign ends, and asks
// nodes for what is due. What it knows is in the state and on the chain.
func (r *reign) watchRuns() {
	looks := map[crypto.Digest]*runLook{}
	after, began := uint64(0), time.Time{} // the cursor of the last one of the part before, and when the first part was looked at
	r.watch(firstRunLook, func(now time.Time, see func(assignment, func())) {
		var part []watched
		part, after = r.replicatedJobs(after)
		for _, w := range part {
			l := looks[w.id]
			if l == nil {
				l = &runLook{at: now, asked: map[crypto.PublicKey]time.Time{}}
				looks[w.id] = l
			}
			l.seen = now
			r.askRunners(&w, l, now)
			if now.Before(l.at) {
				continue
			}
			if l.count++; l.count < eagerRunLooks {
				l.at = now.Add(firstRunLook)
			} else {
				l.at = now.Add(longestRunLook)
			}
			see(assignment{order: w.id}, func() { r.lookAtRuns(&w) })
		}
		if after == 0 { // all that wait were among the parts
			maps.DeleteFunc(looks, func(_ crypto.Digest, l *runLook) bool { return l.seen.Before(began) })
			began = now
		}
	})
}

// replicatedJobs lists a part of those that wait for the chain, those after a cursor of the outbox, and where
// the next part begins: those that never begin keep no other from being looked at.
func (r *reign) replicatedJobs(after uint64) (list []watched, next uint64) {
	r.replica.view(func(s *scheduler.State) {
		var jobs []*scheduler.Job
		jobs, next = s.Replicated(after, lookBatch)
		for _, j := range jobs {
			list = append(list, watched{order: j.Order, id: j.ID(), onChain: j.OnChain, unassigned: s.Unassigned(j), show: j.ToShow()})
		}
	})
	return list, next
}

// askRunners asks the nodes that are here for receipts that are due.
func (r *reign) askRunners(w *watched, l *runLook, now time.Time) {
	for _, node := range w.show {
		if s := r.sessions.get(node); s != nil && now.Sub(l.asked[node]) >= askAgain {
			l.asked[node] = now
			s.send(job.Show{Order: w.id})
		}
	}
}

// lookAtRuns asks the chain about one job, and tells the state what it says.
func (r *reign) lookAtRuns(w *watched) {
	ctx, cancel := context.WithTimeout(r.ctx, lookTimeout)
	defer cancel()
	onChain, outcome, err := r.chain.Replication(ctx, &w.order)
	switch {
	case err != nil:
		if r.ctx.Err() == nil {
			r.log.Info("the chain cannot be asked about a job", "job", w.id.Short(), "error", err)
		}
	case outcome.Settled || outcome.Refused != "":
		r.log.Info("job settled", "job", w.id.Short(), "refused", outcome.Refused, "height", outcome.Record.Height, "cost", outcome.Record.Cost)
		r.report("confirmed", r.propose(scheduler.Confirmed{Order: w.id, Outcome: outcome.Record, Failure: outcome.Refused}))
	case onChain.Begun && (w.unassigned || !onChain.Equal(&w.onChain)):
		r.report("observed", r.propose(scheduler.Observed{Order: w.id, OnChain: onChain}))
	}
}
