// Package contract stores, instantiates, calls and migrates contracts on chain.
//
// It is a typed view over the keys that begin with Prefix:
//
//	'w' 'n'                      → Numbers: how many codes and contracts there are
//	'w' 'k' ‖ code (8)           → Code
//	'w' 'b' ‖ checksum           → the code's bytes, as they were uploaded
//	'w' 'd'                      → Debt: when nodes have compiled what was stored
//	'w' 'l'                      → Loads: how much native code was loaded
//	'w' 'r' ‖ checksum           → Loaded: when the code was loaded last, by that count, and is compiled
//	'w' 'm'                      → Pinned: how much of it every node keeps beside
//	'w' 'u' ‖ address            → Upload: what its sender has begun to bring
//	'w' 'p' ‖ address ‖ part (1) → a part of that
//	'w' 'c' ‖ address            → Contract
//	'w' 's' ‖ address ‖ key      → what a contract keeps under a key
//
// A contract is an actor: it is called, answers, and what it answered is done when it
// has returned: its messages one after the other, each with all that follows from it
// before the next. Each message has a layer of the state, which is kept if it takes
// effect and forgotten if it fails. How it ended is told to the contract that sent it,
// if that wants to know: then a failure is not the sender's, else it is. While a
// contract runs, it reaches others by queries alone, which change nothing.
//
// Invariants:
//
//  1. What a message does depends on the state, the Env and the message alone.
//     Failures have a codespace and a code, which contracts see; of what the machine
//     says of a call only the words of an abort are kept, which are the contract's.
//  2. A message that fails has changed nothing, and made no event.
//  3. The pool of a contract is what was paid for the room that it takes and not
//     given back: growth costs NanoPerByte a byte, and freed bytes bring back
//     their part of the pool, rounded down. Pools hold value.
//  4. Gas that is used up in a message without a limit of its own, or with one that
//     is no less than what is left, ends the whole transaction.
//  5. Gas does not depend on what a node has in memory: whether code counts as kept
//     there follows from the state.
//  6. Code runs once every node had the time that its upload has paid for to compile it, and
//     all that was stored before it.
//
// Failure modes: a *chain.Rejection is what the sender did wrong. A VM that fails, or
// a record that does not decode, panics with *state.Fault.
//
// Everything is a pure function of its arguments. A layer belongs to one goroutine.
//
// What it does not do: know what WebAssembly is, which other messages the chain has, or
// what signatures are.
package contract
