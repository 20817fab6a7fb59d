package scheduler

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Of a job under fair exchange the node's end comes in two steps: its receipt with the sealed
// output, which the cluster attests to once it has them, and then the key. Without the key
// nothing is posted. The node may post its claim itself, and tell the cluster no key at all:
// the chain says so then.

// Revealed brings the key of a sealed output.
type Revealed struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
	Node  crypto.PublicKey
	Key   chain.OutputKey
}

func (Revealed) sealedCommand() {}

const kindRevealed uint8 = 34

// ack acknowledges a run's end.
func (r *Run) ack(order crypto.Digest) SendAck {
	a := SendAck{Node: r.Node, Order: order, Revealed: r.Key != nil}
	if r.Done.Receipt.Sealed != nil {
		a.Attest = &r.Done.Receipt
	}
	return a
}

// locked reports whether the job's claim lacks the key of its output.
func (j *Job) locked() bool {
	if !j.Order.Fair {
		return false
	}
	counted := j.Counted()
	return len(counted) == 0 || counted[0].Key == nil
}

func (s *State) revealed(c Revealed) ([]Effect, error) {
	j := s.jobs[c.Order]
	if j == nil {
		return []Effect{SendAck{Node: c.Node, Order: c.Order, Refuse: "the job is not known"}}, nil
	}
	run := j.runOn(c.Node)
	if run == nil || run.Stage != Ended || run.Done.Receipt.Sealed == nil {
		return []Effect{SendAck{Node: c.Node, Order: c.Order, Refuse: "no sealed output of this node is waited for"}}, nil
	}
	if run.Key != nil {
		return []Effect{run.ack(c.Order)}, nil
	}
	if err := run.Done.Receipt.CheckKey(&c.Key); err != nil {
		return nil, reject("key", "%v", err)
	}
	key := c.Key
	run.Key = &key
	s.touch(j)
	effects := []Effect{run.ack(c.Order)}
	if j.Status == job.Settling {
		effects = append(effects, s.repost(j))
	}
	return effects, nil
}
