package consensus

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// Evidence proves that validators broke the rules of one round: two votes of
// one signer, or two certificates, that exclude each other. Exactly one pair is
// set. Nobody who keeps the rules, with its own complete log, is ever convicted
// by one, whatever crashes and restarts it goes through.
//
// Pairs from different rounds are never evidence: an honest validator may
// finalize D in view 1, later see X(1), and rightly finalize E in view 2. Nor
// are a notarize and a nullify of one signer, or N(v) beside X(v).
//
// As an effect of a core it is in the log already; a restart reports it again.
type Evidence struct {
	Votes        [2]Vote
	Certificates [2]*Certificate
}

func (Evidence) isEffect() {}

// VotesExclude reports whether no honest validator signs both statements:
// notarizes of different proposals of one round, finalizes of different
// proposals of one round, a nullify and a finalize of one round. Statements are
// compared, never signatures.
func VotesExclude(a, b Statement) bool {
	if a.Round() != b.Round() || a == b {
		return false
	}
	if a.Kind == b.Kind {
		return a.Kind == KindNotarize || a.Kind == KindFinalize
	}
	return a.Kind == KindNullify && b.Kind == KindFinalize || a.Kind == KindFinalize && b.Kind == KindNullify
}

// CertificatesExclude reports whether two quorums can have made both statements
// only with at least a third of the weight at fault: notarizations or
// finalizations of different proposals of one round, a finalization beside a
// notarization of another proposal or beside the nullification of the round.
func CertificatesExclude(a, b Statement) bool {
	if VotesExclude(a, b) {
		return true
	}
	mixed := a.Kind == KindNotarize && b.Kind == KindFinalize || a.Kind == KindFinalize && b.Kind == KindNotarize
	return mixed && a.Round() == b.Round() && a.Proposal != b.Proposal
}

var errEvidenceForm = errors.New("consensus: evidence: want one pair, of votes or of certificates")

// check returns an error unless exactly one pair is set, is of one round and
// excludes itself, and votes have one signer.
func (e Evidence) check() error {
	votes := e.Votes[0] != nil && e.Votes[1] != nil
	certificates := e.Certificates[0] != nil && e.Certificates[1] != nil
	none := e.Votes[0] == nil && e.Votes[1] == nil || e.Certificates[0] == nil && e.Certificates[1] == nil
	if votes == certificates || !none {
		return errEvidenceForm
	}
	a, b := e.statements()
	if votes {
		one, _ := e.Votes[0].By()
		other, _ := e.Votes[1].By()
		if one != other {
			return fmt.Errorf("consensus: evidence: votes of signers %d and %d", one, other)
		}
		if !VotesExclude(a, b) {
			return fmt.Errorf("consensus: evidence: votes %q and %q do not exclude each other", a, b)
		}
	} else if !CertificatesExclude(a, b) {
		return fmt.Errorf("consensus: evidence: certificates %q and %q do not exclude each other", a, b)
	}
	return nil
}

// statements returns what the pair says. One pair must be set.
func (e Evidence) statements() (Statement, Statement) {
	if e.Votes[0] != nil {
		return e.Votes[0].Statement(), e.Votes[1].Statement()
	}
	return e.Certificates[0].Statement, e.Certificates[1].Statement
}

// normal returns the pair in the order of its encoding.
func (e Evidence) normal() Evidence {
	if e.Votes[0] != nil && bytes.Compare(EncodeVote(e.Votes[0]), EncodeVote(e.Votes[1])) > 0 {
		e.Votes[0], e.Votes[1] = e.Votes[1], e.Votes[0]
	}
	if e.Certificates[0] != nil && bytes.Compare(EncodeCertificate(e.Certificates[0]), EncodeCertificate(e.Certificates[1])) > 0 {
		e.Certificates[0], e.Certificates[1] = e.Certificates[1], e.Certificates[0]
	}
	return e
}

