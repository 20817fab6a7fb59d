package replica

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
)

// receive takes a message from a peer.
func (r *Replica) receive(ev Received) {
	if !r.started || r.halted {
		return
	}
	switch m := ev.Message.(type) {
	case consensus.Vote:
		r.onVote(ev, m)
	case consensus.Offer:
		r.onVote(ev, m.Vote)
	case *consensus.Certificate:
		r.onCertificate(ev, m)
	case consensus.Delegation:
		r.onDelegation(ev.From, m)
	case consensus.CertificateRequest:
		r.request(ev.From, m)
	case consensus.BlockRequest:
		r.request(ev.From, m)
	case consensus.AncestryRequest:
		r.request(ev.From, m)
	case consensus.BlockAnswer:
		r.onBlockAnswer(ev.From, ev.Blocks)
	case consensus.Ancestry:
		r.onAncestry(ev.From, m, ev.Blocks)
	}
}

// onVote takes a vote, alone or with the block that it offers.
func (r *Replica) onVote(ev Received, v consensus.Vote) {
	e := v.Statement().Round().Epoch
	in := r.reigns.of(e)
	if in == nil || e > r.epoch+1 {
		return
	}
	signer, _ := v.By()
	how, err := r.carriers().of(in, ev.From, signer)
	// Only who gave a view up needs to be told: others hear of the end as it is
	// broadcast, and their last votes are on the way when it is.
	_, gaveUp := v.(consensus.Nullify)
	if e < r.epoch {
		if how == byOwner && gaveUp {
			r.tell(ev.From, r.finalOf(e))
		}
		return
	}
	if err != nil {
		r.blame(ev.From, err.Error())
	}
	if how == uncarried {
		return
	}
	if e == r.epoch && r.core.Closed() {
		if _, cert := r.core.LastFinalized(); gaveUp {
			r.tell(ev.From, cert)
		}
		return
	}
	if gaveUp && e == r.epoch && len(r.cfg.Wards) > 0 && v.Statement().View() < r.core.View() {
		r.tell(ev.From, r.core.Entry()) // the one who would repeat it may be on a sentry's other side
	}
	if o, isOffer := ev.Message.(consensus.Offer); isOffer && !r.offered(ev, in, o.Vote) {
		return
	}
	verified, take := r.vouch(ev, in, v, how)
	if !take {
		return
	}
	if e > r.epoch {
		r.keepEarly(ev, v, verified)
	} else {
		r.takeVote(ev, v, verified)
	}
}

// takeVote gives the core a vote that came over a connection that may carry it.
func (r *Replica) takeVote(ev Received, v consensus.Vote, verified bool) {
	n, isNotarize := v.(consensus.Notarize)
	if !isNotarize || len(ev.Blocks) != 1 { // or not worth reading: it may still count, or be evidence
		r.feed(consensus.VoteReceived{Vote: v, Verified: verified})
		return
	}
	if view := n.Proposal.Round.View; view > r.offers[n.Signer] {
		r.offers = slices.Clone(r.offers)
		r.offers[n.Signer], r.stale = view, true
	}
	r.feed(consensus.OfferReceived{Vote: n, Block: ev.Blocks[0]})
}

// offered reports whether an offer is its leader's, and its block the one that
// the vote names.
func (r *Replica) offered(ev Received, in *reign, n consensus.Notarize) bool {
	round := n.Proposal.Round
	if leader := in.Committee.Leader(round.View); leader != n.Signer {
		r.blame(ev.From, fmt.Sprintf("replica: offer of view %d by signer %d, its leader is %d", round.View, n.Signer, leader))
		return false
	}
	if len(ev.Blocks) == 1 && ev.Blocks[0].Digest != n.Proposal.Digest {
		r.blame(ev.From, fmt.Sprintf("replica: offered block %s under the vote for %s", ev.Blocks[0].Digest.Short(), n.Proposal.Digest.Short()))
		return false
	}
	return true
}

func (r *Replica) onCertificate(ev Received, cert *consensus.Certificate) {
	switch e := cert.Statement.Round().Epoch; e {
	case r.epoch:
		r.feed(consensus.CertificateReceived{From: ev.From, Certificate: cert, Verified: ev.Verified})
	case r.epoch + 1:
		r.keepEarlyCertificate(ev, cert)
	}
}
