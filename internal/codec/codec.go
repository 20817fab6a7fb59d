// Package codec is the one canonical, bounded, whole-buffer encoding of
// everything that is hashed, signed, stored or sent between nodes.
//
// The encoding is deterministic CBOR (RFC 8949 §4.2.1). Structs are arrays:
// give every encoded struct a blank field `_ struct{}` tagged
// `cbor:",toarray"`, so that field order is the format and no names travel.
//
// Invariants:
//
//  1. One value has one encoding: Unmarshal re-encodes what it decoded and
//     refuses the input unless the bytes are equal, so shortest forms, definite
//     lengths and sorted keys need no trust in the decoder.
//  2. Unmarshal consumes the whole buffer.
//  3. Nothing larger than the caller's limit is looked at, and a length prefix
//     never allocates more elements than the buffer has bytes, nor than the
//     limits below.
//  4. What Raw embeds is well-formed and bounded, but canonical only once its
//     own Unmarshal has said so; two different Raws are two different values.
//
// Tags, indefinite lengths, duplicate keys, invalid UTF-8 and NaN are refused;
// NaN because it differs from itself, so that as a key it could come twice.
// Failure modes: Unmarshal returns ErrTooLarge, ErrNotCanonical or the
// decoder's error. Marshal panics, because a value that cannot be encoded is a
// broken program and no input can cause it. Safe for concurrent use.
package codec

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits that hold for every decode, whatever the caller's size limit.
const (
	maxNesting       = 16
	maxArrayElements = 1 << 17
	maxMapPairs      = 1 << 10
)

var (
	// ErrTooLarge says that the input is longer than the caller's limit.
	ErrTooLarge = errors.New("codec: input too large")
	// ErrNotCanonical says that the input decodes but is not the canonical
	// encoding of its value.
	ErrNotCanonical = errors.New("codec: encoding is not canonical")
)

var (
	encMode = mustEncMode()
	decMode = mustDecMode()
)

func mustEncMode() cbor.EncMode {
	opts := cbor.CoreDetEncOptions()
	opts.TagsMd = cbor.TagsForbidden
	opts.NilContainers = cbor.NilContainerAsEmpty
	opts.NaNConvert = cbor.NaNConvertReject
	mode, err := opts.EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}

func mustDecMode() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8RejectInvalid,
		NaN:               cbor.NaNDecodeForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  maxArrayElements,
		MaxMapPairs:       maxMapPairs,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}

// Marshal returns the canonical encoding of v. It panics if v's type cannot be
// encoded, or if v holds a NaN.
func Marshal(v any) []byte {
	out, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("codec: encoding %T: %v", v, err))
	}
	return out
}

// Unmarshal decodes data, which must be the canonical encoding of one value
// and at most limit bytes long, into the value that v points to. On error the
// value is unspecified.
func Unmarshal(data []byte, v any, limit int) error {
	if len(data) > limit {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(data), limit)
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("codec: %w", err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("codec: %w", err)
	}
	if !bytes.Equal(again, data) {
		return ErrNotCanonical
	}
	return nil
}

// UnmarshalPart decodes data into the value that v points to without the
// comparison of Unmarshal. It is for UnmarshalCBOR methods, whose callers
// compare the whole.
func UnmarshalPart(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("codec: %w", err)
	}
	return nil
}

// Raw is one already encoded value, embedded as it is.
type Raw = cbor.RawMessage
