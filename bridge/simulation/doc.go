// Package simulation runs markets of honest and cheating agents over package
// settlement, and tells what each way to cheat earns.
//
// A market is a state to which settlement's own functions are applied block by block,
// with its draws, panels, windows, slashes and records of reputation. Around it are
// agents with accounts, nodes, a cluster and a relay, of whom some are one hand: they do
// what an Attack says. The same market is run again with the same seed in which the hand
// is honest; what it has more or less in the end, in the worth of one job, for each time
// it cheated, is the attack's profit.
//
// Invariants, asserted as it runs:
//
//  1. After every block the holdings are what was minted and not burned.
//  2. In the end nothing is locked, queued or held for a job.
//
// Equal seeds give equal markets. Two things are not simulated: the signatures that
// settlement takes as verdicts (package chain verifies them at admission) are all said to
// verify, and a proof is the digest of what it states, which only the true one is taken
// for. Votes and the possession of keys are signed. Gas is not charged: it is small beside
// a job, and makes attacks dearer.
//
// Failure modes: a market that breaks an invariant panics with what it was. It is a pure
// function of its arguments; a market belongs to one goroutine.
package simulation
