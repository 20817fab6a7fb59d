//go:build noavx512

package execution_test

// gasWay is how this build verifies signatures.
const gasWay = library
