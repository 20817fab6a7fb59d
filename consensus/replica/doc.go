// Package replica is one node's consensus through all epochs, as a state
// machine without I/O: a core per epoch, its log, what came too early and who
// comes too late, catch-up by height, and the order in which blocks become
// final.
//
// # Role
//
// A driver (consensus/engine, or a simulator) hands in events and performs
// effects; Window lets its network goroutines sort out messages before they
// queue up. An epoch's core starts when the closing block of the epoch before
// is durable in the application. What arrives of the next epoch before that is
// kept and taken then. Who gives up a view of an epoch that is over is told
// the finalization that ended it. Catch-up by height runs as long as the replica
// does; there is no mode to enter or to leave. It stops at a closing block until
// that is executed, because only execution tells the committees above it.
//
// A validator that strangers cannot reach speaks through sentries (sentry.go): it
// hands each a delegation for each epoch, and a sentry, which has no key of the
// committee's, shows it and carries votes and offers between the two sides.
//
// # Invariants
//
//  1. The Appends of a step precede all its other effects but those that Order
//     lets go first: builds and checks. A finalization is in the log before the
//     blocks that it proves go to the application.
//  2. Finalize effects come one at a time, in the order of the chain, each block
//     the child of the one before; never one of an epoch whose core has not begun.
//  3. A node signs in an epoch with a key only if it has everything that the key
//     ever signed in it: with the epoch's log that is complete for the key; with an
//     empty one if no log of it was ever begun, by Config.Begun and the logs that are
//     there, and the log of the epoch before was complete when it ended, or the
//     epoch began after this life did, by the chain's time against Config.Since; in
//     epoch 1, if Config.Fresh. Below the highest epoch whose log was begun it signs
//     nothing.
//  4. The log of an epoch is dropped only after the header of the next one's is
//     durable, with the evidence of the epoch that is over.
//  5. A vote counts only over its signer's own connection in the vote's epoch, over
//     a sentry's that shows the signer's delegation, or over that of one of the
//     validator's own sentries (Config.Sentries). What comes over a sentry is
//     verified before anything else is done about it, and what is wrong with it is
//     blamed on that connection alone.
//  6. Nothing that peers send grows memory without bound, and no peer's requests
//     wait behind another's.
//  7. Build and Check go to the application only on a parent that it built,
//     accepted or finalized, and not while more than Config.MaxAhead finalized
//     blocks wait.
//  8. A sentry passes on only votes, and offers with their block, that it has
//     verified: its wards' from their own connections to the committee's, others'
//     to its wards, and nothing to observers. So a vote is passed on at most twice
//     on its way, by its signer's sentry and by its receiver's.
//
// # Bounds
//
//   - finalized blocks: Config.MaxBacklog wait, and the rest of a run that became
//     final at once; more are dropped, and fetched by height later;
//   - blocks that no certificate proves yet: Config.MaxRunBytes and one answer;
//   - messages of the next epoch: Config.MaxEarly votes of a sender, the offered
//     blocks of the first 4 views, 64 certificates;
//   - fetch requests: Config.MaxRequests of a peer wait; more are dropped, the
//     peer asks again. Answers to one peer take Config.ServeBytes a second, and
//     Config.MaxLookups reads of the store run at a time;
//   - blocks that a peer may send by digest: 32, and only those it was asked for;
//   - certificates of strangers, who are no members of this committee or the next
//     and carry nobody's votes: verified by the driver, away from Step, as many as
//     it cares to; never those of views that are final already;
//   - sentries: 4 of one signer, of whom one that is not connected makes room;
//     peers remembered: 4,096 and those connected;
//   - a sentry passes on each vote, and each offer, of 128 views once in half of
//     Timing.Retry, and asks for 16 certificates that its wards lack in a
//     Timing.Fetch; delegations are shown when connections are made, when epochs
//     begin, and every 5 s;
//   - a straggler is told how its epoch ended once per Timing.Retry.
//
// # Failure modes
//
// Restore returns an error for what contradicts itself. Step never fails: what
// breaks a rule is dropped, and blamed on the connection where that is certain.
// Halt ends the node: two certificates exclude each other, the application does
// not know the committees after a closing block, or the log of the next epoch is
// foreign. A driver that answers what was not asked is a broken invariant and
// panics.
//
// The package has no goroutine, clock or randomness and iterates over no map:
// equal inputs give equal effects. A Replica is not safe for concurrent use; a
// Window is. It does not read blocks, store anything, or open connections.
package replica
