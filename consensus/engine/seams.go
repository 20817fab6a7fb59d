package engine

import (
	"context"
	"errors"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ErrDiverged says that this node's own state contradicts a block that a quorum
// attested. App.Verify and App.Finalize return it (wrapped); the engine stops.
var ErrDiverged = errors.New("engine: own state differs from the quorum's")

// Parent is the block to build on.
type Parent struct {
	View   consensus.View
	Digest crypto.Digest
}

// ProposeRequest asks for a block.
type ProposeRequest struct {
	Round  consensus.Round
	Parent Parent
	// LastFinalized is the highest finalization known: its view and the digest
	// it finalizes.
	LastFinalized Parent
	// Idle is how long to wait for something to put into the block; 0 means:
	// build at once, empty if need be.
	Idle time.Duration
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

// Last is the application's durable floor.
type Last struct {
	Height uint64
	Digest crypto.Digest // of the block at Height; at the epoch's start Config.Start
	Empty  bool
	// Certificate finalizes the block or, by descent, one above it; nil at the
	// epoch's start.
	Certificate *consensus.Certificate
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
	// empty. It must check that the digest covers the whole payload, so that two
	// payloads never share one. It is pure, and called before anything is known
	// of the sender.
	Inspect(payload []byte) (consensus.Block, error)
	// Propose builds a block on an executed parent and counts it as verified. It
	// returns soon after the idle time, and when ctx ends.
	Propose(ctx context.Context, r ProposeRequest) (consensus.Block, error)
	// Verify executes the block on its parent and returns nil if it is valid,
	// ErrDiverged, ctx's error, or why it is invalid for ever. It must wait, not
	// fail, while it lacks something or the block is ahead of the clock; ctx ends
	// when nobody waits for the answer any more. Work that is done may be kept:
	// a Finalize of the block often follows.
	Verify(ctx context.Context, r VerifyRequest) error
	// Finalize makes a block and its effects durable before it returns: each
	// block the child of the last one. The certificate finalizes the block or, by
	// descent, one above it. The block may never have been verified here: then it
	// is executed now. Any error stops the engine.
	Finalize(ctx context.Context, b consensus.Block, cert *consensus.Certificate) error
	// Last returns the durable floor. It is called once, before anything else.
	Last() (Last, error)
	// Finalized returns a finalized block by height, and false if it is not
	// there (yet, or any more).
	Finalized(height uint64) (Proven, bool, error)
	// FinalizedByDigest returns the payload of a finalized block.
	FinalizedByDigest(digest crypto.Digest) ([]byte, bool, error)
}

// Network carries messages to authenticated peers, known by their node keys.
// Sending never blocks: a full queue drops. The network calls Engine.Receive
// for what arrives, one call at a time per peer and channel.
type Network interface {
	// Broadcast sends to every connected peer.
	Broadcast(ch consensus.Channel, data []byte)
	// Send sends to one peer, and reports whether it is connected.
	Send(peer crypto.PublicKey, ch consensus.Channel, data []byte) bool
	// Peers returns the node keys of the connected peers.
	Peers() []crypto.PublicKey
	// Block ends the connection with a peer that forged something.
	Block(peer crypto.PublicKey, reason string)
}

// WAL is the write-ahead log of one epoch.
type WAL interface {
	// Append makes the records durable, in order, with one sync.
	Append(records [][]byte) error
	// Replay calls fn for every durable record, in order. A torn last append is
	// left out.
	Replay(fn func(record []byte) error) error
	// Rewrite replaces the whole log with the records, atomically: after a crash
	// there is the old log or the new.
	Rewrite(records [][]byte) error
}
