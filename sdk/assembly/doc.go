// Package assembly writes, builds and tests contracts in AssemblyScript.
//
// The kit that contracts are written with is in kit, the compiler's exact version
// in compiler. A project is a directory with index.ts, what the chain calls, with
// tests.ts, and with a kit of its own in kit; without one it is built with this
// program's.
//
// Invariants:
//
//  1. The same sources give the same module, byte for byte, wherever they are built.
//     A module says of which sources it is, in a custom section.
//  2. What Build returns is taken by the chain's checks, as they are in this program.
//  3. A test runs on the machine that contracts run on, with a storage of its own.
//
// Concurrency: the functions are safe for concurrent use, also by several processes
// with one directory of tools.
//
// What it does not do: send anything to a chain.
package assembly
