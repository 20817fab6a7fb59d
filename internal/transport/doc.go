// Package transport is authenticated peers and streams over QUIC (RFC 9000).
//
// An Endpoint is one UDP socket and one Ed25519 identity; it dials and is
// dialed for any number of named protocols. A Conn is one authenticated
// connection, a Stream one ordered byte stream of it (a net.Conn). A Mesh keeps
// one connection to each of a set of pinned peers and carries messages over
// channels that do not block each other.
//
// Invariants:
//
//  1. Every connection is TLS 1.3 with a key share of X25519MLKEM768 or X25519,
//     and both ends have proven the Ed25519 key that is their identity. There
//     are no authorities and no names: the certificate is a self-signed
//     envelope for the key (RFC 8410), and exactly one is accepted.
//  2. Dial returns a connection to the identity that was asked for, admitted by
//     it, or an error. Accept returns only peers that Protocol.Admit allowed.
//  3. The network's id is part of every protocol name in the handshake, so two
//     networks never talk.
//  4. Nothing a peer sends is stored beyond a declared bound: messages by their
//     channel's limit, queues by their bytes, streams and their unread data by
//     flow control, connections by MaxConns.
//  5. A Mesh has at most one connection per peer that it uses, and calls a
//     channel's handler for one peer from one goroutine at a time, in the order
//     in which the peer sent. Delivery is at most once: what was under way when
//     a connection ended is lost, what still waited in a queue is not.
//
// Failure modes: a refused identity is *IdentityError; a peer that speaks no
// such protocol or is of another network ErrProtocol; one that does not admit
// us a *CloseError with CloseNotAdmitted; a message above a limit
// *MessageTooLargeError. A peer that breaks the framing loses its connection
// with CloseViolation and the reason. Packets that the system refuses to send
// for a while (a network gone, a firewall) count as lost, so that a connection
// lives on until its idle timeout of 20 s.
//
// Concurrency: everything but a Stream's reads among themselves and writes
// among themselves may be called from any goroutine. An Endpoint owns the
// goroutine that accepts, and Close ends it and every connection; Mesh.Run
// owns, per configured peer, one goroutine that dials, and per connection one
// for each channel that sends, one for each channel that receives, two that
// accept streams and one for each request being answered, and returns when all
// have ended. Bounded queues: connections not yet accepted (Protocol.Backlog;
// full: the newcomer is closed with CloseBusy) and messages to send
// (Channel.QueueBytes; full: Channel.WhenFull).
//
// It does not know what the messages mean, find peers, or retry a message.
package transport
