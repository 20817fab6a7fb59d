package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/store"
)

// settings are what BenchmarkSettings compares with the defaults, which begin and end
// each round.
var settings = []struct {
	name   string
	change func(*store.Options)
}{
	{"defaults", func(*store.Options) {}},
	{"no-bloom", tuned(func(p *pebble.Options) {
		for i := range p.Levels {
			p.Levels[i].FilterPolicy = nil
		}
	})},
	{"cache-8MiB", func(o *store.Options) { o.CacheBytes = 8 << 20 }},
	{"cache-192MiB", func(o *store.Options) { o.CacheBytes = 192 << 20 }},
	{"merge-8-flushes", tuned(func(p *pebble.Options) { p.L0CompactionThreshold = 8 })},
	{"level-64MiB", tuned(func(p *pebble.Options) { p.LBaseMaxBytes = 64 << 20 })},
	{"one-merge-at-a-time", tuned(func(p *pebble.Options) { p.CompactionConcurrencyRange = func() (int, int) { return 1, 1 } })},
	{"pending-12MiB", func(o *store.Options) { o.PendingBytes = 12 << 20 }},
	{"memtable-24MiB", func(o *store.Options) { o.MemtableBytes = 24 << 20 }},
	{"defaults-again", func(*store.Options) {}},
}

func tuned(change func(*pebble.Options)) func(*store.Options) {
	return func(o *store.Options) { o.Tune(change) }
}

// BenchmarkSettings measures what each setting of the database buys (docs/BENCHMARKS.md):
// with each in turns, two rounds, 400,000 keys, of which 200 versions change 2,000 each;
// then, after a restart, reads of keys that no version changed, and of keys that are not
// there, none of which memory holds. Processor time is the whole process's, merges included.
func BenchmarkSettings(b *testing.B) {
	const keys, rounds = 400_000, 2
	load := newTreeLoad(keys)
	for round := range rounds {
		for _, setting := range settings {
			b.Run(fmt.Sprintf("%d/%s", round+1, setting.name), func(b *testing.B) {
				options := store.Options{RecordBytes: 1}
				setting.change(&options)
				var update, read, absent time.Duration
				n := 0
				for b.Loop() {
					u, r, a := load.measure(b, options)
					update, read, absent = update+u, read+r, absent+a
					n++
				}
				b.ReportMetric(float64(update.Nanoseconds())/1e3/float64(n), "core-µs/update")
				b.ReportMetric(float64(read.Nanoseconds())/1e3/float64(n), "core-µs/read")
				b.ReportMetric(float64(absent.Nanoseconds())/1e3/float64(n), "core-µs/absent")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// measure returns what an update, a read of a key that is there, and one of a key that is
// not take of a new store.
func (l *treeLoad) measure(b *testing.B, options store.Options) (update, read, absent time.Duration) {
	b.Helper()
	const versions, reads = 200, 20_000
	dir := b.TempDir()
	s := must(store.Open(dir, options))(b)
	tree := l.fill(b, s)
	height, updates := chain.Height(tree.Version()), 0
	changed := make(map[string]bool, len(l.keys))
	began := processor(b)
	for range versions {
		changes := l.version(benchUpdates)
		updates += len(changes)
		height++
		tree = commitChanges(b, s, tree, height, changes)
		for _, c := range changes {
			changed[string(c.Key)] = true
		}
	}
	check(b, s.Close())
	update = (processor(b) - began) / time.Duration(updates)
	var still []crypto.Digest
	for _, key := range l.keys {
		if !changed[string(key[:])] {
			still = append(still, key)
		}
	}

	s = must(store.Open(dir, options))(b)
	state, random := s.State(), rand.New(rand.NewPCG(1, 2))
	get := func(there bool) time.Duration {
		began := processor(b)
		for range reads {
			key := still[random.IntN(len(still))]
			if !there {
				key[31] ^= 0x55
			}
			if _, ok := state.Get(key[:]); ok != there {
				b.Fatalf("key %x is there: %v", key, ok)
			}
		}
		return (processor(b) - began) / reads
	}
	get(true) // the cache fills
	read, absent = get(true), get(false)
	check(b, s.Close())
	return update, read, absent
}
