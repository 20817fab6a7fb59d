package replica

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// delegation is a sentry's right to carry a signer's votes.
type delegation struct {
	epoch  consensus.Epoch
	signer consensus.Signer
	node   crypto.PublicKey
}

// maxSentries is how many connections may carry one signer's votes beside its
// own.
const maxSentries = 4

// carriage is how a vote may come in.
type carriage uint8

const (
	uncarried carriage = iota // not over this connection
	byOwner
	bySentry
)

// carriageOf says how a connection may carry the signer's votes of an epoch that
// is known. The error is a breach: a validator's connection never carries
// another's votes without a delegation. Somebody else's may: a sentry whose
// delegation came before this node knew the epoch.
func carriageOf(in *reign, sentries []delegation, from crypto.PublicKey, signer consensus.Signer) (carriage, error) {
	owner, member := in.signers[from]
	if member && owner == signer {
		return byOwner, nil
	}
	for _, d := range sentries {
		if d.epoch == in.Committee.Epoch() && d.signer == signer && d.node == from {
			return bySentry, nil
		}
	}
	if member {
		return uncarried, fmt.Errorf("replica: vote of signer %d of epoch %d over the connection of signer %d", signer, in.Committee.Epoch(), owner)
	}
	return uncarried, nil
}

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
	how, err := carriageOf(in, r.delegations, ev.From, signer)
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
	if e > r.epoch {
		r.keepEarly(ev, v)
		return
	}
	if r.core.Closed() {
		if _, cert := r.core.LastFinalized(); gaveUp {
			r.tell(ev.From, cert)
		}
		return
	}
	if how == bySentry {
		if err := consensus.VerifyVote(v, in.Committee, r.cfg.ChainID); err != nil {
			r.blame(ev.From, err.Error())
			return
		}
	}
	n, offers := v.(consensus.Notarize)
	if _, isOffer := ev.Message.(consensus.Offer); !isOffer || !offers {
		r.feed(consensus.VoteReceived{Vote: v, Verified: how == bySentry})
		return
	}
	if !r.offered(ev, in, n) {
		return
	}
	if len(ev.Blocks) != 1 { // not worth reading; it may still count, or be evidence
		r.feed(consensus.VoteReceived{Vote: v, Verified: how == bySentry})
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
		r.feed(consensus.CertificateReceived{From: ev.From, Certificate: cert})
	case r.epoch + 1:
		r.keepEarlyCertificate(ev, cert)
	}
}

// onDelegation lets a sentry carry a signer's votes, once the signature holds.
func (r *Replica) onDelegation(from crypto.PublicKey, d consensus.Delegation) {
	in := r.reigns.of(d.Epoch)
	if in == nil || d.Epoch < r.epoch || d.Epoch > r.epoch+1 {
		return
	}
	if d.NodeKey != from {
		r.blame(from, "replica: a delegation to another node's connections")
		return
	}
	held := 0
	for _, old := range r.delegations {
		if old.epoch == d.Epoch && old.signer == d.Signer {
			if held++; old.node == from {
				return
			}
		}
	}
	if held >= maxSentries {
		return
	}
	if err := d.Verify(in.Committee, r.cfg.ChainID); err != nil {
		r.blame(from, err.Error())
		return
	}
	added := append([]delegation(nil), r.delegations...)
	r.delegations = append(added, delegation{epoch: d.Epoch, signer: d.Signer, node: from})
	r.stale = true
}
