// Package devnet is to start, supervise and load a local network of real
// processes: what the commands devnet, demo and bench are made of.
//
// A network lives in one directory: a plan (plan.json: ports, keys, accounts),
// the genesis, and a home for each process. Up reads the plan or makes it, runs
// this same binary once for every member (Supervisor), registers the cluster and
// the providers on the chain, and waits until all are healthy. Everything it
// knows is then in a Description, which devnet's --config-out writes.
//
// Invariants:
//
//  1. A directory serves one network at a time (plan.lock); its plan is never
//     changed once made, so state survives a stop and a start.
//  2. Every child ends with its supervisor.
//  3. Keys of a devnet are worth nothing: its genesis says devnet and
//     insecure_keys, and such a genesis is refused without the first.
//
// It imports no role: processes are started by their command lines and told by
// their config files, like any operator's.
package devnet
