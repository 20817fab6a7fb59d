package state

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// Records are values that hold one canonically encoded Go value.

// Load returns the record under key, and false if there is none. A value that
// does not decode as a T panics with *Fault.
func Load[T any](r Reader, key []byte) (T, bool) {
	value, ok := r.Get(key)
	if !ok {
		var none T
		return none, false
	}
	return Decode[T](key, value), true
}

// Decode decodes the value found under key. A value that does not decode as a T
// panics with *Fault.
func Decode[T any](key, value []byte) T {
	var record T
	if err := codec.Unmarshal(value, &record, MaxValueBytes); err != nil {
		panic(&Fault{Op: fmt.Sprintf("decoding the %T under %x", record, key), Err: err})
	}
	return record
}

// Save sets key to the record.
func Save[T any](kv KV, key []byte, record T) { kv.Set(key, codec.Marshal(record)) }
