package main

import (
	"bytes"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// traitor is what a Byzantine node does beside running the code of honest ones.
// A twin's two nodes run nothing else.
type traitor struct {
	node    *node
	behaves faults
	betrays bool      // in what it broadcasts
	mute    bool      // it says nothing
	memory  []*packet // what it may send once more
	cert    *consensus.Certificate
	below   *consensus.Certificate // an earlier notarization or finalization
}

// rememberAtMost bounds a traitor's memory.
const rememberAtMost = 96

// lie is a kind of message that honest nodes have to refuse.
type lie string

const (
	lieShortWeight lie = "certificate of short weight"
	lieDuplicate   lie = "certificate with a signer twice"
	lieBitmap      lie = "certificate with a wrong bitmap"
	lieCommittee   lie = "certificate of another epoch"
	lieStatement   lie = "certificate of another statement"
	lieSignature   lie = "certificate with a false signature"
	lieBlock       lie = "invalid block"
	lieSkip        lie = "proposal that skips a certified view"
	lieAncestry    lie = "forged ancestry"
	lieOwnName     lie = "vote with a false signature"
	lieOtherName   lie = "vote in another's name"
	lieOld         lie = "old message"
	lieFlood       lie = "one offer of many"
	lieOther       lie = "one offer of two"
	lieDouble      lie = "nullify beside finalize"
	lieNowhere     lie = "finalize of a block that nobody has"
	lieEcho        lie = "a second vote"
	lieWithheld    lie = "withheld vote"
)

func (t *traitor) lies(l lie) { t.node.world.out.lies[string(l)]++ }

func (t *traitor) does(f faults, oneIn int) bool {
	return t.behaves&f != 0 && t.node.rand.Below(oneIn) == 0
}

// broadcast is how a Byzantine validator broadcasts.
func (t *traitor) broadcast(m consensus.Message) {
	if t.mute {
		return
	}
	for who := range t.node.world.cast.people {
		if who != t.node.who {
			t.tell(who, m)
		}
	}
	if v, ok := voteIn(m); ok {
		if t.does(faultImpersonate, 6) {
			t.impersonate(v)
		}
	}
	if o, ok := m.(consensus.Offer); ok && t.does(faultFlood, 2) {
		t.flood(o)
	}
	if t.does(faultReplay, 3) {
		t.replay()
	}
	if t.does(faultForge, 8) {
		t.forge()
	}
}

// voteIn returns the vote that a broadcast message carries.
func voteIn(m consensus.Message) (consensus.Vote, bool) {
	if offer, ok := m.(consensus.Offer); ok {
		return offer.Vote, true
	}
	vote, ok := m.(consensus.Vote)
	return vote, ok
}

// say sends a message, and a vote in it to the court as well.
func (t *traitor) say(who int, m consensus.Message) {
	if v, ok := voteIn(m); ok {
		t.node.world.court.hear(t.node.who, v)
	}
	p := newPacket(m)
	t.remember(p)
	t.node.sendPacket(who, p)
}

func (t *traitor) remember(p *packet) {
	if t.behaves&faultReplay == 0 {
		return
	}
	if len(t.memory) < rememberAtMost {
		t.memory = append(t.memory, p)
	} else {
		t.memory[t.node.rand.Below(rememberAtMost)] = p
	}
}

// tell sends one peer its version of a message: a block to half of them and
// another to the rest, both notarized, openly or on the sly; a nullify to some
// and a finalize to others; and to some nothing.
func (t *traitor) tell(who int, m consensus.Message) {
	if _, isVote := voteIn(m); isVote && t.does(faultWithhold, 2) {
		t.lies(lieWithheld)
		return
	}
	equivocates := t.behaves&faultEquivocate != 0
	switch m := m.(type) {
	case consensus.Offer:
		switch {
		case t.does(faultForge, 12):
			t.lies(lieBlock)
			t.offerAnother(who, m, func(b *toyBlock) { b.Height++ })
		case t.does(faultForge, 4) && t.skip(who, m):
			t.lies(lieSkip)
		case equivocates && who%2 == 0:
			t.lies(lieOther)
			t.offerAnother(who, m, func(b *toyBlock) { b.Salt++ })
		default:
			t.say(who, m)
		}
	case consensus.Finalize:
		switch {
		case equivocates && t.node.rand.Below(2) == 0:
			t.lies(lieDouble)
			t.say(who, t.sign(consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: m.Proposal.Round}}))
		case equivocates && t.node.rand.Below(4) == 0:
			t.lies(lieNowhere)
			p := m.Proposal
			p.Digest[0] ^= 1
			t.say(who, t.sign(consensus.Statement{Kind: consensus.KindFinalize, Proposal: p}))
			t.say(who, m)
		default:
			t.say(who, m)
		}
	case consensus.Notarize, consensus.Nullify, *consensus.Certificate, consensus.CertificateRequest,
		consensus.BlockRequest, consensus.AncestryRequest, consensus.BlockAnswer, consensus.Ancestry, consensus.Delegation:
		t.say(who, m)
	}
}

