// Package groth16 is the circuits of the kernels, their setup, proving and
// verifying (Groth16 on BN254). It is the only owner of gnark.
//
// Invariants:
//
//  1. Every circuit has exactly one commitment, over private wires alone; it is
//     the source of all challenges. Hence every proof has one fixed length,
//     ProofSize, and every verifying key one fixed length for its kernel.
//  2. Every public is squared into a wire of its own, bind included, so a proof
//     cannot be moved to other publics (constrainPublics).
//  3. A verifying key's digest covers kernel, circuit and points. A proving key
//     from disk is used only if the digest stored with it matches.
//  4. Verify and VerifyAll are pure: no clock, no goroutine, no lock, and no
//     randomness but a hash of what is verified; the same answer on every
//     machine. They refuse publics that are not canonical, points off their curve
//     or subgroup, and the point at infinity.
//
// Proofs are malleable: from one valid proof anyone makes another of the same
// statement. Their bytes identify nothing.
//
// Setup here is for devnets: whoever runs it could keep the secret and forge
// proofs. A public network takes its keys from a Ceremony, a folder of files that
// anyone verifies.
//
// Failure modes: Verify's errors are zk's rejections; Prove fails only on
// operands of another size than the kernel's; Setup and the cache fail with the
// disk. Broken circuits panic.
//
// Concurrency: a Verifier and a Prover are immutable and safe for concurrent
// use. Compiling, setup and proving use all processors while they run; none of
// their goroutines outlives the call, and none can be interrupted.
package groth16
