package engine

import (
	"sync/atomic"

	"github.com/hypermesh/hypermesh/consensus/replica"
)

// Status returns where the node stands, as of its last step. Safe for concurrent
// use.
func (e *Engine) Status() replica.Status { return *e.status.Load() }

type counters struct {
	sent, received, syncs, built, checked, invalid, finalized atomic.Uint64
	answered, dropped, blamed, evidence, epochs               atomic.Uint64
}

// Metrics are counts since the engine was made.
type Metrics struct {
	MessagesSent     uint64 // broadcasts and messages to one peer
	MessagesReceived uint64
	MessagesDropped  uint64 // of these, of no use by then
	LogSyncs         uint64
	BlocksBuilt      uint64
	BlocksChecked    uint64
	BlocksInvalid    uint64
	BlocksFinalized  uint64
	Answered         uint64 // peers' requests answered from the application's store
	Blamed           uint64 // peers blocked
	Evidence         uint64 // breaches of the rules that were proven
	Epochs           uint64 // epochs entered, the first one included
}

// Metrics returns the counts. Safe for concurrent use.
func (e *Engine) Metrics() Metrics {
	c := &e.counters
	return Metrics{
		MessagesSent:     c.sent.Load(),
		MessagesReceived: c.received.Load(),
		MessagesDropped:  c.dropped.Load(),
		LogSyncs:         c.syncs.Load(),
		BlocksBuilt:      c.built.Load(),
		BlocksChecked:    c.checked.Load(),
		BlocksInvalid:    c.invalid.Load(),
		BlocksFinalized:  c.finalized.Load(),
		Answered:         c.answered.Load(),
		Blamed:           c.blamed.Load(),
		Evidence:         c.evidence.Load(),
		Epochs:           c.epochs.Load(),
	}
}
