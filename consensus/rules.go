package consensus

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The rules of the protocol, in the order of a view's life: propose, notarize,
// certify, finalize. The ones without an argument are run by settle.

// propose asks the application for a block when this node leads.
func (c *Core) propose() {
	if c.building || c.now < c.proposeAt || !c.leads(c.current) {
		return
	}
	vs := c.at(c.current)
	if vs.offered || vs.notarized != nil || vs.nullified || vs.notarization != nil || vs.nullification != nil {
		return
	}
	parent, ok := c.findParent()
	if !ok {
		return
	}
	digest, ok := c.executed(parent, c.self)
	if !ok {
		return
	}
	if c.closes(parent, digest) {
		p := Proposal{Round: c.round(c.current), Parent: parent, Digest: digest}
		vs.offered, vs.offer, vs.offeredAt = true, p, never
		c.sign(Statement{Kind: KindNotarize, Proposal: p})
		return
	}
	idle := Micros(0)
	if _, empty := c.tip(); empty {
		idle = c.cfg.Timing.Idle
	}
	c.building = true
	c.buildOn = Proposal{Round: c.round(c.current), Parent: parent}
	final, late := c.show(c.current)
	c.emit(Build{
		Round: c.round(c.current), Parent: parent, ParentDigest: digest, Idle: idle, Finalization: final, Late: late,
	})
}

// findParent returns the highest certified view below the current one, if
// every view between is proven to be nullified. It wants what is missing.
func (c *Core) findParent() (View, bool) {
	found := true
	for u := c.current - 1; u > c.lastFinalized; u-- {
		vs, ok := c.find(u)
		if ok && vs.certify == certifyOK {
			return u, found
		}
		if ok && vs.nullification != nil {
			continue
		}
		found = false
		if ok && vs.notarization != nil { // its certification is on the way
			return 0, false
		}
		c.wantCertificate(KindNotarize, u, c.cfg.Committee.Leader(u))
		if !c.wantCertificate(KindNullify, u, c.cfg.Committee.Leader(u)) {
			return 0, false
		}
	}
	return c.lastFinalized, found
}

// executed returns the digest at the view if the application can build on it:
// it accepted the block there, or made it durable.
func (c *Core) executed(v View, prefer Signer) (crypto.Digest, bool) {
	vs, known := c.find(v)
	if v == c.lastFinalized {
		d := c.finalDigest()
		return d, d == c.durable || known && vs.hasAccepted(d)
	}
	if !known || vs.notarization == nil {
		c.wantCertificate(KindNotarize, v, prefer)
		return crypto.Digest{}, false
	}
	return vs.notarization.Statement.Proposal.Digest, vs.certify == certifyOK
}

func (c *Core) onBuilt(r Round, b Block) {
	if !c.building || r != c.buildOn.Round {
		return
	}
	c.building = false
	vs := c.at(c.current)
	if vs.offered || vs.nullified || vs.notarization != nil || vs.nullification != nil {
		return
	}
	p := c.buildOn
	p.Digest = b.Digest
	c.hold(b, vs.view)
	vs.offered, vs.offer, vs.offeredAt = true, p, c.now
	vs.accepted = append(vs.accepted, b.Digest)
	c.sign(Statement{Kind: KindNotarize, Proposal: p})
}

func (c *Core) onBuildFailed(r Round) {
	if c.building && r == c.buildOn.Round {
		c.expire()
	}
}

func (c *Core) onOffer(v Notarize, b Block) {
	view := v.Proposal.Round.View
	if c.closed() || v.Proposal.Round.Epoch != c.cfg.Committee.Epoch() || int(v.Signer) >= c.cfg.Committee.Len() || c.blocked[v.Signer] {
		return
	}
	if b.Digest != v.Proposal.Digest || view > c.current+1 || view <= c.lastFinalized || c.cfg.Committee.Leader(view) != v.Signer {
		return
	}
	vs := c.at(view)
	if !vs.offered && view >= c.current {
		vs.offered, vs.offer, vs.offeredAt = true, v.Proposal, c.now
		c.hold(b, view)
		if n := vs.notarization; n != nil && n.Statement.Proposal != v.Proposal {
			vs.equivocated = true
		}
	} else if vs.offered && vs.offer != v.Proposal {
		vs.equivocated = true
	}
	c.onBlock(b)
	c.onVote(v, false)
}

