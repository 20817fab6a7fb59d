// Package web is how a process of HyperMesh answers HTTP: where it may listen,
// how it starts and ends, and what its problems and its OpenAPI document look
// like.
//
// Invariants:
//
//  1. Plain HTTP beyond loopback is served only where the configuration says so
//     in so many words (Address.Insecure).
//  2. A panic of a handler ends its own request and nothing else; a client never
//     takes a part of an answer for the whole.
//  3. Every refusal is an RFC 9457 problem.
//
// Failure modes: an address that cannot be bound and a certificate that cannot
// be read are errors of Listen; a listener that fails is the error of Serve.
//
// Concurrency: everything is safe for concurrent use once it is made.
//
// It does not bound what is served at a time: every API has its own limits.
package web
