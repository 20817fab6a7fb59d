// Package api is the HTTP schemas of nodes and Nexus servers, shared by the
// servers and their clients.
//
// Everything is JSON in snake_case. Amounts are nHYPER, times are milliseconds
// since the Unix epoch, and both say so in their names. Integers above 2⁵³ are
// decimal strings, and either form is read (Uint64, and chain's quantities).
// Digests, keys and signatures are lower-case hexadecimal; addresses are
// bech32m; other bytes are base64 (RFC 4648 §4, as encoding/json does it).
// Where bulk matters, POST /v1/txs also takes the canonical CBOR array of the
// transactions' bytes. Errors are Problem (RFC 9457).
//
// The struct tags doc, minimum, maximum, minLength, maxLength, pattern, enum
// and maxItems describe the OpenAPI document that a server makes of the types;
// types whose JSON a reflection cannot see are listed by Shapes.
//
// Invariants:
//
//  1. TxFromJSON(TxToJSON(tx)) encodes to the bytes of tx, whatever tx is
//     within its limits; the same holds for headers and the signed forms.
//  2. Decoding refuses unknown fields, names the field that it refuses, and
//     keeps the limits of package chain.
//
// Failure modes: decoding returns *FieldError with a JSON path. Nothing here
// verifies a signature, a proof or a certificate: that is package light's and
// chain's. All of it is pure and safe for concurrent use.
package api
