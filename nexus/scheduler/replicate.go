package scheduler

import (
	"fmt"
	"math"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Under replicate the cluster begins a job on one node. When that is done and bound to what
// it found, the chain draws whether others run it too, and which of those who bid; the
// cluster has them run it, and then all show what they found. What the cluster does next
// follows from what the chain says.

// ReplicaState is what the chain says of one node's run.
type ReplicaState uint8

// The states.
const (
	ReplicaAsked     ReplicaState = iota + 1 // it was drawn
	ReplicaCommitted                         // it is bound to its receipt
	ReplicaShown                             // its receipt is there
	ReplicaSilent                            // it did not show its receipt in time, and may still
	ReplicaMissed                            // it was not bound in time
)

// Replica is one node's run as the chain knows it.
type Replica struct {
	_     struct{} `cbor:",toarray"`
	Node  crypto.PublicKey
	State ReplicaState
}

// Replication is what the chain says of a replicated job. Of one under optimistic it says that its claim waits
// in its window, and that it is the claim of the one node that is listed.
type Replication struct {
	_         struct{} `cbor:",toarray"`
	Begun     bool
	Height    chain.Height // with Begun: of the first state that was seen to have it
	Revealing bool         // those who are bound show their receipts
	Owed      bool         // it is known who is paid, and that is yet to be done
	Replicas  []Replica
}

// Equal reports whether two say the same, whenever that was seen.
func (r *Replication) Equal(other *Replication) bool {
	return r.Begun == other.Begun && r.Revealing == other.Revealing && r.Owed == other.Owed && slices.Equal(r.Replicas, other.Replicas)
}

// MadePledge says that a node is done with a replicated job, and bound to its receipt. The
// leader has verified the signature.
type MadePledge struct {
	_      struct{} `cbor:",toarray"`
	Node   crypto.PublicKey
	Pledge job.Pledge
}

// Observed says what the chain says of a replicated job, which the leader read with proof.
type Observed struct {
	_       struct{} `cbor:",toarray"`
	Order   crypto.Digest
	OnChain Replication
}

// replicated reports whether the job's policy is replicate.
func (j *Job) replicated() bool {
	_, ok := j.Order.Policy.Policy.(chain.PolicyReplicate)
	return ok
}

// slateOf lists the bids that count, the primary's first, as many as a slate holds.
func slateOf(primary crypto.PublicKey, order []SignedBid, counted map[crypto.PublicKey]*SignedBid) []SignedBid {
	slate := []SignedBid{*counted[primary]}
	for i := range order {
		b := counted[order[i].Bid.Node]
		listed := func(s SignedBid) bool { return s.Bid.Node == order[i].Bid.Node }
		if b != nil && len(slate) < chain.MaxSlate && !slices.ContainsFunc(slate, listed) {
			slate = append(slate, *b)
		}
	}
	return slate
}

// place returns how many nodes the chain asked to run the job before one: none before the primary,
// which is the only one that runs it before the chain knows of it. It is not known of a node that the
// chain's list lacks: a link of another place is none that the chain takes for a run's.
func (j *Job) place(node crypto.PublicKey) (place uint8, known bool) {
	if !j.OnChain.Begun {
		return 0, true
	}
	at := slices.IndexFunc(j.OnChain.Replicas, func(r Replica) bool { return r.Node == node })
	return uint8(max(at, 0)), at >= 0 // ≤ chain.MaxReplicas
}

// sendAssign gives a run to its node, unless it is of a place that is not known.
func (j *Job) sendAssign(run *Run) []Effect {
	if _, known := j.place(run.Node); !known {
		return nil
	}
	return []Effect{SendAssign{Node: run.Node, Assignment: j.assignment(run)}}
}

// extends reports whether a list is one seen before, or that with more replicas: the chain asks more
// nodes as it goes, and never others. A node of the chain that is behind has an older one.
func (r *Replication) extends(before *Replication) bool {
	if before.Begun && !r.Begun || len(r.Replicas) < len(before.Replicas) {
		return false
	}
	for i := range before.Replicas {
		if r.Replicas[i].Node != before.Replicas[i].Node {
			return false
		}
	}
	return true
}

// runOn returns the job's run on a node that was not lost, or nil.
func (j *Job) runOn(node crypto.PublicKey) *Run {
	for i := range j.Runs {
		if j.Runs[i].Node == node && j.Runs[i].Stage != Lost {
			return &j.Runs[i]
		}
	}
	return nil
}

func (s *State) madePledge(c MadePledge) ([]Effect, error) {
	id := c.Pledge.Order
	j := s.jobs[id]
	if j == nil || j.Status.Final() || !j.replicated() {
		return []Effect{SendAck{Node: c.Node, Order: id, Refuse: "the job has ended, or is not known"}}, nil
	}
	run := j.runOn(c.Node)
	place, known := j.place(c.Node)
	switch {
	case run == nil:
		return []Effect{SendAck{Node: c.Node, Order: id, Refuse: "the assignment was given to others"}}, nil
	case run.Stage != Live:
		return nil, nil // it was repeated
	case !known || c.Pledge.Place != place: // of an assignment before this one
		return []Effect{SendAck{Node: c.Node, Order: id, Refuse: fmt.Sprintf("it is of place %d among the job's runs", c.Pledge.Place)}}, nil
	}
	run.Commitment, run.CommitSig = c.Pledge.Commitment, c.Pledge.Signature
	s.stop(j, run, Pledged)
	n := s.nodes[c.Node]
	n.Finished++
	n.Strikes -= min(n.Strikes, 1)
	if j.Status == job.Settling {
		return []Effect{s.repost(j)}, nil
	}
	return s.advance(j), nil
}

// showed takes the receipt that a node is bound to.
func (s *State) showed(j *Job, run *Run, d *job.Done) []Effect {
	if run.Stage == Live {
		return nil // its pledge is on the way
	}
	err := s.checkDone(j, run, d)
	if bound := chain.RunCommitment(d.Receipt.Digest(), run.Node, d.Salt) == run.Commitment; err == nil && !bound {
		err = reject("receipt", "it is not the receipt that the node is bound to")
	}
	if err != nil {
		run.Stage, run.Reason, run.Since = Lost, err.Error(), s.now
		s.changed(j)
		effects := []Effect{SendAck{Node: run.Node, Order: j.id, Refuse: err.Error()}}
		if n := s.nodes[run.Node]; n != nil { // else it went away, and was forgotten
			n.Lost++
			effects = append(effects, s.strike(n, "its receipt was refused")...)
		}
		return effects
	}
	done := *d
	run.Done, run.Stage, run.Since = &done, Ended, s.now
	s.changed(j)
	return []Effect{SendAck{Node: run.Node, Order: j.id}, s.repost(j)}
}

// repost lists a job that is settling as new in the outbox.
func (s *State) repost(j *Job) Effect {
	s.outbox.drop(place{at: j.Outbox, arrival: j.Arrival})
	s.cursor++
	j.Outbox = s.cursor
	s.outbox.put(place{at: j.Outbox, arrival: j.Arrival}, j)
	return Post{Cursor: j.Outbox}
}

func (s *State) observed(c Observed) ([]Effect, error) {
	if len(c.OnChain.Replicas) > chain.MaxReplicas {
		return nil, reject("size", "%d replicas, limit %d", len(c.OnChain.Replicas), chain.MaxReplicas)
	}
	j := s.jobs[c.Order]
	if j == nil || j.Status != job.Settling || !c.OnChain.extends(&j.OnChain) {
		return nil, nil
	}
	changed := !j.OnChain.Equal(&c.OnChain)
	if j.OnChain.Begun {
		c.OnChain.Height = j.OnChain.Height
	}
	if !j.replicated() {
		s.claimSeen(j, &c.OnChain)
		return nil, nil
	}
	if c.OnChain.Begun {
		s.free(j)
		account := s.accounts[j.consumer]
		account.Settled = max(account.Settled, c.OnChain.Height)
	}
	j.OnChain = c.OnChain
	s.reschedule(j) // once it has begun no time ends it
	effects := s.assignDrawn(j)
	if changed {
		s.touch(j)
		effects = append(effects, s.repost(j))
	}
	return effects, nil
}

// Unassigned reports whether a node that the chain drew has no run yet, and is here and has
// room for one.
func (s *State) Unassigned(j *Job) bool {
	for i := range j.OnChain.Replicas {
		if n, _ := s.drawn(j, &j.OnChain.Replicas[i]); n != nil {
			return true
		}
	}
	return false
}

// drawn returns a node that the chain drew, with its bid, if the job can be assigned to it.
func (s *State) drawn(j *Job, r *Replica) (*Node, *SignedBid) {
	if r.State != ReplicaAsked || j.runOn(r.Node) != nil {
		return nil, nil
	}
	n := s.nodes[r.Node]
	i := slices.IndexFunc(j.Slate, func(b SignedBid) bool { return b.Bid.Node == r.Node })
	request := Request(&j.Spec)
	if n == nil || i < 0 || !n.fits(&request) || j.Slate[i].Bid.Expiry < s.now {
		return nil, nil
	}
	if slices.ContainsFunc(j.Runs, func(run Run) bool { return run.Stage != Lost && run.Owner == n.Owner }) {
		return nil, nil
	}
	return n, &j.Slate[i]
}

// assignDrawn has those run the job whom the chain drew. Whoever has no room now may have
// it later: the chain waits.
func (s *State) assignDrawn(j *Job) []Effect {
	var effects []Effect
	for i := range j.OnChain.Replicas {
		n, bid := s.drawn(j, &j.OnChain.Replicas[i])
		if n == nil {
			continue
		}
		request := Request(&j.Spec)
		devices, _ := s.standing(j, &request, n)
		s.take(n, j, devices)
		effects = append(effects, s.assign(j, n, bid, devices)...)
	}
	return effects
}

// Messages returns what is to be posted for a replicated job now, without the cluster's
// signatures.
func (j *Job) Messages() []chain.Msg {
	if !j.replicated() {
		return nil
	}
	if !j.OnChain.Begun {
		return j.beginning()
	}
	var out []chain.Msg
	for at, r := range j.OnChain.Replicas { // ≤ chain.MaxReplicas
		run := j.runOn(r.Node)
		switch {
		case run == nil || run.Stage == Live:
		case r.State == ReplicaAsked:
			out = append(out, chain.CommitRun{ChainID: j.Order.ChainID, Order: j.id, Node: r.Node, Commitment: run.Commitment, Place: uint8(at), Signature: run.CommitSig})
		case run.Stage == Ended && (r.State == ReplicaCommitted && j.OnChain.Revealing || r.State == ReplicaSilent):
			out = append(out, chain.RevealRun{Receipt: run.Done.Receipt, ReceiptSig: run.Done.ReceiptSig, Salt: run.Done.Salt, Cluster: j.Order.Cluster})
		}
	}
	if j.OnChain.Owed {
		out = append(out, chain.CollectRun{Order: j.id})
	}
	return out
}

// beginning is the message that begins the order on the chain.
func (j *Job) beginning() []chain.Msg {
	primary := j.runOn(j.Slate[0].Bid.Node)
	if primary == nil || primary.Stage == Live {
		return nil
	}
	m := chain.BeginRun{Order: j.Order, OrderSig: j.OrderSig, Acceptance: j.Acceptance, Commitment: primary.Commitment, Signature: primary.CommitSig}
	for i := range j.Slate {
		m.Slate = append(m.Slate, chain.SlateBidOf(&j.Slate[i].Bid, j.Slate[i].BidSig))
	}
	return []chain.Msg{m}
}

// ToShow lists the nodes that are bound to a receipt which is to be shown now.
func (j *Job) ToShow() []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, r := range j.OnChain.Replicas {
		run := j.runOn(r.Node)
		if run != nil && run.Stage == Pledged && (r.State == ReplicaCommitted && j.OnChain.Revealing || r.State == ReplicaSilent) {
			out = append(out, r.Node)
		}
	}
	return out
}

// Replicated returns so many jobs at most whose replicated runs the chain has not settled yet, those that come
// after a cursor of the outbox, and the cursor after which others may be; 0: there are none. Treat them as read-only.
func (s *State) Replicated(after uint64, limit int) (list []*Job, next uint64) {
	s.outbox.after(place{at: after, arrival: math.MaxUint64}, func(j *Job) bool {
		if j.replicated() {
			list = append(list, j)
		}
		return len(list) < limit
	})
	if len(list) == limit {
		next = list[limit-1].Outbox
	}
	return list, next
}

// letPledgesGo tells the nodes that hold a receipt of a job which has ended that nobody
// will ask for it.
func (j *Job) letPledgesGo(reason string) []Effect {
	var effects []Effect
	for i := range j.Runs {
		if j.Runs[i].Stage == Pledged {
			effects = append(effects, SendAck{Node: j.Runs[i].Node, Order: j.id, Refuse: "nobody asked for the receipt: " + reason})
		}
	}
	return effects
}
