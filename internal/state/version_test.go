package state_test

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/state"
)

// shared is a backend whose trees share an arena, and which may fail.
type shared struct {
	*state.MemoryBackend
	arena *state.Arena
	fails atomic.Bool
	reads atomic.Int64 // how many still succeed before
}

var errRead = errors.New("the disk fails")

func newShared() *shared {
	return &shared{MemoryBackend: state.NewMemoryBackend(), arena: state.NewArena(nil, nil)}
}

func (s *shared) Arena() *state.Arena { return s.arena }

func (s *shared) AppendNode(dst, key []byte) ([]byte, bool, error) {
	if s.fails.Load() && s.reads.Add(-1) < 0 {
		return dst, false, errRead
	}
	return s.MemoryBackend.AppendNode(dst, key)
}

// What no version needs is of use again, and nothing else is: whichever way versions are
// made of each other, persisted, left to the disk, released and forgotten.
func TestVersionsGiveBackWhatNobodyNeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := newShared()
		resident := rapid.SampledFrom([]int{1, 6000, 0}).Draw(t, "resident")
		first := drawChanges(t)
		live := []branch{{must1(state.NewTree(disk, resident).Next(1, first, 1))(t), model{}.apply(first)}}
		var mark state.Mark
		version := uint64(1)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			at := rapid.IntRange(0, len(live)-1).Draw(t, "of")
			of := live[at]
			switch rapid.SampledFrom([]string{"next", "next", "next", "persist", "release", "check", "open"}).Draw(t, "step") {
			case "next":
				changes := drawChanges(t)
				version++
				next := must1(of.tree.Persisted(mark).Next(version, changes, rapid.IntRange(1, 3).Draw(t, "parallelism")))(t)
				live = append(live, branch{next, of.model.apply(changes)})
			case "persist":
				tree := of.tree.Persisted(mark)
				if durable, some := tree.Durable(); some == (mark != state.Mark{}) && durable == mark {
					disk.ApplyBatch(tree.Batch())
					mark = tree.Mark()
				}
			case "release":
				if len(live) == 1 {
					continue
				}
				if rapid.Bool().Draw(t, "forgotten") {
					state.Forget(of.tree)
				} else {
					of.tree.Release()
				}
				if _, _, err := of.tree.Get([]byte("a")); !errors.Is(err, state.ErrReleased) {
					t.Fatalf("a key of a version that was released: %v, want ErrReleased", err)
				}
				live = slices.Delete(live, at, at+1)
			case "check":
				checkTree(t, of.tree, of.model)
			case "open":
				if of.tree.Mark() == mark {
					live = append(live, branch{must1(state.OpenTree(disk, mark, resident))(t), of.model})
				}
			}
		}
		for len(live) > 1 {
			at := rapid.IntRange(0, len(live)-1).Draw(t, "released")
			live[at].tree.Release()
			live = slices.Delete(live, at, at+1)
			for _, b := range live {
				checkTree(t, b.tree, b.model)
			}
		}
		if used, own := state.ArenaBytes(live[0].tree); used != own {
			t.Fatalf("the last version has %d bytes, and %d are in use", own, used)
		}
		live[0].tree.Release()
		if used, _ := state.ArenaBytes(state.NewTree(disk, 0)); used != 0 {
			t.Fatalf("there is no version left, and %d bytes are in use", used)
		}
	})
}

// A version that cannot be made, because the disk fails, takes no memory.
func TestVersionThatFailsTakesNothing(t *testing.T) {
	disk := newShared()
	rng := rand.New(rand.NewPCG(3, 27))
	stored := must1(state.NewTree(disk, 0).Next(1, randomChanges(rng, 2500, 3000), 1))(t)
	disk.ApplyBatch(stored.Batch())
	tree := must1(state.OpenTree(disk, stored.Mark(), 0))(t)
	stored.Release()
	before, _ := state.ArenaBytes(tree)
	for reads := range 40 {
		disk.fails.Store(true)
		disk.reads.Store(int64(reads))
		if _, err := tree.Next(2, randomChanges(rng, 500, 3000), 2); !errors.Is(err, errRead) {
			t.Fatalf("after %d reads: %v, want the disk's error", reads, err)
		}
	}
	if after, _ := state.ArenaBytes(tree); after != before {
		t.Fatalf("%d bytes are in use, before the failures %d", after, before)
	}
}

// TestDeletionThatFailsTakesNothing: most keys go, so that nodes are looked through whose pages
// are on the disk alone. Wherever the disk fails, nothing is taken, and the next attempt is as if
// there had been none.
func TestDeletionThatFailsTakesNothing(t *testing.T) {
	disk := newShared()
	rng := rand.New(rand.NewPCG(6, 27))
	first := randomChanges(rng, 2500, 3000)
	m := model{}.apply(first)
	stored := must1(state.NewTree(disk, 0).Next(1, first, 1))(t)
	disk.ApplyBatch(stored.Batch())
	stored.Release()
	var gone []state.Change
	for _, c := range first {
		if rng.IntN(100) < 97 {
			gone = append(gone, state.Change{Key: c.Key, Deleted: true})
		}
	}
	tree := must1(state.OpenTree(disk, stored.Mark(), 0))(t)
	before, _ := state.ArenaBytes(tree)
	for reads := 0; ; reads += 1 + reads/8 {
		disk.fails.Store(true)
		disk.reads.Store(int64(reads))
		next, err := tree.Next(2, gone, 2)
		disk.fails.Store(false)
		if after, _ := state.ArenaBytes(tree); err != nil && after != before {
			t.Fatalf("after %d reads: %d bytes are in use, before the failures %d", reads, after, before)
		}
		if err == nil {
			if reads < 200 {
				t.Errorf("%d reads are all: little was on the disk alone", reads)
			}
			checkTree(t, next, m.apply(gone))
			break
		}
		if !errors.Is(err, errRead) {
			t.Fatalf("after %d reads: %v, want the disk's error", reads, err)
		}
	}
}

