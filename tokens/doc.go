// Package tokens is the ledger of HYPER: balances, supply, fees burned,
// vesting, and the queue of amounts that mature.
//
// It is a typed view over the keys that begin with Prefix:
//
//	't' 'a' ‖ address               → Account
//	't' 's'                         → Supply
//	't' 'q' ‖ time_ms (8) ‖ origin  → Maturing
//
// Other modules hold value in records of their own (escrow, bonds, stakes): they
// take it out of a balance with Debit and put it back with Credit or Mature.
// ValueOf says what each record holds.
//
// Invariants:
//
//  1. Value is neither made nor lost but by Genesis, which mints once, by Mint,
//     and by Burn. Package execution checks it in every block.
//  2. What a lock holds back is never debited.
//  3. An account's nonce never falls, and its record is never deleted once it
//     has a nonce.
//  4. The queue gives each entry to its account at the first block whose time
//     is at least the entry's, in order of time and then origin, up to the
//     caller's bound of entries per block; the rest waits for the next.
//
// Failure modes: a *chain.Rejection is what the sender did wrong. A record that
// does not decode, or a sum that only a broken ledger could overflow, panics
// with *state.Fault.
//
// Everything is a pure function of its arguments. A KV belongs to one
// goroutine; readers may run side by side as far as their Reader allows. The
// package does not price gas and knows no fees: execution does.
package tokens
