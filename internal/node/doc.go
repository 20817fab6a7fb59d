// Package node composes a validator or a full node: Open, New, Run.
//
// Open makes the real dependencies from a Config: store, consensus log, keys,
// genesis, verifying keys. Deps.Join brings an empty store to the chain if the
// config names a checkpoint (join.go). New puts them together. Run starts in order and stops
// in reverse. The application in the middle (application.go) is what consensus
// orders blocks of: it proposes, executes, and commits them; everything else
// carries bytes to it or shows what it committed.
//
// A validator whose config names sentries is connected with these alone and serves
// nobody. A sentry names its validators; it asks the committee for a member's place
// among the connections (sentry.go) and gossips between the two sides.
//
// Goroutines, all owned by Run, which returns after the last has ended:
//
//   - the engine's (package engine), which call the application;
//   - the mesh's (package transport), one per peer and channel, which call
//     engine.Receive and the pool's gossip handler;
//   - those of the mesh over which states are served to joiners (package
//     statesync), one per peer and request;
//   - one that accepts sentries that ask for a place, and one for each that is being
//     answered; a sentry's own, which asks, and one for each member being asked;
//   - the HTTP server's (package rpc), one per request;
//   - one per executed block, which hashes its changes into the state tree while
//     the block is voted on (branch.hash);
//   - one that adds up the whole state when an epoch has ended (auditor);
//   - one that reads what the next blocks will read of the disk (foresight);
//   - one that compiles the code of contracts that blocks have stored, and has in
//     memory what they have pinned, and after a start one that looks whether what is
//     on disk is whole (compiler);
//   - the pruner, unless the node is an archive;
//   - the gossip's timers, of which there is one for what waits to be sent and one
//     for what is looked after, and none after Run.
//
// Transactions come from clients, from peers, and in proposals. All of them go
// through one verifier (verifier.go), which verifies a signature once; gossip.go
// says how they go on, and proposal.go what of a block travels.
//
// Bounded queues, and what happens when each is full:
//
//   - the mempool (mempool.Config): the cheapest transaction goes, or the
//     sender is told that the pool is full;
//   - submissions and gossip while maxBacklog transactions are ready for blocks:
//     they wait, undecoded, for at most backlogWait;
//   - what was verified (knownBytes, knownKeys): the oldest is forgotten, and
//     verified again if it comes again; so are the verdicts of proofs (knownProofs);
//   - what peers were asked for (maxWants, maxStrangeWants, maxWantsOfPeer): more
//     announcements are not looked at;
//   - gossip to a peer (gossipQueue bytes): the newest batch is dropped; the
//     transactions are announced later if they still wait;
//   - consensus to a peer (a queue per channel): the oldest message goes, as
//     later ones supersede it;
//   - decoded blocks (maxDecoded, maxDecodedBytes): the oldest goes and is decoded
//     again if asked;
//   - sentries that ask for a place (maxCallers, maxCallersOfHost): for one more the
//     oldest is closed and asks again, and one more of its host is;
//   - contracts that answer queries from outside (maxAsked): one more is told that
//     the node is busy;
//   - code of contracts that is compiled (compiler): none is left out; what is stored
//     is what the chain lets wait (contract.MaxDebtMs);
//   - requests of joiners (statesync.Server): a peer's fifth at a time is refused,
//     and answers wait for their turn within bounded rates of bytes;
//   - speculative branches: one with transactions waits until it is at most
//     maxSpeculation heights above the last finalized block; this node proposes
//     empty ones after maxOpenViews views without finalization; finalization drops
//     whatever does not descend from it.
//
// Failure modes: an error of the disk, a state that differs from the quorum's,
// or a broken conservation of supply ends Run with that error. Nothing from
// outside does.
package node
