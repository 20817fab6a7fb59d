package state_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/state"
)

// A tree whose versions are settled says the same of every batch, and keeps no more of a
// version than one that keeps all: wherever batches begin, and however long they are under way.
func TestSettledVersionsNameTheSameRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk, plain := state.NewMemoryBackend(), state.NewMemoryBackend()
		tree, twin := state.NewTree(disk, 0), state.NewTree(plain, 0)
		m := model{}
		var begun, done state.Mark // of batches; no version is 0
		last := rapid.Uint64Range(2, 25).Draw(t, "versions")
		for version := uint64(1); version <= last; version++ {
			changes := drawChanges(t)
			m = m.apply(changes)
			tree = must1(tree.Persisted(done).Next(version, changes, 1))(t)
			twin = must1(twin.Persisted(done).Next(version, changes, 1))(t)
			before := state.NotedBytes(tree)
			kept := tree.Settle(begun.Version, begun.Version > 0)
			if all := twin.Settle(version, true); all != before || kept > all || kept != state.NotedBytes(tree) {
				t.Fatalf("version %d: %d bytes are kept of %d, and %d of %d where all are", version, kept, before, state.NotedBytes(tree), all)
			}
			checkTree(t, tree, m)
			if begun == done && rapid.Bool().Draw(t, "batch") {
				checkBatches(t, tree.Batch(), twin.Batch())
				disk.ApplyBatch(tree.Batch())
				plain.ApplyBatch(twin.Batch())
				begun = tree.Mark()
			}
			if rapid.Bool().Draw(t, "ended") {
				done = begun
			}
		}
	})
}

// checkBatches demands that two batches have the same records, and the same stale ones.
func checkBatches(t *rapid.T, a, b state.Batch) {
	var records [2][][]byte
	for i, batch := range []state.Batch{a, b} {
		for key, record := range batch.Nodes() {
			records[i] = append(records[i], bytes.Clone(key), bytes.Clone(record))
		}
	}
	if !bytes.Equal(bytes.Join(records[0], nil), bytes.Join(records[1], nil)) || len(records[0]) != len(records[1]) {
		t.Fatalf("%d and %d keys and records differ", len(records[0]), len(records[1]))
	}
	if !bytes.Equal(a.StaleList(), b.StaleList()) {
		t.Fatalf("%d bytes of stale names, and %d that differ", len(a.StaleList()), len(b.StaleList()))
	}
}
