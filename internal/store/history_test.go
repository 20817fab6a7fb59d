package store_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// dumbRoot computes the root of a state as package state defines it, from
// nothing but its pairs.
func dumbRoot(pairs map[string]string) crypto.Digest {
	type leaf struct{ position, hash crypto.Digest }
	var leaves []leaf
	for key, value := range pairs {
		position := crypto.DomainStateKey.Hash([]byte(key))
		leaves = append(leaves, leaf{position, crypto.DomainStateLeaf.HashPair(position, crypto.DomainStateValue.Hash([]byte(value)))})
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return a.position.Compare(b.position) })
	var root func(leaves []leaf, depth int) crypto.Digest
	root = func(leaves []leaf, depth int) crypto.Digest {
		switch len(leaves) {
		case 0:
			return crypto.Digest{}
		case 1:
			return leaves[0].hash
		}
		split := slices.IndexFunc(leaves, func(l leaf) bool { return l.position[depth/8]>>(7-depth%8)&1 == 1 })
		if split < 0 {
			split = len(leaves)
		}
		return crypto.DomainStateInner.HashPair(root(leaves[:split], depth+1), root(leaves[split:], depth+1))
	}
	return root(leaves, 0)
}

// crashDisk is a disk that can be cut off between any two of its writes.
type crashDisk struct {
	mem *crashable
	fs  vfs.FS
	rng *rand.Rand

	mu      sync.Mutex
	left    int // writes until the cut; negative: none is planned
	writes  int
	crashed *crashable // what the cut left
}

func newCrashDisk(mem *crashable, rng *rand.Rand) *crashDisk {
	// The cut comes while goroutines of the store write, beside the test's own.
	d := &crashDisk{mem: mem, rng: rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())), left: -1}
	d.fs = errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
		if changesDisk(o.Kind) || o.Kind == errorfs.OpRemove || o.Kind == errorfs.OpRemoveAll {
			d.beforeWrite()
		}
		return nil
	}))
	return d
}

func (d *crashDisk) beforeWrite() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	if d.left--; d.left == -1 {
		d.crashed = d.afterCrash()
	}
}

// afterCrash returns what a crash now would leave. What was not synced is there,
// or not, or by the block and by the file; but a file system keeps the order in
// which it makes files: if the marker of the database's list of tables is there,
// so is the list, which was made before it.
func (d *crashDisk) afterCrash() *crashable {
	percent := d.rng.IntN(3) * 50
	for {
		left := d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: d.rng})
		if markersLead(left, "db") {
			return left
		}
	}
}

// markersLead reports whether every marker in a directory names a file that is
// there.
func markersLead(disk vfs.FS, dir string) bool {
	names, err := disk.List(dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) // there is no database yet
	}
	for _, name := range names {
		const marker = "marker.manifest."
		if !strings.HasPrefix(name, marker) {
			continue
		}
		_, file, _ := strings.Cut(strings.TrimPrefix(name, marker), ".")
		if !slices.Contains(names, file) {
			return false
		}
	}
	return true
}

