package relay

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxPromises bounds the acceptances that are remembered.
const maxPromises = 20_000

// promises are the acceptances that a relay saw last, whose clusters signed them: of each
// sequence the first. The reader of the outbox uses them.
type promises struct {
	of    map[promiseKey]chain.AcceptedOrder
	order []promiseKey // the oldest first
}

// promiseKey is what a cluster gives once.
type promiseKey struct {
	cluster  crypto.PublicKey
	consumer chain.Address
	sequence uint64
}

// note remembers an acceptance, and returns the evidence if one of before contradicts it.
func (p *promises) note(a *chain.AcceptedOrder) (report chain.ReportAcceptance, broken bool) {
	key := promiseKey{a.Acceptance.Cluster, a.Order.ConsumerAddress(), a.Acceptance.Sequence}
	first, known := p.of[key]
	switch {
	case known && first.Acceptance == a.Acceptance:
		return report, false
	case known:
		return chain.ReportAcceptance{First: first, Second: a}, true
	case len(p.order) == maxPromises:
		delete(p.of, p.order[0])
		p.order = p.order[1:]
	}
	p.of[key], p.order = *a, append(p.order, key)
	return report, false
}

// heard returns a message to post if an acceptance shows that its cluster broke its word. Its
// signature was verified.
func (r *Relay) heard(a *chain.AcceptedOrder, item *api.OutboxItem, pass uint64) []*entry {
	report, broken := r.promises.note(a)
	if !broken || r.private != nil { // that one posts batches of its own nodes, and nothing else
		return nil
	}
	raw := codec.Marshal(chain.Msgs{report})
	id := crypto.DomainClaim.Hash(raw)
	if r.book.known(id, pass) {
		return nil
	}
	r.Log.Warn("relay: a cluster gave a sequence twice", "cluster", a.Acceptance.Cluster.Short(), "consumer", a.Order.ConsumerAddress().Short(),
		"sequence", a.Acceptance.Sequence, "orders", []string{report.First.Acceptance.Order.Short(), a.Acceptance.Order.Short()})
	return []*entry{{id: id, order: a.Acceptance.Order, run: report, evidence: true, bytes: len(raw), cursor: uint64(item.Cursor), pass: pass}}
}