// Round returns the round that the evidence is about. One pair must be set, as
// it is in everything that a core reported or DecodeEvidence returned.
func (e Evidence) Round() Round {
	a, _ := e.statements()
	return a.Round()
}

// Convict verifies everything and returns the signers at fault, ascending: the
// signer of the votes, or whoever is in both certificates, which is more than a
// third of the weight. The committee is that of the round's epoch. Each
// conviction is final: there is no honest explanation.
func (e Evidence) Convict(c *Committee, chainID string) ([]Signer, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if e.Votes[0] != nil {
		for _, v := range e.Votes {
			if err := VerifyVote(v, c, chainID); err != nil {
				return nil, fmt.Errorf("consensus: evidence: %w", err)
			}
		}
		signer, _ := e.Votes[0].By()
		return []Signer{signer}, nil
	}
	for _, cert := range e.Certificates {
		if err := cert.Verify(c, chainID); err != nil {
			return nil, fmt.Errorf("consensus: evidence: %w", err)
		}
	}
	var guilty []Signer
	for i := range c.Len() {
		if s := Signer(i); e.Certificates[0].Has(s) && e.Certificates[1].Has(s) {
			guilty = append(guilty, s)
		}
	}
	return guilty, nil
}

// String returns the evidence for people, logs and transcripts.
func (e Evidence) String() string {
	if e.check() != nil {
		return "evidence without form"
	}
	a, b := e.statements()
	if e.Votes[0] != nil {
		signer, _ := e.Votes[0].By()
		return fmt.Sprintf("signer %d: %s and %s", signer, a, b)
	}
	return fmt.Sprintf("certificates: %s and %s", a, b)
}

// Kinds of evidence on the wire.
const (
	evidenceOfVotes        uint8 = 1
	evidenceOfCertificates uint8 = 2
)

type wireEvidence struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	A, B []byte
}

// MaxEvidenceBytes holds two certificates of the largest committee.
const MaxEvidenceBytes = 2*(MaxCertificateBytes+4) + 8

// EncodeEvidence returns the canonical encoding [kind, a, b]: kind 1 with two
// EncodeVote, kind 2 with two EncodeCertificate, the lower bytes first, so that
// a pair has one encoding in whichever order it was found. The evidence must
// have the form that DecodeEvidence demands.
func EncodeEvidence(e Evidence) []byte {
	if err := e.check(); err != nil {
		panic(err)
	}
	e = e.normal()
	w := wireEvidence{Kind: evidenceOfVotes}
	if e.Votes[0] != nil {
		w.A, w.B = EncodeVote(e.Votes[0]), EncodeVote(e.Votes[1])
	} else {
		w.Kind, w.A, w.B = evidenceOfCertificates, EncodeCertificate(e.Certificates[0]), EncodeCertificate(e.Certificates[1])
	}
	return codec.Marshal(w)
}

// DecodeEvidence reads what EncodeEvidence wrote and nothing else: at most
// MaxEvidenceBytes, in order, a pair of one round that excludes itself.
// Signatures are not verified: use Convict.
func DecodeEvidence(data []byte) (Evidence, error) {
	var e Evidence
	var w wireEvidence
	if err := codec.Unmarshal(data, &w, MaxEvidenceBytes); err != nil {
		return e, fmt.Errorf("consensus: evidence: %w", err)
	}
	if bytes.Compare(w.A, w.B) >= 0 {
		return e, errors.New("consensus: evidence: the pair is not in order")
	}
	for i, part := range [][]byte{w.A, w.B} {
		var err error
		switch w.Kind {
		case evidenceOfVotes:
			e.Votes[i], err = DecodeVote(part)
		case evidenceOfCertificates:
			e.Certificates[i], err = DecodeCertificate(part)
		default:
			err = fmt.Errorf("kind %d is unknown", w.Kind)
		}
		if err != nil {
			return Evidence{}, fmt.Errorf("consensus: evidence: %w", err)
		}
	}
	if err := e.check(); err != nil {
		return Evidence{}, err
	}
	return e, nil
}