// plan lets the disk be cut off before the n-th write from now on.
func (d *crashDisk) plan(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// cut returns what the planned cut left; if it has not come yet, it comes now.
func (d *crashDisk) cut() *crashable {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed == nil {
		d.crashed = d.afterCrash()
	}
	return d.crashed
}

// world is a store and the dumb model of it: every state since genesis.
type world struct {
	t       testing.TB
	rng     *rand.Rand
	options store.Options
	disk    *crashDisk
	s       *store.Store
	tree    *state.Tree
	states  []map[string]string
	roots   []crypto.Digest
	ends    []int // heights of the blocks that ended epochs
	large   int   // bytes of a large value
}

func newWorld(t testing.TB, seed uint64, options store.Options) *world {
	rng := rand.New(rand.NewPCG(seed, 11))
	w := &world{t: t, rng: rng, options: options, disk: newCrashDisk(newCrashable(), rng), large: 30_000}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.s = must(store.OpenOn(w.disk.fs, "db", w.options))(w.t)
	if tip, some := w.s.Latest(); some {
		w.tree = must(w.s.OpenTree(tip.Height))(w.t)
	} else {
		w.tree = state.NewTree(w.s, 4000)
	}
}

// block makes the next block; now and then one that is large enough for a flush
// that makes tables.
func (w *world) block(closing bool) store.Finalized {
	height := len(w.states)
	after := map[string]string{}
	if height > 0 {
		after = maps.Clone(w.states[height-1])
	}
	kv := state.NewOverlay(state.NewMemoryBackend())
	size := 1 + w.rng.IntN(20)
	if w.rng.IntN(3) == 0 {
		size = w.large
	}
	for range w.rng.IntN(25) {
		key := fmt.Sprintf("key/%d", w.rng.IntN(60))
		if w.rng.IntN(3) == 0 {
			kv.Delete([]byte(key))
			delete(after, key)
			continue
		}
		value := bytes.Repeat([]byte{byte(w.rng.Uint32())}, w.rng.IntN(size))
		kv.Set([]byte(key), value)
		after[key] = string(value)
	}
	w.states, w.roots = append(w.states, after), append(w.roots, dumbRoot(after))
	f := store.Finalized{
		Height: chain.Height(height), Digest: id("block %d", height), Header: fmt.Appendf(nil, "header %d", height),
		Block: fmt.Appendf(nil, "block %d", height), Certificate: fmt.Appendf(nil, "certificate %d", height), Receipts: fmt.Appendf(nil, "receipts %d", height),
		Changes: kv.Changes(), Txs: []crypto.Digest{id("tx %d/0", height), id("tx %d/1", height)},
	}
	if closing && height > 0 {
		f.Closing = &store.Closing{Epoch: uint64(len(w.ends)), Record: []byte("end"), Before: w.tree}
		w.ends = append(w.ends, height)
	}
	if mark, some := w.s.TreeMark(); some {
		w.tree = w.tree.Persisted(mark)
	}
	w.tree = must(w.tree.Next(uint64(height), f.Changes, 1+w.rng.IntN(2)))(w.t)
	if w.tree.Root() != w.roots[height] {
		w.t.Fatalf("block %d: root %v, the model says %v", height, w.tree.Root(), w.roots[height])
	}
	f.Tree = w.tree
	return f
}

// crash goes on from what a cut of the disk left: every block committed for
// certain, and perhaps one more.
func (w *world) crash(certain int) {
	w.t.Helper()
	left := w.disk.cut()
	check(w.t, w.s.Close())
	w.disk = newCrashDisk(left, w.rng)
	w.open()
	blocks := 0
	if tip, some := w.s.Latest(); some {
		blocks = int(tip.Height) + 1
	}
	if blocks < certain || blocks > len(w.states) {
		w.t.Fatalf("after a crash there are %d blocks, %d were committed for certain, %d in all", blocks, certain, len(w.states))
	}
	w.states, w.roots = w.states[:blocks], w.roots[:blocks]
	w.ends = slices.DeleteFunc(w.ends, func(h int) bool { return h >= blocks })
	w.checkAll()
}

// checkAll compares everything that the store says with the model.
func (w *world) checkAll() {
	w.t.Helper()
	n := len(w.states)
	tip, some := w.s.Latest()
	if some != (n > 0) || some && int(tip.Height) != n-1 {
		w.t.Fatalf("the latest is %d (%v), want %d blocks", tip.Height, some, n)
	}
	if n == 0 {
		return
	}
	if tip.StateRoot != w.roots[n-1] {
		w.t.Fatalf("the tip's root is %v, the model says %v", tip.StateRoot, w.roots[n-1])
	}
	snapshot := must(w.s.Snapshot())(w.t)
	for name, r := range map[string]state.Reader{"state": w.s.State(), "snapshot": snapshot} {
		if got := collect(r); !maps.Equal(got, w.states[n-1]) {
			w.t.Fatalf("the %s of height %d has %d keys, want %d", name, n-1, len(got), len(w.states[n-1]))
		}
		for k := range 60 {
			key := fmt.Sprintf("key/%d", k)
			value, ok := r.Get([]byte(key))
			if want, present := w.states[n-1][key]; ok != present || string(value) != want {
				w.t.Fatalf("the %s of height %d says of %s %d bytes (%v), want %d (%v)", name, n-1, key, len(value), ok, len(want), present)
			}
		}
	}
	check(w.t, snapshot.Close())
	for height := range n {
		w.checkVersion(height)
		for i := range uint32(2) {
			want := store.Position{Height: chain.Height(height), Index: i}
			if at, ok, err := w.s.TxPosition(id("tx %d/%d", height, i)); err != nil || !ok || at != want {
				w.t.Fatalf("a transaction is at %v (%v, %v), want %v", at, ok, err, want)
			}
		}
	}
	w.checkPoints()
	for i, height := range w.ends {
		if end, ok, err := w.s.EpochEnd(uint64(i)); err != nil || !ok || int(end.Height) != height {
			w.t.Fatalf("the end of epoch %d: %+v, %v, %v", i, end, ok, err)
		}
	}
}

// checkLists checks after a flush that of what the tables hold no list is left,
// whenever the disk was cut off.
func (w *world) checkLists() {
	w.t.Helper()
	mark, _ := w.s.TreeMark()
	lists := must(w.s.Lists())(w.t)
	if of := must(w.s.TxLists())(w.t); !slices.Equal(of, lists) {
		w.t.Fatalf("there are lists of the transactions of blocks %d, of the changes of blocks %d", of, lists)
	}
	for i, height := range lists {
		if height != mark.Version+1+uint64(i) {
			w.t.Fatalf("there are lists of blocks %d, the tables hold version %d", lists, mark.Version)
		}
	}
	if len(lists) != len(w.states)-1-int(mark.Version) {
		w.t.Fatalf("there are lists of blocks %d, the tables hold version %d of %d", lists, mark.Version, len(w.states)-1)
	}
}

// checkPoints checks that there is a point from the last end of an epoch on, and that
// without others the last two ends are points.
func (w *world) checkPoints() {
	w.t.Helper()
	if len(w.ends) == 0 {
		return
	}
	points := must(w.s.Points(100))(w.t)
	if len(points) == 0 || int(points[0]) < w.ends[len(w.ends)-1] || !slices.IsSortedFunc(points, func(a, b chain.Height) int { return cmp.Compare(b, a) }) {
		w.t.Fatalf("the points are %d, epochs ended with blocks %d", points, w.ends)
	}
	if w.options.PointBytes > 0 {
		return
	}
	for i, end := range slices.Backward(w.ends) {
		if i+2 >= len(w.ends) && !slices.Contains(points, chain.Height(end)) {
			w.t.Fatalf("the points are %d, epochs ended with blocks %d", points, w.ends)
		}
	}
}

// checkVersion compares a version of the tree, if it can be opened, as it must
// when it is late or before a point.
func (w *world) checkVersion(height int) {
	w.t.Helper()
	mark, _ := w.s.TreeMark()
	needed := uint64(height) >= mark.Version
	if must(w.s.IsPoint(chain.Height(height) + 1))(w.t) {
		needed = true
	}
	tree, err := w.s.OpenTree(chain.Height(height))
	if errors.Is(err, state.ErrNoVersion) && !needed {
		return
	}
	check(w.t, err)
	if tree.Root() != w.roots[height] {
		w.t.Fatalf("version %d has root %v, the model says %v", height, tree.Root(), w.roots[height])
	}
	got := map[string]string{}
	for e, err := range tree.Iterate(crypto.Digest{}) {
		check(w.t, err)
		got[string(e.Key)] = string(e.Value)
	}
	if !maps.Equal(got, w.states[height]) {
		w.t.Fatalf("version %d has %d leaves, want %d", height, len(got), len(w.states[height]))
	}
	key := fmt.Sprintf("key/%d", w.rng.IntN(60))
	value, present := w.states[height][key]
	var shown []byte
	if present {
		shown = []byte(value)
	}
	check(w.t, must(tree.Prove([]byte(key)))(w.t).Verify(w.roots[height], []byte(key), shown, present))
}

// TestHistoriesAgreeWithTheModel runs random histories of blocks, ends of epochs,
// pruning, restarts and crashes between any two writes, and compares the store
// with a map for every height and a root computed from nothing but its pairs.
func TestHistoriesAgreeWithTheModel(t *testing.T) {
	bounded(t)
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(r, "seed"), store.Options{
			TreeInterval: rapid.SampledFrom([]int{1, 3, 1000}).Draw(r, "interval"), PendingBytes: 1 << 20, MemtableBytes: 1 << 20,
			PointBytes: rapid.SampledFrom([]int64{0, 1 << 10}).Draw(r, "point bytes"),
		})
		for range rapid.IntRange(5, 20).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"block", "block", "block", "end", "prune", "reopen", "cut", "crash"}).Draw(r, "step") {
			case "block":
				check(t, w.s.Commit(w.block(false)))
			case "end":
				check(t, w.s.Commit(w.block(true)))
			case "prune":
				must(w.s.Prune(context.Background(), store.PruneOptions{KeepVersions: uint64(rapid.IntRange(1, 4).Draw(r, "keep"))}))(t)
			case "reopen":
				check(t, w.s.Close())
				w.open()
				w.checkAll()
			case "cut":
				w.disk.plan(rapid.IntRange(0, 30).Draw(r, "writes"))
				certain := len(w.states)
				check(t, w.s.Commit(w.block(rapid.Bool().Draw(r, "end"))))
				must(w.s.Prune(context.Background(), store.PruneOptions{KeepVersions: 2}))(t)
				w.crash(certain)
			case "crash":
				w.crash(len(w.states))
			}
		}
		w.checkAll()
		check(t, w.s.Close())
	})
}

