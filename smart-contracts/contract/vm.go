package contract

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// VM runs the code of contracts.
type VM interface {
	// Run runs a call to its end. Whatever the contract does is in the Outcome, which
	// depends on code, call and what it reaches alone; an error is a fault of the
	// node. A panic of what it reaches comes out of it.
	Run(code Program, call Call, reach Reach) (Outcome, error)
}

// Program names a contract's code and says where it comes from.
type Program struct {
	// ID is the digest of what decides the prepared module: the code as it was
	// uploaded and the version of the weights.
	ID crypto.Digest
	// Load returns the prepared module. It is called only if nothing that was
	// compiled of it is kept.
	Load func() (*meter.Module, error)
}

// Call is one call of a contract.
type Call struct {
	Entry  meter.Entry
	Args   [][]byte // JSON: env, info where the entry takes it, msg; for Migrate env, msg, info
	Points uint64   // that it may use
	Depth  int      // how many calls wait for this one
	Unpaid bool     // nobody pays for having the code loaded, since it is pinned or asked from outside: nothing goes for it that was paid for
}

// MaxQueryDepth bounds queries that lead to queries.
const MaxQueryDepth = 8

// End is how a call ended.
type End uint8

// The ends of a call.
const (
	Returned   End = 1 + iota // Data is what the contract answered
	Aborted                   // the contract gave up, by abort or unreachable
	Trapped                   // it divided by zero, left its memory, …
	Misused                   // it gave the host what is no region, is too large, or is not allowed
	Spent                     // its points are used up
	Overflowed                // its stack is used up
	Refused                   // no compiler takes the code, on any node
)

func (e End) String() string {
	names := [...]string{Returned: "returned", Aborted: "aborted", Trapped: "trapped", Misused: "misused", Spent: "spent", Overflowed: "overflowed", Refused: "refused by the compiler"}
	if e == 0 || int(e) >= len(names) {
		return fmt.Sprintf("end %d", uint8(e))
	}
	return names[e]
}

// Outcome is what a call came to. End, Data and Points are the same on every
// node, and so is the Detail of a call that Aborted.
type Outcome struct {
	End    End
	Data   []byte // the answer, as JSON
	Points uint64 // used; all there were, unless the call ended as Returned, Aborted or Misused
	Detail string // what abort said, or "unreachable"; of other ends, which trap: for people, never for consensus
}

// Reach is what a contract reaches of the chain while one call runs: its own
// storage, the chain's addresses, and queries. What a method does costs points
// beside what the machine charges for the call and its bytes. An error is a fault
// of the node, and ends the call, but for a *Misuse, which is the contract's.
type Reach interface {
	// Read returns a value of the contract's storage, nil if there is none.
	Read(key []byte) (value []byte, points uint64, err error)
	// Write sets one, never to nothing. Neither it nor Remove is called by a query.
	Write(key, value []byte) (points uint64, err error)
	// Remove removes one, if it is there.
	Remove(key []byte) (points uint64, err error)
	// Scan begins a walk over the keys from start, inclusive, to end, exclusive; nil
	// is no bound. It may use so many points.
	Scan(start, end []byte, order Order, limit uint64) (walk Iterator, points uint64, err error)
	// Canonical returns an address's bytes; ok says whether it is one.
	Canonical(address string) (canonical []byte, ok bool)
	// Human returns the address that has some bytes.
	Human(canonical []byte) (address string, ok bool)
	// Query answers a query, written as JSON, with the chain's answer as JSON. It may
	// use so many points.
	Query(request []byte, limit uint64) (answer []byte, points uint64, err error)
}

// Misuse is what a contract asks for that is not to be had: the call ends as Misused.
type Misuse struct{ Why string }

func (m *Misuse) Error() string { return m.Why }

// Order is in which order keys are walked over.
type Order int32

// The orders, as contracts number them.
const (
	Ascending  Order = 1
	Descending Order = 2
)

// Iterator walks over keys.
type Iterator interface {
	// Next returns the next key and its value, a nil key at the end.
	Next() (key, value []byte, points uint64, err error)
	Close()
}