// Who reads a version while others are made and released beside sees that version, or is
// told that it is gone.
func TestReadersBesideReleases(t *testing.T) {
	disk := newShared()
	rng := rand.New(rand.NewPCG(5, 27))
	var mu sync.Mutex
	tip := must1(state.NewTree(disk, 0).Next(1, randomChanges(rng, 1500, 2000), 2))(t)
	ended := make(chan struct{})
	var readers sync.WaitGroup
	for id := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 28))
			for {
				select {
				case <-ended:
					return
				default:
				}
				mu.Lock()
				tree := tip
				mu.Unlock()
				if err := readVersion(tree, id, fmt.Sprintf("account/%d", rng.IntN(2000))); err != nil && !errors.Is(err, state.ErrReleased) {
					t.Errorf("version %d: %v", tree.Version(), err)
					return
				}
			}
		})
	}
	for version := uint64(2); version < 60; version++ {
		next := must1(tip.Next(version, randomChanges(rng, 200, 2000), 2))(t)
		mu.Lock()
		old := tip
		tip = next
		mu.Unlock()
		old.Release()
	}
	close(ended)
	readers.Wait()
	if used, own := state.ArenaBytes(tip); used != own {
		t.Fatalf("the last version has %d bytes, and %d are in use", own, used)
	}
}

// readVersion reads a tree in one of some ways and checks what it read.
func readVersion(tree *state.Tree, way int, key string) error {
	switch way {
	case 0:
		value, present, err := tree.Get([]byte(key))
		if err != nil {
			return err
		}
		proof, err := tree.Prove([]byte(key))
		if err != nil {
			return err
		}
		return proof.Verify(tree.Root(), []byte(key), value, present)
	case 1:
		return failure(tree.Checked(&state.TreeSize{}))
	}
	done, err := tree.Keep()
	if err != nil {
		return err
	}
	defer done()
	fresh := newShared()
	fresh.ApplyBatch(tree.Batch())
	again, err := state.OpenTree(fresh, tree.Mark(), 0)
	if err != nil {
		return fmt.Errorf("of its records: %w", err)
	}
	return failure(again.Checked(&state.TreeSize{}))
}

func failure(entries iter.Seq2[state.Entry, error]) error {
	for _, err := range entries {
		if err != nil {
			return err
		}
	}
	return nil
}

// Memory that was given back is never taken for a node.
func TestNodesThatAreGoneAreNotRead(t *testing.T) {
	disk := newShared()
	tree := must1(state.NewTree(disk, 0).Next(7, randomChanges(rand.New(rand.NewPCG(1, 27)), 100, 100), 1))(t)
	read := state.RootNode(tree)
	if slots := read(); slots == 0 {
		t.Fatal("the root has no slots")
	}
	tree.Release()
	defer func() {
		if recover() == nil {
			t.Error("a node that is gone was read")
		}
	}()
	read()
}

// Memory that no node is in is dropped but for some, by whole large pages where there are
// such, and what is in it then does not matter. What is kept was there first: in holes between
// what goes it could hold every large page.
func TestMemoryThatNobodyUsesIsDropped(t *testing.T) {
	for piece, whole := range map[int]int{0: 16 << 10, 4 << 20: 2 << 20} {
		disk := newShared()
		taken, dropped := 0, 0
		disk.arena = state.NewArena(func(atLeast int) []byte {
			taken += max(atLeast, piece)
			return make([]byte, max(atLeast, piece))
		}, func(memory []byte) {
			dropped += len(memory)
			if len(memory) != whole {
				t.Errorf("of pieces of %d bytes a part of %d was dropped, want %d", piece, len(memory), whole)
			}
			for i := range memory {
				memory[i] = 0xa5
			}
		})
		rng := rand.New(rand.NewPCG(9, 27))
		small := must1(state.NewTree(disk, 0).Next(1, randomChanges(rng, 1_000, 2_000), 2))(t)
		large := must1(state.NewTree(disk, 0).Next(1, randomChanges(rng, 140_000, 200_000), 2))(t)
		_, before := disk.arena.Bytes()
		large.Release()
		used, after := disk.arena.Bytes()
		if dropped == 0 || before-after != dropped || used > 4<<20 || after > 16<<20 {
			t.Fatalf("of %d bytes of memory %d were dropped and %d are left, for %d in use", before, dropped, after, used)
		}
		large = must1(small.Next(2, randomChanges(rng, 140_000, 200_000), 1))(t)
		for _, tree := range []*state.Tree{small, large} {
			if err := failure(tree.Checked(&state.TreeSize{})); err != nil {
				t.Fatal(err)
			}
		}
		if used, most := disk.arena.Bytes(); taken > most+dropped/2 {
			t.Errorf("%d bytes were taken for %d in use, of memory of %d: what was dropped is not used again", taken, used, most)
		}
	}
}
