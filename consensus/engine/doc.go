// Package engine drives a replica.Replica in the real world: goroutines, clock,
// write-ahead logs, application, peers. Whatever two nodes could disagree on is
// decided in package replica, which a simulator drives as well.
//
// Invariants:
//
//  1. What a step wrote is synced before anything it says leaves the node. Steps
//     that queue up while a sync runs share the next one.
//  2. After a failed write of a log, a failed App.Finalize or a Halt nothing
//     leaves the node any more, and Run ends.
//  3. App.Finalize sees every block of the chain once per run, in chain order,
//     starting above App.Last; it never runs twice at a time, and the end of Run
//     waits for it.
//  4. Messages are decoded, and their blocks read, in the network's goroutines:
//     blocks only where replica.Window says that they are of use, and certificates
//     of strangers are verified there, so many a second. The loop takes at most one
//     message of strangers a step.
//
// Goroutines, all owned by Run, which returns after the last has ended: the
// replica's loop (sole owner of the replica and the logs), the finalizer (sole
// caller of App.Finalize), the one that reads the application's store for peers,
// and one per running App.Propose or App.Verify (at most Config.MaxChecks of the
// latter; more wait inside their goroutines). The network's own goroutines call
// Receive and PeersChanged.
//
// Queues: the inbox (Config.Inbox events; full: Receive blocks, so the one peer's
// stream is throttled), that of strangers (64, likewise), lookups for peers (the replica has at most
// replica.Config.MaxLookups under way), blocks to finalize (one: the replica waits
// for each).
//
// Failure modes: an error of a log (what, which file, and what to do are in it),
// of App.Finalize or of reading for peers, ErrDiverged from App.Verify, and
// ErrHalted end Run with that error: a node whose disk or state is in doubt must
// not vote. Errors of App.Propose and App.Verify other than that cost a view. A
// broken invariant of the replica panics.
//
// It does not open connections, read blocks, or know what a committee is made
// from.
package engine
