// Package statesync brings a proven state from peers to an empty node.
//
// A node that joins trusts a checkpoint (package light). It follows the epochs'
// ends from there, chooses a block before which peers offer the state (a point: an
// epoch's closing block, or one within an epoch, which a certificate of the epoch's
// committee proves), and fetches that state, which the block's header proves
// (ledger.md, "Snapshots", and ADR 26). The positions of the state tree are cut into
// segments; each is fetched from its lower end in chunks, and a chunk comes with
// the range proof that it is exactly what the tree has there. Then the joiner
// fetches the block itself, executes it, and goes on like any node that is
// behind. The other side is a Server: four services of a mesh of its own
// (Protocol), so that strangers who join share nothing with the consensus.
//
// Invariants:
//
//  1. Nothing is given to the Sink that the header of the chosen block does not
//     prove, and every chunk once more than its progress at most.
//  2. What is fetched is only ever chosen by verified headers: a peer's claims
//     decide whom to ask, not what to believe. Of a peer that offered a state in vain
//     they count for less.
//  3. A peer whose answer does not hold is blocked, with its key and the reason
//     in the log, and what it was asked is asked of another. A peer that is slow
//     or refuses is left alone for a while.
//  4. Every request, answer and list is bounded before it is looked at; a chunk
//     that neither ends its segment nor is full is refused, so that progress has a
//     least pace per answer. Peers that are silent, however many, do not take the
//     place of others: what is asked of one in vain is asked of the next beside it.
//  5. A Server's answers cost a bounded rate of bytes for each peer and for all, a
//     short one as much as leastCost, whether they are waited for or not; one chunk is made at a time, and between
//     two the Server rests as long as the first took.
//  6. The checkpoint's own certificate, which nothing about the checkpoint proves,
//     is in the Result only if the committee that the fetched state names made it.
//
// Failure modes: Join ends with ctx; with an error that matches
// light.ErrRefused if the checkpoint is too old or contradicts itself; with
// ErrCheckpoint if no peer confirms it within Config.Patience; with the Sink's
// error. A lack of peers after the checkpoint is confirmed is waited out.
//
// Concurrency: Join runs a goroutine for each request under way and returns
// after the last has ended. A Server is safe for concurrent use and has no
// goroutines.
//
// It does not execute blocks, does not open connections, and keeps nothing: what
// was followed and fetched is in Result and in the Sink.
package statesync
