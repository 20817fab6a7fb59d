// Package sim is a seeded clock, network and disk for tests: a world in one
// goroutine in which a cluster can be run, broken and run again, and in which
// every run is repeated by its seed.
//
// A Clock holds what is to happen and when. A Watch is a machine's own clock,
// which drifts and jumps. A Life is one run of a process: what it scheduled
// does not happen after it ended. A Network carries packets between numbered
// nodes through a Weather that delays, loses, repeats and reorders them; it can
// have distances and be partitioned. A Disk forgets at a crash what was not
// synced, and can be full or fail to sync. A Rand draws all of it.
//
// Invariants:
//
//  1. Equal seeds and equal calls give equal worlds: nothing depends on the
//     machine, the wall clock, memory addresses or the order of a map.
//  2. Time never falls, and happenings of one instant happen in the order in
//     which they were scheduled.
//  3. A happening of a life that ended never happens.
//  4. A packet arrives only between nodes that are on one side when it leaves
//     and when it arrives; under Weather.InOrder packets of a link arrive in
//     the order of sending.
//  5. After a crash a file holds everything synced and a prefix of the writes
//     after it; a record is there whole or not at all, and a replacement is
//     done or not. A file that failed to sync takes nothing more before the
//     next crash.
//
// Failure modes: a disk returns ErrFull and ErrSync when it is told to; calls
// that make no sense (a negative delay, a node that does not exist) panic.
//
// Nothing here is safe for concurrent use: a world is one goroutine's, and many
// worlds may run side by side. The package knows nothing of what it simulates;
// it does not model bandwidth. A record that a crash cut in two counts as torn
// and is gone, as in a log with checksums.
package sim
