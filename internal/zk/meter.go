package zk

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/twistededwards"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A metering key signs usage records so that a circuit verifies them cheaply: a
// Schnorr signature (R, S) on the twisted Edwards curve whose field is the
// circuits' own, with the challenge e from Poseidon2:
//
//	leaf = sponge(context, R, record)    e = the low 128 bits of leaf
//	S · B = R + e · A
//
// The equation has no cofactor: with A and B in the subgroup it forces R onto
// the curve and into the subgroup as well.

// MeterKeySize is the length of a MeterKey in bytes.
const MeterKeySize = 32

// MeterChallengeBits is the length of a challenge.
const MeterChallengeBits = 128

// ErrMeterKey says that bytes are no metering key: not canonical, off the
// curve, outside the subgroup, or its neutral element.
var ErrMeterKey = errors.New("zk: malformed metering key")

// MeterKey is a public metering key: a compressed point of the twisted Edwards
// curve over the BN254 scalar field (RFC 8032 §5.1.2 with that curve).
type MeterKey [MeterKeySize]byte

// curve is the twisted Edwards curve −x² + y² = 1 + d·x²·y².
var curve = twistededwards.GetEdwardsCurve()

// Check returns ErrMeterKey unless k is a canonical point of the subgroup other
// than its neutral element. Whoever registers a key calls it once; circuits
// rely on it.
func (k MeterKey) Check() error {
	_, err := k.point()
	return err
}

// Point returns the coordinates of a key that Check accepts.
func (k MeterKey) Point() (x, y Field, err error) {
	p, err := k.point()
	return Field(p.X.Bytes()), Field(p.Y.Bytes()), err
}

func (k MeterKey) point() (twistededwards.PointAffine, error) {
	var p, multiple twistededwards.PointAffine
	if _, err := p.SetBytes(k[:]); err != nil {
		return twistededwards.PointAffine{}, fmt.Errorf("%w: %w", ErrMeterKey, err)
	}
	switch {
	case !p.IsOnCurve():
		return twistededwards.PointAffine{}, fmt.Errorf("%w: off the curve", ErrMeterKey)
	case p.Bytes() != k:
		return twistededwards.PointAffine{}, fmt.Errorf("%w: not canonical", ErrMeterKey)
	case p.IsZero():
		return twistededwards.PointAffine{}, fmt.Errorf("%w: the neutral element", ErrMeterKey)
	}
	if multiple.ScalarMultiplication(&p, &curve.Order); !multiple.IsZero() {
		return twistededwards.PointAffine{}, fmt.Errorf("%w: outside the subgroup", ErrMeterKey)
	}
	return p, nil
}

// String returns k as 64 hexadecimal digits.
func (k MeterKey) String() string { return hex.EncodeToString(k[:]) }

// UnmarshalCBOR reads a byte string of 32 bytes; Check says whether it is a key.
func (k *MeterKey) UnmarshalCBOR(data []byte) error {
	var raw []byte
	if err := codec.UnmarshalPart(data, &raw); err != nil {
		return fmt.Errorf("zk: metering key: %w", err)
	}
	if len(raw) != MeterKeySize {
		return fmt.Errorf("zk: metering key of %d bytes, want %d", len(raw), MeterKeySize)
	}
	*k = MeterKey(raw)
	return nil
}

// MeterSecret signs usage records.
type MeterSecret struct {
	seed   [32]byte
	scalar *big.Int // below the order of the subgroup
	public MeterKey
}

// NewMeterSecret derives a key from 32 secret random bytes.
func NewMeterSecret(seed [32]byte) *MeterSecret {
	s := &MeterSecret{seed: seed, scalar: meterScalar(seed[:], nil)}
	var p twistededwards.PointAffine
	p.ScalarMultiplication(&curve.Base, s.scalar)
	s.public = p.Bytes()
	return s
}

// ParseMeterSecret reads a key from its seed of 64 hexadecimal digits, as a file has it.
func ParseMeterSecret(text string) (*MeterSecret, error) {
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != 32 {
		return nil, errors.New("zk: a metering key's seed is not 64 hexadecimal digits") // and is not shown
	}
	return NewMeterSecret([32]byte(raw)), nil
}

