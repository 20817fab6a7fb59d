package replica

import (
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What arrives of the next epoch before its start is durable here is kept, in
// the order of its coming, and taken when the epoch begins. Votes and offers are
// bounded per sender, who must be the validator that signed; one block of each
// of the first views is kept. Certificates are verified at once and kept once
// each.

const (
	maxEarlyViews        = 4  // views whose offered blocks are kept
	maxEarlyCertificates = 64 // of all senders
)

type early struct {
	messages     []Received
	counts       map[crypto.PublicKey]int // by sender: votes and offers
	offers       [maxEarlyViews]bool      // by view − 1: its block is kept
	certificates []consensus.Statement
	ahead        bool // a finalization of the next epoch is among them: the others are there already
}

// take returns what was kept and keeps nothing.
func (b *early) take() []Received {
	messages := b.messages
	*b = early{counts: map[crypto.PublicKey]int{}}
	return messages
}

func (r *Replica) keepEarly(ev Received, v consensus.Vote) {
	b := &r.early
	if b.counts[ev.From] >= r.cfg.MaxEarly {
		return
	}
	if n, ok := v.(consensus.Notarize); ok && len(ev.Blocks) > 0 {
		if !r.offered(ev, r.reigns.of(r.epoch+1), n) {
			return
		}
		view := n.Proposal.Round.View
		if view > maxEarlyViews || b.offers[view-1] {
			ev.Message, ev.Blocks = v, nil
		} else {
			b.offers[view-1], r.stale = true, true
		}
	} else {
		ev.Message, ev.Blocks = v, nil // the vote alone: a payload that nobody read is not kept
	}
	b.counts[ev.From]++
	b.messages = append(b.messages, ev)
}

func (r *Replica) keepEarlyCertificate(ev Received, cert *consensus.Certificate) {
	b := &r.early
	if len(b.certificates) >= maxEarlyCertificates || slices.Contains(b.certificates, cert.Statement) {
		return
	}
	if err := r.verify(cert, r.reigns.of(r.epoch+1)); err != nil {
		r.blame(ev.From, err.Error())
		return
	}
	r.stale = true
	b.certificates = append(b.certificates, cert.Statement)
	b.ahead = b.ahead || cert.Statement.Kind == consensus.KindFinalize
	b.messages = append(b.messages, ev)
}
