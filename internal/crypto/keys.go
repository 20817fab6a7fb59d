package crypto

import (
	"bytes"
	stded25519 "crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Sizes in bytes.
const (
	PublicKeySize = 32
	SeedSize      = 32
	SignatureSize = 64
)

// PublicKey is an Ed25519 public key (RFC 8032). Node ids and consensus keys
// are of this type; account keys carry a scheme tag as well (AccountKey).
type PublicKey [PublicKeySize]byte

// Signature is an Ed25519 signature over a domain's digest.
type Signature [SignatureSize]byte

// PrivateKey signs. Its zero value is unusable. It prints as "private key", and
// the secret sits in a closure, because fmt prints what it finds in unexported
// fields without asking String, through pointers too: no log can hold a key by
// accident. Keys do not compare with ==.
type PrivateKey struct{ secret func() stded25519.PrivateKey }

// ErrWeakKey says that a public key is of small order, is not canonically
// encoded, or is no curve point at all.
var ErrWeakKey = errors.New("crypto: public key is not a canonical point of large order")

// GenerateKey makes a key from the system's randomness.
func GenerateKey() PrivateKey {
	var seed [SeedSize]byte
	if _, err := rand.Read(seed[:]); err != nil {
		panic("crypto: the system has no randomness: " + err.Error())
	}
	return PrivateKeyFromSeed(seed)
}

// PrivateKeyFromSeed returns the key of a 32-byte seed (RFC 8032 §5.1.5).
func PrivateKeyFromSeed(seed [SeedSize]byte) PrivateKey {
	key := stded25519.NewKeyFromSeed(seed[:])
	return PrivateKey{secret: func() stded25519.PrivateKey { return key }}
}

// ParsePrivateKey reads a seed as 64 lower-case hexadecimal digits.
func ParsePrivateKey(s string) (PrivateKey, error) {
	var seed [SeedSize]byte
	if err := fixedHex(seed[:], []byte(s), "private key"); err != nil {
		return PrivateKey{}, err
	}
	return PrivateKeyFromSeed(seed), nil
}

// Public returns the key's public half.
func (k PrivateKey) Public() PublicKey { return PublicKey(k.secret()[SeedSize:]) }

// Seed returns the 32 secret bytes.
func (k PrivateKey) Seed() [SeedSize]byte { return [SeedSize]byte(k.secret().Seed()) }

// Hex returns the secret seed as 64 hexadecimal digits, for key files.
func (k PrivateKey) Hex() string { return hex.EncodeToString(k.secret().Seed()) }

// Standard returns the key as the standard library's type, for TLS.
func (k PrivateKey) Standard() stded25519.PrivateKey { return bytes.Clone(k.secret()) }

// IsZero reports whether the key is the unusable zero value.
func (k PrivateKey) IsZero() bool { return k.secret == nil }

// String hides the secret.
func (PrivateKey) String() string { return "private key" }

// GoString hides the secret.
func (PrivateKey) GoString() string { return "private key" }

// Sign signs the domain's digest of payload.
func (k PrivateKey) Sign(domain *Domain, payload []byte) Signature {
	digest := domain.Hash(payload)
	return Signature(stded25519.Sign(k.secret(), digest[:]))
}

var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

// Verify reports whether sig is k's signature of the domain's digest of
// payload, by the ZIP-215 rules.
func (k PublicKey) Verify(domain *Domain, payload []byte, sig Signature) bool {
	digest := domain.Hash(payload)
	return verifyMessage(k, digest[:], sig)
}

func verifyMessage(k PublicKey, message []byte, sig Signature) bool {
	return ed25519.VerifyWithOptions(k[:], message, sig[:], zip215)
}

// Check returns ErrWeakKey unless k is the canonical encoding of a point that
// is not of small order. Whoever registers a key calls it.
func (k PublicKey) Check() error {
	if err := k.CheckEncoding(); err != nil {
		return err
	}
	compressed := curve.CompressedEdwardsY(k)
	var point curve.EdwardsPoint
	if _, err := point.SetCompressedY(&compressed); err != nil {
		return fmt.Errorf("%w: %w", ErrWeakKey, err)
	}
	return nil
}

// CheckEncoding is Check without looking whether k is on the curve at all, which
// costs a square root: for a key whose signature is verified next, and fails if
// it is not.
func (k PublicKey) CheckEncoding() error {
	compressed := curve.CompressedEdwardsY(k)
	if !compressed.IsCanonicalVartime() || smallOrder[k] {
		return ErrWeakKey
	}
	return nil
}

// smallOrder holds the canonical encodings of the eight points of small order.
var smallOrder = smallOrderPoints()

func smallOrderPoints() map[PublicKey]bool {
	points := make(map[PublicKey]bool, len(curve.EIGHT_TORSION))
	for _, p := range curve.EIGHT_TORSION {
		var compressed curve.CompressedEdwardsY
		compressed.SetEdwardsPoint(p)
		points[PublicKey(compressed)] = true
	}
	return points
}

// IsZero reports whether every byte is zero.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// Compare orders keys as byte strings: −1, 0 or +1.
func (k PublicKey) Compare(other PublicKey) int { return bytes.Compare(k[:], other[:]) }

// String returns the key as 64 hexadecimal digits.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// Short returns the first 8 hexadecimal digits, for people and logs.
func (k PublicKey) Short() string { return hex.EncodeToString(k[:4]) }

// MarshalText is String.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads exactly 64 lower-case hexadecimal digits.
func (k *PublicKey) UnmarshalText(text []byte) error { return fixedHex(k[:], text, "public key") }

// ParsePublicKey reads exactly 64 lower-case hexadecimal digits.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	err := k.UnmarshalText([]byte(s))
	return k, err
}

// String returns the signature as 128 hexadecimal digits.
func (s Signature) String() string { return hex.EncodeToString(s[:]) }

// MarshalText is String.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads exactly 128 lower-case hexadecimal digits.
func (s *Signature) UnmarshalText(text []byte) error { return fixedHex(s[:], text, "signature") }
