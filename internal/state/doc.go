// Package state is an authenticated key/value tree: the overlay that execution
// writes to, the Merkle tree that commits to the result, and its proofs.
//
// Execution never reads the tree. It reads a flat Reader of the latest state
// through Overlays, and what an overlay collected becomes the next version of
// the Tree (ledger.md, "State tree").
//
// The commitment is a sparse binary Merkle tree over 256-bit positions, in the
// manner of the Jellyfish tree (Gao, Hu, Wu: "Jellyfish Merkle Tree", 2021):
//
//	position(key)      = DomainStateKey(key)
//	leaf(key, value)   = DomainStateLeaf(position ‖ DomainStateValue(value))
//	root(no leaf)      = 32 zero bytes
//	root(one leaf)     = that leaf's digest, whatever the depth
//	root(more leaves)  = DomainStateInner(root(left half) ‖ root(right half))
//
// where the bits of a position, most significant first, choose left (0) or
// right (1). How the tree is stored is a matter of one database and of nothing
// that is hashed or sent: four binary levels make one record, named version ‖
// depth ‖ path, or a whole subtree does, if it has few leaves (ADR 21); a leaf's
// record is named by the version that wrote it and its whole position, so that it
// never moves when its neighbours come and go.
// These records have a fixed binary layout instead of the canonical encoding,
// for the speed of reading them.
//
// A Proof shows what a root commits to under one key, a RangeProof every leaf
// between two positions: what a state that is brought in from strangers is
// checked against, part by part. A Builder makes the tree of such a state.
//
// Invariants:
//
//  1. The root is a function of the set of (key, value) pairs alone: not of
//     the order or grouping of the changes, of versions, of parallelism, nor of
//     which nodes were in memory.
//  2. A Tree never changes. Next builds a new one that shares what did not
//     change, so several unfinalized branches of one parent can live at once. What
//     is noted of a version for its batch is less once it is final: see Settle.
//  3. Below the root no record holds a lone leaf; the parent names it directly.
//  4. The version of a record is at least the version of everything below it, and at most
//     MaxVersion.
//  5. A page has 2 to 32 leaves. Below the root a subtree of so few is one, unless
//     leaves were deleted in it and there are nodes below more than 4 of its slots.
//  6. A node that is not on disk is in memory: only what Persisted was told of
//     is ever dropped.
//  7. Memory that a version needs which was not released is given to nothing else
//     (ADR 27): checked whenever a node is read.
//
// Failure modes: a Reader whose backend fails panics with *Fault, because a
// fault stops the node (architecture.md, rule 4) and execution recovers it in
// one place; trees return errors. Keys or values over their limits panic, for
// they are the caller's own; proofs come from strangers, so they are refused
// with an error.
//
// Concurrency: a Tree and a Proof are immutable and safe for concurrent use as
// far as their NodeReader is, and so is an Arena; an Overlay and a MemoryBackend belong to one
// goroutine. Next forks inside the call through crypto.ForkJoin.
//
// It does not know what keys mean, does not write to disk, and does not prune:
// it only says which records a version made stale.
package state
