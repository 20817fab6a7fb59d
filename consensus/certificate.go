package consensus

import (
	"fmt"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Certificate is a quorum's statement: a notarization, a nullification or a
// finalization.
//
// Bit i%8 of Signers[i/8] says that validator i signed; Signatures holds one
// signature for each set bit, in index order. The bitmap is exactly as long as
// the committee needs, and Verify insists on it, so that a set of signatures
// has one encoding. Two honest nodes may hold different certificates of one
// statement: never derive anything from the signer set.
type Certificate struct {
	Statement  Statement
	Signers    []byte
	Signatures []crypto.Signature
}

// View returns the view that the certificate is about.
func (c *Certificate) View() View { return c.Statement.View() }

// Has reports whether the certificate carries a signature of the validator.
func (c *Certificate) Has(s Signer) bool {
	return int(s)/8 < len(c.Signers) && c.Signers[s/8]&(1<<(s%8)) != 0
}

func bitmapBytes(validators int) int { return (validators + 7) / 8 }

// Verifier verifies a batch and returns one verdict per item: what
// crypto.VerifyBatch returns. A driver may have it use more cores, or remember
// what it verified before.
type Verifier func(items []crypto.Signed) []bool

func verifyAlone(items []crypto.Signed) []bool { return crypto.VerifyBatch(items, 1) }

// Verify returns an error that names the broken rule unless the certificate is
// of the committee's epoch, well formed for its size, of weight at least the
// quorum, and every signature in it holds.
func (c *Certificate) Verify(committee *Committee, chainID string) error {
	return c.VerifyWith(committee, chainID, verifyAlone)
}

// VerifyWith is Verify with a verifier for the signatures.
func (c *Certificate) VerifyWith(committee *Committee, chainID string, verify Verifier) error {
	if c.Statement.Round().Epoch != committee.Epoch() {
		return fmt.Errorf("consensus: certificate of epoch %d, committee of epoch %d", c.Statement.Round().Epoch, committee.Epoch())
	}
	if len(c.Signers) != bitmapBytes(committee.Len()) {
		return fmt.Errorf("consensus: certificate: bitmap of %d bytes, a committee of %d needs %d",
			len(c.Signers), committee.Len(), bitmapBytes(committee.Len()))
	}
	domain := c.Statement.Domain()
	if domain == nil {
		return fmt.Errorf("consensus: certificate: %s is unknown", c.Statement.Kind)
	}
	digest := domain.Hash(c.Statement.Payload(chainID))
	items := make([]crypto.Signed, 0, len(c.Signatures))
	weight := uint64(0)
	for i := range len(c.Signers) * 8 {
		if !c.Has(Signer(i)) {
			continue
		}
		if i >= committee.Len() || len(items) == len(c.Signatures) {
			return fmt.Errorf("consensus: certificate: signer %d of a committee of %d with %d signatures", i, committee.Len(), len(c.Signatures))
		}
		v := committee.Validator(Signer(i))
		weight += v.Weight // cannot wrap: distinct members of a checked total
		items = append(items, crypto.Signed{Key: v.Key, Digest: digest, Signature: c.Signatures[len(items)]})
	}
	if len(items) != len(c.Signatures) {
		return fmt.Errorf("consensus: certificate: %d signatures for %d signers", len(c.Signatures), len(items))
	}
	if weight < committee.Quorum() {
		return fmt.Errorf("consensus: certificate: weight %d, quorum %d", weight, committee.Quorum())
	}
	for i, ok := range verify(items) {
		if !ok {
			return fmt.Errorf("consensus: certificate: signature %d of %q does not hold", i, c.Statement)
		}
	}
	return nil
}

type wireCertificate struct {
	_          struct{} `cbor:",toarray"`
	Kind       Kind
	Subject    codec.Raw
	Signers    []byte
	Signatures []byte // 64 bytes each
}

// MaxCertificateBytes holds a certificate of the largest committee.
const MaxCertificateBytes = maxSubjectBytes + MaxValidators/8 + MaxValidators*crypto.SignatureSize + 16

// EncodeCertificate returns the canonical encoding
// [kind, subject, signer bitmap, signatures].
func EncodeCertificate(c *Certificate) []byte { return codec.Marshal(c) }

// DecodeCertificate reads what EncodeCertificate wrote and nothing else. It
// checks form only: use Verify.
func DecodeCertificate(data []byte) (*Certificate, error) {
	c := new(Certificate)
	if err := codec.Unmarshal(data, c, MaxCertificateBytes); err != nil {
		return nil, fmt.Errorf("consensus: certificate: %w", err)
	}
	return c, nil
}

// MarshalCBOR implements the encoding of EncodeCertificate, so that a
// certificate can be a field of other formats.
func (c *Certificate) MarshalCBOR() ([]byte, error) {
	sigs := make([]byte, 0, len(c.Signatures)*crypto.SignatureSize)
	for _, s := range c.Signatures {
		sigs = append(sigs, s[:]...)
	}
	return codec.Marshal(wireCertificate{
		Kind: c.Statement.Kind, Subject: c.Statement.subject(), Signers: c.Signers, Signatures: sigs,
	}), nil
}

// UnmarshalCBOR reads a certificate that is a field of another format.
func (c *Certificate) UnmarshalCBOR(data []byte) error {
	var w wireCertificate
	if err := codec.UnmarshalPart(data, &w); err != nil {
		return err
	}
	if len(w.Signers) > bitmapBytes(MaxValidators) {
		return fmt.Errorf("signer bitmap of %d bytes, limit %d", len(w.Signers), bitmapBytes(MaxValidators))
	}
	count := 0
	for _, b := range w.Signers {
		count += bits.OnesCount8(b)
	}
	if count == 0 || len(w.Signatures) != count*crypto.SignatureSize {
		return fmt.Errorf("%d bytes of signatures for %d signers", len(w.Signatures), count)
	}
	s, err := decodeStatement(w.Kind, w.Subject)
	if err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	c.Statement, c.Signers = s, w.Signers
	c.Signatures = make([]crypto.Signature, count)
	for i := range c.Signatures {
		c.Signatures[i] = crypto.Signature(w.Signatures[i*crypto.SignatureSize:])
	}
	return nil
}

// Assemble builds the certificate of the statement from votes for it, in index
// order, at most one per signer. Votes for other statements are a broken
// caller.
func Assemble(committee *Committee, s Statement, votes []Vote) *Certificate {
	c := &Certificate{Statement: s, Signers: make([]byte, bitmapBytes(committee.Len()))}
	last := -1
	for _, v := range votes {
		signer, sig := v.By()
		if v.Statement() != s || int(signer) <= last {
			panic("consensus: assembling a certificate from stray votes")
		}
		last = int(signer)
		c.Signers[signer/8] |= 1 << (signer % 8)
		c.Signatures = append(c.Signatures, sig)
	}
	return c
}
