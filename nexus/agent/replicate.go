package agent

import (
	"crypto/rand"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Under replicate the end of work is told in two steps: first that there is one and, by a
// commitment, which; and what it is when a server asks. A cluster that asks before the chain
// has the commitments of all learns no more than other nodes' runs could be copied from.

// saltOf returns what a receipt is pledged with: nothing, unless the order is replicated.
func saltOf(o *chain.Order) (salt [32]byte) {
	if _, replicated := o.Policy.Policy.(chain.PolicyReplicate); replicated {
		if _, err := rand.Read(salt[:]); err != nil {
			panic(fmt.Sprintf("agent: no randomness: %v", err))
		}
	}
	return salt
}

// ended is what servers are told of work that has ended: its Done, or the pledge of it.
func (a *Agent) ended(d job.Done) job.Message {
	order := d.Receipt.Order
	if _, asked := a.shown.Load(order); asked || d.Salt == [32]byte{} {
		return d
	}
	commitment := chain.RunCommitment(d.Receipt.Digest(), a.id, d.Salt)
	return job.Pledge{
		Order: order, Commitment: commitment,
		Signature: a.key.Sign(crypto.DomainRun, chain.RunPayload(a.genesis.ChainID, order, commitment)),
	}
}

// show sends the receipt that was pledged.
func (s *session) show(order crypto.Digest) {
	a := s.agent
	done, ok := a.spool.get(order)
	if !ok {
		a.mu.Lock()
		done, ok = a.remembered.get(order)
		a.mu.Unlock()
	}
	if ok {
		a.shown.Store(order, struct{}{})
		s.send(done)
	}
}
