package consensus

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Vote is one validator's signed statement: a Notarize, a Nullify or a
// Finalize.
type Vote interface {
	Message
	// Statement returns the signed content.
	Statement() Statement
	// By returns who signed, and the signature.
	By() (Signer, crypto.Signature)
	isVote()
}

// Notarize says: in this round this proposal is valid and the only one I
// notarize.
type Notarize struct {
	Proposal  Proposal
	Signer    Signer
	Signature crypto.Signature
}

// Nullify says: I give this round up and shall never finalize it.
type Nullify struct {
	Round     Round
	Signer    Signer
	Signature crypto.Signature
}

// Finalize says: I saw this proposal notarized and certified, and did not and
// shall never nullify its round.
type Finalize struct {
	Proposal  Proposal
	Signer    Signer
	Signature crypto.Signature
}

// Statement returns the signed content.
func (v Notarize) Statement() Statement { return Statement{Kind: KindNotarize, Proposal: v.Proposal} }

// Statement returns the signed content.
func (v Nullify) Statement() Statement { return nullifyStatement(v.Round) }

// Statement returns the signed content.
func (v Finalize) Statement() Statement { return Statement{Kind: KindFinalize, Proposal: v.Proposal} }

// By returns who signed, and the signature.
func (v Notarize) By() (Signer, crypto.Signature) { return v.Signer, v.Signature }

// By returns who signed, and the signature.
func (v Nullify) By() (Signer, crypto.Signature) { return v.Signer, v.Signature }

// By returns who signed, and the signature.
func (v Finalize) By() (Signer, crypto.Signature) { return v.Signer, v.Signature }

func (Notarize) isVote() {}
func (Nullify) isVote()  {}
func (Finalize) isVote() {}

// SignVote signs the statement as validator signer of its committee. The core
// alone decides what its node signs; tests and Byzantine actors sign freely.
func SignVote(key crypto.PrivateKey, signer Signer, chainID string, s Statement) Vote {
	return voteOf(s, signer, key.Sign(s.Domain(), s.Payload(chainID)))
}

func voteOf(s Statement, signer Signer, sig crypto.Signature) Vote {
	switch s.Kind {
	case KindNotarize:
		return Notarize{Proposal: s.Proposal, Signer: signer, Signature: sig}
	case KindNullify:
		return Nullify{Round: s.Round(), Signer: signer, Signature: sig}
	case KindFinalize:
		return Finalize{Proposal: s.Proposal, Signer: signer, Signature: sig}
	}
	panic("consensus: a vote of " + s.Kind.String())
}

// VerifyVote returns an error unless the vote is of the committee's epoch and
// signed by its member.
func VerifyVote(v Vote, committee *Committee, chainID string) error {
	s := v.Statement()
	signer, sig := v.By()
	if s.Round().Epoch != committee.Epoch() {
		return fmt.Errorf("consensus: vote of epoch %d, committee of epoch %d", s.Round().Epoch, committee.Epoch())
	}
	if int(signer) >= committee.Len() {
		return fmt.Errorf("consensus: vote by signer %d of a committee of %d", signer, committee.Len())
	}
	if !committee.Validator(signer).Key.Verify(s.Domain(), s.Payload(chainID), sig) {
		return fmt.Errorf("consensus: bad signature of signer %d on %q", signer, s)
	}
	return nil
}

type wireVote struct {
	_         struct{} `cbor:",toarray"`
	Kind      Kind
	Subject   codec.Raw
	Signer    Signer
	Signature crypto.Signature
}

// maxVoteBytes holds any vote: a subject, a signature of 66 bytes, a signer of
// three and two heads.
const maxVoteBytes = maxSubjectBytes + 80

// EncodeVote returns the canonical encoding [kind, subject, signer, signature].
func EncodeVote(v Vote) []byte {
	s := v.Statement()
	signer, sig := v.By()
	return codec.Marshal(wireVote{Kind: s.Kind, Subject: s.subject(), Signer: signer, Signature: sig})
}

// DecodeVote reads what EncodeVote wrote and nothing else. The signature is
// not verified.
func DecodeVote(data []byte) (Vote, error) {
	var w wireVote
	if err := codec.Unmarshal(data, &w, maxVoteBytes); err != nil {
		return nil, fmt.Errorf("consensus: vote: %w", err)
	}
	if int(w.Signer) >= MaxValidators {
		return nil, fmt.Errorf("consensus: vote: signer %d, limit %d", w.Signer, MaxValidators-1)
	}
	s, err := decodeStatement(w.Kind, w.Subject)
	if err != nil {
		return nil, fmt.Errorf("consensus: vote: subject: %w", err)
	}
	return voteOf(s, w.Signer, w.Signature), nil
}