// heard is told what the node receives. It tells an honest peer what it likes
// to hear, the vote that it cast itself, and nobody else learns of it.
func (t *traitor) heard(peer int, m consensus.Message) {
	if !t.betrays || t.mute {
		return
	}
	if c, ok := m.(*consensus.Certificate); ok {
		if k := c.Statement.Kind; k != consensus.KindNullify && t.node.rand.Below(3) == 0 {
			t.below = c
		}
		t.cert = c
		t.remember(newPacket(c))
	}
	v, ok := voteIn(m)
	if ok && t.does(faultEquivocate, 2) && !t.node.world.traitor[peer] {
		if own := t.sign(v.Statement()); own != nil {
			t.lies(lieEcho)
			t.say(peer, own)
		}
	}
	if a, ok := m.(consensus.AncestryRequest); ok && t.does(faultForge, 2) {
		t.lies(lieAncestry)
		b := toyBlock{Height: a.From, Salt: t.node.rand.Uint64()}.block()
		forged := consensus.ProvenBlock{Payload: b.Payload}
		if t.cert != nil {
			c := *t.cert
			c.Statement = consensus.Statement{Kind: consensus.KindFinalize, Proposal: c.Statement.Proposal}
			c.Statement.Proposal.Digest = b.Digest
			if c.Statement.Proposal.Parent < c.Statement.View() {
				forged.Certificate = consensus.EncodeCertificate(&c)
			}
		}
		t.say(peer, consensus.Ancestry{From: a.From, Blocks: []consensus.ProvenBlock{forged}})
	}
}

// sign signs anything with the key of the statement's epoch; nil if the traitor
// is no validator in it.
func (t *traitor) sign(s consensus.Statement) consensus.Vote {
	return t.node.world.signAs(t.node.who, s)
}

// signAs signs as the person, if it is a validator of the statement's epoch.
func (w *world) signAs(who int, s consensus.Statement) consensus.Vote {
	r := w.witness.reigns[s.Round().Epoch]
	if r == nil {
		return nil
	}
	signer, member := r.signer(who)
	if !member {
		return nil
	}
	key := w.cast.people[who].keys[r.members[signer].version]
	return consensus.SignVote(key, signer, chainID, s)
}

// offerAnother offers a block that differs, and now and then lets everybody
// have the vote for it.
func (t *traitor) offerAnother(to int, o consensus.Offer, change func(*toyBlock)) {
	b, err := readToy(o.Payload)
	if err != nil {
		panic("hypersim: an own offer that cannot be read: " + err.Error())
	}
	change(&b)
	other := b.block()
	t.node.world.proposed[other.Digest] = t.node.world.clock.Now()
	t.node.world.witness.block(other)
	p := o.Vote.Proposal
	p.Digest = other.Digest
	vote := t.sign(consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
	notarize, ok := vote.(consensus.Notarize)
	if !ok {
		return
	}
	if t.node.rand.Below(4) == 0 {
		for peer := range t.node.world.cast.people {
			t.say(peer, vote)
		}
	}
	t.say(to, consensus.Offer{Vote: notarize, Payload: other.Payload})
}

// skip offers a valid block on a certified view below the true parent, and
// reports whether there is one: nobody may vote for it who does not know that
// all views between are nullified.
func (t *traitor) skip(to int, o consensus.Offer) bool {
	if t.below == nil || !t.node.alive() {
		return false
	}
	on, p := t.below.Statement.Proposal, o.Vote.Proposal
	s := t.node.app.states[on.Digest]
	if s == nil || on.Round.Epoch != p.Round.Epoch || s.epoch != p.Round.Epoch || on.Round.View >= p.Parent {
		return false
	}
	b, err := t.node.app.build(toyBlock{Epoch: p.Round.Epoch, View: p.Round.View, Parent: on.Digest, Salt: t.node.rand.Uint64()}, t.node.wallClock())
	if err != nil {
		panic("hypersim: a block on a certified one: " + err.Error())
	}
	t.node.world.witness.block(b)
	p.Parent, p.Digest = on.Round.View, b.Digest
	if vote, ok := t.sign(consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}).(consensus.Notarize); ok {
		t.say(to, consensus.Offer{Vote: vote, Payload: b.Payload})
	}
	return true
}