// meterScalar hashes a secret and a message to a scalar: 512 bits modulo the
// order, hence uniform but for 2⁻²⁶¹.
func meterScalar(secret, message []byte) *big.Int {
	var wide []byte
	for half := range byte(2) {
		data := append([]byte{half}, secret...)
		digest := crypto.DomainMeterNonce.Hash(append(data, message...))
		wide = append(wide, digest[:]...)
	}
	return new(big.Int).Mod(new(big.Int).SetBytes(wide), &curve.Order)
}

// Public returns the public key.
func (s *MeterSecret) Public() MeterKey { return s.public }

// MeterSignature is a signature of one usage record.
type MeterSignature struct {
	_    struct{} `cbor:",toarray"`
	X, Y Field    // of R
	S    Field    // below the order of the subgroup
}

// Sign signs a record in a context. The nonce is derived from the secret and
// the message, so no two messages share one.
func (s *MeterSecret) Sign(context Field, record UsageRecord) MeterSignature {
	for try := byte(0); ; try++ {
		message := append(append(context[:], record.packed()...), try)
		nonce := meterScalar(s.seed[:], message)
		var r twistededwards.PointAffine
		r.ScalarMultiplication(&curve.Base, nonce)
		sig := MeterSignature{X: r.X.Bytes(), Y: r.Y.Bytes()}
		e, ok := challenge(usageLeaf(context, record, &sig))
		if !ok {
			continue // once in 2¹²⁵
		}
		e.Mul(e, s.scalar).Add(e, nonce).Mod(e, &curve.Order)
		e.FillBytes(sig.S[:])
		return sig
	}
}

// possession is what is signed in place of an order's context to show that a key is had.
func possession(chainID string, node crypto.PublicKey, p *twistededwards.PointAffine) Field {
	said := element(Reduce(crypto.DomainMeter.Hash(codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID string
		Node    crypto.PublicKey
	}{ChainID: chainID, Node: node}))))
	return Sponge(SpongeMeter, []fr.Element{said, p.X, p.Y})
}

// Possess signs that the key is a node's on a chain.
func (s *MeterSecret) Possess(chainID string, node crypto.PublicKey) MeterSignature {
	p, err := s.public.point()
	if err != nil {
		panic("zk: a secret without a public key: " + err.Error())
	}
	return s.Sign(possession(chainID, node, &p), UsageRecord{})
}

// CheckPossession returns nil if k is a key as Check has it, with which Possess was called
// for the node and the chain. It also returns the key's point.
func (k MeterKey) CheckPossession(chainID string, node crypto.PublicKey, sig MeterSignature) (x, y Field, err error) {
	p, err := k.point()
	if err != nil {
		return Field{}, Field{}, err
	}
	if !sig.verifies(&p, possession(chainID, node, &p), UsageRecord{}) {
		return Field{}, Field{}, fmt.Errorf("%w: its possession is not signed", ErrMeterKey)
	}
	return p.X.Bytes(), p.Y.Bytes(), nil
}

// leafHigh is what the high part of a leaf stays below, so that splitting it is
// unambiguous: r's own high part.
var leafHigh = new(big.Int).Rsh(fr.Modulus(), MeterChallengeBits)

// challenge returns the low 128 bits of a leaf, and false if its high part is
// that of r itself, which no honest leaf meets in practice and no circuit takes.
func challenge(leaf Field) (*big.Int, bool) {
	whole := new(big.Int).SetBytes(leaf[:])
	high := new(big.Int).Rsh(whole, MeterChallengeBits)
	return whole.Sub(whole, new(big.Int).Lsh(high, MeterChallengeBits)), high.Cmp(leafHigh) < 0
}

// verifies reports whether the signature of a record holds under a key.
func (sig *MeterSignature) verifies(key *twistededwards.PointAffine, context Field, record UsageRecord) bool {
	if sig.X.Check() != nil || sig.Y.Check() != nil {
		return false
	}
	scalar := new(big.Int).SetBytes(sig.S[:])
	e, ok := challenge(usageLeaf(context, record, sig))
	if !ok || scalar.Cmp(&curve.Order) >= 0 {
		return false
	}
	r := twistededwards.NewPointAffine(element(sig.X), element(sig.Y))
	if !r.IsOnCurve() {
		return false
	}
	var left, right twistededwards.PointAffine
	left.ScalarMultiplication(&curve.Base, scalar)
	right.ScalarMultiplication(key, e)
	right.Add(&right, &r)
	return left.Equal(&right)
}
