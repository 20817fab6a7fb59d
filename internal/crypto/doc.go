// Package crypto is digests, keys and signatures, always under a named domain.
//
// Hashing is Blake3-256 in derive-key mode (BLAKE3 paper §2.3): every use has
// its own context string, listed in domains.go, so that no digest or signature
// made for one purpose means anything for another. A signature covers the
// domain's digest of the payload, never the payload itself.
//
// Signatures are Ed25519, verified by the ZIP-215 rules, which give the same
// answer for a signature alone and in a batch, on every input. Those rules
// admit small-order and non-canonical public keys; PublicKey.Check refuses
// such keys, and whoever registers a key calls it.
//
// Invariants:
//
//  1. Two domains never share a context string (newDomain panics).
//  2. VerifyBatch gives for every item what Verify gives for it alone, at any
//     parallelism, whichever way the processor lets it go. Before the first batch
//     the way in assembly has to know a good batch from a bad one.
//
// Everything is a pure function of its arguments and safe for concurrent use,
// but for GenerateKey, which reads the system's randomness. Keys at rest are
// package wallet's business.
package crypto
