package contract

import "github.com/hypermesh/hypermesh/internal/state"

// Denom is what contracts call the money of the chain: a billionth of a HYPER.
const Denom = "nhyper"

// Limits and prices of version 1. They are part of what a chain agrees on.
const (
	// CallableAfter is how many blocks after its upload code runs, if it is compiled by then: it is final,
	// and whoever executes transactions on it has begun.
	CallableAfter = 10
	// MaxDebtMs is how much of the chain's progress nodes need at most for what they have not compiled yet, if more
	// is to be stored.
	MaxDebtMs = 10 * 60 * 1000
	// MaxDepth bounds messages that lead to messages.
	MaxDepth = 64
	// MaxKeyBytes is the longest key that a contract keeps something under.
	MaxKeyBytes = state.MaxKeyBytes - storageKeyBytes
	// MaxTxEvents and MaxTxEventBytes bound what the contracts of a transaction make known:
	// the events, and what of them contracts choose. A list of 1<<17 could not be decoded.
	MaxTxEvents     = 8 << 10
	MaxTxEventBytes = 1 << 20
	// RemovedBlocks is how many blocks there are to an epoch of removed keys: a walk pays for what its
	// contract removed in the epoch of its block and in the one before. Keys that went earlier are gone from
	// all that waits to be final, since blocks that are further ahead of it have no transactions; the
	// store passes them once, which their removal has paid for.
	RemovedBlocks = 8
	// NanoPerByte is what a byte of room costs, in nHYPER.
	NanoPerByte = 10_000

	// answerPoints is what reading a byte of a contract's JSON costs, of its answers, queries and custom
	// texts: what takes longest, many empty objects, takes some 70 ns a byte.
	answerPoints = 200

	// keptBytes is how much of what was loaded last every node keeps compiled in memory: a call of
	// that does not pay for having it read from disk.
	keptBytes = 256 << 20
	// CacheBytes is what a node has to keep, of what it ran last, to have all that.
	CacheBytes = 2 * keptBytes

	// compileNs is what nodes have, one after the other, to compile what one unit of gas of an upload is for:
	// twice the most that is known to be taken, beside other work, on the machine that prices are measured on,
	// and some twenty times what people's contracts take.
	compileNs = 2 * 300

	// AskedBytes is how much native code that does not count as kept a query from outside has read from disk at most,
	// unless it is one code: calls that wait for each other have all of theirs in memory.
	AskedBytes = 32 << 20

	// PinnedAfter is how many blocks after its pin calls of code pay no load: nodes have it in memory by then.
	PinnedAfter = CallableAfter
	// PinPeriodMs is how long a period of pins is: a day of UTC.
	PinPeriodMs = 24 * 60 * 60 * 1000
	// PinnedBytes is how much native code is pinned at any time at most: each node keeps as much beside what ran last.
	PinnedBytes = 64 << 20
	// NanoPerPinnedKiB is what a KiB of native code costs for each period in which it is pinned, in nHYPER.
	NanoPerPinnedKiB = 1_000_000

	entryBytes  = 64  // that an entry takes beside its key and value
	recordBytes = 512 // that a contract takes itself
)

// Prices are what contracts cost in gas.
type Prices struct {
	Read      uint64 `json:"read"` // each key
	ReadByte  uint64 `json:"read_byte"`
	Write     uint64 `json:"write"`
	Insert    uint64 `json:"insert"` // more, if the key is new, or goes
	WriteByte uint64 `json:"write_byte"`

	Step   uint64 `json:"step"`   // of a walk, each pair, beside its read: a few keys before it, removed long ago, may be passed each time
	Passed uint64 `json:"passed"` // of a walk, each key that the contract has removed lately; and once with its removal

	Message   uint64 `json:"message"`    // each, of transactions and of contracts
	Call      uint64 `json:"call"`       // of a contract's entry, beside its points
	Code      uint64 `json:"code"`       // each, that every node compiles, however short it is
	CodeByte  uint64 `json:"code_byte"`  // of it, which is checked and rewritten
	CodeSpan  uint64 `json:"code_span"`  // that a way of its functions goes past, which its compiler takes time for
	LoadKiB   uint64 `json:"load_kib"`   // of native code that is stored, or was not loaded lately and may have to be read from disk
	Event     uint64 `json:"event"`      // each
	EventByte uint64 `json:"event_byte"` // of what contracts say in it
	Points    uint64 `json:"points"`     // of the machine, that one unit of gas is
}

// PricesV1 are the prices of version 1; what the state costs is the chain's.
func PricesV1() Prices {
	return Prices{Step: 150, Passed: 60, Message: 1_000, Call: 2_000, Code: 100_000, CodeByte: 20, CodeSpan: 8, LoadKiB: 500, Event: 100, EventByte: 4, Points: 18}
}
