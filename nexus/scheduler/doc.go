// Package scheduler is a cluster's state machine: (state, command) → (state,
// effects), for queueing, auctions, placement and the way to settlement.
//
// Raft (package nexus/server) orders the commands and stamps the leader's time
// into each entry of them, so every replica computes the same state and the same
// effects. Only the leader carries effects out. A new leader asks Pending for
// what is still to be done, so an effect may happen twice and its receiver must
// not mind: an auction is closed once by its number, an assignment is taken once
// by its order, a claim is paid once by the chain.
//
//	submitted → waits for orders before it, or for its gang
//	          → queued until a node has room → bidding, with room kept for it
//	          → running → settling → settled
//
// Invariants:
//
//  1. What is free on a node is its total less what its live assignments and the
//     places of open auctions hold, and never negative, nor is what is free of
//     any of its GPUs.
//  2. A consumer's outstanding total is the sum of the caps of its jobs that are
//     not final, or whose claims the chain could still pay, but for those that it
//     holds elsewhere than in the escrow, and was never above
//     the escrow that the leader saw when it accepted the last of them, as of a
//     block after all that may have been spent of it for others before.
//  3. No two live or finished assignments of a replicated job have the same
//     owner; no job has more finished ones than its policy asks for at most.
//  4. A final job stays final.
//  5. A queued job that needs one node waits for capacity alone: no node, as it
//     is and with everything ended there that the job may preempt, fits it. So
//     nothing need look at it until something comes free.
//  6. Only runs of jobs that were bought as preemptible are preempted, by jobs
//     that were not. The members of a gang are first assigned by one command, all
//     of them, and what they preempt ends by that command and not before.
//  7. A node that is held back is given nothing, whatever it says of itself.
//  8. A lease that the chain has stays with its node, and nothing but what the chain
//     says ends its job (lease.go).
//
// Each is asserted where it could break: 1 by take and give, 2 by submit and
// free, 3 by assign, 4 by setStatus. Audit checks all of them, and all that is
// derived, against the whole state: when a snapshot is written or read, and in
// tests after every command.
//
// Cost: a command costs O(log n) of what the state holds, times the nodes that
// are looked at (Config.Sample): the number of nodes does not matter. Exceptions
// are a node that comes or goes, which costs its jobs; capacity that comes free,
// which is held against one request for each group of jobs that ask the same;
// and a request of which nobody waits and which no node fits, while what is free
// is so uneven that the index cannot tell.
//
// What is run can be paid: an order is accepted only if the escrow is liable
// until its claims are due and the chain knows its kernel, a bid counts only if
// the worst case at its prices is within the order's caps, and a signed end
// counts only if the chain would take the receipt and the usage is within what
// the cluster saw.
//
// Failure modes: a command that breaks a rule is refused with a *Rejection and
// changes nothing. A broken invariant panics.
//
// Nothing is signed here: what the cluster signs, acceptances and attestations,
// follows from the state, and Ed25519 is deterministic (RFC 8032). So whoever
// shows or sends it signs it then, and a replica that does not need not.
//
// A State belongs to one goroutine. It has no clock, no network and no
// randomness: samples are drawn by the order's id and the auction's number.
package scheduler
