package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	// outputTimeout bounds the way of an output from its agent to a majority of
	// servers, in one attempt; the next one goes on where it broke off.
	outputTimeout = 10 * time.Minute
	// packOverhead bounds what packing adds for each file of an output.
	packOverhead = 1_100
)

// finish brings the signed end of an assignment into the state: it is checked,
// its output is copied to a majority of servers, and only then it counts.
func (r *reign) finish(s *session, d job.Done) {
	order := d.Receipt.Order
	var spec job.Spec
	var policy chain.Policy
	over := false
	r.replica.view(func(state *scheduler.State) {
		if _, over = state.Over(order, s.node); over {
			return
		}
		j, _ := state.Job(order)
		spec, policy = j.Spec, j.Order.Policy.Policy
	})
	if over {
		if s.mayEnd() { // else the next survey looks at it again
			r.tellOver(s, order)
		}
		return
	}
	if err := r.checkDone(policy, &d); err != nil {
		r.reject(s, order, err)
		return
	}
	if err := r.takeOutput(s, &spec, &d); err != nil {
		if hopeless(err) {
			r.reject(s, order, err)
		} else if r.ctx.Err() == nil {
			s.log.Info("output is not here yet", "job", order.Short(), "output", d.Blob().Short(), "reason", err)
		}
		return // tried again by the next survey while the agent is there
	}
	r.bring(s, d)
}

// tellOver answers the end of an assignment that changes nothing, at no cost to the log. A server that was paused
// may not have heard that another leads, which knows more: it asks first whether it does. An agent that gets no answer
// says it again.
func (r *reign) tellOver(s *session, order crypto.Digest) {
	ctx, cancel := context.WithTimeout(r.ctx, readTimeout)
	defer cancel()
	if ack, over, err := r.over(ctx, assignment{order: order, node: s.node}); err == nil && over {
		s.settled(order)
		s.send(r.ackOf(&ack))
	}
}

// over is scheduler.State.Over of who leads.
func (r *reign) over(ctx context.Context, of assignment) (ack scheduler.SendAck, over bool, err error) {
	if err := r.consensus.confirm(ctx, r, r.consensus.acks.ask()); err != nil {
		return ack, false, err
	}
	r.replica.view(func(state *scheduler.State) { ack, over = state.Over(of.order, of.node) })
	return ack, over, nil
}

// ackOf is what an agent is told of an end.
func (r *reign) ackOf(e *scheduler.SendAck) job.Ack {
	ack := job.Ack{Order: e.Order, Refuse: short(e.Refuse), Revealed: e.Revealed}
	if e.Attest != nil {
		ack.Attestation = r.signer.attest(e.Attest)
	}
	return ack
}

// checkDone says why a signed end is none. A proof is verified as the chain will: a claim that the
// chain refuses is the end of its job, and here there are other nodes yet.
func (r *reign) checkDone(policy chain.Policy, d *job.Done) error {
	receipt := &d.Receipt
	if !r.verifier.verify(crypto.SignedBy(receipt.Node, crypto.DomainUsage, receipt.Payload(), d.ReceiptSig)) {
		return errors.New("the receipt is not signed by its node")
	}
	outcome := job.Outcome{Exit: receipt.Exit, ExitCode: receipt.ExitCode, Output: d.Output, Outputs: receipt.Outputs}
	if job.ResultDigest(&outcome) != receipt.Result {
		return errors.New("the receipt's result is not the digest of this output")
	}
	if zk, ok := policy.(chain.PolicyZK); ok && receipt.Exit == chain.ExitOK {
		if err := r.proofs.Verify(settlement.Statement(&zk, receipt), d.Proof); err != nil {
			return fmt.Errorf("its proof: %w", err)
		}
	}
	return nil
}

// hopeless reports whether trying again cannot help: the output is not what it
// claims to be.
func hopeless(err error) bool {
	_, corrupt := errors.AsType[*blob.CorruptError](err)
	_, large := errors.AsType[*blob.TooLargeError](err)
	return corrupt || large
}

// takeOutput copies an output from its agent to a majority of servers.
func (r *reign) takeOutput(s *session, spec *job.Spec, d *job.Done) error {
	id := d.Blob()
	if id.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, outputTimeout)
	defer cancel()
	defer context.AfterFunc(s.conn.Context(), cancel)()
	limit := int64(spec.Limits.OutputBytes+spec.Limits.OutputFiles*packOverhead) + mebibyte
	r.pins.lend(id) // if it is here
	if _, err := r.blobs.Fetch(ctx, id, limit, s); err != nil {
		return err
	}
	r.pins.lend(id)
	return r.spread(ctx, id)
}

// bring has the state take the end; its effect is the acknowledgement.
func (r *reign) bring(s *session, d job.Done) {
	order := d.Receipt.Order
	if err := r.propose(scheduler.Finished{Done: d}); err != nil {
		r.report("finished", err)
		return
	}
	s.log.Info("assignment ended", "job", order.Short(), "exit", d.Receipt.Exit, "result", d.Receipt.Result.Short())
}

// reject gives an assignment to others, because its end is not acceptable.
func (r *reign) reject(s *session, order crypto.Digest, why error) {
	s.log.Warn("the end of an assignment is refused", "job", order.Short(), "reason", why)
	reason := fmt.Sprintf("its end is not acceptable: %v", why)
	if err := r.propose(scheduler.Refused{Order: order, Node: s.node, Reason: reason}); err != nil {
		r.report("refused", err)
		return
	}
	s.settled(order)
	s.send(job.Ack{Order: order, Refuse: short(why.Error())})
}
