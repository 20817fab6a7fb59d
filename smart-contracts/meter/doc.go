// Package meter checks the code of contracts and rewrites it so that it counts
// what it uses.
//
// Prepare reads a WebAssembly module within bounds, refuses by name what is not
// of the dialect or not made for the contract interface, checks the types of
// every function, and writes the module anew with charges: points for what
// instructions take, and bytes for the frames on the stack.
//
// Invariants:
//
//  1. Any bytes are refused or prepared, and what is prepared is valid
//     WebAssembly. The result depends on the bytes, the capabilities and the
//     weights alone; the engine has no say in it.
//  2. A prepared module computes what the module computes, as long as neither
//     points nor stack are used up.
//  3. At its end a call has paid for each instruction that it ran, once, by its
//     weight. One that traps has paid for all that it ran, and at most for the
//     rest of the run it trapped in.
//  4. Between two checks of what is left there is no loop and no call.
//  5. The frames that a call has on the stack take less natively than was
//     counted, so that what is counted is used up before the stack is.
//
// A module that uses up what it has, or that the host has no memory for, sets
// GlobalReason and traps. What is dropped: custom sections, and code that is
// never reached.
//
// What it does not do: compile or run anything, or know of the chain.
package meter
