// Package wasm reads the WebAssembly binary format (WebAssembly 2.0, chapter 5)
// within bounds: numbers, sections and instructions.
//
// Invariants:
//
//  1. Reading is total: any bytes give a value or an error, never a panic, and
//     nothing is allocated in proportion to a number that was read.
//  2. After its first failure a Reader returns zeros, and Err says why.
//  3. A number is read only in the width of its field: longer encodings, and
//     bits beyond the width, are errors.
//
// What it does not do: say whether a module is valid, or which of it is wanted.
// Its two users, nexus/executor and smart-contracts/vm, run other dialects.
package wasm
