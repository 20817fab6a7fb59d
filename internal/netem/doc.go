// Package netem is a bad network for tests: a relay of UDP datagrams between
// nodes that delays, loses, repeats and reorders them, and cuts links, by a seed.
//
// The relay has one socket for each pair of nodes. Node a sends to Addr(a, b) what
// is for node b, and b sees it come from Addr(b, a), which is the same socket: so
// both may dial, and QUIC sees one path. A node is known by the address that it
// sends from, which must be the one that it listens at.
//
// Invariants:
//
//  1. A datagram arrives at the node that it was sent to, unchanged, at most twice,
//     and only if its link is not cut when it comes and when it leaves.
//  2. What happens to the i-th datagram of a link is a function of the seed, the
//     link, i and the link's weather at that time, whatever the other links do.
//  3. Under Weather.InOrder datagrams of a link arrive in the order of sending.
//  4. At most maxWaiting datagrams of a link are under way.
//
// Failure modes: what the system does not take (a network that is down) and what
// finds the queue full is lost and counted; a socket that can no longer be read
// ends the reading, and Close says so.
//
// Concurrency: everything may be called from any goroutine. Open makes the sockets
// on the goroutine that calls it, so that a caller in a network namespace gets a
// relay in that namespace; it starts one goroutine per socket and one that
// delivers what was delayed, all of which Close ends.
//
// It does not model bandwidth, and no clock but the machine's says when a
// datagram is due.
package netem
