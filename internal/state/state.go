package state

import (
	"fmt"
	"iter"
)

// Limits of what a state holds, in bytes.
const (
	MaxKeyBytes   = 256
	MaxValueBytes = 1 << 20
)

// Reader reads one consistent state. What it returns stays valid and must not
// be modified. A failing backend panics with *Fault.
type Reader interface {
	// Get returns the value of key, and false if there is none.
	Get(key []byte) ([]byte, bool)
	// Iterate yields the pairs with start ≤ key < end in ascending order of
	// keys; a nil end is no end. It yields the state as it was when the loop
	// began, whatever the loop's body changes.
	Iterate(start, end []byte) iter.Seq2[[]byte, []byte]
}

// AheadReader is a Reader that is told what is going to be read: what of it is in memory,
// all over it, is looked at together.
type AheadReader interface {
	Reader
	// Ahead looks for keys. It changes nothing, and nothing depends on it.
	Ahead(keys [][]byte)
}

// Ahead tells a reader which keys are going to be read, if it is of use to it.
func Ahead(r Reader, keys [][]byte) {
	if a, ok := r.(AheadReader); ok {
		a.Ahead(keys)
	}
}

// ScanReader is a Reader that a whole state can be read through without leaving anything
// to collect.
type ScanReader interface {
	Reader
	// Scan yields what Iterate does. A pair is valid only until the next one.
	Scan(start, end []byte) iter.Seq2[[]byte, []byte]
}

// Scan yields the pairs with start ≤ key < end as Reader.Iterate does, but each is valid
// only until the next one.
func Scan(r Reader, start, end []byte) iter.Seq2[[]byte, []byte] {
	if s, ok := r.(ScanReader); ok {
		return s.Scan(start, end)
	}
	return r.Iterate(start, end)
}

// KV is a state that can be changed. It keeps key and value without copying
// them: the caller must not modify them afterwards. A key of no bytes or more
// than MaxKeyBytes, or a value of more than MaxValueBytes, panics.
type KV interface {
	Reader
	Set(key, value []byte)
	Delete(key []byte)
}

// Change is what one version does to one key.
type Change struct {
	Key     []byte
	Value   []byte
	Deleted bool // Value is nil
}

// Fault is the panic of a Reader whose backend failed. Whoever runs the state
// machine recovers it into an error; the node then stops.
type Fault struct {
	Op  string // what was being done
	Err error
}

// Error names the operation and the cause.
func (f *Fault) Error() string { return fmt.Sprintf("state: %s: %v", f.Op, f.Err) }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

func assertKey(n int) {
	if n == 0 || n > MaxKeyBytes {
		panic(fmt.Sprintf("state: key of %d bytes, want 1 to %d", n, MaxKeyBytes))
	}
}

func assertValue(n int) {
	if n > MaxValueBytes {
		panic(fmt.Sprintf("state: value of %d bytes, limit %d", n, MaxValueBytes))
	}
}
