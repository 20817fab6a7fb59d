package job

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A lease with service terms is probed by peers that the chain drew. A server tells the peers
// that are here so (Watch), for as long as it is so; a peer's Probe goes through the servers, also to
// another cluster's, to the lease's node, and its ProbeReply back. What a peer found of an epoch that missed the
// terms it signs and reports (PeerReport).

// MaxProbeBytes bounds what a probe asks to be sent.
const MaxProbeBytes = 128 << 10

// Watch has the agent probe a lease. The server repeats it; an agent that has not heard it for
// a while stops.
type Watch struct {
	_       struct{} `cbor:",toarray"`
	Lease   chain.LeaseID
	Terms   crypto.Digest // the order whose terms hold
	Service chain.ServiceTerms
	Since   chain.TimeMs // when these terms began
	Until   chain.TimeMs // when the lease ends, or ended, as far as At knows
	At      chain.TimeMs // of the block whose state says all that
	Abroad  bool         // the lease is another cluster's: that nothing answers a probe says nothing, Unanswered does
	From    chain.TimeMs // epochs that began before it are those of the peers before this one; 0: none are
	Before  chain.TimeMs // epochs that begin at it or later are those of the peers after this one; 0: none are
}

// Own reports whether an epoch that begins at a time is this peer's to probe and report.
func (m Watch) Own(begin chain.TimeMs) bool {
	return begin >= m.From && (m.Before == 0 || begin < m.Before)
}

// OwnAt is Own of the epoch that is under way at a time since the terms began.
func (m Watch) OwnAt(now chain.TimeMs) bool {
	begin, _, ok := m.Service.Span(m.Since, uint64(now-m.Since)/m.Service.EpochMs)
	return ok && m.Own(begin)
}

// Probe asks the lease's node whether its service runs, and for some bytes.
type Probe struct {
	_     struct{} `cbor:",toarray"`
	Lease chain.LeaseID
	Peer  crypto.PublicKey // who asks
	Nonce crypto.Digest
	Bytes uint64 // ≤ MaxProbeBytes
	// Signature is the peer's over Payload under DomainProbe: the lease's cluster carries no other's.
	Signature crypto.Signature
}

// Payload is what the peer signs.
func (m *Probe) Payload(id chain.ChainID) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID chain.ChainID
		Lease   chain.LeaseID
		Peer    crypto.PublicKey
		Nonce   crypto.Digest
		Bytes   uint64
	}{ChainID: id, Lease: m.Lease, Peer: m.Peer, Nonce: m.Nonce, Bytes: m.Bytes})
}

// Unanswered says that a probe came to the lease's cluster, which is another one than the server's, and that
// the node gave no answer. Of a probe that does not get so far nothing is said.
type Unanswered struct {
	_     struct{} `cbor:",toarray"`
	Lease chain.LeaseID
	Nonce crypto.Digest
}

// ProbeReply answers a Probe.
type ProbeReply struct {
	_         struct{} `cbor:",toarray"`
	Lease     chain.LeaseID
	Peer      crypto.PublicKey
	Nonce     crypto.Digest
	Serving   bool
	Data      []byte           // as many as were asked for, if it serves and its terms promise any
	Signature crypto.Signature // by the lease's node, over Payload under DomainProbe
}

// Payload is what the node signs.
func (m *ProbeReply) Payload(id chain.ChainID) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID chain.ChainID
		Lease   chain.LeaseID
		Peer    crypto.PublicKey
		Nonce   crypto.Digest
		Serving bool
		Data    crypto.Digest
	}{ChainID: id, Lease: m.Lease, Peer: m.Peer, Nonce: m.Nonce, Serving: m.Serving, Data: crypto.DomainBlob.Hash(m.Data)})
}

// PeerReport is what the agent's node, as a peer, found of an epoch.
type PeerReport struct {
	_      struct{} `cbor:",toarray"`
	Epoch  chain.ServiceEpoch
	Report chain.ServiceReport
}

func (Watch) sealedMessage()      {}
func (Probe) sealedMessage()      {}
func (ProbeReply) sealedMessage() {}
func (PeerReport) sealedMessage() {}
func (Unanswered) sealedMessage() {}

// Kinds of messages about service terms: between the last of the others and these, others
// have theirs.
const (
	kindWatch uint8 = iota + 24
	kindProbe
	kindProbeReply
	kindPeerReport

	kindUnanswered = 40
)

func (m *Watch) check() error { return m.Service.Check() }

func (m *Probe) check() error {
	if m.Bytes > MaxProbeBytes {
		return fmt.Errorf("a probe asks for %d bytes, limit %d", m.Bytes, MaxProbeBytes)
	}
	return nil
}

func (m *ProbeReply) check() error {
	if len(m.Data) > MaxProbeBytes {
		return fmt.Errorf("a probe's reply has %d bytes, limit %d", len(m.Data), MaxProbeBytes)
	}
	return nil
}

func (m *PeerReport) check() error {
	if err := m.Epoch.ChainID.Check(); err != nil {
		return err
	}
	return m.Report.Check()
}