// TestCrashBetweenAnyTwoWrites cuts one history off before each of its writes in
// turn, and goes on from there.
func TestCrashBetweenAnyTwoWrites(t *testing.T) {
	bounded(t)
	for _, points := range []int64{0, 1 << 10} {
		t.Run(fmt.Sprint(points), func(t *testing.T) { crashBetweenAnyTwoWrites(t, points) })
	}
}

func crashBetweenAnyTwoWrites(t *testing.T, points int64) {
	options := store.Options{TreeInterval: 3, PendingBytes: 1 << 20, MemtableBytes: 1 << 20, PointBytes: points}
	for n := 0; ; n++ {
		w := newWorld(t, 99, options)
		w.disk.plan(n)
		certain := 0
		for i := range 10 {
			w.disk.mu.Lock()
			if w.disk.crashed == nil {
				certain = i
			}
			w.disk.mu.Unlock()
			check(t, w.s.Commit(w.block(i == 6 || i == 2 && points > 0)))
		}
		must(w.s.Prune(context.Background(), store.PruneOptions{KeepVersions: 2}))(t)
		w.disk.mu.Lock()
		over := w.disk.crashed == nil
		w.disk.mu.Unlock()
		if over {
			check(t, w.s.Close())
			if n < 60 {
				t.Errorf("the history has only %d writes", n)
			}
			return
		}
		w.crash(certain)
		check(t, w.s.Commit(w.block(false)))
		check(t, w.s.Commit(w.block(true)))
		w.checkAll()
		w.checkLists()
		check(t, w.s.Close())
	}
}

