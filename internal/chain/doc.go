// Package chain is the language that validators agree on: what is hashed,
// signed or stored in a block, nothing else.
//
// Here are the ledger's quantities (Amount, Gas, GasPrice, Height, TimeMs),
// names (ChainID, Address), transactions (Tx, the sealed Msg, VerifiedTx),
// blocks (Header, Block, Receipt, the sealed Event), genesis, and the signed
// forms of settlement (Order, Acceptance, Bid, UsageReceipt, Claim).
//
// Invariants:
//
//  1. Every type that is hashed or stored has one canonical encoding (package
//     codec) and a frozen fixture under testdata.
//  2. A decoded Tx or Block is within its limits; whatever is outside is
//     refused by the name of the field and the limit.
//  3. A VerifiedTx exists only for a transaction whose signatures verified:
//     VerifyTxs is its sole constructor.
//  4. Amounts, gas and prices cannot wrap: their arithmetic says when a result
//     does not exist.
//
// The package knows Height, not View: consensus orders digests and does not
// know blocks; the store pairs a block with its certificate. It checks form
// and signatures, never state. All of it is pure and safe for concurrent use.
package chain
