package store_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// The records in memory are the table's or are not there, whatever was taken in, changed,
// deleted and pushed out, and what was taken in last is there.
func TestRecordsAgreeWithTheTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	cache := must(store.NewRecords(1 << 20))(t)
	defer func() { check(t, cache.Close()) }()
	table := map[string]string{}
	key := func() []byte {
		n := rng.IntN(4_000)
		return []byte(fmt.Sprintf("%d %s", n, strings.Repeat("k", n%250)))
	}
	value := func() []byte { return bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(1100)) }
	served, absent, old := 0, 0, cache.Generation()
	for range 1_500 {
		at := cache.Generation()
		for range 60 {
			k := key()
			want, some := table[string(k)]
			got, ok := cache.Get(k, at)
			if ok && (!some || string(got) != want) {
				t.Fatalf("key %.10q has a value of %d bytes (%t), the table one of %d (%t)", k, len(got), ok, len(want), some)
			}
			if ok {
				served++
			}
			if _, ok := cache.Get(k, old); ok && old != at {
				t.Fatalf("a record in generation %d, of %d", old, at)
			}
			checkAbsence(t, cache, k, some, [2]uint64{old, at})
			if !some {
				absent++
				continue
			}
			cache.Put(k, []byte(want), old) // refused, or the same
			cache.Put(k, []byte(want), at)
			if _, ok := cache.Get(k, at); ok != (len(want) <= 1024) {
				t.Fatalf("a value of %d bytes is kept: %t", len(want), ok)
			}
		}
		old = at
		changes := someChanges(rng, key, value)
		cache.Change(changes, func() {
			during := cache.Generation()
			cache.Put([]byte("late"), []byte("old"), at)
			cache.Put([]byte("early"), []byte("new"), during)
			cache.Lack([]byte("late"), at)
			cache.Lack([]byte("early"), during)
		})
		for _, k := range []string{"late", "early"} {
			if _, ok := cache.Get([]byte(k), cache.Generation()); ok || cache.Lacks([]byte(k), cache.Generation()) {
				t.Fatalf("%s was taken in while the table changed", k)
			}
		}
		for _, c := range changes {
			if delete(table, string(c.Key)); !c.Deleted {
				table[string(c.Key)] = string(c.Value)
			}
		}
	}
	if served < 10_000 || absent < 10_000 {
		t.Errorf("%d reads were served, %d keys were not there", served, absent)
	}
	check(t, cache.Close())
	if _, ok := cache.Get(key(), cache.Generation()); ok {
		t.Error("a closed cache has records")
	}
	cache.Put([]byte("key"), nil, cache.Generation())
}

// someChanges returns up to 39 changes, a quarter of them deletions.
func someChanges(rng *rand.Rand, key, value func() []byte) (changes []*state.Change) {
	for range rng.IntN(40) {
		c := &state.Change{Key: key(), Value: value()}
		if c.Deleted = rng.IntN(4) == 0; c.Deleted {
			c.Value = nil
		}
		changes = append(changes, c)
	}
	return changes
}

// checkAbsence looks for a key among the absences in the generation before and in the one that is, and
// takes it in if the table does not have it.
func checkAbsence(t *testing.T, cache store.Records, k []byte, some bool, of [2]uint64) {
	t.Helper()
	old, at := of[0], of[1]
	if cache.Lacks(k, at) && some {
		t.Fatalf("key %.10q is said not to be there", k)
	}
	if cache.Lacks(k, old) && old != at {
		t.Fatalf("an absence in generation %d, of %d", old, at)
	}
	if some {
		return
	}
	cache.Lack(k, old) // refused, or the same
	cache.Lack(k, at)
	if lacks := cache.Lacks(k, at); lacks != (len(k) <= 40) {
		t.Fatalf("that a key of %d bytes is not there is kept: %t", len(k), lacks)
	}
}

const (
	besideKeys       = 64
	besideBlocks     = 120
	besideValueBytes = 1000
)

// beside is a store whose values are the heights that set them, and what they are
// after each block.
type beside struct {
	*testing.T
	store *store.Store
	tree  *state.Tree
	rng   *rand.Rand

	mu      sync.RWMutex
	history [][besideKeys]uint64 // 0: there is none
}

func besideKey(i int) []byte { return fmt.Appendf(nil, "key %02d", i) }

// commit commits the next block.
func (b *beside) commit() {
	height := uint64(len(b.history))
	var now [besideKeys]uint64
	if height > 0 {
		now = b.history[height-1]
	}
	var changes []state.Change
	for i := range now {
		if height > 0 && b.rng.IntN(2) == 0 {
			continue
		}
		c := state.Change{Key: besideKey(i), Value: make([]byte, besideValueBytes)}
		binary.BigEndian.PutUint64(c.Value, height)
		if now[i] = height; b.rng.IntN(5) == 0 {
			c.Value, c.Deleted, now[i] = nil, true, 0
		}
		changes = append(changes, c)
	}
	b.mu.Lock()
	b.history = append(b.history, now)
	b.mu.Unlock()
	b.tree = commitChanges(b.T, b.store, b.tree, chain.Height(height), changes)
}

// was reports whether a key was of a block after one of some blocks.
func (b *beside) was(i int, of, from, to uint64) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for height := from; height <= to && height < uint64(len(b.history)); height++ {
		if b.history[height][i] == of {
			return true
		}
	}
	return false
}

// read looks at many keys in one snapshot and in the latest state.
func (b *beside) read(rng *rand.Rand) {
	of := func(value []byte, ok bool) uint64 {
		if !ok || len(value) != besideValueBytes {
			return 0
		}
		return binary.BigEndian.Uint64(value)
	}
	latest := func() uint64 {
		tip, _ := b.store.Latest()
		return uint64(tip.Height)
	}
	snapshot := must(b.store.Snapshot())(b.T)
	height := uint64(snapshot.Tip().Height)
	var all [][]byte // and more than are looked for together
	for i := range 2 * besideKeys {
		all = append(all, besideKey(i))
	}
	state.Ahead(snapshot, all)
	state.Ahead(b.store.State(), all)
	for range 3 * besideKeys {
		i := rng.IntN(besideKeys)
		if got := of(snapshot.Get(besideKey(i))); !b.was(i, got, height, height) {
			b.Errorf("key %d after block %d is of block %d", i, height, got)
		}
		before := latest()
		got := of(b.store.State().Get(besideKey(i)))
		after := latest() + 1 // committed, and not yet named
		if !b.was(i, got, before, after) {
			b.Errorf("key %d is of block %d, which it was after none of the blocks %d to %d", i, got, before, after)
		}
	}
	check(b, snapshot.Close())
}

// Whoever reads beside commits and flushes sees the state after his snapshot's block, or,
// of the latest, after one that was the latest during the read, though what he
// read before is in memory.
func TestReadersBesideFlushes(t *testing.T) {
	bounded(t)
	s := must(store.OpenMemory(store.Options{PendingBytes: 1 << 20, TreeInterval: 3, UnsafeNoSync: true}))(t)
	b := &beside{T: t, store: s, tree: s.NewTree(), rng: rand.New(rand.NewPCG(9, 1))}
	b.commit()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for r := range 3 {
		rng := rand.New(rand.NewPCG(uint64(r), 2))
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					b.read(rng)
				}
			}
		})
	}
	for range besideBlocks {
		b.commit()
	}
	close(stop)
	readers.Wait()
	if s.Served() == 0 {
		t.Error("nothing that was read is in memory")
	}
	check(t, s.Close())
}