// onBlock keeps a block that somebody waits for.
func (c *Core) onBlock(b Block) {
	if c.blocks[b.Digest] != nil {
		return
	}
	for _, vs := range c.since(c.lastFinalized) {
		if n := vs.notarization; n != nil && n.Statement.Proposal.Digest == b.Digest {
			c.hold(b, vs.view)
			return
		}
	}
	for _, w := range c.wants {
		if w.kind == 0 && w.digest == b.Digest {
			c.hold(b, c.lastFinalized)
			return
		}
	}
}

// considerOffer verifies, and then notarizes, the leader's first proposal in
// the current view.
func (c *Core) considerOffer() {
	vs := c.at(c.current)
	c.adoptRepeat(vs)
	if !c.signs || !vs.offered || vs.rejected || vs.notarized != nil || vs.nullified ||
		vs.notarization != nil || vs.nullification != nil {
		return
	}
	p := vs.offer
	if p.Parent >= vs.view || p.Parent < c.lastFinalized {
		vs.rejected = true
		c.expire()
		return
	}
	leader := c.cfg.Committee.Leader(vs.view)
	proven := true
	for u := p.Parent + 1; u < vs.view; u++ {
		if skipped, ok := c.find(u); !ok || skipped.nullification == nil {
			proven = false
			if !c.wantCertificate(KindNullify, u, leader) {
				break
			}
		}
	}
	parent, ok := c.executed(p.Parent, leader)
	if !ok || !proven {
		return
	}
	if !c.follows(p, parent) {
		vs.rejected = true
		c.expire()
		return
	}
	if vs.hasAccepted(p.Digest) || p.Digest == parent {
		c.sign(Statement{Kind: KindNotarize, Proposal: p})
	} else if vs.checking == nil {
		c.check(vs, Check{Proposal: p, ParentDigest: parent})
	}
}

func (c *Core) check(vs *viewState, k Check) {
	vs.checking = &k
	c.emit(k)
}

func (c *Core) onChecked(k Check, valid bool) {
	vs, ok := c.find(k.Proposal.Round.View)
	if !ok || vs.checking == nil || *vs.checking != k {
		return
	}
	vs.checking = nil
	switch {
	case valid:
		vs.accepted = append(vs.accepted, k.Proposal.Digest)
	case k.Attested:
		c.failCertify(vs)
	default:
		vs.rejected = true
		if vs.view == c.current {
			c.expire()
		}
	}
}

// certifyAll tries every notarized view in ascending order, also those that
// were nullified meanwhile.
func (c *Core) certifyAll() {
	for again := true; again; {
		again = false
		for _, vs := range c.since(c.lastFinalized) {
			if vs.notarization != nil && vs.certify == certifyWaiting && c.tryCertify(vs) {
				again = true
				break // the view list may have changed
			}
		}
	}
}

// tryCertify takes one step towards certification and reports whether it is
// decided.
func (c *Core) tryCertify(vs *viewState) bool {
	p := vs.notarization.Statement.Proposal
	if vs.checking != nil && vs.checking.Proposal != p {
		c.cancelCheck(vs)
	}
	if vs.checking != nil {
		return false
	}
	if p.Parent < c.lastFinalized {
		c.failCertify(vs)
		return true
	}
	if c.blocks[p.Digest] == nil {
		c.wantBlock(p.Digest, c.cfg.Committee.Leader(vs.view))
		return false
	}
	parent, ok := c.executed(p.Parent, c.cfg.Committee.Leader(vs.view))
	if !ok {
		return false
	}
	if !c.follows(p, parent) {
		c.failCertify(vs)
		return true
	}
	if !vs.hasAccepted(p.Digest) && p.Digest != parent {
		c.check(vs, Check{Proposal: p, ParentDigest: parent, Attested: true})
		return false
	}
	c.certified(vs)
	return true
}

// certified acts on a certification that succeeded: the block is in the log,
// the view is over, and unless this node gave it up it is to be finalized.
func (c *Core) certified(vs *viewState) {
	vs.certify, vs.certifiedAt = certifyOK, c.now
	p := vs.notarization.Statement.Proposal
	b := c.blocks[p.Digest]
	b.view, vs.closing = max(b.view, vs.view), b.Closing
	c.logBlock(p.Digest)
	c.logVerdict(vs, true)
	if c.signs && !vs.nullified && vs.finalized == nil && !vs.equivocated && vs.nullification == nil {
		c.sign(Statement{Kind: KindFinalize, Proposal: p})
	}
	c.enter(vs.view+1, vs.notarization)
}

func (c *Core) failCertify(vs *viewState) {
	vs.certify = certifyFailed
	c.logVerdict(vs, false)
	if vs.view == c.current {
		c.expire()
	}
}

