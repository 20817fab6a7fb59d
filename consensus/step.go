package consensus

import "github.com/hypermesh/hypermesh/internal/crypto"

// Input is one thing that happened, and when.
type Input struct {
	Now   Micros // never falls between inputs; an earlier instant counts as the last
	Event Event
}

// Event is what can happen to a core.
type Event interface{ isEvent() }

// Events from the driver.
type (
	// Start comes first, once.
	Start struct{}
	// Wake says that the instant of Deadline has come.
	Wake struct{}
	// VoteReceived is a vote that came over its signer's own connection, or one
	// that the driver has verified.
	VoteReceived struct {
		Vote     Vote
		Verified bool
	}
	// OfferReceived is a proposal that came over its leader's own connection;
	// the block's digest is computed from its payload.
	OfferReceived struct {
		Vote  Notarize
		Block Block
	}
	// CertificateReceived is a certificate from any peer; the core verifies it
	// unless the driver did. One that is Known, to peers, is not passed on.
	CertificateReceived struct {
		From        crypto.PublicKey // the connection, to blame
		Certificate *Certificate
		Verified    bool
		Known       bool
	}
	// BlockReceived is a block that somebody sent by digest.
	BlockReceived struct{ Block Block }
	// Built answers a Build.
	Built struct {
		Round Round
		Block Block
	}
	// BuildFailed answers a Build that came to nothing.
	BuildFailed struct{ Round Round }
	// Checked answers a Check.
	Checked struct {
		Check Check
		Valid bool
	}
	// Delivered says that the driver got the finalized chain up to the block by
	// other means than a Commit.
	Delivered struct {
		Digest  crypto.Digest
		Closing bool
	}
	// Durable says that the application has finalized everything up to the
	// block, for good.
	Durable struct {
		Digest  crypto.Digest
		Empty   bool
		Closing bool
	}
)

func (Start) isEvent()               {}
func (Wake) isEvent()                {}
func (VoteReceived) isEvent()        {}
func (OfferReceived) isEvent()       {}
func (CertificateReceived) isEvent() {}
func (BlockReceived) isEvent()       {}
func (Built) isEvent()               {}
func (BuildFailed) isEvent()         {}
func (Checked) isEvent()             {}
func (Delivered) isEvent()           {}
func (Durable) isEvent()             {}

// Effect is what the driver shall do. The order is a contract: a step returns
// at most one Append and returns it first, and nothing after it may leave the
// node before the records are on the disk. An Append that fails ends the node.
// The driver may merge consecutive steps: all their records, one fsync, then
// all their other effects in order.
type Effect interface{ isEffect() }

// Effects of a step.
type (
	// Append makes the records durable before any later effect.
	Append struct{ Records [][]byte }
	// Broadcast sends to every peer.
	Broadcast struct{ Message Message }
	// Ask sends a fetch request to one peer: the validator named, or any other
	// peer when there is no connection to it.
	Ask struct {
		To      Signer
		Request Message
	}
	// Build asks the application for a block; answered by Built or BuildFailed.
	// The parent is executed: the application built or accepted it, or it is
	// durable.
	Build struct {
		Round        Round
		Parent       View
		ParentDigest crypto.Digest
		Idle         Micros // how long the application may wait for something to put in
		// Finalization is the newest finalization that is at least two views and at
		// most 32 views older than the round, or nil: who waits for votes gains
		// nothing by it. Late holds, for each validator that is not in it, the newest
		// finalize vote of these views that is known and verified, ascending by signer.
		Finalization *Certificate
		Late         []Vote
	}
	// CancelBuild says that nobody waits for the build any more.
	CancelBuild struct{ Round Round }
	// Check asks the application to verify a block whose parent is executed;
	// answered by Checked. Attested says that a quorum notarized the block: then
	// a state of one's own that differs is a divergence, not an invalid block.
	Check struct {
		Proposal     Proposal
		ParentDigest crypto.Digest
		Attested     bool
	}
	// CancelCheck says that nobody waits for the check any more.
	CancelCheck struct{ Check Check }
	// Commit delivers finalized blocks, oldest first, each the child of the one
	// before, the first the child of the last block delivered. The certificate
	// finalizes the last of them and, by descent, all.
	Commit struct {
		Blocks      []Block
		Certificate *Certificate
	}
	// BlameSigner says that a vote from the validator's own connection does not
	// verify.
	BlameSigner struct {
		Signer Signer
		Reason string
	}
	// BlamePeer says that the connection carried a forged certificate.
	BlamePeer struct {
		Peer   crypto.PublicKey
		Reason string
	}
	// Halt says that the node must stop and tell its operator why: the rules that
	// every conclusion rests on are broken. Nothing follows it.
	Halt struct{ Reason string }
)

func (Append) isEffect()      {}
func (Broadcast) isEffect()   {}
func (Ask) isEffect()         {}
func (Build) isEffect()       {}
func (CancelBuild) isEffect() {}
func (Check) isEffect()       {}
func (CancelCheck) isEffect() {}
func (Commit) isEffect()      {}
func (BlameSigner) isEffect() {}
func (BlamePeer) isEffect()   {}
func (Halt) isEffect()        {}

// Step takes one input and returns what to do about it.
func (c *Core) Step(in Input) []Effect {
	if c.halted {
		return nil
	}
	c.now = max(c.now, in.Now)
	switch ev := in.Event.(type) {
	case Start:
		c.onStart()
	case Wake:
	case VoteReceived:
		c.onVote(ev.Vote, ev.Verified)
	case OfferReceived:
		c.onOffer(ev.Vote, ev.Block)
	case CertificateReceived:
		c.onCertificate(ev)
	case BlockReceived:
		c.onBlock(ev.Block)
	case Built:
		c.onBuilt(ev.Round, ev.Block)
	case BuildFailed:
		c.onBuildFailed(ev.Round)
	case Checked:
		c.onChecked(ev.Check, ev.Valid)
	case Delivered:
		c.delivered, c.deliveredClosing = ev.Digest, ev.Closing
	case Durable:
		c.onDurable(ev)
	}
	c.settle()
	if !c.halted {
		c.assertInvariants()
	}
	return c.flush()
}

// settle lets everything follow that the input made possible. Each rule looks
// at the state alone and is idempotent, so that no wake-up can be lost.
func (c *Core) settle() {
	if !c.started || c.halted {
		return
	}
	for again := true; again; {
		view, stored := c.current, c.stored
		c.unmarkWants()
		c.deliver()
		if c.closed() {
			c.rest()
			break
		}
		c.certifyAll()
		c.considerOffer()
		c.propose()
		c.timeOut()
		again = c.current != view || c.stored != stored // an own vote may have made a quorum
	}
	c.pursueWants()
}

func (c *Core) flush() []Effect {
	out := c.out
	if len(c.records) > 0 {
		out = append([]Effect{Append{Records: c.records}}, out...)
	}
	c.records, c.out = nil, nil
	return out
}

// emit adds an effect to the step's. Nothing follows a Halt.
func (c *Core) emit(e Effect) {
	if !c.halted {
		c.out = append(c.out, e)
	}
}
