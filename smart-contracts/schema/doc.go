// Package schema is what the messages of a contract look like: how that is written
// into its module, and the JSON Schema that clients know.
//
// In a module it is a custom section, in a short form of its own, since each byte of
// code is paid for on the chain:
//
//	{"contract": "counter", "version": "1.0.0",
//	 "instantiate": {"count": "u64"},
//	 "execute": {"increment": {}, "reset": {"count": "u64"}},
//	 "query": {"count": [{}, {"count": "u64"}]},
//	 "types": {}}
//
// A query has what is asked and what is answered. A type is a basic one's name; the
// name of one of types, which begins with a capital letter; an object of fields, of
// which those that end with ? may be left out or be null; a list [T] of values; or
// [A, B, …], one of several. The basic types are bool, u32, u64, i64, text, address,
// binary (base64), u64text and u128 (numbers in quotes), null and any.
//
// Invariants:
//
//  1. Any bytes are refused with a reason, or are a Schema; how long and how deep they
//     are is bounded, and what JSON writes, and does, is bounded by their length.
//  2. A section has one form: sorted names, no spaces.
//  3. A message that Check refuses is refused by the JSON Schema, too, but for those that
//     are too much to look at: how often Check looks at a value is bounded.
//
// What is said here of a contract is its author's word: the chain does not hold it to that. Samples is what the kit's build holds
// it to the contract with.
//
// Concurrency: everything is a pure function.
//
// What it does not do: read a contract's sources.
package schema
