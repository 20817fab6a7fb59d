package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// pairs returns what an iteration yields, as text.
func pairs(seq iter.Seq2[[]byte, []byte]) string {
	var out bytes.Buffer
	for key, value := range seq {
		fmt.Fprintf(&out, "%s=%s ", key, value)
	}
	return out.String()
}

// held is a snapshot and what it must hold.
type held struct {
	snapshot *store.Snapshot
	want     map[string]string
}

// check iterates over ranges within a kind of record, across kinds, and of one
// key.
func (h *held) check(t *testing.T, rng *rand.Rand) {
	t.Helper()
	key := func() []byte { return fmt.Appendf(nil, "%c%d", "abc"[rng.IntN(3)], 100+rng.IntN(60))[:1+rng.IntN(4)] }
	ranges := [][2][]byte{{[]byte("b1"), []byte("b2")}, {[]byte("b"), []byte("c")}, {[]byte("a1"), nil}, {[]byte{0}, nil}}
	for range 8 {
		ranges = append(ranges, [2][]byte{key(), key()})
	}
	keys := slices.Sorted(maps.Keys(h.want))
	for _, r := range ranges {
		var want bytes.Buffer
		for _, k := range keys {
			if k >= string(r[0]) && (r[1] == nil || k < string(r[1])) {
				fmt.Fprintf(&want, "%s=%s ", k, h.want[k])
			}
		}
		if got := pairs(h.snapshot.Iterate(r[0], r[1])); got != want.String() {
			t.Fatalf("from %q to %q: %s\nwant %s", r[0], r[1], got, want.String())
		}
		if got := pairs(h.snapshot.Scan(r[0], r[1])); got != want.String() {
			t.Fatalf("scanning from %q to %q: %s\nwant %s", r[0], r[1], got, want.String())
		}
	}
}

// TestRangesOfPendingBlocks iterates over states whose last changes wait in
// memory, by snapshots before and after later blocks and flushes.
func TestRangesOfPendingBlocks(t *testing.T) {
	for _, interval := range []int{1, 7, 64} {
		rng := rand.New(rand.NewPCG(uint64(interval), 5))
		s, err := store.OpenMemory(store.Options{TreeInterval: interval})
		if err != nil {
			t.Fatal(err)
		}
		tree, now := state.NewTree(s, 1<<20), map[string]string{}
		var kept []held
		for height := range 150 {
			kv := state.NewOverlay(state.NewMemoryBackend())
			for range rng.IntN(8) {
				key := fmt.Sprintf("%c%d", "abc"[rng.IntN(3)], 100+rng.IntN(60))
				if rng.IntN(3) == 0 {
					kv.Delete([]byte(key))
					delete(now, key)
				} else {
					now[key] = fmt.Sprint(height)
					kv.Set([]byte(key), []byte(now[key]))
				}
			}
			if mark, ok := s.TreeMark(); ok {
				tree = tree.Persisted(mark)
			}
			if tree, err = tree.Next(uint64(height), kv.Changes(), 1); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(store.Finalized{Height: chain.Height(height), Digest: id("block %d", height), Changes: kv.Changes(), Tree: tree}); err != nil {
				t.Fatal(err)
			}
			snapshot, err := s.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, held{snapshot, maps.Clone(now)})
			for _, h := range kept {
				h.check(t, rng)
			}
			if len(kept) > 5 {
				if err := kept[0].snapshot.Close(); err != nil {
					t.Fatal(err)
				}
				kept = kept[1:]
			}
		}
		for _, h := range kept {
			if err := h.snapshot.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIterationThatPanicsLeavesNothingOpen: a message without the gas to go on
// ends an iteration by a panic.
func TestIterationThatPanicsLeavesNothingOpen(t *testing.T) {
	s, err := store.OpenMemory(store.Options{TreeInterval: 1})
	if err != nil {
		t.Fatal(err)
	}
	kv := state.NewOverlay(state.NewMemoryBackend())
	kv.Set([]byte("a1"), nil)
	snapshot := written(t, s, kv)
	for _, r := range []state.Reader{snapshot, s.State()} {
		for range 3 {
			func() {
				defer func() { _ = recover() }()
				for range r.Iterate([]byte("a"), []byte("b")) {
					for range r.Iterate([]byte("a"), []byte("b")) { // one within another
						panic("no gas")
					}
				}
			}()
		}
	}
	if err := snapshot.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // it knows of iterators that are open
		t.Fatal(err)
	}
}

// TestKeysOfOneByteAreInRanges: such a key is in no group, and in the range from the last group
// of one first byte to the first of the next.
func TestKeysOfOneByteAreInRanges(t *testing.T) {
	s, err := store.OpenMemory(store.Options{TreeInterval: 64})
	if err != nil {
		t.Fatal(err)
	}
	kv := state.NewOverlay(state.NewMemoryBackend())
	for _, key := range []string{"a\xffx", "b", "b\x00", "b\x01"} {
		kv.Set([]byte(key), []byte("1"))
	}
	var tree *state.Tree
	for height := range chain.Height(3) { // the first is written at once, the others wait
		if tree == nil {
			tree = state.NewTree(s, 1<<20)
		} else if mark, ok := s.TreeMark(); ok {
			tree = tree.Persisted(mark)
		}
		kv.Set([]byte("b"), fmt.Append(nil, height))
		kv.Set([]byte("a\xffx"), fmt.Append(nil, height))
		if tree, err = tree.Next(uint64(height), kv.Changes(), 1); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(store.Finalized{Height: height, Digest: id("block %d", height), Changes: kv.Changes(), Tree: tree}); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("a\xffx=%d b=%d ", height, height)
		if got := pairs(s.State().Iterate([]byte("a\xff"), []byte("b\x00"))); got != want {
			t.Errorf("height %d: %q, want %q", height, got, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// written commits a first block with all of a state, and returns a snapshot after it.
func written(t *testing.T, s *store.Store, kv *state.Overlay) *store.Snapshot {
	t.Helper()
	tree, err := state.NewTree(s, 1<<20).Next(0, kv.Changes(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(store.Finalized{Digest: id("block"), Changes: kv.Changes(), Tree: tree}); err != nil {
		t.Fatal(err)
	}
	snapshot, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// TestAScanLeavesNothing: whoever adds up a whole state, as nodes do at the end of each epoch, leaves
// the collector as little of a thousand records as of ten.
func TestAScanLeavesNothing(t *testing.T) {
	allocations := map[int]float64{}
	for _, n := range []int{10, 1000} {
		s, err := store.OpenMemory(store.Options{TreeInterval: 1})
		if err != nil {
			t.Fatal(err)
		}
		kv := state.NewOverlay(state.NewMemoryBackend())
		for i := range n {
			kv.Set(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "value %d", i))
		}
		snapshot := written(t, s, kv)
		allocations[n] = testing.AllocsPerRun(10, func() {
			seen := 0
			for range state.Scan(snapshot, nil, nil) {
				seen++
			}
			if seen != n {
				t.Errorf("%d of %d pairs", seen, n)
			}
		})
		if err := errors.Join(snapshot.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if allocations[1000] > allocations[10]+100 {
		t.Errorf("%v allocations for ten pairs, %v for a thousand", allocations[10], allocations[1000])
	}
}
