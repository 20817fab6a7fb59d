package zk

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// FieldSize is the length of a Field in bytes.
const FieldSize = fr.Bytes

// Field is an element of the BN254 scalar field, big-endian, below the order r
// when Check says so. It is what a circuit takes as a public.
type Field [FieldSize]byte

// order is r, big-endian.
var order = Field(fr.Modulus().FillBytes(make([]byte, FieldSize)))

// Check returns ErrNotCanonical unless f is below r.
func (f Field) Check() error {
	if bytes.Compare(f[:], order[:]) >= 0 {
		return fmt.Errorf("%w: %s", ErrNotCanonical, f)
	}
	return nil
}

// Reduce returns the digest, read as a big-endian integer, modulo r. Since
// 2²⁵⁶ / r ≈ 5.29, some values have six preimages and the others five: not
// uniform, but as hard to collide as a hash of 254 bits, which is all that a
// binding asks for.
func Reduce(digest crypto.Digest) Field {
	var e fr.Element
	e.SetBytes(digest[:])
	return Field(e.Bytes())
}

// IsZero reports whether f is the zero of the field.
func (f Field) IsZero() bool { return f == Field{} }

// String returns f as 64 hexadecimal digits.
func (f Field) String() string { return hex.EncodeToString(f[:]) }

// MarshalText is String.
func (f Field) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads exactly 64 lower-case hexadecimal digits of a value
// below r.
func (f *Field) UnmarshalText(text []byte) error {
	var digits crypto.Digest // of the same shape: 32 bytes, 64 lower-case digits
	if err := digits.UnmarshalText(text); err != nil {
		return fmt.Errorf("zk: field element: %w", err)
	}
	*f = Field(digits)
	return f.Check()
}

// ParseField reads exactly 64 lower-case hexadecimal digits of a value below r.
func ParseField(s string) (Field, error) {
	var f Field
	err := f.UnmarshalText([]byte(s))
	return f, err
}

// UnmarshalCBOR reads a byte string of 32 bytes whose value is below r.
func (f *Field) UnmarshalCBOR(data []byte) error {
	var raw []byte
	if err := codec.UnmarshalPart(data, &raw); err != nil {
		return fmt.Errorf("zk: field element: %w", err)
	}
	if len(raw) != FieldSize {
		return fmt.Errorf("zk: field element of %d bytes, want %d", len(raw), FieldSize)
	}
	*f = Field(raw)
	return f.Check()
}

// element converts a field element that Check accepts.
func element(f Field) fr.Element {
	var e fr.Element
	if err := e.SetBytesCanonical(f[:]); err != nil {
		panic("zk: a checked field element is not canonical: " + err.Error())
	}
	return e
}
