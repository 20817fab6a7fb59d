package server_test

import (
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// toldBy is whose step to the end of an assignment a command is; zero: it is none.
func toldBy(c scheduler.Command) crypto.PublicKey {
	switch c := c.(type) {
	case scheduler.Finished:
		return c.Done.Receipt.Node
	case scheduler.Revealed:
		return c.Node
	case scheduler.MadePledge:
		return c.Node
	}
	return crypto.PublicKey{}
}

// TestOrdersOfStrangersCostNothing: an agent that speaks of orders which it was not given is told
// so by name, and nothing of it comes into the log.
func TestOrdersOfStrangersCostNothing(t *testing.T) {
	c := newCluster(t, 1)
	c.agent(0, nil)
	stranger := c.agent(1, func(a *fakeAgent) { a.declined = "not for me" })
	c.waitNodes(0, 2)
	id := c.submit(0, chain.PolicyNone{})
	c.waitJob(0, id, job.Settling)
	var logged atomic.Int64
	c.servers[0].Break(func(command scheduler.Command) bool {
		if toldBy(command) == stranger.key.Public() {
			logged.Add(1)
		}
		return false
	})
	unknown := crypto.Digest{7}
	for name, tell := range map[string]func(order crypto.Digest) job.Message{
		"a key": func(order crypto.Digest) job.Message { return job.Reveal{Order: order, Key: chain.OutputKey{1}} },
		"a pledge": func(order crypto.Digest) job.Message {
			payload := chain.RunPayload(testChain, order, crypto.Digest{1}, 0)
			return job.Pledge{Order: order, Commitment: crypto.Digest{1}, Signature: stranger.key.Sign(crypto.DomainRun, payload)}
		},
		"an end": func(order crypto.Digest) job.Message {
			d := job.Done{Receipt: chain.UsageReceipt{ChainID: testChain, Order: order, Node: stranger.key.Public(), Sequence: 1, Exit: chain.ExitOK}}
			d.ReceiptSig = stranger.key.Sign(crypto.DomainUsage, d.Receipt.Payload())
			return d
		},
	} {
		for order, want := range map[crypto.Digest]string{id: "the job was given to others", unknown: "the job is not known"} {
			stranger.mu.Lock()
			stranger.acks = nil
			stranger.mu.Unlock()
			until(t, "an answer to "+name, func() bool {
				stranger.broadcast(tell(order))
				ack, ok := stranger.acked(order)
				return ok && ack.Refuse == want
			})
		}
	}
	if n := logged.Load(); n != 0 {
		t.Errorf("%d commands of a stranger came into the log", n)
	}
}

// TestEndsOfWhatIsOverCostNothing: an agent that tells an end again is answered as before, and nothing of it
// comes into the log.
func TestEndsOfWhatIsOverCostNothing(t *testing.T) {
	c := newCluster(t, 1)
	var end atomic.Pointer[job.Done] // the last: a busy machine may have the job run again
	a := c.agent(0, func(a *fakeAgent) {
		a.spoil = func(d *job.Done) {
			said := *d
			end.Store(&said)
		}
	})
	c.waitNodes(0, 1)
	id := c.submit(0, chain.PolicyNone{})
	c.waitJob(0, id, job.Settling)
	d := *end.Load()
	d.ReceiptSig = a.key.Sign(crypto.DomainUsage, d.Receipt.Payload())
	var logged atomic.Int64
	c.servers[0].Break(func(command scheduler.Command) bool {
		if toldBy(command) == a.key.Public() {
			logged.Add(1)
		}
		return false
	})
	for range 3 {
		a.mu.Lock()
		a.acks = nil
		a.mu.Unlock()
		until(t, "an answer", func() bool {
			a.broadcast(d)
			ack, ok := a.acked(id)
			return ok && ack.Refuse == ""
		})
	}
	if n := logged.Load(); n != 0 {
		t.Errorf("%d commands about an end that was known came into the log", n)
	}
}
