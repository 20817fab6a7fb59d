package engine

import (
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
)

// Status returns where the node stands, as of its last step. Safe for concurrent
// use.
func (e *Engine) Status() replica.Status { return *e.status.Load() }

type counters struct {
	sent, received, syncs, built, checked, invalid, finalized atomic.Uint64
	answered, dropped, blamed, evidence, epochs               atomic.Uint64
	slowSyncs, givenUp, withheld                              atomic.Uint64
}

// slowSync is how long a sync of the log may take unremarked: votes wait for it, and
// two thirds of the least patience are gone.
const slowSync = 400 * time.Millisecond

// synced counts a sync of the log. Nothing leaves the node while one runs, so a slow
// one is what an operator looks for when views are given up.
func (e *Engine) synced(took time.Duration, bytes int) {
	e.counters.syncs.Add(1)
	if took >= slowSync {
		e.counters.slowSyncs.Add(1)
		e.cfg.Logger.Info("a slow disk holds votes up", "took", took.Round(time.Millisecond), "bytes", bytes)
	}
}

// notice counts the views that this node gives up.
func (e *Engine) notice(said consensus.Message) {
	vote, ok := said.(consensus.Nullify)
	if !ok || vote.Round == e.givenUp {
		return // a repetition of the last
	}
	e.givenUp = vote.Round
	e.counters.givenUp.Add(1)
	status := e.replica.Status()
	e.cfg.Logger.Debug("a view is given up", "epoch", vote.Round.Epoch, "view", vote.Round.View, "finalized", status.FinalizedView,
		"after", time.Since(e.entered).Round(time.Millisecond), "waiting", status.Waiting, "inbox", len(e.inbox))
}

// Metrics are counts since the engine was made.
type Metrics struct {
	MessagesSent     uint64 // broadcasts and messages to one peer
	MessagesReceived uint64
	MessagesDropped  uint64 // of these, of no use by then
	LogSyncs         uint64
	SlowSyncs        uint64 // of these, such that took 400 ms or more
	ViewsGivenUp     uint64 // views that this node voted to nullify
	OffersWithheld   uint64 // proposals that did not become whole in time
	BlocksBuilt      uint64
	BlocksChecked    uint64
	BlocksInvalid    uint64
	BlocksFinalized  uint64
	Answered         uint64 // peers' requests answered from the application's store
	Blamed           uint64 // peers blocked
	Evidence         uint64 // breaches of the rules that were proven
	Epochs           uint64 // epochs entered, the first one included
	StrangersChecked uint64 // certificates of peers outside of the committee that were verified
	StrangersDropped uint64 // and that were not, being too many
}

// Metrics returns the counts. Safe for concurrent use.
func (e *Engine) Metrics() Metrics {
	c := &e.counters
	return Metrics{
		MessagesSent:     c.sent.Load(),
		MessagesReceived: c.received.Load(),
		MessagesDropped:  c.dropped.Load(),
		LogSyncs:         c.syncs.Load(),
		SlowSyncs:        c.slowSyncs.Load(),
		ViewsGivenUp:     c.givenUp.Load(),
		OffersWithheld:   c.withheld.Load(),
		BlocksBuilt:      c.built.Load(),
		BlocksChecked:    c.checked.Load(),
		BlocksInvalid:    c.invalid.Load(),
		BlocksFinalized:  c.finalized.Load(),
		Answered:         c.answered.Load(),
		Blamed:           c.blamed.Load(),
		Evidence:         c.evidence.Load(),
		Epochs:           c.epochs.Load(),
		StrangersChecked: e.strangers.verified.Load(),
		StrangersDropped: e.strangers.dropped.Load(),
	}
}
