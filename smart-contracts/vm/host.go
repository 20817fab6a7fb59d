package vm

import "github.com/hypermesh/hypermesh/smart-contracts/contract"

// What a machine runs, what it answers and what it reaches are declared by who has
// contracts run.
type (
	Host     = contract.Reach
	Order    = contract.Order
	Iterator = contract.Iterator
	Code     = contract.Program
	Call     = contract.Call
	End      = contract.End
	Outcome  = contract.Outcome
)

// The orders of walks, the ends of calls, and how many queries wait for each other.
const (
	Ascending  = contract.Ascending
	Descending = contract.Descending

	Returned   = contract.Returned
	Aborted    = contract.Aborted
	Trapped    = contract.Trapped
	Misused    = contract.Misused
	Spent      = contract.Spent
	Overflowed = contract.Overflowed
	Refused    = contract.Refused

	MaxDepth = contract.MaxQueryDepth
)

var _ contract.VM = (*Machine)(nil)

// Limits of what crosses the boundary, in bytes, as CosmWasm has them.
const (
	maxKey       = 64 << 10
	maxValue     = 128 << 10
	maxQuery     = 64 << 10
	maxAddress   = 256
	maxCanonical = 64
	maxMessage   = 128 << 10 // that an Ed25519 signature is over
	maxBatch     = 256       // signatures verified together
	maxDebug     = 2 << 10
	maxAbort     = 64 << 10
	maxResult    = 64 << 20
	maxIterators = 1 << 15
)

// prices of version 1, in points.
const (
	priceInstance  = 100_000 // a store and an instance
	priceCall      = 4_000   // of an import
	priceByte      = 2       // that is copied in or out
	priceAddress   = 8_000
	priceK1        = 900_000 // a signature on secp256k1
	priceR1        = 500_000
	priceEd25519   = 300_000
	priceHashBlock = 400     // 64 bytes of a message that is signed, or hashed to a curve
	pricePointG1   = 600_000 // of BLS12-381, read and added
	pricePointG2   = 900_000
	priceHashG1    = 900_000
	priceHashG2    = 3_200_000
	pricePairings  = 4_000_000 // the last step of a product of pairings
	pricePair      = 3_000_000 // two points, read and paired
)
