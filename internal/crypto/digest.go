package crypto

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// DigestSize is the length of a Digest in bytes.
const DigestSize = 32

// Digest is a Blake3-256 digest under some domain.
type Digest [DigestSize]byte

// Hash returns the domain's digest of data.
func (d *Domain) Hash(data []byte) Digest {
	if len(data) >= lanes*chunkBytes {
		if sum, ok := d.hashTree(data); ok {
			return sum
		}
	}
	h := d.pool.Get().(*blake3.Hasher)
	h.Reset()
	mustWrite(h, data)
	return d.finish(h)
}

// HashPair returns the domain's digest of left ‖ right: the inner node of a
// binary tree.
func (d *Domain) HashPair(left, right Digest) Digest {
	var buf [2 * DigestSize]byte
	copy(buf[:DigestSize], left[:])
	copy(buf[DigestSize:], right[:])
	return d.Hash(buf[:])
}

func (d *Domain) finish(h *blake3.Hasher) Digest {
	var sum Digest
	h.Sum(sum[:0])
	d.pool.Put(h)
	return sum
}

// NewStream returns a running hash under the domain, for data that is not in
// memory as a whole.
func (d *Domain) NewStream() *Stream {
	return &Stream{h: blake3.NewDeriveKey(d.context)}
}

// Stream is a running hash: an io.Writer that never fails. Not safe for
// concurrent use.
type Stream struct{ h *blake3.Hasher }

// Write adds p to the hash. The error is always nil.
func (s *Stream) Write(p []byte) (int, error) { return s.h.Write(p) }

// Sum returns the digest of everything written; writing may go on.
func (s *Stream) Sum() Digest {
	var sum Digest
	s.h.Sum(sum[:0])
	return sum
}

func mustWrite(h *blake3.Hasher, data []byte) {
	if _, err := h.Write(data); err != nil {
		panic("crypto: a hash refused bytes: " + err.Error())
	}
}

// IsZero reports whether every byte is zero: the digest of nothing at all.
func (d Digest) IsZero() bool { return d == Digest{} }

// Compare orders digests as byte strings: −1, 0 or +1.
func (d Digest) Compare(other Digest) int { return bytes.Compare(d[:], other[:]) }

// String returns the digest as 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 8 hexadecimal digits, for people and logs.
func (d Digest) Short() string { return hex.EncodeToString(d[:4]) }

// MarshalText is String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads exactly 64 lower-case hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error { return fixedHex(d[:], text, "digest") }

// ParseDigest reads exactly 64 lower-case hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	err := d.UnmarshalText([]byte(s))
	return d, err
}

// fixedHex fills dst from exactly its length of lower-case hexadecimal. On
// error dst is as it was, or zero.
func fixedHex(dst, text []byte, what string) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("crypto: %s of %d characters, want %d hexadecimal digits", what, len(text), hex.EncodedLen(len(dst)))
	}
	if bytes.ContainsAny(text, "ABCDEF") {
		return fmt.Errorf("crypto: %s has upper-case hexadecimal digits", what)
	}
	if _, err := hex.Decode(dst, text); err != nil {
		clear(dst)
		return fmt.Errorf("crypto: %s: %w", what, err)
	}
	return nil
}
