// Package server is a scheduler node: raft, agent sessions and HTTP.
//
// One, three or five servers are a cluster. Raft gives each of them the same
// state (package scheduler); the one that leads stamps the time into commands
// and carries out their effects. Agents have a session with every server, so
// that whoever comes to lead finds them there. Clients may ask any server.
//
//	a job:  POST /v1/jobs, /v1/orders → blobs at a majority, escrow proven → batch → Submit
//	        → OpenAuction: offers, sealed bids, CloseAuction
//	        → SendAssign → Done: receipt verified, output at a majority → Finished
//	        → outbox → the relay posts → the chain pays, proven → Confirmed
//
// Invariants:
//
//  1. What was answered as accepted survives the loss of a minority of servers:
//     a job is in raft, and its inputs are at a majority, before POST /v1/jobs
//     answers; an upload before PUT /v1/blobs does.
//  2. An agent is told to forget an output only once a majority of servers has
//     it and raft has its receipt.
//  3. Effects are carried out in the order of the log, by the leader alone, and
//     only after it has read the whole log.
//  4. The chain is believed only with proof, and agents, consumers and relays
//     only with their signatures. Whose node an agent is, the chain says.
//  5. A dry run (POST /v1/quotes) changes no state.
//  6. Everything a stranger sends is bounded: see the constants of http.go,
//     session.go and logs.go, and package blob.
//  7. A linearizable read shows all that was answered before it came: a majority
//     of voters follows the leader after the question (acks.go), in the term of
//     its reign.
//  8. Servers that have different cluster keys say nothing of raft to each other
//     (sameness.go), and the odd one stops.
//  9. A command on which the state machine panics is put aside by every server
//     (aside.go), or stops it: no server goes on with a state that others do not
//     have.
//
// Commands go into the log in batches (batch.go), and from followers to the
// leader in batches too. Auctions open in rounds (auction.go), after what clients
// submit and before agents work (auctioneer.go). Signatures that come together are verified together.
// Blobs that a majority is known to hold are not asked after again, nor are
// escrows that were proven a moment ago and cover the order.
//
// Failure modes: without a leader, writes wait a little and are then refused
// with 503; they may be repeated, because an order names itself. While the
// chain cannot be asked, escrows known for less than an hour stand, and the
// outbox grows to its bound, after which new jobs are refused. An agent that
// breaks the protocol, or does not keep up, loses its session and reconciles on
// its next. A server whose disk or log fails stops with an error, and so
// does one that put other commands aside than the leader.
//
// Goroutines: raft's own; one that accepts for each of four protocols, one for
// each connection and stream they accept; two more for each agent (its writer,
// its requests for blobs); one that follows elections, one that begins and ends
// reigns, one that pins blobs, one that fetches those that are missing, one that
// asks what is newest, one that compares what was put aside, one that compares
// cluster keys, one that verifies, two that collect batches and one for each batch
// under way, net/http's. A reign has its loop, one that looks after settlement, and
// one for each round of auctions, output and command under way, and waits for all
// of them when it ends. Run returns when everything has ended.
// Bounded queues: commands of clients (8,192, of one consumer 2,048; full: refused
// with 503), messages to an agent (8,192 and 16 MiB; full: the session is cut),
// changes that a stream of events has to tell (16,384 jobs; full: it ends), news
// for the leader's loop (1,024; full: it looks by itself every second), logs
// (512 KiB a job, 256 jobs; full: the oldest go).
//
// It does not run work, hold money, or post to the chain.
package server
