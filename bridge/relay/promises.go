package relay

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxPromises bounds the acceptances that are remembered.
const maxPromises = 20_000

// heard returns a message to post if an acceptance shows that its cluster broke its word. Its
// signature was verified.
func (r *Relay) heard(a *chain.AcceptedOrder, item *api.OutboxItem, pass uint64) []*entry {
	first, broken := r.promises.Note(a)
	if !broken {
		return nil
	}
	report := chain.ReportAcceptance{First: first, Second: a}
	raw := codec.Marshal(chain.Msgs{report})
	id := crypto.DomainClaim.Hash(raw)
	if r.book.known(id, pass) {
		return nil
	}
	r.Log.Warn("relay: a cluster gave a sequence twice", "cluster", a.Acceptance.Cluster.Short(), "consumer", a.Order.ConsumerAddress().Short(),
		"sequence", a.Acceptance.Sequence, "orders", []string{report.First.Acceptance.Order.Short(), a.Acceptance.Order.Short()})
	return []*entry{{id: id, order: a.Acceptance.Order, run: report, evidence: true, bytes: len(raw), cursor: uint64(item.Cursor), pass: pass}}
}
