// Package scheduler is a cluster's state machine: (state, command) → (state,
// effects), for queueing, auctions, placement and the way to settlement.
//
// Raft (package nexus/server) orders the commands and stamps the leader's time
// into each, so every replica computes the same state and the same effects. Only
// the leader carries effects out. A new leader asks Pending for what is still to
// be done, so an effect may happen twice and its receiver must not mind: an
// auction is closed once by its number, an assignment is taken once by its
// order, a claim is paid once by the chain.
//
// Invariants, asserted after every command:
//
//  1. What is free on a node is its total less what its live assignments hold,
//     and never negative.
//  2. A consumer's outstanding total is the sum of the caps of its jobs that are
//     not final, or whose claims the chain could still pay, and was never above
//     the escrow that the leader saw when it accepted the last of them.
//  3. No two live or finished assignments of a replicated job have the same
//     owner; no job has more finished ones than its policy asks for at most.
//  4. A final job stays final.
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
// The cluster's key signs acceptances and attestations inside Apply: Ed25519 is
// deterministic (RFC 8032), so replicas that hold the same key agree on the
// bytes and no second command is needed.
//
// A State belongs to one goroutine. It has no clock, no network and no
// randomness.
package scheduler
