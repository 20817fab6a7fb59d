package store_test

import (
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// The load of the tree's benchmarks: 32-byte keys with 100-byte values, of which
// each version updates some at random.
const (
	benchValueBytes = 100
	benchUpdates    = 2000
)

// treeLoad makes the changes of versions.
type treeLoad struct {
	keys   []crypto.Digest // ascending
	values []byte
	rng    *rand.Rand
}

// newTreeLoad returns a load over so many keys; HYPERMESH_BENCH_KEYS overrides it.
func newTreeLoad(keys int) *treeLoad {
	if n, err := strconv.Atoi(os.Getenv("HYPERMESH_BENCH_KEYS")); err == nil {
		keys = n
	}
	l := &treeLoad{keys: make([]crypto.Digest, keys), values: make([]byte, 1<<20), rng: rand.New(rand.NewPCG(7, 8))}
	for i := range l.values {
		l.values[i] = byte(l.rng.Uint32())
	}
	for i := range l.keys {
		l.keys[i] = id("key %d", i)
	}
	slices.SortFunc(l.keys, crypto.Digest.Compare)
	return l
}

// treeBytes is what the nodes of a tree of so many keys take in memory.
func (l *treeLoad) treeBytes() int { return max(state.DefaultResidentBytes, 128*len(l.keys)) }

func (l *treeLoad) value() []byte {
	at := l.rng.IntN(len(l.values) - benchValueBytes)
	return l.values[at:][:benchValueBytes:benchValueBytes]
}

// version returns n random updates.
func (l *treeLoad) version(n int) []state.Change {
	picked := make([]int, n)
	for i := range picked {
		picked[i] = l.rng.IntN(len(l.keys))
	}
	slices.Sort(picked)
	picked = slices.Compact(picked)
	out := make([]state.Change, len(picked))
	for i, k := range picked {
		out[i] = state.Change{Key: l.keys[k][:], Value: l.value()}
	}
	return out
}

// fill commits every key, in blocks of 10,000.
func (l *treeLoad) fill(b testing.TB, s *store.Store) *state.Tree {
	tree := state.NewTree(s, l.treeBytes())
	const perBlock = 10_000
	order := l.rng.Perm(len(l.keys))
	height := chain.Height(0)
	for part := range slices.Chunk(order, perBlock) {
		slices.Sort(part)
		changes := make([]state.Change, len(part))
		for i, k := range part {
			changes[i] = state.Change{Key: l.keys[k][:], Value: l.value()}
		}
		tree = commitChanges(b, s, tree, height, changes)
		height++
	}
	return tree
}

func commitChanges(b testing.TB, s *store.Store, tree *state.Tree, height chain.Height, changes []state.Change) *state.Tree {
	if mark, ok := s.TreeMark(); ok {
		tree = tree.Persisted(mark)
	}
	next := must(tree.Next(uint64(height), changes, 2))(b)
	check(b, s.Commit(store.Finalized{Height: height, Digest: id("block %d", height), Changes: changes, Tree: next}))
	tree.Release()
	return next
}

// processor returns the processor time that the process has used.
func processor(b *testing.B) time.Duration {
	var r syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// profiled begins a processor profile in the file that HYPERMESH_BENCH_PROFILE
// names, if it does: of what is measured, and not of filling the store before.
func profiled(b *testing.B) (end func()) {
	path := os.Getenv("HYPERMESH_BENCH_PROFILE")
	if path == "" {
		return func() {}
	}
	file := must(os.Create(path))(b)
	check(b, pprof.StartCPUProfile(file))
	return func() {
		pprof.StopCPUProfile()
		check(b, file.Close())
	}
}

// BenchmarkTreeUpdate commits versions of 2,000 random updates of a million
// keys, each synced: the whole of it, with the flat state, the tree, and
// whatever the database does in the background.
func BenchmarkTreeUpdate(b *testing.B) {
	load := newTreeLoad(1_000_000)
	s := must(store.Open(b.TempDir(), store.Options{TreeBytes: int64(load.treeBytes())}))(b)
	tree := load.fill(b, s)
	height := chain.Height(tree.Version())
	var updates int
	var next, commit time.Duration
	defer profiled(b)()
	began := processor(b)
	b.ResetTimer()
	for b.Loop() {
		changes := load.version(benchUpdates)
		updates += len(changes)
		height++
		if mark, ok := s.TreeMark(); ok {
			tree = tree.Persisted(mark)
		}
		t0 := time.Now()
		before := tree
		tree = must(before.Next(uint64(height), changes, 2))(b)
		before.Release()
		t1 := time.Now()
		check(b, s.Commit(store.Finalized{Height: height, Digest: id("block %d", height), Changes: changes, Tree: tree}))
		next += t1.Sub(t0)
		commit += time.Since(t1)
	}
	elapsed := b.Elapsed()
	used := processor(b) - began
	b.ReportMetric(float64(updates)/elapsed.Seconds(), "updates/s")
	b.ReportMetric(float64(used.Nanoseconds())/1000/float64(updates), "core-µs/update")
	b.ReportMetric(float64(next.Microseconds())/float64(updates), "next-µs/update")
	b.ReportMetric(float64(commit.Microseconds())/float64(updates), "commit-µs/update")
	nodes, memory := s.Arena().Bytes()
	b.ReportMetric(float64(nodes)/(1<<20), "nodes-MiB")
	b.ReportMetric(float64(memory)/(1<<20), "arena-MiB")
	check(b, s.Close())
}
