// Package engine drives a consensus.Core: timers, write-ahead log, application,
// peers and catch-up.
//
// Invariants:
//
//  1. What a step wrote is synced before anything it says leaves the node.
//     Steps that queue up while a sync runs share the next one.
//  2. App.Finalize sees every block of the chain once per run, in chain order,
//     starting above App.Last; it never runs twice at a time.
//  3. App.Propose and App.Verify are called only on a parent that the
//     application built, accepted, or has finalized, and not while more than
//     Config.MaxAhead finalized blocks wait for App.Finalize.
//  4. Nothing a peer sends can grow memory without bound or stop the core. Blocks
//     are read only when they were asked for, or are their view's leader's first
//     offer.
//  5. Catch-up by height runs as long as the engine does; there is no mode to
//     enter or to leave.
//
// Goroutines, all owned by Run, which returns after the last has ended:
// the core loop (sole owner of the core and the log), the finalizer (sole
// caller of App.Finalize), catch-up, the answerer of fetch requests, and one
// per running App.Propose (at most one) or App.Verify (at most
// Config.MaxChecks; more wait inside their goroutines). The network's own
// goroutines call Receive.
//
// Queues: the inbox (Config.Inbox messages; full: Receive blocks, so the one
// peer's stream is throttled), fetch requests (Config.Requests, and 32 of one
// peer; full: dropped, the peer asks again; answered peer after peer), the finalizer's (Config.MaxBacklog blocks; full:
// dropped, and fetched by height later), the answer to catch-up (one).
//
// Failure modes: an error of the log or of App.Finalize, or ErrDiverged from
// App.Verify, ends Run with that error: a node whose disk or state is in doubt
// must not vote. Errors of App.Propose and App.Verify other than that cost a
// view. A broken invariant of the core panics.
//
// It does not open connections, read blocks, or know the committee of the next
// epoch.
package engine
