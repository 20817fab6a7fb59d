// Package sdk is the client of nodes and Nexus servers: submit, watch, and check
// proofs without trusting the server.
//
// A Client speaks to any of several nodes and any of several Nexus servers, and
// moves on to the next when one fails. With a genesis it believes no node: the
// Verified… methods return what certificates and Merkle proofs show (package
// light), in types that nothing else can make. The other methods return what a
// server says.
//
// Invariants:
//
//  1. A request is repeated only if repeating it changes nothing, or if it never
//     reached a server. Submitted transactions and orders name themselves, so
//     they may be repeated; the faucet's request may not.
//  2. Everything that is read from a server is bounded.
//  3. An event stream, however often it breaks and whichever node serves it,
//     yields every event after its cursor once and in order.
//  4. Nothing polls without waiting: streams wait for the server, repetitions
//     back off, and every wait ends with its context.
//
// Failure modes: *api.Problem for what a server refused, wrapped with the
// request; light.ErrRefused for what a server said and could not show;
// ErrNoTrust for a Verified… method without genesis; *RejectedError for a
// transaction that was not accepted or took no effect.
//
// Concurrency: a Client and a Builder are safe for concurrent use; they start no
// goroutine that outlives a call. An iterator belongs to one goroutine.
//
// It holds no keys: a chain.Signer signs. It does not decide whether what was
// proven is recent enough: the height and time are there to be looked at.
package sdk
