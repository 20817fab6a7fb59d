// Package replica is one node's consensus through all epochs, as a state
// machine without I/O.
package replica
