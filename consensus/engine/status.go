package engine

import (
	"sync/atomic"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Status is a snapshot of where the node stands.
type Status struct {
	View          consensus.View // the current one
	FinalizedView consensus.View // the highest finalization known
	Certificate   *consensus.Certificate
	Height        uint64        // durable in the application
	Digest        crypto.Digest // of the block there
	Signs         bool          // false: this node only observes
	Behind        bool          // a finalization is known whose blocks are missing
}

// Status returns the latest snapshot. Safe for concurrent use.
func (e *Engine) Status() Status { return *e.status.Load() }

type counters struct {
	sent, received, syncs, built, checked, invalid, finalized atomic.Uint64
	fetches, answered, dropped, catchUps, blamed, evidence    atomic.Uint64
}

// Metrics are counts since the engine was made.
type Metrics struct {
	MessagesSent     uint64 // broadcasts
	MessagesReceived uint64
	LogSyncs         uint64
	BlocksBuilt      uint64
	BlocksChecked    uint64
	BlocksInvalid    uint64
	BlocksFinalized  uint64
	Fetches          uint64 // requests sent by the core
	Answered         uint64 // peers' requests answered
	Dropped          uint64 // peers' requests dropped for want of room
	CatchUps         uint64 // answers of catch-up that brought blocks
	Blamed           uint64 // peers blocked
	Evidence         uint64 // pairs of votes that exclude each other
}

// Metrics returns the counts. Safe for concurrent use.
func (e *Engine) Metrics() Metrics {
	c := &e.counters
	return Metrics{
		MessagesSent:     c.sent.Load(),
		MessagesReceived: c.received.Load(),
		LogSyncs:         c.syncs.Load(),
		BlocksBuilt:      c.built.Load(),
		BlocksChecked:    c.checked.Load(),
		BlocksInvalid:    c.invalid.Load(),
		BlocksFinalized:  c.finalized.Load(),
		Fetches:          c.fetches.Load(),
		Answered:         c.answered.Load(),
		Dropped:          c.dropped.Load(),
		CatchUps:         c.catchUps.Load(),
		Blamed:           c.blamed.Load(),
		Evidence:         c.evidence.Load(),
	}
}
