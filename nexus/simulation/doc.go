// Package simulation runs the scheduler against simulated agents, and a recorded
// load against the scheduler and two simpler ones.
//
// A Cluster is package scheduler's state machine with a simulated leader, log,
// network, chain and thousands of agents that bid, work, fail and come back. A
// Replay takes machines and tasks from a trace of a production cluster and
// places them by the scheduler, by best fit or at random.
//
// Invariants, which are checked as it runs and reported as violations:
//
//  1. No agent is given more than it has, device by device, by its own account.
//  2. Every accepted job comes to its end, and none is paid twice.
//  3. A task that some machine has room for does not wait.
//
// Equal options give equal reports. The two simpler schedulers look at every
// machine, and know nothing of the real one: they share no code with it but the
// order of the queue, which is that of arrival.
//
// Not safe for concurrent use. It measures no time: whoever runs it does.
package simulation
