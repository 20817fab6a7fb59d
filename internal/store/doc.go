// Package store is the durable side of a node: blocks, state, certificates, and
// the consensus log.
//
// A Store is one Pebble database, of which this package is the only owner. A
// finalized block goes in with everything that belongs to it (header, body,
// certificate, receipts, and the lists of its transactions and of what it changed) as
// one synced batch. The flat state, the tree and the index of transactions go every
// TreeInterval blocks, or when PendingBytes of changes wait: a flush takes them from one
// version to a later one at once, writing of every key and node the last record only. If it is
// large it makes tables of its own and runs beside the commits that follow.
// Until then readers find the changes in memory, where a start puts them again
// from the lists; OpenTree makes the latest tree from them. Who walks through the flat state
// jumps over where many keys were removed, once they were passed: see gaps. Before the block of a
// point, the last of an epoch or one after each so many bytes of blocks, goes the
// version that its header proves: other nodes begin from it, by an Import. Logs are the write-ahead logs of consensus, one for each
// epoch: files of their own, because a vote has to be durable between blocks.
//
// Prune takes away what need not stay of the past: nodes of the tree that only old
// versions need, and old blocks. A node that the state before a point needs is held
// under that state's name. Close seals the database: see sealFile.
//
// Invariants:
//
//  1. After a crash the Store holds every block whose Commit returned, whole,
//     and at most one more, whole.
//  2. Heights are committed one after another: the first may be any (a node may
//     start from a snapshot), each further one is its predecessor plus one.
//  3. The tables of the flat state, of the tree and of transactions hold one version,
//     TreeMark, never above the latest height; the lists of changes and transactions
//     lead from it to the latest, and reads show them.
//  4. After a crash a Log holds every record whose Append returned, in order,
//     and of the last Append under way all records or none.
//  5. One process owns a directory at a time.
//  6. A database that was closed is opened only if no byte of it has changed; of
//     one that was not, no record is served whose checksum does not hold.
//  7. The state before a point is whole as long as the point has its record.
//  8. Nothing is written after a write or a sync failed, in the database or in
//     that log: what is on the disk then is what a crash at that instant leaves.
//
// Failure modes: a damaged file is ErrDamaged, which names it; a directory in use is ErrLocked; a database of another format is
// ErrFormat; a log that is damaged before its tail is ErrLogCorrupt, and nothing
// is cut. A failed write is final, and says which file and what to do: ErrDiskFull
// if there was no room, else ErrDisk. A Log refuses every later call with the same
// error. A Store closes Failed, whichever of Pebble's goroutines met the failure,
// and Commit returns it; that goroutine and later writers wait for ever, so the
// process is to end. Readers made for execution panic with *state.Fault. A key
// that is not there is not an error.
//
// Concurrency: one goroutine commits; everything else may run beside it. Logs
// belong to one goroutine. Pebble's own goroutines (flushes, compactions) end
// with Close.
//
// It does not know what blocks, certificates or records say, does not decide
// what to prune, and does not count tokens.
package store
