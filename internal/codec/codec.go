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
//     limits below. A list of large elements is bounded by ArrayLength before
//     it is made.
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
	"encoding/binary"
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

func mustEncMode() cbor.UserBufferEncMode {
	opts := cbor.CoreDetEncOptions()
	opts.TagsMd = cbor.TagsForbidden
	opts.NilContainers = cbor.NilContainerAsEmpty
	opts.NaNConvert = cbor.NaNConvertReject
	mode, err := opts.UserBufferEncMode()
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

// UnmarshalList is Unmarshal of a list whose length, at most that many elements,
// is looked at before it is made.
func UnmarshalList[T any](data []byte, most, limit int) (out []T, err error) {
	n, err := ArrayLength(data)
	if err != nil {
		return nil, err
	}
	if n > uint64(most) {
		return nil, fmt.Errorf("%w: %d elements, limit %d", ErrTooLarge, n, most)
	}
	return out, Unmarshal(data, &out, limit)
}

// UnmarshalPart decodes data into the value that v points to without the
// comparison of Unmarshal. It is for UnmarshalCBOR methods, whose callers
// compare the whole, and for bytes that were compared before they were stored.
func UnmarshalPart(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("codec: %w", err)
	}
	return nil
}

// ArrayLength returns how many elements the array has whose encoding data
// begins with (RFC 8949 §3). A list of large elements is bounded by it before
// it is made: an element may be a thousand times as large as its shortest
// encoding.
func ArrayLength(data []byte) (uint64, error) {
	if len(data) == 0 || data[0]>>5 != majorArray {
		return 0, errors.New("codec: not an array")
	}
	info, rest := data[0]&0x1f, data[1:]
	if info < 24 {
		return uint64(info), nil
	}
	size := 1 << (info - 24)
	if info > 27 || len(rest) < size {
		return 0, errors.New("codec: not the head of an array")
	}
	var n uint64
	for _, b := range rest[:size] {
		n = n<<8 | uint64(b)
	}
	return n, nil
}

// The writers below are for MarshalCBOR methods: they spare the second encoding
// of what is embedded, and a value that cannot be encoded is an error there,
// because the value may come from a decoder that has not refused it yet.

const (
	majorUint     = 0
	majorNegative = 1
	majorBytes    = 2
	majorText     = 3
	majorArray    = 4
)

// Append appends the canonical encoding of v. It is an error if v cannot be
// encoded.
func Append(dst []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	if err := encMode.MarshalToBuffer(v, buf); err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	return buf.Bytes(), nil
}

// AppendUint appends the canonical encoding of an unsigned integer.
func AppendUint(dst []byte, n uint64) []byte { return appendHead(dst, majorUint, n) }

// AppendBytes appends the canonical encoding of a byte string.
func AppendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(b))), b...)
}

// AppendBool appends the canonical encoding of a truth value (RFC 8949 §3.3).
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 0xF5)
	}
	return append(dst, 0xF4)
}

// AppendText appends the canonical encoding of a text string.
func AppendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

// AppendArray appends the head of an array of n elements, which follow.
func AppendArray(dst []byte, n int) []byte { return appendHead(dst, majorArray, uint64(n)) }

// appendHead appends the shortest head (RFC 8949 §3.1, §4.2.1).
func appendHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

// Raw is one already encoded value, embedded as it is.
type Raw = cbor.RawMessage
