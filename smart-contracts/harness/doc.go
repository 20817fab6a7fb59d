// Package harness runs contracts in process against a simulated chain, for tests and tools.
//
// A Harness is a chain of one validator without consensus, network or disk: the executor that
// validators run, on a state in memory, with the machine that they have. So whatever it says of
// a contract (events, gas, room, refusals, addresses) the chain says too. Blocks are made by
// who uses it: each transaction has one of its own unless Block puts several into one, and the
// clock moves by Config.BlockTime a block, or by Pass.
//
// What a chain has around the contracts that are tested is here as well: accounts with keys
// (AccountOf), money (Fund), other contracts, which may be written in Go (StoreScript), and
// HyperMesh's own messages and queries, as they are or by a stand-in (Config.Custom).
//
// Who sends pays nothing: the harness pays fees and room unless Tx.OwnFee says otherwise, so that
// balances show what contracts did. Result says what it was.
//
// Invariants:
//
//  1. The same calls give the same results, to the byte: there is no clock and no chance.
//  2. Of a transaction that was refused nothing is left but its fee and its sender's count.
//  3. Rollback brings back all that the chain was: state, height and time.
//
// Failure modes: a *Refused is what the chain, or a contract, refused, in a receipt.
// ErrNotIncluded is a transaction that no block may have; ErrTime, ErrSnapshot, ErrMessage,
// ErrScript and ErrConfig are misuse. Every other error is a fault of the machine or of this project.
//
// A Harness is for one goroutine. It starts none but the machine's.
package harness
