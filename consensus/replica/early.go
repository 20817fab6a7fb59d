package replica

import (
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What arrives of the next epoch before its start is durable here is kept, in
// the order of its coming, and taken when the epoch begins. Votes and offers are
// bounded per signer, over whichever connections they come, and verified at once if
// they come over a sentry; one block of each of the first views is kept.
// Certificates are verified at once and kept once each.

const (
	maxEarlyViews        = 4  // views whose offered blocks are kept
	maxEarlyCertificates = 64 // of all senders
)

type early struct {
	messages     []kept
	counts       map[crypto.PublicKey]int // by the signer's node: votes and offers
	offers       [maxEarlyViews]bool      // by view − 1: its block is kept
	certificates []consensus.Statement
	ahead        bool // a finalization of the next epoch is among them: the others are there already
}

// kept is a message of the next epoch.
type kept struct {
	Received
	vote     consensus.Vote // nil: a certificate
	verified bool           // the signature
}

// take returns what was kept and keeps nothing.
func (b *early) take() []kept {
	messages := b.messages
	*b = early{counts: map[crypto.PublicKey]int{}}
	return messages
}

func (r *Replica) keepEarly(ev Received, v consensus.Vote, verified bool) {
	b := &r.early
	in := r.reigns.of(r.epoch + 1)
	if b.full(in, v, r.cfg.MaxEarly) || verified && b.has(v) {
		return
	}
	signer, _ := v.By()
	owner := in.NodeKeys[signer]
	if n, ok := v.(consensus.Notarize); ok && len(ev.Blocks) > 0 && n.Proposal.Round.View <= maxEarlyViews && !b.offers[n.Proposal.Round.View-1] {
		b.offers[n.Proposal.Round.View-1], r.stale = true, true
	} else {
		ev.Message, ev.Blocks = v, nil // the vote alone: a payload that nobody read is not kept
	}
	b.counts[owner]++
	b.messages = append(b.messages, kept{ev, v, verified})
}

// full reports whether as many messages of a vote's signer are kept as may be.
func (b *early) full(in *reign, v consensus.Vote, most int) bool {
	signer, _ := v.By()
	return b.counts[in.NodeKeys[signer]] >= most
}

// has reports whether a vote is kept: several sentries carry the same.
func (b *early) has(v consensus.Vote) bool {
	signer, _ := v.By()
	return slices.ContainsFunc(b.messages, func(m kept) bool {
		if m.vote == nil {
			return false
		}
		by, _ := m.vote.By()
		return by == signer && m.vote.Statement() == v.Statement()
	})
}

func (r *Replica) keepEarlyCertificate(ev Received, cert *consensus.Certificate) {
	b := &r.early
	if len(b.certificates) >= maxEarlyCertificates || slices.Contains(b.certificates, cert.Statement) {
		return
	}
	if !ev.Verified {
		if err := r.verify(cert, r.reigns.of(r.epoch+1)); err != nil {
			r.blame(ev.From, err.Error())
			return
		}
	}
	r.stale = true
	b.certificates = append(b.certificates, cert.Statement)
	b.ahead = b.ahead || cert.Statement.Kind == consensus.KindFinalize
	b.messages = append(b.messages, kept{ev, nil, true})
}
