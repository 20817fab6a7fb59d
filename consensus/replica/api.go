package replica

import (
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The driver's part in one picture:
//
//	r, err := Restore(cfg, floor, logs)
//	for each event: effects := r.Step(now, event); perform them in order
//	r.Deadline() says when Step(now, Wake{}) is due
//
// and nothing else: the driver decides nothing that two nodes could disagree on.

// Config is what a replica is made of. DefaultConfig fills everything but
// identity: the fields up to Since, of which a node without sentries leaves out those about them.
type Config struct {
	ChainID string // 1 to 64 bytes
	// Keys are the node's consensus keys. In each epoch the first one that is in
	// the committee signs; with none the node observes. A key that replaces
	// another on chain is here beside it until its epoch has begun.
	Keys []crypto.PrivateKey
	// NodeKey is the key that the node's own connections are authenticated with.
	NodeKey crypto.PublicKey
	// Sentries are the node keys of this validator's own sentries, at most 4: each is
	// handed delegations by its keys, and may carry everybody's votes, which are
	// verified one by one.
	Sentries []crypto.PublicKey
	// Wards are the node keys of the validators that this node is a sentry of, at
	// most 4; a sentry has no Keys and no Sentries.
	Wards []crypto.PublicKey
	// Fresh says that the keys never signed anything on this chain, so that the
	// node may sign in epoch 1 although it has no log of it. A home that once
	// signed and has no log any more must say false.
	Fresh bool
	// Begun is the highest epoch whose log an earlier life of this node began, from
	// a durable marker outside of the logs; 0: none. In an epoch below it the node
	// signs nothing, and in that epoch only with its complete log: a log that is
	// missing was lost, whatever else is there. The driver moves the marker when it
	// has appended to the log of a higher epoch, before any later effect.
	Begun consensus.Epoch
	// Since is the chain time (milliseconds) before which an earlier life of this
	// node may have signed things that its logs do not tell: the wall clock when
	// the process began, plus what the clock may be wrong by. A node without the
	// complete log of the epoch before signs in an epoch only if the block that
	// it starts from is later (Reign.StartMs), and not later than the time that
	// has passed since then accounts for: then the clock was right. Zero:
	// then never.
	Since uint64

	// Verify verifies batches of signatures; nil: crypto.VerifyBatch, on one core.
	Verify consensus.Verifier

	Timing    consensus.Timing
	Retention consensus.View   // finalized views whose votes still count, 1 to 65,536
	CatchUp   consensus.Micros // without progress for so long, peers are asked for blocks
	Answer    consensus.Micros // how long catch-up waits for one peer's answer

	MaxAhead    int // finalized blocks waiting for the application beyond which Build and Check are held back
	MaxBacklog  int // finalized blocks waiting beyond which more are dropped, and fetched by height later
	MaxRunBytes int // bytes of blocks without a certificate that catch-up holds
	MaxEarly    int // messages of the next epoch kept for one sender until it begins
	MaxRequests int // fetch requests of one peer that wait for their turn
	MaxLookups  int // Lookups that the driver has at a time
	ServeBytes  int // bytes a second of blocks that one peer is served, and twice that at once
}

// Reign is one epoch's committee, and where the epoch begins once that is known.
type Reign struct {
	Committee *consensus.Committee
	// NodeKeys are the keys of the validators' connections, by signer. No two are
	// equal.
	NodeKeys []crypto.PublicKey
	// Start is the digest of the block that the epoch starts from: genesis, or
	// the closing block of the epoch before. Zero while that block is not
	// finalized.
	Start       crypto.Digest
	StartHeight uint64 // of that block
	StartMs     uint64 // and its time, in milliseconds of chain time
	// Final is the finalization of the block at Start, which ended the epoch
	// before; nil for genesis, and where it is not at hand: then this node cannot
	// tell stragglers of that epoch how it ended, and they catch up by height.
	Final *consensus.Certificate
}

// Floor is what the application has made durable.
type Floor struct {
	Height  uint64
	Digest  crypto.Digest
	Empty   bool
	Closing bool // the block is the last of its epoch
	// Certificate finalizes the block or, by descent, one above it in the same
	// epoch; nil at genesis.
	Certificate *consensus.Certificate
	// Reigns are ascending and without gaps: at least that of the certificate's
	// epoch, that of the next block's (with its Start), and the one after.
	Reigns []Reign
}

// Log is the durable records of one epoch, in order.
type Log struct {
	Epoch   consensus.Epoch
	Records [][]byte
}

// Event is what can happen to a replica.
type Event interface{ isEvent() }

// Events from the driver.
type (
	// Start comes first, once.
	Start struct {
		Passed consensus.Micros // since Config.Since was taken off the clock
	}
	// Wake says that the instant of Deadline has come. One too many does no harm.
	Wake struct{}
	// Peers is the node keys of the connected peers, ascending, whenever they
	// change.
	Peers struct{ Connected []crypto.PublicKey }
	// Received is a message from an authenticated peer. Blocks are what the
	// application read from the payloads in it, if Window.Admit asked for that:
	// one for an Offer or a BlockAnswer, one for each block of an Ancestry, in
	// order. A payload that cannot be read is the driver's reason to blame the
	// peer; the message is not passed on.
	Received struct {
		From    crypto.PublicKey
		Message consensus.Message
		Blocks  []consensus.Block
		// Verified says that the message is a certificate that Window.Verify found
		// good.
		Verified bool
	}
	// Built answers a Build. The block is at most MaxPayloadBytes and Closing as
	// its application says.
	Built struct {
		Round consensus.Round
		Block consensus.Block
	}
	// BuildFailed answers a Build that came to nothing.
	BuildFailed struct{ Round consensus.Round }
	// Checked answers a Check: Check is the very value that it carried.
	Checked struct {
		Check consensus.Check
		Valid bool
	}
	// Finalized answers a Finalize: the block and its effects are durable. Reigns
	// are those known now, as in Floor; they are read if the block is Closing.
	Finalized struct {
		Height  uint64
		Digest  crypto.Digest
		Empty   bool
		Closing bool
		Reigns  []Reign
	}
	// Served answers a Lookup, also one that found nothing: how many bytes went
	// to the peer.
	Served struct {
		To    crypto.PublicKey
		Bytes int
	}
)

func (Start) isEvent()       {}
func (Wake) isEvent()        {}
func (Peers) isEvent()       {}
func (Received) isEvent()    {}
func (Built) isEvent()       {}
func (BuildFailed) isEvent() {}
func (Checked) isEvent()     {}
func (Finalized) isEvent()   {}
func (Served) isEvent()      {}

// Effect is what the driver shall do. The order is a contract: the Appends of a
// step come first, and nothing after an Append may leave the node before its
// records are on the disk. An Append that fails ends the node. The driver may
// merge consecutive steps, and does what Order says of all their effects.
type Effect interface{ isEffect() }

// Ordered is the work of one or more steps in the order in which a driver does it:
// Own need not wait for anything, Appends are made durable in their order (those
// of one epoch in one sync), and only then comes Rest.
type Ordered struct {
	Own     []Effect
	Appends []Append
	Rest    []Effect
}

// Order splits the effects of consecutive steps. Own are builds and checks: only
// the node itself hears of them, and what comes of them leaves it by a later step,
// so they begin while the disk is busy. A Finalize may not: its certificate, which
// it makes durable and others may then ask for, can hold a vote of this node that
// is among the Appends; and after a crash a log without that certificate would end
// below the floor, like an old copy, with which a node signs nothing in the epoch.
// From the first Enter or Halt on the order stays whole.
func Order(effects []Effect) Ordered {
	var o Ordered
	turned := false
	for _, e := range effects {
		own := false
		switch e := e.(type) {
		case Append:
			o.Appends = append(o.Appends, e)
			continue
		case Build, CancelBuild, Check, CancelCheck:
			own = !turned
		case Enter, Halt:
			turned = true
		case DropLog, Broadcast, Send, Relay, Places, Finalize, Lookup, Blame, Evidence:
		}
		if own {
			o.Own = append(o.Own, e)
		} else {
			o.Rest = append(o.Rest, e)
		}
	}
	return o
}

// Effects of a step.
type (
	// Append makes the records durable in the epoch's log, which it begins if
	// there is none, and then moves Config.Begun's marker if it is below the epoch,
	// before any later effect.
	Append struct {
		Epoch   consensus.Epoch
		Records [][]byte
	}
	// DropLog deletes the epoch's log, if there is one. The log of a later epoch
	// has begun.
	DropLog struct{ Epoch consensus.Epoch }
	// Broadcast sends to every connected peer. Sending never blocks.
	Broadcast struct{ Message consensus.Message }
	// Send sends to one peer, if it is connected. Sending never blocks.
	Send struct {
		To      crypto.PublicKey
		Message consensus.Message
	}
	// Relay sends to each of several peers, those that are connected. Sending never
	// blocks.
	Relay struct {
		To      []crypto.PublicKey
		Message consensus.Message
	}
	// Places says, whenever it changes, which nodes hold delegations for this epoch
	// or the next, ascending: sentries, which have a committee member's place among
	// the connections. At most 4 for each validator of each of these epochs.
	Places struct{ Nodes []crypto.PublicKey }
	// Build asks the application for a block on a parent that it built, accepted
	// or finalized; answered by Built or BuildFailed. At most one is under way,
	// except that a cancelled one may still be ending. The finalized block is the
	// highest known: its view, 0 at the epoch's start, and its digest.
	Build struct {
		consensus.Build
		FinalizedView   consensus.View
		FinalizedDigest crypto.Digest
	}
	// CancelBuild says that nobody waits for the build any more. An answer all
	// the same does no harm.
	CancelBuild struct{ Round consensus.Round }
	// Check asks the application to verify a block on a parent that it built,
	// accepted or finalized; answered by Checked.
	Check struct {
		consensus.Check
		Block consensus.Block
	}
	// CancelCheck says that nobody waits for the check any more. An answer all
	// the same does no harm.
	CancelCheck struct{ Check consensus.Check }
	// Finalize makes the block and its effects durable; answered by Finalized.
	// They come one at a time, in the order of the chain, each the child of the
	// one before, the first the child of the floor. The certificate finalizes the
	// block or, by descent, one above it in the same epoch; at a closing block it
	// is the block's own. An application that fails ends the node.
	Finalize struct {
		Block       consensus.Block
		Certificate *consensus.Certificate
	}
	// Lookup answers a peer's AncestryRequest, or its BlockRequest for a block
	// that is finalized if it is anywhere, from the application's store; then the
	// driver says Served, whatever it found.
	Lookup struct {
		To      crypto.PublicKey
		Request consensus.Message
	}
	// Blame says that the peer broke the protocol: end the connection and do not
	// take it again soon.
	Blame struct {
		Peer   crypto.PublicKey
		Reason string
	}
	// Evidence is for the application to keep and to put on the chain. It is in
	// the log already, and comes again after a restart and once more in the epoch
	// after its own.
	Evidence struct{ consensus.Evidence }
	// Enter says that an epoch begins, or that the replica starts in it: its
	// committee and the next one's are the peers to be connected with.
	Enter struct{ Reign, Next Reign }
	// Halt says that the node must stop and tell its operator why. Nothing
	// follows it; a restart says it again.
	Halt struct{ Reason string }
)

func (Append) isEffect()      {}
func (DropLog) isEffect()     {}
func (Broadcast) isEffect()   {}
func (Send) isEffect()        {}
func (Relay) isEffect()       {}
func (Places) isEffect()      {}
func (Build) isEffect()       {}
func (CancelBuild) isEffect() {}
func (Check) isEffect()       {}
func (CancelCheck) isEffect() {}
func (Finalize) isEffect()    {}
func (Lookup) isEffect()      {}
func (Blame) isEffect()       {}
func (Evidence) isEffect()    {}
func (Enter) isEffect()       {}
func (Halt) isEffect()        {}

// Status is where a replica stands.
type Status struct {
	Epoch         consensus.Epoch
	View          consensus.View         // the current one of the epoch
	FinalizedView consensus.View         // the highest finalization known of the epoch
	Certificate   *consensus.Certificate // and its certificate; nil at the epoch's start
	Height        uint64                 // durable in the application
	Digest        crypto.Digest          // of the block there
	Signs         bool                   // this node votes in this epoch
	Observes      string                 // why a member of the committee does not vote; empty: it does, or is none
	Behind        bool                   // a finalization is known whose blocks are missing
	Waiting       int                    // finalized blocks that wait for the application
}

// Admission is what a driver's network goroutine does with a message.
type Admission uint8

// The ways of a message.
const (
	Drop          Admission = iota // of no use
	Pass                           // to Step, as Received without Blocks
	PassWithBlock                  // to Step, with the blocks of its payloads
	PassVerified                   // a stranger's certificate: to Step as Verified, if Window.Verify says so within what the driver spends on strangers
)
