package consensus

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Channel is one of the ordered streams between two nodes. Votes never queue
// behind blocks.
type Channel uint8

// The channels. The numbers are part of the wire format.
const (
	ChannelVotes        Channel = 1
	ChannelCertificates Channel = 2
	ChannelProposals    Channel = 3
	ChannelFetch        Channel = 4
)

// Limits of the wire. MaxMessageBytes holds any message: an Ancestry that is
// full and then takes one more block.
const (
	MaxPayloadBytes  = 4 << 20
	MaxAncestryBytes = 4 << 20
	MaxAncestry      = 64 // blocks in one answer
	MaxMessageBytes  = MaxAncestryBytes + MaxPayloadBytes + (MaxAncestry+1)*(MaxCertificateBytes+16) + 64
	maxChainIDBytes  = 64
	maxEnvelopeBytes = 16
)

// Limit returns the size of the channel's largest message in bytes.
func (c Channel) Limit() int {
	switch c {
	case ChannelVotes:
		return maxVoteBytes + maxEnvelopeBytes
	case ChannelCertificates:
		return MaxCertificateBytes + maxEnvelopeBytes
	case ChannelProposals:
		return MaxPayloadBytes + maxVoteBytes + 2*maxEnvelopeBytes
	case ChannelFetch:
		return MaxMessageBytes
	}
	return 0
}

// Message is what travels between nodes: a Vote, a *Certificate, an Offer, or
// one of the fetch requests and answers.
type Message interface {
	// Channel returns where the message travels; elsewhere it is refused.
	Channel() Channel
	isMessage()
}

// Offer is a leader's proposal: the block and the leader's own notarize.
type Offer struct {
	Vote    Notarize
	Payload []byte
}

// CertificateRequest asks for the certificate of a kind at a round. It names
// the kind, so that nobody who needs a nullification is answered a
// notarization for ever. A finalization at or above the round answers too.
type CertificateRequest struct {
	_     struct{} `cbor:",toarray"`
	Kind  Kind
	Round Round
}

// BlockRequest asks for a block by digest.
type BlockRequest struct {
	_      struct{} `cbor:",toarray"`
	Digest crypto.Digest
}

// AncestryRequest asks for finalized blocks by height, from From upward.
type AncestryRequest struct {
	_    struct{} `cbor:",toarray"`
	From uint64
}

// BlockAnswer carries one block.
type BlockAnswer struct {
	_       struct{} `cbor:",toarray"`
	Payload []byte
}

// Ancestry carries finalized blocks of consecutive heights, oldest first. A
// block without a certificate is proven by the next one that has one, through
// the parent digests between them. An empty ancestry says: I have no more.
type Ancestry struct {
	_      struct{} `cbor:",toarray"`
	From   uint64
	Blocks []ProvenBlock
}

// ProvenBlock is one block of an Ancestry.
type ProvenBlock struct {
	_           struct{} `cbor:",toarray"`
	Payload     []byte
	Certificate []byte // EncodeCertificate of the block's own finalization, or empty
}

// Delegation lets the connection of another node carry a validator's votes for
// an epoch: a sentry, which stands before a validator that accepts no
// connections. Blame for what it carries falls on the connection.
type Delegation struct {
	_         struct{} `cbor:",toarray"`
	Epoch     Epoch
	Signer    Signer
	NodeKey   crypto.PublicKey // of the sentry's connections
	Signature crypto.Signature // by the signer's consensus key
}

func delegationPayload(chainID string, e Epoch, s Signer, node crypto.PublicKey) []byte {
	return append(codec.Marshal(chainID), codec.Marshal([]any{e, s, node})...)
}

// SignDelegation lets connections of the node key carry the signer's votes.
func SignDelegation(key crypto.PrivateKey, chainID string, e Epoch, s Signer, node crypto.PublicKey) Delegation {
	return Delegation{Epoch: e, Signer: s, NodeKey: node, Signature: key.Sign(crypto.DomainDelegate, delegationPayload(chainID, e, s, node))}
}

