package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Promises is the acceptances that somebody off the chain saw last, of each sequence of a cluster
// for a consumer the first: two that differ are evidence of ReportAcceptance.
type Promises struct {
	most  int
	of    map[promiseKey]chain.AcceptedOrder
	order []promiseKey // the oldest first
}

// promiseKey is what a cluster gives once.
type promiseKey struct {
	cluster  crypto.PublicKey
	consumer chain.Address
	sequence uint64
}

// NewPromises returns an empty memory of at most so many acceptances.
func NewPromises(most int) *Promises {
	return &Promises{most: most, of: map[promiseKey]chain.AcceptedOrder{}}
}

// Note remembers an acceptance whose signature was verified, and returns one of before that
// contradicts it.
func (p *Promises) Note(a *chain.AcceptedOrder) (first chain.AcceptedOrder, broken bool) {
	key := promiseKey{a.Acceptance.Cluster, a.Order.ConsumerAddress(), a.Acceptance.Sequence}
	first, known := p.of[key]
	if known {
		return first, first.Acceptance != a.Acceptance
	}
	if len(p.order) == p.most {
		delete(p.of, p.order[0])
		p.order = p.order[1:]
	}
	p.of[key], p.order = *a, append(p.order, key)
	return first, false
}
