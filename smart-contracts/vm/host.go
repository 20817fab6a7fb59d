package vm

// Host is what a contract reaches of the chain while one call runs: its own
// storage, the chain's addresses, and queries. What a method does costs points
// beside what the machine charges for the call and its bytes. An error is a fault
// of the node, and ends the call; whatever a contract does wrong is no error.
type Host interface {
	// Read returns a value of the contract's storage, nil if there is none.
	Read(key []byte) (value []byte, points uint64, err error)
	// Write sets one, never to nothing. Neither it nor Remove is called by a query.
	Write(key, value []byte) (points uint64, err error)
	// Remove removes one, if it is there.
	Remove(key []byte) (points uint64, err error)
	// Scan begins a walk over the keys from start, inclusive, to end, exclusive; nil
	// is no bound.
	Scan(start, end []byte, order Order) (walk Iterator, points uint64, err error)
	// Canonical returns an address's bytes; ok says whether it is one.
	Canonical(address string) (canonical []byte, ok bool)
	// Human returns the address that has some bytes.
	Human(canonical []byte) (address string, ok bool)
	// Query answers a query, written as JSON, with the chain's answer as JSON. It may
	// use so many points.
	Query(request []byte, limit uint64) (answer []byte, points uint64, err error)
}

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
