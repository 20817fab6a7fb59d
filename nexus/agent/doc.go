// Package agent is a provider's node: it connects to a cluster's servers, bids,
// runs, meters and signs.
//
// An agent dials every server of its cluster and keeps a session with each (see
// package job). It answers offers from its price table, takes the assignments
// whose signatures hold and whose bid is its own, fetches their inputs, runs
// them in package executor, and signs a receipt for what was used. The signed
// end of an assignment, its Done, goes to the spool on disk before it goes to
// any server, and stays there, with the output, until a server acknowledges it.
//
// Invariants:
//
//  1. An order runs at most once at a time, whoever assigns it and how often;
//     one whose Done is spooled, or was acknowledged a short while ago, is not
//     run again: its Done is sent again.
//
//  2. A Done is sent only once it is on disk and its output is pinned in the
//     blob store. A crash before that leaves nothing, and the work is done
//     again when the server, not finding it in Hello, assigns it again.
//
//  3. Nothing but its own result, a Cancel, the order's deadline, the owner's (of a
//     drain) or the end of Run ends work that has begun. A server that is away does
//     not.
//
//  4. No work starts unless consumer and cluster signed for it, the bid is this
//     node's own and has not expired, and the deadline is ahead.
//
//  5. What runs at one time is within millicores, memory_mib, disk_mib, gpus and
//     max_jobs; work begins a few at a time, and gives way to what else the machine
//     does by nice; the blob store and the directories of running work are each
//     within half of disk_mib, and a job is taken on only if its inputs and output
//     have room in the store beside those of the others and the outputs that no
//     server has taken; blobs move at bandwidth_kib at most, each way.
//     Outside of its hours, paused and draining the node bids for nothing.
//
//  6. For deterministic work the result, the fuel and the usage depend on the
//     order and the specification alone: the seed is the order's id, and logs
//     are no part of it.
//
//  7. The service of a lease runs while a finalized state that is at hand has the
//     lease, and never after the last end that one said: no server begins,
//     prolongs or ends it, and a new process takes it up again.
//
//  8. The key of a sealed output leaves the node only when the disk has all that the
//     chain asks for of its claim: order, acceptance, bid, receipt, the key, and the
//     cluster's attestation, verified. What claims need is kept until they are paid,
//     or can be no more.
//
// Failure modes: an error of Run is a broken home, disk or socket. An executor
// that fails, a full disk, or an input that no server has refuses the
// assignment, with the reason, so that the cluster gives it to others. A server
// that breaks the protocol loses its session. A spooled file that cannot be
// read is put aside and logged.
//
// What its owner tells it (pause, resume, drain) is on disk before it counts. Its
// book of earnings is for its owner alone, and no money depends on it.
//
// Goroutines: one a configured server, which dials and reads; with a session
// one more that writes, one that accepts requests for blobs, and one for each
// of these; one an assignment; one that loads proving keys; one that sweeps the
// spool; one that keeps hours and drains; one that asks the chain what was paid;
// one an offer that a price program is asked about; the HTTP server's. Run returns when all have ended. Bounded: messages
// waiting for a server (256; full: logs are dropped, and anything else ends the
// session, so that the next one reconciles), assignments held (1,152; more are
// refused), spooled Dones (768; then offers are declined), price programs (4; further
// offers are declined), jobs whose payment is awaited (8,192; the oldest is given
// up), claims that are kept (8,192; likewise), remembered acknowledgements (1,024;
// the oldest is forgotten).
//
// It does not choose servers, verify the chain, or hold its owner's keys.
package agent
