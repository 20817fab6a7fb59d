package main

import "github.com/hypermesh/hypermesh/consensus"

// betray is how a Byzantine validator broadcasts: it offers one block to half
// of its peers and another to the rest, notarizes both, openly or on the sly,
// and nullifies towards some what it finalizes towards others.
func (v *validator) betray(m consensus.Message) {
	for to := range v.world.validators {
		if to == int(v.index) {
			continue
		}
		switch m := m.(type) {
		case consensus.Offer:
			if to%2 == 0 {
				v.send(to, m)
			} else {
				v.offerAnother(to, m)
			}
		case consensus.Finalize:
			if v.rand.Below(2) == 0 {
				v.send(to, m)
			} else {
				v.send(to, v.sign(consensus.KindNullify, consensus.Proposal{Round: m.Proposal.Round}))
			}
		case consensus.Notarize, consensus.Nullify, *consensus.Certificate, consensus.CertificateRequest,
			consensus.BlockRequest, consensus.AncestryRequest, consensus.BlockAnswer, consensus.Ancestry, consensus.Delegation:
			v.send(to, m)
		}
	}
}

// agree tells an honest peer what it likes to hear: the vote that it cast
// itself, and nobody else learns of it.
func (v *validator) agree(peer int, vote consensus.Vote) {
	if !v.world.validators[peer].traitor && v.rand.Below(2) == 0 {
		s := vote.Statement()
		v.send(peer, v.sign(s.Kind, s.Proposal))
	}
}

// offerAnother offers a block of the same view and parent that differs, and
// now and then lets everybody have the vote for it.
func (v *validator) offerAnother(to int, o consensus.Offer) {
	b, err := readToy(o.Payload)
	if err != nil {
		v.world.failf("validator %d: own offer: %v", v.index, err)
		return
	}
	b.Salt++
	other := b.block()
	v.world.proposed[other.Digest] = v.world.clock.Now()
	p := o.Vote.Proposal
	p.Digest = other.Digest
	vote := v.sign(consensus.KindNotarize, p)
	open := v.rand.Below(4) == 0
	for peer := range v.world.validators {
		if open && peer != int(v.index) {
			v.send(peer, vote)
		}
	}
	if notarize, ok := vote.(consensus.Notarize); ok {
		v.send(to, consensus.Offer{Vote: notarize, Payload: other.Payload})
	}
}

func (v *validator) sign(k consensus.Kind, p consensus.Proposal) consensus.Vote {
	return consensus.SignVote(v.world.plan.cast.keys[v.index], v.index, chainID, consensus.Statement{Kind: k, Proposal: p})
}
