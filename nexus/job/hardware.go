package job

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
)

// A node whose hardware the chain challenges runs a benchmark while peers that the chain drew take
// the time. A server tells those of them that are here (Measure), for as long as the challenge is
// open. The node shows the roots of its lanes, once (LanesShown); then each peer asks with a nonce
// of its own (LaneQuestion), the node opens what that draws (LaneOpened), and a peer that misses
// something signs so (Measured). All of it goes through the servers, which can drop it, and change
// nothing: whoever gets it looks at the signature.

// maxOpeningBytes bounds an encoded opening: five blocks, and the ways to the roots.
const maxOpeningBytes = 5*hardware.BlockBytes + 12<<10

// Measure tells an agent of a challenge: of its own node, or of one that its node was drawn to
// measure. It is repeated until there is nothing left to do.
type Measure struct {
	_         struct{} `cbor:",toarray"`
	Challenge chain.HardwareChallenge
	HeldMiB   uint64           // the most memory that jobs, not leases, held on the node since the challenge began, by its cluster's word
	Here      bool             // the node was connected to its cluster when that learned of the challenge
	Peer      crypto.PublicKey // for whom another cluster asks, and who is told; zero: a server tells its own agent
}

// LanesShown is what a challenged node's lanes gave.
type LanesShown struct {
	_         struct{} `cbor:",toarray"`
	Challenge chain.HardwareChallenge
	HeldMiB   uint64           // memory that the node leaves to jobs
	Roots     LaneRoots        // of each lane of the task; zero: the lane was not run
	Signature crypto.Signature // by the challenged node, over Payload under DomainShown
	Peer      crypto.PublicKey // to whom its cluster brings it, at another; zero: the node tells its own. Not signed
}

// LaneRoots is a list of what lanes gave.
type LaneRoots []hardware.Roots

// UnmarshalCBOR decodes at most hardware.MaxLanes of them.
func (l *LaneRoots) UnmarshalCBOR(data []byte) (err error) {
	*l, err = codec.UnmarshalList[hardware.Roots](data, hardware.MaxLanes, MaxMessageBytes)
	return err
}

// Payload is what the node signs.
func (m *LanesShown) Payload() []byte {
	return codec.Marshal(struct {
		_         struct{} `cbor:",toarray"`
		Challenge chain.HardwareChallenge
		HeldMiB   uint64
		Roots     LaneRoots
	}{Challenge: m.Challenge, HeldMiB: m.HeldMiB, Roots: m.Roots})
}

// LaneQuestion draws what a challenged node opens of the lanes that it has shown.
type LaneQuestion struct {
	_         struct{} `cbor:",toarray"`
	Challenge chain.HardwareChallenge
	Peer      crypto.PublicKey
	Nonce     crypto.Digest
	Signature crypto.Signature // by the peer, over Payload under DomainQuestion
}

// Payload is what the peer signs.
func (m *LaneQuestion) Payload() []byte {
	return codec.Marshal(struct {
		_         struct{} `cbor:",toarray"`
		Challenge chain.HardwareChallenge
		Peer      crypto.PublicKey
		Nonce     crypto.Digest
	}{Challenge: m.Challenge, Peer: m.Peer, Nonce: m.Nonce})
}

// LaneOpened is one of the openings that answer a LaneQuestion.
type LaneOpened struct {
	_         struct{} `cbor:",toarray"`
	Challenge chain.HardwareChallenge
	Peer      crypto.PublicKey
	Nonce     crypto.Digest
	Index     uint64 // below hardware.MaxOpenings
	Opening   hardware.Opening
	Signature crypto.Signature // by the challenged node, over Payload under DomainOpened
}

// Payload is what the node signs.
func (m *LaneOpened) Payload() []byte {
	return codec.Marshal(struct {
		_         struct{} `cbor:",toarray"`
		Challenge chain.HardwareChallenge
		Peer      crypto.PublicKey
		Nonce     crypto.Digest
		Index     uint64
		Opening   hardware.Opening
	}{Challenge: m.Challenge, Peer: m.Peer, Nonce: m.Nonce, Index: m.Index, Opening: m.Opening})
}

// Measured is what the agent's node, as a peer, found of a challenged node.
type Measured struct {
	_         struct{} `cbor:",toarray"`
	Challenge chain.HardwareChallenge
	Verdict   chain.HardwareVerdict
}

func (Measure) sealedMessage()      {}
func (LanesShown) sealedMessage()   {}
func (LaneQuestion) sealedMessage() {}
func (LaneOpened) sealedMessage()   {}
func (Measured) sealedMessage()     {}

// Kinds of messages about hardware challenges: between the last of the others and these, others
// have theirs.
const (
	kindMeasure uint8 = iota + 56
	kindLanesShown
	kindLaneQuestion
	kindLaneOpened
	kindMeasured
)

// checkHardware checks a message about a hardware challenge.
func checkHardware(m Message) error {
	if m, ok := m.(Measure); ok {
		return m.Challenge.ChainID.Check()
	}
	if m, ok := m.(LaneQuestion); ok {
		return m.Challenge.ChainID.Check()
	}
	if m, ok := m.(LanesShown); ok {
		if len(m.Roots) == 0 {
			return errors.New("no lane is shown")
		}
		return m.Challenge.ChainID.Check()
	}
	if m, ok := m.(LaneOpened); ok {
		return m.check()
	}
	measured, ok := m.(Measured)
	if !ok {
		panic(fmt.Sprintf("job: message of type %T about hardware", m))
	}
	if err := measured.Challenge.ChainID.Check(); err != nil {
		return err
	}
	return measured.Verdict.Check()
}

func (m *LaneOpened) check() error {
	if m.Index >= hardware.MaxOpenings {
		return fmt.Errorf("opening %d, want one below %d", m.Index, hardware.MaxOpenings)
	}
	if n := len(codec.Marshal(m.Opening)); n > maxOpeningBytes {
		return fmt.Errorf("an opening of %d bytes, limit %d", n, maxOpeningBytes)
	}
	return m.Challenge.ChainID.Check()
}