// Verify returns an error unless the delegation is of the committee's epoch and
// signed by its member.
func (d Delegation) Verify(committee *Committee, chainID string) error {
	if d.Epoch != committee.Epoch() || int(d.Signer) >= committee.Len() {
		return fmt.Errorf("consensus: delegation by signer %d of epoch %d, committee of %d in epoch %d", d.Signer, d.Epoch, committee.Len(), committee.Epoch())
	}
	if !committee.Validator(d.Signer).Key.Verify(crypto.DomainDelegate, delegationPayload(chainID, d.Epoch, d.Signer, d.NodeKey), d.Signature) {
		return fmt.Errorf("consensus: bad signature of signer %d on a delegation", d.Signer)
	}
	return nil
}

// Channel returns ChannelVotes.
func (Delegation) Channel() Channel { return ChannelVotes }

// Channel returns ChannelVotes.
func (Notarize) Channel() Channel { return ChannelVotes }

// Channel returns ChannelVotes.
func (Nullify) Channel() Channel { return ChannelVotes }

// Channel returns ChannelVotes.
func (Finalize) Channel() Channel { return ChannelVotes }

// Channel returns ChannelCertificates.
func (*Certificate) Channel() Channel { return ChannelCertificates }

// Channel returns ChannelProposals.
func (Offer) Channel() Channel { return ChannelProposals }

// Channel returns ChannelFetch.
func (CertificateRequest) Channel() Channel { return ChannelFetch }

// Channel returns ChannelFetch.
func (BlockRequest) Channel() Channel { return ChannelFetch }

// Channel returns ChannelFetch.
func (AncestryRequest) Channel() Channel { return ChannelFetch }

// Channel returns ChannelFetch.
func (BlockAnswer) Channel() Channel { return ChannelFetch }

// Channel returns ChannelFetch.
func (Ancestry) Channel() Channel { return ChannelFetch }

func (Notarize) isMessage()           {}
func (Nullify) isMessage()            {}
func (Finalize) isMessage()           {}
func (*Certificate) isMessage()       {}
func (Offer) isMessage()              {}
func (CertificateRequest) isMessage() {}
func (BlockRequest) isMessage()       {}
func (AncestryRequest) isMessage()    {}
func (BlockAnswer) isMessage()        {}
func (Ancestry) isMessage()           {}
func (Delegation) isMessage()         {}

// Tags of the envelope [tag, body].
const (
	tagVote uint8 = iota + 1
	tagCertificate
	tagOffer
	tagCertificateRequest
	tagBlockRequest
	tagAncestryRequest
	tagBlockAnswer
	tagAncestry
	tagDelegation
)

type envelope struct {
	_    struct{} `cbor:",toarray"`
	Tag  uint8
	Body codec.Raw
}

type wireOffer struct {
	_       struct{} `cbor:",toarray"`
	Vote    codec.Raw
	Payload []byte
}

// EncodeMessage returns the canonical encoding [tag, body].
func EncodeMessage(m Message) []byte {
	seal := func(tag uint8, body []byte) []byte {
		return codec.Marshal(envelope{Tag: tag, Body: body})
	}
	switch m := m.(type) {
	case Vote:
		return seal(tagVote, EncodeVote(m))
	case *Certificate:
		return seal(tagCertificate, EncodeCertificate(m))
	case Offer:
		return seal(tagOffer, codec.Marshal(wireOffer{Vote: EncodeVote(m.Vote), Payload: m.Payload}))
	case CertificateRequest:
		return seal(tagCertificateRequest, codec.Marshal(m))
	case BlockRequest:
		return seal(tagBlockRequest, codec.Marshal(m))
	case AncestryRequest:
		return seal(tagAncestryRequest, codec.Marshal(m))
	case BlockAnswer:
		return seal(tagBlockAnswer, codec.Marshal(m))
	case Ancestry:
		return seal(tagAncestry, codec.Marshal(m))
	case Delegation:
		return seal(tagDelegation, codec.Marshal(m))
	}
	panic(fmt.Sprintf("consensus: encoding message %T", m))
}