// TestABlockCostsOneSync counts the syncs of the database's log: one for each
// block, whether the state and the tree go with it or not.
func TestABlockCostsOneSync(t *testing.T) {
	var syncs atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if strings.HasSuffix(o.Path, ".log") && (o.Kind == errorfs.OpFileSync || o.Kind == errorfs.OpFileSyncData) {
			syncs.Add(1)
		}
		return nil
	}))
	s := must(store.OpenOn(fs, "db", store.Options{TreeInterval: 3}))(t)
	h := newHistory(s)
	for n := range 10 {
		block := h.next(t)
		before := syncs.Load()
		check(t, s.Commit(block))
		if got := syncs.Load() - before; got != 1 {
			t.Errorf("block %d cost %d syncs of the log", n, got)
		}
	}
	check(t, s.Close())
}

// manyChanges returns changes of so many keys, enough for a flush that makes tables.
func manyChanges(keys int, height chain.Height) (changes []state.Change) {
	for i := range keys {
		changes = append(changes, state.Change{Key: fmt.Appendf(nil, "key/%05d", i), Value: fmt.Appendf(nil, "%d/%d", i, height)})
	}
	return changes
}

// TestABlockBesideTheEndOfAFlushWaits commits a block when the tables hold the version of
// the flush before it, which is not over yet: its state goes to the disk with the next
// block's, and not by itself.
func TestABlockBesideTheEndOfAFlushWaits(t *testing.T) {
	bounded(t)
	ending, end := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := must(store.OpenMemory(store.Options{TreeInterval: 1, PendingBytes: 1 << 20, NodeMemory: func(int) {
		once.Do(func() {
			close(ending)
			select {
			case <-end:
			case <-time.After(2 * time.Minute): // it was within the commit
			}
		})
	}}))(t)
	tree := s.NewTree()
	written := func(height uint64, waiting ...uint64) {
		t.Helper()
		if mark, some := s.TreeMark(); !some || mark.Version != height {
			t.Fatalf("the tables hold version %d (%v), want %d", mark.Version, some, height)
		}
		if lists := must(s.Lists())(t); !slices.Equal(lists, waiting) {
			t.Fatalf("blocks %d wait, want %d", lists, waiting)
		}
	}
	tree = commitChanges(t, s, tree, 0, manyChanges(4000, 0))
	check(t, ends(t, "a flush beside the commits", func() error { <-ending; return nil }))
	written(0)
	tree = commitChanges(t, s, tree, 1, manyChanges(4000, 1))
	written(0, 1)
	close(end)
	check(t, s.Rest())
	written(0, 1)
	commitChanges(t, s, tree, 2, manyChanges(10, 2))
	check(t, s.Rest())
	written(2)
	for key, value := range collect(s.State()) {
		want := "/1"
		if key < "key/00010" {
			want = "/2"
		}
		if !strings.HasSuffix(value, want) {
			t.Fatalf("%s is %s, want one of block %s", key, value, want)
		}
	}
	check(t, s.Close())
}

