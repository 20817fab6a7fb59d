// Package settlement is escrow, orders and claims on the chain: it checks what
// consumers, clusters and providers signed about a job, and pays.
//
// It is a typed view over the keys that begin with Prefix:
//
//	'b' 'p' ‖ node                           → Provider
//	'b' 'c' ‖ cluster                        → Cluster
//	'b' 'e' ‖ consumer ‖ cluster             → Escrow
//	'b' 'o' ‖ order id                       → Order, and its first claim if that was paid at once
//	'b' 'r' ‖ order id ‖ node ‖ sequence (8) → Claim: any other
//	'b' 'x' ‖ expires_ms (8) ‖ order id      → the ids of further orders: the expiry queue
//	'b' 'l' ‖ node ‖ order id                → Lease
//	'b' 'q' ‖ expires_ms (8) ‖ node ‖ order id → the ends up to this one: the queue of leases' ends, in pages
//	'b' 'h' ‖ channel id                     → Channel
//	'b' 'w' ‖ progress_ms (8) ‖ channel id   → nothing: the queue of channels' ends
//	'b' 'a' ‖ order id                       → OpenClaim
//	'b' 'g' ‖ order id                       → Runs
//	'b' 'j' ‖ panel id                       → Panel
//	'b' 'v' ‖ class ‖ seat (7)               → a node: the roll; 'b' 'V' → its length by classes
//	'b' 'd' ‖ height (8) ‖ part ‖ id         → nothing: the queue of draws
//	'b' 't' ‖ progress_ms (8) ‖ part ‖ id    → nothing: the queue of deadlines
//	'b' 'n' ‖ owner ‖ node                   → nothing: an owner's nodes
//	'b' 'z'                                  → what the last block left of these queues
//	'b' 'k' ‖ node                           → Meter
//	'b' 'K' ‖ metering key                   → node, the one that has ever registered it
//	'b' 'y' ‖ cluster                        → Breach
//	'b' 'f' ‖ id                             → mark: of evidence that was reported, or a consumer whose acceptances count as broken
//	'b' 'F' ‖ progress_ms (8) ‖ id           → nothing: the queue of marks' ends
//	'b' 'Y' ‖ cluster ‖ node ‖ owner         → what it lost by the cluster
//	'b' 's' ‖ order id                       → Service: of the lease that the order opened
//	'b' 'u' ‖ node                           → Hardware: while it is challenged, or a challenge of it is queued
//	'b' 'U' ‖ node                           → Leased: where nodes are challenged
//
// Invariants, per consumer and in total:
//
//  1. Deposits = paid + burned + treasury + cluster fees + withdrawn and
//     matured + what is still held: the escrow's balance and its withdrawals
//     on their way.
//
//  2. No order costs more than its max cost, over all assignments,
//     replicas and jurors, and no (order, node, sequence) is paid twice: the order's state
//     outlives the time in which its claims are taken.
//
//  3. No claim moves money unless consumer, cluster and provider signed it and
//     its policy is satisfied: the cluster's attestation under none, that and a window
//     in which nobody showed that it is wrong under optimistic, equal
//     results and usage from k owners whom the chain drew under replicate, one of them from the
//     roll of all nodes if that has one, or one that it drew not to check, each who bid
//     attested, a proof under zk.
//
//  4. The order in which claims arrive, and how often, changes nothing but when
//     they are paid.
//
//  5. Withdrawing does not outrun a claim: what is withdrawn stays liable until
//     it matures, and an order whose claim window ends later than a withdrawal
//     made now would mature is refused as a lease. What may be owed for later, for runs under
//     replicate and a claim under optimistic, leaves the escrow when they begin.
//
//  6. A lease is paid by the millisecond, exactly for the time from its opening to
//     its end, and never beyond what it holds. It is over at its end whichever block
//     deletes it, and until then nothing has to touch it: an idle lease costs
//     nothing.
//
//  7. A channel's payee gets the highest total that its signer promised and anybody
//     posted, and never more than it holds; its payer gets the rest, and no sooner
//     than the window after its notice, in which the chain progressed.
//
//  8. A record of reputation (match.Record) changes only with settled facts, and no
//     fact adds more credit or debt to a side than was burned with it. It cannot be
//     dropped: not by withdrawing, nor by unbonding a node and registering it again.
//
//  9. A claim under optimistic is closed once: paid out of what it holds, or that is
//     given back; then every stake is where it belongs and nothing is locked for it.
//
//  10. Under replicate nobody shows a result before all who run the order then are bound
//     to theirs, nobody is slashed but by a panel's verdict, the cluster of its slice by no fewer than nine
//     jurors' after three, or of as much as those lose with it who could not have data that came, and every stake is free or lost once the order is paid, or over.
//     What the order may cost is held from its beginning until it is paid, or nobody is: an hour after it is known who is
//     owed a block pays, if nobody had that done.
//
//  11. A cluster loses its bonds for nothing but what no cluster does that keeps its word: two
//     acceptances of a consumer with one sequence, or one that promises more than the
//     balance of the escrow was since the order can have been accepted; for each sequence
//     once. At most half of it goes to providers whose claims their escrow did not cover, a
//     quarter to who reported it, and the rest is burned. Of two losses the smaller is never
//     paid less than the larger, unless it is paid in full.
//
//  12. Of each epoch of a lease at most one miss is counted, and only upon the word of more
//     than half of the peers that the chain drew, and two at least. It gives back no more of
//     what was streamed than the epoch cost, and takes no more of the node's bond than what
//     the lease locks of it.
//
//  13. A challenge of a node's hardware is judged once, when its time is over, by all words that came:
//     what more than half of the peers that the chain drew, and two at least, say is missing at
//     least. It does not matter who posts them, or in which order, and what fewer say takes nothing.
//     It never raises what the node declares, takes no more of the bond than the part for what was
//     missing, and gives nobody anything. What of that other work has locked is owed: it is not free
//     any more, and is burned when the node unbonds.
//
//  14. A claim under an order that asks for a fair exchange is paid only with the key of the
//     sealed output, which its receipt commits to, and upon the word of the cluster, or of the
//     consumer, that the sealed output is there; no other claim has a key. What the consumer
//     alone says moves the consumer's money, and no bond.
//
//  15. What is locked of each node's bond, and of each cluster's, is what orders, panels, services and
//     challenges lock of it; what each escrow says is held for its consumer elsewhere is what leases, their terms that
//     are over, claims in their windows and runs hold; a claim in its window holds no more than its order spent, of the same
//     consumer. Each block is checked for that by what it changed, and a whole state by who verifies it.
//
// What a provider says it used is not evidence. Under none the home cluster
// attests to it, or the consumer; under zk it is not paid for. Deterministic work uses the same
// on every machine, its fuel and not the time: under replicate and optimistic that is judged
// with the result, by replicas and jurors, and where nothing is found each resource
// counts at the least that a replica reports. The attestation of a replica says only that the
// cluster assigned the node and has this receipt of it. Rounding is against the
// provider: the charge is floored, the protocol fee is raised to the next nHYPER.
//
// Failure modes: a message that breaks a rule is a *chain.Rejection; a claim
// that does is a ClaimRejected event with the reason, and the other claims
// stand. A record that does not decode panics with *state.Fault.
//
// Everything is a pure function of its arguments; a KV belongs to one
// goroutine. Inner signatures are not verified here but once per node, at
// admission (chain.VerifyTxs), and arrive as verdicts.
package settlement
