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
//     flow control, connections by MaxConns; the table below has all bounds. What
//     strangers may take is apart from what members have.
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
// lives on until its idle timeout (Config.IdleTimeout). After an outage two members
// of meshes hear each other again within half that timeout if their connection
// lived, else within 4 s: the longest silence of a dial that began in the outage, 2 s,
// its pause, and a handshake.
//
// Limits, what each stops, and the counter (Metric) that shows it. A source is an
// IPv4 address or an IPv6 /64; a member is a configured peer of a mesh, an
// observer any other; windows and streams are QUIC's (RFC 9000 §4).
//
//	what                                     at most              stops                        counter
//	handshakes without a proven address      64/s, 128 under way  forged addresses             (the caller gets a Retry)
//	handshakes of a source                   32/s, 64 under way   a flood from one place       handshake_source
//	handshakes in all                        512/s, 512 under way many places; a quarter is    handshake_total
//	                                                              kept for members' addresses
//	silence in a handshake; the whole        5 s; 10 s            slowloris                    handshake_slow
//	protocol, network                        exact                wrong ALPN                   handshake_protocol
//	certificate                              one, 1 KiB, valid    wrong or expired keys        handshake_certificate
//	                                         now, key proven
//	connections accepted (MaxConns)          1,024, members not   strangers filling the node   connection_total
//	                                         counted
//	connections of a key                     16; in a mesh        a flood of one key           connection_key
//	                                         1/s, 32 at once
//	observers (MaxObservers); of a source    as set; a quarter    strangers filling the mesh   observer_places,
//	                                                              members are always let in    observer_source
//	observers of a network (IPv4 /24,        while places are     few addresses holding all    observer_evicted
//	IPv6 /48)                                free; else one more  places: the youngest of the
//	                                         than any newcomer's  most crowded one goes
//	bytes a second to an observer; to all    16 MiB; 64 MiB;      observers taking the link    observer_egress
//	                                         after what waits for
//	                                         members, up to 5 ms
//	streams under way                        256 + 64 one way     stream flood                 (flow control)
//	requests of a member; an observer        1,024/s; 128/s       stream flood                 stream_flood
//	requests being answered                  by service           likewise                     request_concurrency
//	a request's time                         by service           slowloris                    request_slow
//	a message's length                       by channel           oversized frames             message_too_large
//	a message's time, once begun             30 s + 1 s a 64 KiB  slowloris                    message_slow
//	messages and bytes a second, by channel  Rate; observers 1/8, message floods               throttled, then
//	                                         all of them 1                                     message_flood
//	a channel's streams                      one, of a known id   wrong channel, bad framing   channel_unknown,
//	                                                                                           message_malformed
//	unread data of a connection              2 MiB, grows to 24;  memory behind a throttle     (flow control)
//	                                         observers' growth
//	                                         128 MiB in all
//	what waits for a peer on a channel       QueueBytes           a slow reader                queue_full
//	what waits for all observers; members    128 MiB; 256 MiB     many slow readers            queue_sum
//	time to take a batch                     30 s + 1 s a 64 KiB  a peer that does not read    reading_slow
//
// A peer above a rate is read more slowly; one above it for 30 s without a pause
// is dropped. A member that is gone is dialed after a pause that doubles from
// 50 ms to 1 s, give or take a quarter, for ever; a dial takes 5 s at most.
//
// Concurrency: everything but a Stream's reads among themselves and writes
// among themselves may be called from any goroutine. An Endpoint owns the
// goroutine that accepts, and Close ends it and every connection; Mesh.Run
// owns, per member, one goroutine that dials, and per connection one
// for each channel that sends, one for each channel that receives, two that
// accept streams and one for each request being answered, and returns when all
// have ended. Bounded queues: connections not yet accepted (Protocol.Backlog;
// full: the newcomer is closed with CloseBusy) and messages to send
// (Channel.QueueBytes; full: Channel.WhenFull).
//
// It does not know what the messages mean, find peers, or retry a message.
package transport
