// Package rpc is the node's public HTTP API.
//
// The schemas are package api's; the document is at /openapi.json. The server
// asks the node through the Node interface, which internal/node implements.
//
// Invariants:
//
//  1. Whatever a stranger sends is bounded before it is held: header bytes,
//     body bytes, bytes of all submissions in flight, connections, requests,
//     subscribers, and the time for each of them. What is outside is refused
//     with the field and the limit.
//  2. Nothing that a request does ends the process: a panic becomes a 500 and a
//     log line. Answers to internal errors say nothing of the inside.
//  3. The event stream neither loses nor repeats an event for a client that
//     resumes with the last cursor it saw. It is pulled from the node's store
//     by height, so that a slow client holds no queue; one that does not take
//     its bytes within WriteTimeout is cut off.
//  4. Without TLS the server listens on loopback only, unless InsecureHTTP says
//     that somebody else protects it.
//  5. A proof answer is of one state: value, proof, header and certificate
//     belong together. The header's state root is its parent's, so the value
//     is as of header.height − 1.
//
// Goroutines: net/http's, one for each connection. Listen starts none; Run
// serves until its context ends, then ends the event streams, gives requests
// ShutdownTimeout to finish, and returns.
//
// Bounded stores: encoded events of recent heights (maxCachedEventBytes, the
// oldest leave), faucet buckets by client network (maxFaucetClients, idle ones
// leave).
//
// It does not check signatures or decide what is accepted: the node does. It
// does not trust X-Forwarded-For, sets no CORS headers, and has no users.
package rpc
