package engine

import (
	"context"
	"errors"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

var (
	// ErrDiverged says that this node's own state contradicts a block that a
	// quorum attested. App.Verify and App.Finalize return it (wrapped); the engine
	// stops.
	ErrDiverged = errors.New("engine: own state differs from the quorum's")
	// ErrInvalid says that a block breaks the rules for ever. App.Verify returns it
	// (wrapped): nothing else is a verdict.
	ErrInvalid = errors.New("engine: invalid block")
	// ErrHalted says that the protocol forbids the node to go on. The reason
	// follows it; a restart meets it again.
	ErrHalted = errors.New("engine: consensus must not go on here")
)

// Parent is the block to build on.
type Parent struct {
	View   consensus.View
	Digest crypto.Digest
}

// ProposeRequest asks for a block.
type ProposeRequest struct {
	Round  consensus.Round
	Parent Parent
	// LastFinalized is the highest finalization known in the epoch: its view and
	// the digest it finalizes.
	LastFinalized Parent
	// Idle is how long to wait for something to put into the block; 0 means:
	// build at once, empty if need be.
	Idle time.Duration
	// Finalization and Late are finalize votes of recent views of the epoch, for
	// the block to credit their signers: a certificate, nil if there is none to
	// show, and votes that no certificate holds.
	Finalization *consensus.Certificate
	Late         []consensus.Vote
}

// VerifyRequest asks whether a block may follow its parent in the round.
type VerifyRequest struct {
	Round  consensus.Round
	Parent Parent
	Block  consensus.Block
	// Attested says that a quorum notarized the block. If the node's own state
	// then contradicts it, the answer is ErrDiverged.
	Attested bool
}

// Proven is a finalized block with the certificate that its store paired it
// with: its own finalization, or one of a block above it.
type Proven struct {
	Digest      crypto.Digest // of the block
	Payload     []byte
	Certificate *consensus.Certificate
}

// App is the application: it makes, checks and keeps blocks. All methods may be
// called from several goroutines at a time, except that Finalize calls do not
// overlap each other.
type App interface {
	// Inspect reads a payload: digest, parent digest, height, whether it is
	// empty, and whether it closes its epoch. It must check that the digest covers
	// the whole payload, so that two payloads never share one. It is pure, and
	// called before anything is known of the sender.
	Inspect(payload []byte) (consensus.Block, error)
	// Pack returns the form in which an own proposal's block travels to the peers,
	// within consensus.MaxPayloadBytes: it may leave out what they have.
	Pack(digest crypto.Digest, payload []byte) []byte
	// Unpack returns the block whose packed form came from a peer, inspected. It
	// waits while it lacks something that the form leaves out: if ctx ends first,
	// it returns ctx's error (wrapped), for which nobody is to blame. Any other error
	// is the sender's fault.
	Unpack(ctx context.Context, from crypto.PublicKey, packed []byte) (consensus.Block, error)
	// Propose builds a block on an executed parent, which does not close its
	// epoch before the round's, and counts it as verified. It returns soon after
	// the idle time, and when ctx ends.
	Propose(ctx context.Context, r ProposeRequest) (consensus.Block, error)
	// Verify executes the block on its parent and returns nil if it is valid,
	// ErrInvalid with the reason if it is invalid for ever, ErrDiverged, or ctx's
	// error. It must wait, not fail, while it lacks something or the block is ahead
	// of the clock; ctx ends when nobody waits for the answer any more. Any other
	// error says that it cannot tell, and stops the engine: a verdict on a notarized
	// block is for ever. Work that is done may be kept: a Finalize of the block often
	// follows.
	Verify(ctx context.Context, r VerifyRequest) error
	// Finalize makes a block and its effects durable before it returns: each
	// block the child of the last one. The certificate finalizes the block or, by
	// descent, one above it. The block may never have been verified here: then it
	// is executed now. It returns the reigns known after it, if the block closes
	// its epoch. Any error stops the engine.
	Finalize(ctx context.Context, b consensus.Block, cert *consensus.Certificate) ([]replica.Reign, error)
	// Last returns the durable floor. It is called once, before anything else.
	Last() (replica.Floor, error)
	// Finalized returns a finalized block by height, and false if it is not
	// there (yet, or any more).
	Finalized(height uint64) (Proven, bool, error)
	// FinalizedByDigest returns the payload of a finalized block.
	FinalizedByDigest(digest crypto.Digest) ([]byte, bool, error)
	// Evidence keeps evidence, to put it into a block. It may come again. It must
	// not block.
	Evidence(e consensus.Evidence)
	// Enter says that an epoch has begun, or that the engine starts in it: its
	// committee and the next one's are the peers to be connected with. It must not
	// block.
	Enter(reign, next replica.Reign)
}

// Network carries messages to authenticated peers, known by their node keys.
// Sending never blocks: a full queue drops. The network calls Engine.Receive
// for what arrives, one call at a time per peer and channel, and
// Engine.PeersChanged.
type Network interface {
	// Broadcast sends to every connected peer.
	Broadcast(ch consensus.Channel, data []byte)
	// Send sends to one peer, and reports whether it is connected.
	Send(peer crypto.PublicKey, ch consensus.Channel, data []byte) bool
	// Peers returns the node keys of the connected peers.
	Peers() []crypto.PublicKey
	// Favour says whose connections, beside the committee's, have a member's place
	// from now on: sentries that validators delegated to. It must not block.
	Favour(peers []crypto.PublicKey)
	// Block ends the connection with a peer that forged something.
	Block(peer crypto.PublicKey, reason string)
}

// Logs are the write-ahead logs, one for each epoch. Errors name the file and
// what its owner can do.
type Logs interface {
	// Epochs lists the epochs that have a log, ascending.
	Epochs() ([]consensus.Epoch, error)
	// Replay calls fn for every durable record of an epoch's log, in order. A torn
	// last append is left out.
	Replay(epoch consensus.Epoch, fn func(record []byte) error) error
	// Append makes the records durable in the epoch's log, in order, with one
	// sync. The first append begins the log, and the home's marker names its epoch
	// (replica.Config.Begun) before Append returns.
	Append(epoch consensus.Epoch, records [][]byte) error
	// Rewrite replaces the epoch's whole log with the records, atomically: after a
	// crash there is the old log or the new.
	Rewrite(epoch consensus.Epoch, records [][]byte) error
	// Delete removes the epoch's log, if there is one.
	Delete(epoch consensus.Epoch) error
}
