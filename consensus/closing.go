package consensus

import "github.com/hypermesh/hypermesh/internal/crypto"

// The epoch's last block. Once a block that is Closing is certified, the only
// proposal that may follow it is its own digest again, in later views: without
// that, the block could never be finalized when its own view was given up by
// too many. A leader repeats it by its vote alone, because whoever may notarize
// it holds the block. The application is not asked: the block was accepted when
// it was first certified. A finalization of any of these proposals finalizes
// the block, and the core rests.

// closes reports whether the block certified at the view is the epoch's last.
// View 0 is the last block of the epoch before.
func (c *Core) closes(v View, d crypto.Digest) bool {
	if v == 0 {
		return false
	}
	if vs, ok := c.find(v); ok && vs.certify == certifyOK {
		return vs.closing
	}
	if b := c.blocks[d]; b != nil {
		return b.Closing
	}
	return d == c.durable && c.durableClosing || d == c.delivered && c.deliveredClosing
}

// follows reports whether the proposal may follow the digest that is certified
// at its parent: the same digest after a closing block, and another otherwise.
func (c *Core) follows(p Proposal, parent crypto.Digest) bool {
	return c.closes(p.Parent, parent) == (p.Digest == parent)
}

// closed reports whether the last finalized block is the epoch's last.
func (c *Core) closed() bool { return c.final != nil && c.closes(c.lastFinalized, c.finalDigest()) }

// rest ends what a closed core still had under way.
func (c *Core) rest() {
	if c.building {
		c.emit(CancelBuild{Round: c.buildOn.Round})
		c.building = false
	}
	for _, vs := range c.views {
		c.cancelCheck(vs)
	}
}

// adoptRepeat takes the leader's notarize of a held closing block as its offer:
// only the vote is sent for it.
func (c *Core) adoptRepeat(vs *viewState) {
	if vs.offered {
		return
	}
	n, ok := vs.notarizes.of(c.cfg.Committee.Leader(vs.view)).(Notarize)
	if !ok {
		return
	}
	if b := c.blocks[n.Proposal.Digest]; b != nil && b.Closing {
		vs.offered, vs.offer, vs.offeredAt = true, n.Proposal, never
	}
}

// repeats reports whether the proposal is of the very digest that is notarized
// at its parent.
func (c *Core) repeats(p Proposal) bool {
	parent, ok := c.find(p.Parent)
	return ok && parent.notarization != nil && parent.notarization.Statement.Proposal.Digest == p.Digest
}

// spoken returns the message that carries this node's own vote: a leader's
// notarize of a new block travels with the block.
func (c *Core) spoken(vote Vote) Message {
	n, ok := vote.(Notarize)
	if !ok || !c.leads(n.Proposal.Round.View) || c.repeats(n.Proposal) {
		return vote
	}
	b := c.blocks[n.Proposal.Digest]
	if b == nil {
		return vote
	}
	return Offer{Vote: n, Payload: b.Payload}
}
