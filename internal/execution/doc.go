// Package execution is (state, block) → (changes, receipts, events).
//
// A block is executed in a fixed order: the begin-block list (what has matured,
// stake that is no longer liable, orders past their claim window, then what
// consensus put into the body: evidence, a finalization, late votes), its
// transactions one after the other, the end-block list (tip, burn, the end of
// the epoch if this is its last block, base fee, and the check that supply is
// conserved).
// The rules that concern no other module are here: nonce, expiry, gas, fees.
// The package's own state is under the keys that begin with Prefix:
//
//	'x' 'h' → Head: height, time and base fee after the last block
//	'x' 'p' → chain.Params
//
// Invariants:
//
//  1. Apply is a function of its arguments: the same parent state, header and
//     transactions give the same outcome on every machine. It writes nothing;
//     the caller keeps the changes.
//  2. All messages of a transaction take effect or none does. Either way its
//     nonce is used up and its fee is paid.
//  3. A transaction never pays for more gas than its limit, nor more per gas
//     than its max fee.
//  4. In every block Σ(new − old) over all value-bearing records equals
//     Δ(minted − burned).
//  5. What Build includes, Apply accepts with the same outcome.
//  6. Whether proofs are verified together or one by one shows in no outcome (wave.go).
//
// Failure modes, kept apart: a transaction that breaks a message's rule is
// included, rejected and charged. A block that breaks a rule of blocks, or has
// a transaction that may not stand at its position, is ErrInvalidBlock. Any
// other error is a fault, after which the node must stop: the backend failed,
// a record does not decode, or supply is not conserved.
//
// An Executor is immutable and safe for concurrent use; one call runs on one
// goroutine. It checks what a header says of its epoch, its committees and
// whether it closes the epoch, and that the proposer is in the committee. It
// does not verify transaction signatures (a chain.VerifiedTx is proof of that),
// does not check the header's roots or parent, nor that the proposer leads its
// view, and stores nothing.
package execution
