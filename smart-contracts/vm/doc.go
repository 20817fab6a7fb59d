// Package vm runs contracts of the CosmWasm interface on wasmtime.
//
// A Machine compiles what smart-contracts/meter has prepared and keeps it, in
// memory and on disk, and runs calls. Each call has an instance of its own: it
// gets its arguments as regions of its memory, is called, and answers with a
// region of JSON. What it reaches of the chain is a Host.
//
// Invariants:
//
//  1. A call's End, Data and Points depend on the code, the call and the host's
//     answers alone: not on the time, the machine, or what ran before.
//  2. Whatever a contract does ends in an Outcome. An error is a fault of the
//     node: no memory, a failed host, a contract that got beyond its own
//     count. It is never turned into an Outcome.
//  3. Every pointer and length that a contract gives is checked against its
//     memory as it is at that moment, and against a limit.
//  4. What costs time is paid for before it is done, but for what the host does.
//  5. No byte of a file of compiled code reaches the engine before its tag is
//     found to be this node's.
//  6. A call's memory is all zeros where its contract has put nothing, and ends where
//     its last page does, though memories are used again.
//
// Concurrency: a Machine is safe for concurrent use, and Close waits for its calls. A call that another call
// waits for has a thread, and a native stack, of its own.
//
// What it does not do: know what messages mean, dispatch them, or keep state.
package vm
