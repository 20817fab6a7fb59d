package execution_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/tokens"
)

// What waits in the store that operations are measured on: almost as many blocks
// as may.
const (
	pendingBlocks  = 250
	pendingChanges = 300 // each, of accounts
)

// onStore has blocks executed on a store in a directory, which holds the world's
// state in its tables and what some hundred blocks changed since in memory.
func (w *gasWorld) onStore() {
	w.Helper()
	st, err := store.Open(w.TempDir(), store.Options{UnsafeNoSync: true})
	if err != nil {
		w.Fatal(err)
	}
	all := state.NewOverlay(state.NewMemoryBackend())
	for key, value := range w.state.Iterate([]byte{0}, nil) {
		all.Set(key, value)
	}
	tree := state.NewTree(st, 0)
	commit := func(height uint64, changes []state.Change) {
		if mark, ok := st.TreeMark(); ok {
			tree = tree.Persisted(mark)
		}
		if tree, err = tree.Next(height, changes, 1); err != nil {
			w.Fatal(err)
		}
		f := store.Finalized{Height: chain.Height(height), Digest: crypto.DomainBlob.Hash(fmt.Append(nil, height)), Changes: changes, Tree: tree}
		if err := st.Commit(f); err != nil {
			w.Fatal(err)
		}
	}
	commit(0, all.Changes())
	for height := uint64(1); height <= pendingBlocks; height++ {
		kv := state.NewOverlay(state.NewMemoryBackend())
		for i := range pendingChanges {
			key := tokens.AccountKey(crowd((int(height)*pendingChanges + i) % gasCrowd))
			if value, ok := w.state.Get(key); ok {
				kv.Set(key, value)
			}
		}
		commit(height, kv.Changes())
	}
	snapshot, err := st.Snapshot()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := snapshot.Close(); err != nil {
			w.Error(err)
		}
		if err := st.Close(); err != nil {
			w.Error(err)
		}
	})
	w.reader = snapshot
}

// The measures of iterations on a store.
const (
	iteration     = "iterate"      // beginning one, over nothing
	iterationStep = "iterate/step" // each pair
)

// iterate returns what it takes to begin an iteration, and each step of one, in
// nanoseconds.
func (w *gasWorld) iterate() (begin, step float64) {
	const times, steps = 1_000, 64
	var begins, walks []time.Duration
	for range 10 {
		start := processor()
		for i := range times { // of redelegations, which nobody has
			a := crowd(i)
			from := append([]byte{'v', 'g'}, a[:]...)
			for range w.reader.Iterate(from, append(slices.Clone(from), 0xff)) {
				panic("somebody has a redelegation")
			}
		}
		between := processor()
		for i := range times {
			from, n := tokens.AccountKey(crowd(i)), 0
			for range w.reader.Iterate(from, []byte{from[0], from[1] + 1}) {
				if n++; n == steps {
					break
				}
			}
		}
		begins, walks = append(begins, between-start), append(walks, processor()-between)
	}
	begin = float64(slices.Min(begins)) / times
	return begin, (float64(slices.Min(walks))/times - begin) / steps
}