// store takes a verified certificate: into the log, to the peers unless they know
// it, into effect.
func (c *Core) store(cert *Certificate, known bool) {
	v := cert.View()
	vs := c.at(v)
	if conflict := vs.excluded(cert.Statement); conflict != nil {
		c.condemn(conflict, cert)
		return
	}
	if v < c.lastFinalized || vs.certificateOf(cert.Statement.Kind) != nil {
		return
	}
	c.stored++
	c.log(certificateRecord(cert))
	if !known {
		c.emit(Broadcast{Message: cert})
	}
	switch cert.Statement.Kind {
	case KindNotarize:
		vs.notarization = cert
		if vs.offered && vs.offer != cert.Statement.Proposal {
			vs.equivocated = true
		}
	case KindNullify:
		vs.nullification = cert
		c.enter(v+1, cert)
	case KindFinalize:
		vs.finalization = cert
		c.finalize(vs)
	}
}

// finalize advances to a finalization, aborts what it overtakes, and leaves the
// delivery of the blocks to deliver.
func (c *Core) finalize(vs *viewState) {
	if vs.view <= c.lastFinalized {
		return
	}
	if vs.certify == certifyOK && vs.offered && vs.offeredAt != never {
		c.samples.add(vs.certifiedAt - vs.offeredAt)
	}
	c.lastFinalized, c.final = vs.view, vs.finalization
	for _, old := range c.views {
		if old.view <= vs.view {
			c.cancelCheck(old)
		}
	}
	if vs.view+1 == c.current {
		c.entry = vs.finalization // better than the notarization that let us in: it needs no block
	}
	c.enter(vs.view+1, vs.finalization)
	c.prune()
}

// deliver hands over the chain up to the last finalization once it is whole.
func (c *Core) deliver() {
	c.behind = false
	tip := c.finalDigest()
	if tip == c.delivered || tip == c.durable {
		return
	}
	var chain []Block
	for d := tip; d != c.delivered && d != c.durable; {
		b := c.blocks[d]
		if b == nil {
			c.behind = true
			if len(chain) < maxWalkFetch {
				// Not at once: catch-up by height may be bringing it.
				c.want(want{digest: d, prefer: c.cfg.Committee.Leader(c.lastFinalized), nextAt: c.now + c.cfg.Timing.Fetch})
			}
			return
		}
		chain = append(chain, b.Block)
		d = b.Parent
	}
	blocks := make([]Block, len(chain))
	for i, b := range chain {
		blocks[len(chain)-1-i] = b
		c.logBlock(b.Digest)
	}
	c.delivered, c.deliveredClosing = tip, c.blocks[tip].Closing
	c.emit(Commit{Blocks: blocks, Certificate: c.final})
}

// onDurable lets go of blocks that the application keeps from now on.
func (c *Core) onDurable(ev Durable) {
	c.durable, c.durableEmpty, c.durableClosing = ev.Digest, ev.Empty, ev.Closing
	for b := c.blocks[ev.Digest]; b != nil; b = c.blocks[b.Parent] {
		delete(c.blocks, b.Digest)
	}
}

// signature signs a statement without any rule asked.
func (c *Core) signature(s Statement) Vote {
	return SignVote(c.cfg.Key, c.self, c.cfg.ChainID, s)
}

// sign votes: asserts what a vote must never break, logs, broadcasts and
// counts it.
func (c *Core) sign(s Statement) {
	vs := c.at(s.View())
	p := s.Proposal
	switch s.Kind {
	case KindNotarize:
		if vs.notarized != nil || vs.nullified || vs.view != c.current {
			panic(fmt.Sprintf("consensus: I1, I3: second vote in view %d: %q", vs.view, s))
		}
		for u := p.Parent + 1; u < vs.view; u++ {
			if skipped, ok := c.find(u); !ok || skipped.nullification == nil {
				panic(fmt.Sprintf("consensus: I6: %q skips view %d without its nullification", s, u))
			}
		}
		vs.notarized = &p
		c.logBlock(p.Digest)
	case KindNullify:
		if vs.finalized != nil || vs.view != c.current {
			panic(fmt.Sprintf("consensus: I2: %q in view %d", s, c.current))
		}
		vs.nullified = true
	case KindFinalize:
		if vs.nullified || vs.finalized != nil || vs.view <= c.lastFinalized {
			panic(fmt.Sprintf("consensus: I2: %q after another vote, or below view %d, which is final", s, c.lastFinalized))
		}
		vs.finalized = &p
	}
	vote := c.signature(s)
	c.log(voteRecord(vote))
	c.emit(Broadcast{Message: c.spoken(vote)})
	c.count(vote, true)
}