// TestPruneTakesWhatTensOfThousandsOfRecordsLeft prunes a version that made more
// records stale than one part of its list names.
func TestPruneTakesWhatTensOfThousandsOfRecordsLeft(t *testing.T) {
	bounded(t)
	s := must(store.OpenMemory(store.Options{TreeInterval: 1, PendingBytes: 1 << 20}))(t)
	const keys = 4000
	tree := s.NewTree()
	for height := range chain.Height(2) {
		tree = commitChanges(t, s, tree, height, manyChanges(keys, height))
		check(t, s.Rest()) // a block that comes before the flush is over is not written with it
	}
	pruned := must(s.Prune(t.Context(), store.PruneOptions{KeepVersions: 1}))(t)
	if pruned.Nodes < keys || pruned.Versions != 1 {
		t.Errorf("pruned %+v, want %d leaves and their nodes", pruned, keys)
	}
	if again := must(s.Prune(t.Context(), store.PruneOptions{KeepVersions: 1}))(t); again != (store.Pruned{}) {
		t.Errorf("pruning again does %+v", again)
	}
	if _, err := s.OpenTree(0); !errors.Is(err, state.ErrNoVersion) {
		t.Errorf("version 0: %v", err)
	}
	got := 0
	for e, err := range must(s.OpenTree(1))(t).Iterate(crypto.Digest{}) {
		check(t, err)
		if !strings.HasSuffix(string(e.Value), "/1") {
			t.Fatalf("%s is %s", e.Key, e.Value)
		}
		got++
	}
	if got != keys {
		t.Errorf("%d leaves are left of %d", got, keys)
	}
	check(t, s.Close())
}
