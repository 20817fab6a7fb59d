// Package cosmwasm is what the chain and its contracts say to each other: the types
// of CosmWasm's interface, version 8, and their JSON.
//
// What a contract writes is decoded by Decode functions: its answers, with the
// messages in them, and its queries. What the chain writes is encoded by Encode. Each
// type has one description, its form, that both follow.
//
// Invariants:
//
//  1. Any bytes are refused, by a rule and the path to what broke it, or decoded. How
//     long they are, how deep they nest and how much they list is bounded.
//  2. A value has one encoding: fields in a fixed order, no spaces, the fewest
//     escapes. What was decoded and is encoded is decoded to the same again.
//  3. A decoded sum is one of its sealed interface's types, never nil.
//
// What is taken is what serde takes and writes for these types, and wasmvm's types
// take: enums are objects of one field, named for the variant in snake_case; 64 bits
// that wasmvm has as numbers are numbers, Uint64, Uint128 and Decimal are strings,
// Binary is base64. A field that is not known is passed over, as serde passes over it
// for these types, so that contracts built for later versions run; a variant that is
// not known is refused. What may be left out is what serde has a default for, or what
// is an Option, and null stands for an Option alone.
//
// It is stricter where wasmvm's types, being Go's, or serde would take several
// texts for one thing: names are of their exact case, no field stands twice, known or
// not, an enum has exactly one variant, integers have no sign, zeros before them, fraction
// or exponent, base64 is padded and has no bit to spare, and no half of a surrogate
// pair stands alone. What contracts write by serde is never refused for these.
//
// Concurrency: everything is a pure function.
//
// What it does not do: check addresses, denominations or money, or dispatch.
package cosmwasm
