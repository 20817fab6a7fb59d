package consensus

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// View is one attempt of one leader to extend the chain, counted from 1 in
// every epoch. View 0 is the block that the epoch starts from.
type View uint64

// Epoch is the reign of one committee.
type Epoch uint64

// Signer is a validator's index in its committee.
type Signer uint16

// Micros is an instant on the driver's monotonic clock, or a span of it, in
// microseconds. The origin does not matter.
type Micros uint64

// Round is a view of an epoch: what a nullify vote names.
type Round struct {
	_     struct{} `cbor:",toarray"`
	Epoch Epoch
	View  View
}

// Proposal is a block offered in a round on top of the block of an earlier
// view: what notarize and finalize votes name.
type Proposal struct {
	_      struct{} `cbor:",toarray"`
	Round  Round
	Parent View // a view below Round.View; 0 is the epoch's start
	Digest crypto.Digest
}

// Block is an opaque block with what its application says of it.
type Block struct {
	_       struct{} `cbor:",toarray"`
	Digest  crypto.Digest
	Parent  crypto.Digest
	Height  uint64 // the application's; consensus carries it and never reads it
	Empty   bool   // nothing waits for this block: the next leader may idle
	Closing bool   // the epoch's last block: nothing but itself may follow it in the epoch
	Payload []byte // at most MaxPayloadBytes
}

// Kind is what a vote or a certificate says about its subject.
type Kind uint8

// The three kinds. The numbers are part of the wire format.
const (
	KindNotarize Kind = 1
	KindNullify  Kind = 2
	KindFinalize Kind = 3
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case KindNotarize:
		return "notarize"
	case KindNullify:
		return "nullify"
	case KindFinalize:
		return "finalize"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Statement is the signed content of a vote or a certificate. Statements are
// comparable: two votes conflict by their statements, never by their bytes.
// A nullify statement has only the round of its proposal set.
type Statement struct {
	Kind     Kind
	Proposal Proposal
}

func nullifyStatement(r Round) Statement {
	return Statement{Kind: KindNullify, Proposal: Proposal{Round: r}}
}

// Round returns the round that the statement is about.
func (s Statement) Round() Round { return s.Proposal.Round }

// View returns the view that the statement is about.
func (s Statement) View() View { return s.Proposal.Round.View }

// Domain returns the signing domain of the statement's kind, or nil if the
// kind is unknown.
func (s Statement) Domain() *crypto.Domain {
	switch s.Kind {
	case KindNotarize:
		return crypto.DomainNotarize
	case KindNullify:
		return crypto.DomainNullify
	case KindFinalize:
		return crypto.DomainFinalize
	}
	return nil
}

// Payload returns the bytes that a voter signs under Domain: the canonical
// encoding of the chain id, then that of the subject. Both are
// self-delimiting, so no two pairs share a payload.
func (s Statement) Payload(chainID string) []byte {
	return append(codec.Marshal(chainID), s.subject()...)
}

// subject returns the canonical encoding of the proposal, or of the round if
// the statement is a nullify.
func (s Statement) subject() []byte {
	if s.Kind == KindNullify {
		return codec.Marshal(s.Proposal.Round)
	}
	return codec.Marshal(s.Proposal)
}

// maxSubjectBytes holds a proposal: five integers of nine bytes, a digest of
// 34 and the array heads.
const maxSubjectBytes = 80

func decodeStatement(kind Kind, subject []byte) (Statement, error) {
	s := Statement{Kind: kind}
	if s.Domain() == nil {
		return s, fmt.Errorf("kind %d is unknown", uint8(kind))
	}
	var err error
	switch kind {
	case KindNotarize, KindFinalize:
		err = codec.Unmarshal(subject, &s.Proposal, maxSubjectBytes)
		if err == nil && s.Proposal.Parent >= s.View() {
			err = fmt.Errorf("parent view %d is not below view %d", s.Proposal.Parent, s.View())
		}
	case KindNullify:
		err = codec.Unmarshal(subject, &s.Proposal.Round, maxSubjectBytes)
	}
	if err == nil && s.View() == 0 {
		err = fmt.Errorf("view 0 takes no votes")
	}
	return s, err
}

// String returns the statement for people, logs and transcripts.
func (s Statement) String() string {
	if s.Kind == KindNullify {
		return fmt.Sprintf("nullify %d", s.View())
	}
	return fmt.Sprintf("%s %d on %d %s", s.Kind, s.View(), s.Proposal.Parent, s.Proposal.Digest.Short())
}
