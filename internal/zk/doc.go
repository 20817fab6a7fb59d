// Package zk is what a proof of computation states, and the seam through which
// it is verified.
//
// A Statement says: the circuit of this Kernel, under this verifying key, holds
// for these public field elements. A kernel's inputs and outputs stand in it as
// digests that anyone computes without a proof system: a wide Poseidon2 sponge
// over packed entries (sponge.go, matmul.go), because Blake3 inside a circuit
// would cost a thousand times more.
//
// Invariants:
//
//  1. A Field that Check accepts is below the order r of the BN254 scalar
//     field, so one field element has one encoding; a verifier refuses others.
//  2. The order of a circuit's publics is Inputs, Output, Bind.
//  3. Bind ties a proof to chain, order, sequence and provider. Every circuit
//     constrains it, so a proof copied to another order is a false proof.
//  4. Two sponges of different use or length start from different states: a
//     left factor's digest is never a right factor's, nor a product's.
//
// Failure modes: every decoder and parser is bounded and says which field broke
// which limit. A Verifier's every error is a rejection that wraps exactly one
// of the sentinels below; it never panics on input.
//
// Everything is a pure function of its arguments and safe for concurrent use.
// The package proves and verifies nothing: that is zk/groth16.
package zk
