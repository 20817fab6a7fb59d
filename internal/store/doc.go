// Package store is the durable side of a node: blocks, state, certificates, and
// the consensus log.
//
// A Store is one Pebble database, of which this package is the only owner. A
// finalized block goes in with everything that belongs to it (header, body,
// certificate, receipts, flat state, indexes) as one synced batch. The state
// tree goes with every TreeInterval-th block; with the others go the block's
// changes, from which OpenTree makes the latest tree again (ledger.md, "State
// tree"). A Log is the write-ahead log of consensus: a file of its own, because
// a vote has to be durable between blocks.
//
// Invariants:
//
//  1. After a crash the Store holds every block whose Commit returned, whole,
//     and at most one more, whole.
//  2. Heights are committed one after another: the first may be any (a node may
//     start from a snapshot), each further one is its predecessor plus one.
//  3. The flat state is the one after the latest height, and the tree after that
//     height can be opened.
//  4. After a crash a Log holds every record whose Append returned, in order,
//     and of the last Append under way all records or none.
//  5. One process owns a directory, or a log, at a time.
//
// Failure modes: a directory or log in use is ErrLocked; a database of another
// format is ErrFormat; a log that is damaged before its tail is ErrLogCorrupt,
// and nothing is cut. A failed write is final: a Log refuses every later call
// with the same error; a Store panics from within Pebble, since state that may
// or may not be on disk must not be built on. Readers made for execution panic
// with *state.Fault. A key that is not there is not an error.
//
// Concurrency: one goroutine commits; everything else may run beside it. A Log
// belongs to one goroutine. Pebble's own goroutines (flushes, compactions) end
// with Close.
//
// It does not know what blocks, certificates or records say, does not decide
// what to prune, and does not count tokens.
package store
