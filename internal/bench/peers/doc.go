// Package peers measures what others built, by the figures that this project's own
// benchmarks report, for docs/BENCHMARKS.md to set them side by side: CometBFT's
// validators with its kvstore application, the IAVL tree of the Cosmos SDK, and a
// bare Pebble batch.
//
// It is a module of its own, so that nothing of the peers is linked into, or even
// required by, what this project ships. `make bench` runs it in the same run as the
// benchmarks of the main module.
package peers