// flood offers everybody dozens of blocks.
func (t *traitor) flood(o consensus.Offer) {
	for i := range 8 + t.node.rand.Below(24) {
		for who := range t.node.world.cast.people {
			if who != t.node.who && t.node.rand.Below(4) == 0 {
				t.lies(lieFlood)
				t.offerAnother(who, o, func(b *toyBlock) { b.Salt += uint64(2 + i) })
			}
		}
	}
}

// impersonate votes in the name of somebody else, or with a signature that is
// not its own.
func (t *traitor) impersonate(v consensus.Vote) {
	s := v.Statement()
	r := t.node.world.witness.reigns[s.Round().Epoch]
	if r == nil {
		return
	}
	victim := consensus.Signer(t.node.rand.Below(len(r.members)))
	if self, _ := r.signer(t.node.who); victim == self {
		t.lies(lieOwnName)
		s.Proposal.Round.View++ // a vote that would count, signed for another view
	} else {
		t.lies(lieOtherName)
	}
	_, sig := v.By()
	t.node.sendPacket(t.node.rand.Below(len(t.node.world.cast.people)), newPacket(voteWith(s, victim, sig)))
}

func voteWith(s consensus.Statement, signer consensus.Signer, sig crypto.Signature) consensus.Vote {
	switch s.Kind {
	case consensus.KindNotarize:
		return consensus.Notarize{Proposal: s.Proposal, Signer: signer, Signature: sig}
	case consensus.KindFinalize:
		return consensus.Finalize{Proposal: s.Proposal, Signer: signer, Signature: sig}
	case consensus.KindNullify:
		return consensus.Nullify{Round: s.Round(), Signer: signer, Signature: sig}
	}
	panic("hypersim: a vote of " + s.Kind.String())
}

// replay sends something old to somebody.
func (t *traitor) replay() {
	if len(t.memory) > 0 {
		t.lies(lieOld)
		p := t.memory[t.node.rand.Below(len(t.memory))]
		t.node.sendPacket(t.node.rand.Below(len(t.node.world.cast.people)), p)
	}
}

// forge sends a false certificate to somebody.
func (t *traitor) forge() {
	if t.cert == nil {
		return
	}
	c := &consensus.Certificate{
		Statement: t.cert.Statement, Signers: bytes.Clone(t.cert.Signers), Signatures: slices.Clone(t.cert.Signatures),
	}
	first := slices.IndexFunc(c.Signers, func(b byte) bool { return b != 0 })
	bit := byte(1)
	for c.Signers[first]&bit == 0 {
		bit <<= 1
	}
	p := &c.Statement.Proposal
	var l lie
	switch t.node.rand.Below(6) {
	case 0:
		l = lieShortWeight
		c.Signers[first] &^= bit
		c.Signatures = c.Signatures[1:]
	case 1:
		l = lieDuplicate
		c.Signatures[len(c.Signatures)-1] = c.Signatures[0]
	case 2:
		l = lieBitmap
		c.Signers = append(c.Signers, 1)
		c.Signatures = append(c.Signatures, c.Signatures[0])
	case 3:
		l = lieCommittee
		p.Round.Epoch++
	case 4:
		l = lieStatement
		p.Round.View++
	case 5:
		l = lieSignature
		c.Signatures[0][t.node.rand.Below(crypto.SignatureSize)] ^= 1
	}
	if len(c.Signatures) == 0 {
		return
	}
	t.lies(l)
	t.node.sendPacket(t.node.rand.Below(len(t.node.world.cast.people)), newPacket(c))
}
