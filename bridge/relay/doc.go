// Package relay carries claims from a cluster's outbox to the chain, exactly
// once in effect.
//
// A relay reads the outbox of any server of a cluster, checks each claim before
// it pays a fee for it, asks the chain whether it is settled already, posts what
// is not in Settle transactions, and reads each claim's verdict from the
// receipt. The cluster learns of it from the chain, not from the relay.
//
// Invariants:
//
//  1. Nothing is posted that the chain must refuse for what the claim itself
//     says: its form, its parties' signatures, that they are of one order, its
//     attestation or its proof.
//
//  2. What a relay knows is in the outbox and on the chain. It keeps no cursor: a
//     stored cursor could only lose claims. A crash at any point, another relay
//     beside it, a server that repeats or reorders, and posting twice cost a
//     fee at most.
//
//  3. No claim holds up another: a claim that the chain refuses waits longer
//     each time, and after a few times it is left alone; a transaction that is
//     refused as a whole is posted again claim by claim.
//
//  4. A claim is known by the digest of its bytes, so a forged one does not
//     stand in the way of the real one, whatever it calls itself.
//
//  5. A cluster whose claims are in order and worth nothing, such as those of an
//     escrow that does not exist, costs a bounded rate of fees: after eight
//     transactions in a row that bought nothing, a later one every five minutes.
//
//  6. A private relay gives the chain no receipt: its nodes' metered work is signed as usage
//     records, and their totals are posted with one proof. The records and the batch
//     are on its disk, synced, before the batch is posted, and stay there when it is
//     settled, for whoever may ask; a crash costs a proof at most.
//
//  7. Of each acceptance that it saw, the last 20,000, it knows the sequence: a cluster that
//     gives one twice is reported to the chain, once, with both acceptances.
//
// Failure modes: a server or node that cannot be reached is asked again, with
// backoff, and /healthz says so. Claims that are refused for good are logged
// with the reason and remembered, the last 10,000 of them.
//
// Goroutines: one reads the outbox, one posts, one watches the account, and the
// HTTP server's; Run returns when all have ended. Bounded: the claims held
// (20,000; more are read when some have left the outbox).
//
// It holds the key of an account that pays fees, and nothing else of value. It
// trusts its servers and nodes with nothing but its time and a few fees: they can
// keep it from carrying, and then another relay carries. It does not ask what a
// claim pays its cluster: cheap work costs its relay more than it earns.
package relay
