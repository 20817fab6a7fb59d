// Package job is what a consumer, a cluster and a provider say to each other
// about one job, and how what was used becomes the signed forms of the chain.
//
// A job is an order (package chain, signed by its consumer) and the
// specification that the order names by digest: what to run, on what input,
// under what limits. Status is its way from submission to settlement; Meter
// turns a measured outcome into usage records; ResultDigest is what replicas
// compare; the session messages are what travels between a server and an agent.
//
// Invariants:
//
//  1. A Spec that passed Check can be run: every limit is positive and within
//     its bound, and the work fits the order's verification policy (CheckOrder).
//  2. For deterministic work, Meter and ResultDigest depend on nothing but the
//     specification and the outcome, so honest replicas agree to the unit.
//  3. Every message is bounded and decodes canonically.
//
// Pure and safe for concurrent use. It chooses no provider, price or time.
package job
