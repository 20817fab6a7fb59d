package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/state"
)

// appendChanges appends a block's changes: for each the key's length (uvarint),
// the key, the value's length plus one (uvarint; zero: deleted), the value.
func appendChanges(dst []byte, changes []state.Change) []byte {
	for _, c := range changes {
		dst = binary.AppendUvarint(dst, uint64(len(c.Key)))
		dst = append(dst, c.Key...)
		if c.Deleted {
			dst = binary.AppendUvarint(dst, 0)
			continue
		}
		dst = binary.AppendUvarint(dst, uint64(len(c.Value))+1)
		dst = append(dst, c.Value...)
	}
	return dst
}

// changesSize returns the length of what appendChanges appends.
func changesSize(changes []state.Change) int {
	size := 0
	for i := range changes {
		c := &changes[i]
		size += uvarintSize(len(c.Key)) + len(c.Key) + 1
		if !c.Deleted {
			size += uvarintSize(len(c.Value)+1) - 1 + len(c.Value)
		}
	}
	return size
}

func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// changesOf reads what appendChanges wrote.
func changesOf(data []byte) ([]state.Change, error) {
	var out []state.Change
	for rest := data; len(rest) > 0; {
		var c state.Change
		var ok, present bool
		if c.Key, rest, ok = takeBytes(rest, 0); !ok {
			return nil, fmt.Errorf("%w: key of change %d", ErrCorrupt, len(out))
		}
		if present = len(rest) > 0 && rest[0] != 0; present {
			c.Value, rest, ok = takeBytes(rest, 1)
		} else if ok = len(rest) > 0; ok {
			rest = rest[1:]
		}
		if !ok {
			return nil, fmt.Errorf("%w: value of change %d", ErrCorrupt, len(out))
		}
		c.Deleted = !present
		out = append(out, c)
	}
	return out, nil
}

// takeBytes cuts off a string of bytes that begins with its length plus more.
func takeBytes(data []byte, more uint64) (taken, rest []byte, ok bool) {
	length, size := binary.Uvarint(data)
	if size <= 0 || length < more || length-more > uint64(len(data)-size) {
		return nil, nil, false
	}
	end := size + int(length-more)
	return bytes.Clone(data[size:end]), data[end:], true
}
