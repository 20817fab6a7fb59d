// Package vm runs contracts on wasmtime. So far it holds what smart-contracts/meter
// makes of them against the engine.
package vm
