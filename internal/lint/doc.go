// Package lint is the walls of docs/ARCHITECTURE.md as Go tests.
//
// The tests read the tables of that page (rooms, imports, owners, exceptions,
// limits) and hold every Go file of the checkout to them, so that the page
// cannot rot.
//
// Invariants:
//
//  1. Every violation is listed, not the first alone.
//  2. Every lint has a fixture in testdata/broken that it must find: a lint
//     that never fires is a failure.
//  3. Rooms of the page that have no code yet are no violation.
//
// Failure modes: a page whose tables cannot be read, or code that does not
// type-check, fails the test with the reason. The package has no code outside
// its tests. It looks at files that git tracks or would track; it does not
// format code and does not repeat what go vet and golangci-lint find.
package lint