// DecodeMessage reads a message that arrived on the channel: what EncodeMessage
// wrote, within the channel's limit, and nothing else. Signatures are not
// verified.
func DecodeMessage(ch Channel, data []byte) (Message, error) {
	var e envelope
	if err := codec.Unmarshal(data, &e, ch.Limit()); err != nil {
		return nil, fmt.Errorf("consensus: message: %w", err)
	}
	m, err := decodeBody(e.Tag, e.Body)
	if err != nil {
		return nil, err
	}
	if m.Channel() != ch {
		return nil, fmt.Errorf("consensus: message: tag %d travels on channel %d, not %d", e.Tag, m.Channel(), ch)
	}
	return m, nil
}

func decodeBody(tag uint8, body []byte) (Message, error) {
	switch tag {
	case tagVote:
		return decoded(DecodeVote(body))
	case tagCertificate:
		return decoded(DecodeCertificate(body))
	case tagOffer:
		return decoded(decodeOffer(body))
	case tagCertificateRequest:
		m, err := decodePlain[CertificateRequest](body)
		if err == nil && nullifyStatement(m.Round).View() == 0 {
			err = fmt.Errorf("consensus: certificate request: view 0 has none")
		}
		if err == nil && (Statement{Kind: m.Kind}).Domain() == nil {
			err = fmt.Errorf("consensus: certificate request: %s is unknown", m.Kind)
		}
		return decoded(m, err)
	case tagBlockRequest:
		return decoded(decodePlain[BlockRequest](body))
	case tagAncestryRequest:
		return decoded(decodePlain[AncestryRequest](body))
	case tagBlockAnswer:
		m, err := decodePlain[BlockAnswer](body)
		if err == nil {
			err = checkPayload(m.Payload)
		}
		return decoded(m, err)
	case tagAncestry:
		return decoded(decodeAncestry(body))
	case tagDelegation:
		m, err := decodePlain[Delegation](body)
		if err == nil && int(m.Signer) >= MaxValidators {
			err = fmt.Errorf("consensus: delegation: signer %d, limit %d", m.Signer, MaxValidators-1)
		}
		return decoded(m, err)
	}
	return nil, fmt.Errorf("consensus: message: tag %d is unknown", tag)
}

// decoded drops the half-read message of an error.
func decoded[M Message](m M, err error) (Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

func decodePlain[M Message](body []byte) (M, error) {
	var m M
	if err := codec.Unmarshal(body, &m, MaxMessageBytes); err != nil {
		return m, fmt.Errorf("consensus: message %T: %w", m, err)
	}
	return m, nil
}

func checkPayload(payload []byte) error {
	if len(payload) > MaxPayloadBytes {
		return fmt.Errorf("consensus: block of %d bytes, limit %d", len(payload), MaxPayloadBytes)
	}
	return nil
}

func decodeOffer(body []byte) (Offer, error) {
	var w wireOffer
	if err := codec.Unmarshal(body, &w, ChannelProposals.Limit()); err != nil {
		return Offer{}, fmt.Errorf("consensus: offer: %w", err)
	}
	if err := checkPayload(w.Payload); err != nil {
		return Offer{}, err
	}
	v, err := DecodeVote(w.Vote)
	if err != nil {
		return Offer{}, err
	}
	n, ok := v.(Notarize)
	if !ok {
		return Offer{}, fmt.Errorf("consensus: offer with a %s vote", v.Statement().Kind)
	}
	return Offer{Vote: n, Payload: w.Payload}, nil
}

func decodeAncestry(body []byte) (Ancestry, error) {
	m, err := decodePlain[Ancestry](body)
	if err != nil {
		return m, err
	}
	if len(m.Blocks) > MaxAncestry {
		return m, fmt.Errorf("consensus: ancestry of %d blocks, limit %d", len(m.Blocks), MaxAncestry)
	}
	for _, b := range m.Blocks {
		if err := checkPayload(b.Payload); err != nil {
			return m, err
		}
		if len(b.Certificate) > MaxCertificateBytes {
			return m, fmt.Errorf("consensus: ancestry: certificate of %d bytes, limit %d", len(b.Certificate), MaxCertificateBytes)
		}
	}
	return m, nil
}
