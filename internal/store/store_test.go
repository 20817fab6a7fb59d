package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

func check(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func id(format string, args ...any) crypto.Digest {
	return crypto.DomainBlob.Hash(fmt.Appendf(nil, format, args...))
}

// history makes blocks of a small chain and remembers the state after each.
type history struct {
	tree   *state.Tree
	before *state.Tree // the last block
	rng    *rand.Rand
	states []map[string]string
}

func newHistory(reader state.NodeReader) *history {
	return &history{tree: state.NewTree(reader, 0), rng: rand.New(rand.NewPCG(1, 2))}
}

func (h *history) key() []byte { return fmt.Appendf(nil, "key/%02d", h.rng.IntN(40)) }

func (h *history) next(t testing.TB) store.Finalized {
	height := chain.Height(len(h.states))
	after := map[string]string{}
	if height > 0 {
		after = maps.Clone(h.states[height-1])
	}
	kv := state.NewOverlay(state.NewMemoryBackend())
	for range 15 {
		key := h.key()
		if h.rng.IntN(3) == 0 {
			kv.Delete(key)
			delete(after, string(key))
		} else {
			value := fmt.Sprintf("value %d at %d", h.rng.IntN(1000), height)
			kv.Set(key, []byte(value))
			after[string(key)] = value
		}
	}
	h.states = append(h.states, after)
	h.before = h.tree
	changes := kv.Changes()
	h.tree = must(h.tree.Next(uint64(height), changes, 1))(t)
	return store.Finalized{
		Height: height, Digest: id("block %d", height),
		Header: fmt.Appendf(nil, "header %d", height), Block: fmt.Appendf(nil, "block %d", height),
		Certificate: fmt.Appendf(nil, "certificate %d", height), Receipts: fmt.Appendf(nil, "receipts %d", height),
		Changes: changes, Tree: h.tree,
		Txs:    []crypto.Digest{id("tx %d/0", height), id("tx %d/1", height)},
		Orders: []store.OrderEntry{{Order: id("order %d", height%3), TxIndex: 1}, {Order: id("order"), TxIndex: 0}},
	}
}

// collect returns all of a state.
func collect(r state.Reader) map[string]string {
	out := map[string]string{}
	for k, v := range r.Iterate(nil, nil) {
		out[string(k)] = string(v)
	}
	return out
}

// checkWhole checks that a store holds the first n blocks of a history, each of
// them whole, and nothing of later ones.
func checkWhole(t *testing.T, s *store.Store, h *history, n int) {
	t.Helper()
	tip, ok := s.Latest()
	if ok != (n > 0) || ok && tip.Height != chain.Height(n-1) {
		t.Fatalf("the latest height is %d (%v), want %d blocks", tip.Height, ok, n)
	}
	for i := range chain.Height(n + 1) {
		stored := int(i) < n
		for name, read := range map[string]func(chain.Height) ([]byte, bool, error){
			"header": s.Header, "block": s.Block, "certificate": s.Certificate, "receipts": s.Receipts,
		} {
			data, ok, err := read(i)
			check(t, err)
			if want := fmt.Sprintf("%s %d", name, i); ok != stored || ok && string(data) != want {
				t.Fatalf("%s %d is %q (%v)", name, i, data, ok)
			}
		}
		height, ok, err := s.HeightOf(id("block %d", i))
		check(t, err)
		position, okTx, err := s.TxPosition(id("tx %d/1", i))
		check(t, err)
		if ok != stored || okTx != stored || ok && (height != i || position != store.Position{Height: i, Index: 1}) {
			t.Fatalf("block %d: digest leads to %d (%v), its transaction to %v (%v)", i, height, ok, position, okTx)
		}
	}
	if n == 0 {
		if got := collect(s.State()); len(got) != 0 {
			t.Fatalf("the empty store has a state: %v", got)
		}
		return
	}
	if got := collect(s.State()); !maps.Equal(got, h.states[n-1]) {
		t.Fatalf("the flat state has %d keys, want %d: %v", len(got), len(h.states[n-1]), got)
	}
	checkVersion(t, s, h, n-1)
}

// checkVersion checks the tree after a block.
func checkVersion(t *testing.T, s *store.Store, h *history, height int) {
	t.Helper()
	tree := must(s.OpenTree(chain.Height(height)))(t)
	got := map[string]string{}
	for e, err := range tree.Iterate(crypto.Digest{}) {
		check(t, err)
		got[string(e.Key)] = string(e.Value)
	}
	if !maps.Equal(got, h.states[height]) {
		t.Fatalf("the tree after %d has %d keys, want %d", height, len(got), len(h.states[height]))
	}
}

func TestCommitAndReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "db")
	archive := store.Options{TreeInterval: 1}
	s := must(store.Open(dir, archive))(t)
	h := newHistory(s)
	checkWhole(t, s, h, 0)
	for range 6 {
		check(t, s.Commit(h.next(t)))
	}
	checkWhole(t, s, h, 6)
	check(t, s.Close())

	s = must(store.Open(dir, archive))(t)
	checkWhole(t, s, h, 6)
	for i := range h.states {
		checkVersion(t, s, h, i)
	}
	h.tree = must(s.OpenTree(5))(t)
	check(t, s.Commit(h.next(t)))
	checkWhole(t, s, h, 7)
	check(t, s.Close())
}

// TestTreeIsWrittenAtIntervals restarts after every block: whatever was written
// of the tree, the latest version can be opened and gone on from.
func TestTreeIsWrittenAtIntervals(t *testing.T) {
	fs := vfs.NewMem()
	var h *history
	options := store.Options{TreeInterval: 4}
	for n := range 19 {
		s := must(store.OpenOn(fs, "db", options))(t)
		if h == nil {
			h = newHistory(s)
		} else {
			h.tree = must(s.OpenTree(chain.Height(n - 1)))(t)
		}
		check(t, s.Commit(h.next(t)))
		checkWhole(t, s, h, n+1)
		mark, ok := s.TreeMark()
		if want := uint64(n / 4 * 4); !ok || mark.Version != want {
			t.Fatalf("after block %d the tree on disk is version %d, want %d", n, mark.Version, want)
		}
		for i := range n + 1 {
			if i%4 == 0 || i > n/4*4 {
				checkVersion(t, s, h, i)
			} else if _, err := s.OpenTree(chain.Height(i)); !errors.Is(err, state.ErrNoVersion) {
				t.Fatalf("version %d: %v, want ErrNoVersion", i, err)
			}
		}
		check(t, s.Close())
	}
}

func TestDamagedChangesAreNamed(t *testing.T) {
	for name, data := range map[string][]byte{
		"cut key": {9, 'k'}, "no value": {1, 'k'}, "cut value": {1, 'k', 3, 'v'}, "other": {1, 'k', 2, 'v'},
	} {
		fs := vfs.NewMem()
		s := must(store.OpenOn(fs, "db", store.Options{}))(t)
		h := newHistory(s)
		check(t, s.Commit(h.next(t)))
		check(t, s.Commit(h.next(t)))
		check(t, s.SetRaw(append([]byte("k"), 0, 0, 0, 0, 0, 0, 0, 1), data))
		check(t, s.Close())
		s, err := store.OpenOn(fs, "db", store.Options{})
		if err == nil {
			_, err = s.OpenTree(1)
			check(t, s.Close())
		}
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func TestOrderPositionsPage(t *testing.T) {
	s := must(store.OpenMemory(store.Options{}))(t)
	h := newHistory(s)
	for range 7 {
		check(t, s.Commit(h.next(t)))
	}
	got := must(s.OrderPositions(id("order 1"), store.Position{}, 10))(t)
	if want := []store.Position{{Height: 1, Index: 1}, {Height: 4, Index: 1}}; !slices.Equal(got, want) {
		t.Errorf("order 1 is at %v, want %v", got, want)
	}
	got = must(s.OrderPositions(id("order"), store.Position{Height: 2, Index: 1}, 3))(t)
	if want := []store.Position{{Height: 3}, {Height: 4}, {Height: 5}}; !slices.Equal(got, want) {
		t.Errorf("the page after (2, 0) is %v, want %v", got, want)
	}
	if got := must(s.OrderPositions(id("no order"), store.Position{}, 3))(t); len(got) != 0 {
		t.Errorf("an unknown order is at %v", got)
	}
	check(t, s.Close())
}

func TestCommitRefusesOtherHeights(t *testing.T) {
	s := must(store.OpenMemory(store.Options{}))(t)
	h := newHistory(s)
	check(t, s.Commit(h.next(t)))
	block := h.next(t)
	for name, wrong := range map[string]func(f *store.Finalized){
		"gap":   func(f *store.Finalized) { f.Height = 2 },
		"again": func(f *store.Finalized) { f.Height = 0 },
	} {
		f := block
		wrong(&f)
		if err := s.Commit(f); !errors.Is(err, store.ErrHeight) {
			t.Errorf("%s: %v, want ErrHeight", name, err)
		}
	}
	for name, tree := range map[string]*state.Tree{
		"stored":      block.Tree.Persisted(block.Tree.Mark()),
		"later":       must(block.Tree.Next(9, nil, 1))(t),
		"not ours":    must(state.NewTree(s, 0).Next(1, block.Changes, 1))(t),
		"of a sister": must(must(state.NewTree(s, 0).Next(0, block.Changes, 1))(t).Next(1, nil, 1))(t),
	} {
		f := block
		f.Tree = tree
		if err := s.Commit(f); !errors.Is(err, store.ErrTree) {
			t.Errorf("a tree that is %s: %v, want ErrTree", name, err)
		}
	}
	checkWhole(t, s, h, 1)
	check(t, s.Commit(block))
	checkWhole(t, s, h, 2)
	check(t, s.Close())
}

func TestSnapshotStaysAsItWas(t *testing.T) {
	s := must(store.OpenMemory(store.Options{}))(t)
	h := newHistory(s)
	check(t, s.Commit(h.next(t)))
	snapshot := must(s.Snapshot())(t)
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	if got := collect(snapshot); !maps.Equal(got, h.states[0]) || snapshot.Tip().Height != 0 {
		t.Errorf("the snapshot of height %d holds %v, want %v", snapshot.Tip().Height, got, h.states[0])
	}
	for key, want := range h.states[0] {
		if value, ok := snapshot.Get([]byte(key)); !ok || string(value) != want {
			t.Errorf("the snapshot says %s = %q (%v), want %q", key, value, ok, want)
		}
	}
	check(t, snapshot.Close())
	check(t, s.Close())
}

func TestStateIteratesInRange(t *testing.T) {
	s := must(store.OpenMemory(store.Options{}))(t)
	h := newHistory(s)
	check(t, s.Commit(h.next(t)))
	keys := slices.Sorted(maps.Keys(h.states[0]))
	var got []string
	for k := range s.State().Iterate([]byte(keys[1]), []byte(keys[4])) {
		got = append(got, string(k))
	}
	if !slices.Equal(got, keys[1:4]) {
		t.Errorf("keys %v, want %v", got, keys[1:4])
	}
	for k := range s.State().Iterate([]byte(keys[2]), nil) {
		if string(k) != keys[2] {
			t.Errorf("the first key is %s, want %s", k, keys[2])
		}
		break
	}
	check(t, s.Close())
}

// TestCrashLosesNoCommittedBlock cuts the power at random moments of a history:
// what a crash leaves is the blocks whose Commit had returned, and perhaps the
// one under way.
func TestCrashLosesNoCommittedBlock(t *testing.T) {
	bounded(t)
	rng := rand.New(rand.NewPCG(3, 4))
	fs := newCrashable()
	s := must(store.OpenOn(fs, "db", store.Options{MemtableBytes: 1 << 20, TreeInterval: 3}))(t)
	h := newHistory(s)
	type crash struct {
		fs     *crashable
		blocks int // committed for certain
	}
	var crashes []crash
	for n := range 25 {
		block := h.next(t)
		done := make(chan error, 1)
		go func() { done <- s.Commit(block) }()
		// A clone while the commit runs, and one after it.
		crashes = append(crashes, crash{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}), n})
		check(t, <-done)
		crashes = append(crashes, crash{fs.CrashClone(vfs.CrashCloneCfg{}), n + 1})
	}
	check(t, s.Close())
	for i, c := range crashes {
		s := must(store.OpenOn(c.fs, "db", store.Options{MemtableBytes: 1 << 20, TreeInterval: 3}))(t)
		blocks := 0
		if tip, ok := s.Latest(); ok {
			blocks = int(tip.Height) + 1
		}
		if blocks != c.blocks && (i%2 == 1 || blocks != c.blocks+1) {
			t.Errorf("crash %d leaves %d blocks, %d were committed", i, blocks, c.blocks)
		}
		checkWhole(t, s, h, blocks)
		check(t, s.Close())
	}
}

func TestPruneLeavesTheLastVersions(t *testing.T) {
	bounded(t)
	fs := newCrashable()
	s := must(store.OpenOn(fs, "db", store.Options{TreeInterval: 1}))(t)
	h := newHistory(s)
	for range 20 {
		check(t, s.Commit(h.next(t)))
	}
	if p := must(s.Prune(context.Background(), store.PruneOptions{KeepVersions: 20}))(t); p != (store.Pruned{}) {
		t.Errorf("keeping all 20 versions prunes %+v", p)
	}
	if _, err := s.Prune(context.Background(), store.PruneOptions{}); err == nil {
		t.Error("keeping no version is accepted")
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if p := must(s.Prune(canceled, store.PruneOptions{KeepVersions: 5}))(t); p.Nodes != 0 {
		t.Errorf("a canceled context prunes %+v", p)
	}
	first := must(s.Prune(context.Background(), store.PruneOptions{KeepVersions: 5, NodesPerSecond: 1_000_000}))(t)
	if first.Versions != 15 || first.Nodes < 15 {
		t.Errorf("pruned %+v, want 15 versions", first)
	}
	checkPruned := func(s *store.Store, from, to int) {
		t.Helper()
		if before := must(s.PrunedBefore())(t); before != uint64(from) {
			t.Errorf("versions before %d are pruned, want %d", before, from)
		}
		for i := range to {
			if i >= from {
				checkVersion(t, s, h, i)
			} else if _, err := s.OpenTree(chain.Height(i)); !errors.Is(err, state.ErrNoVersion) {
				t.Errorf("version %d: %v, want ErrNoVersion", i, err)
			}
		}
	}
	checkPruned(s, 15, 20)
	if again := must(s.Prune(context.Background(), store.PruneOptions{KeepVersions: 5}))(t); again != (store.Pruned{}) {
		t.Errorf("pruning again does %+v", again)
	}
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if next := must(s.Prune(context.Background(), store.PruneOptions{KeepVersions: 5}))(t); next.Versions != 3 {
		t.Errorf("pruned %+v after 3 more blocks, want 3 versions", next)
	}
	checkPruned(s, 18, 23)
	checkWhole(t, s, h, 23)
	check(t, s.Close())

	s = must(store.OpenOn(crashed, "db", store.Options{}))(t)
	if _, err := s.Prune(context.Background(), store.PruneOptions{KeepVersions: 1}); err != nil {
		t.Error(err)
	}
	checkPruned(s, 21, 23) // the crash took the writing of version 22, though not the block
	check(t, s.Close())
}

func TestOneOwnerPerDirectory(t *testing.T) {
	dir := t.TempDir()
	s := must(store.Open(dir, store.Options{}))(t)
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second Open: %v, want ErrLocked", err)
	}
	check(t, s.Close())
	check(t, must(store.Open(dir, store.Options{}))(t).Close())
}

func TestOpenRefusesOtherDatabases(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(s *store.Store) error
		want  error
	}{
		"format": {func(s *store.Store) error { return s.SetFormat(99) }, store.ErrFormat},
		"latest": {func(s *store.Store) error { return s.SetRaw([]byte("mlatest"), []byte{1}) }, store.ErrCorrupt},
		"no tip": {func(s *store.Store) error { return s.SetRaw([]byte("mlatest"), make([]byte, 8)) }, store.ErrCorrupt},
	} {
		fs := vfs.NewMem()
		s := must(store.OpenOn(fs, "db", store.Options{}))(t)
		check(t, c.spoil(s))
		check(t, s.Close())
		if _, err := store.OpenOn(fs, "db", store.Options{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestFailingDiskIsAFault(t *testing.T) {
	bounded(t)
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if broken.Load() && o.Kind == errorfs.OpFileReadAt {
			return errorfs.ErrInjected
		}
		return nil
	}))
	s := must(store.OpenOn(fs, "db", store.Options{}))(t)
	h := newHistory(s)
	check(t, s.Commit(h.next(t)))
	check(t, s.Flush())
	broken.Store(true)
	for name, read := range map[string]func(){
		"Get":     func() { s.State().Get([]byte(slices.Sorted(maps.Keys(h.states[0]))[0])) },
		"Iterate": func() { collect(s.State()) },
	} {
		func() {
			defer func() {
				fault, ok := recover().(*state.Fault)
				if !ok || !errors.Is(fault, errorfs.ErrInjected) {
					t.Errorf("%s with a failing disk panics with %v, want a Fault with its cause", name, fault)
				}
			}()
			read()
		}()
	}
	if _, _, err := s.Block(0); !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("Block with a failing disk: %v", err)
	}
	broken.Store(false)
	checkWhole(t, s, h, 1)
	check(t, s.Close())
}

// TestOptions fails for a new field until it is considered here.
func TestOptions(t *testing.T) {
	defaults := must(store.Options{}.WithDefaults())(t)
	cases := map[string][]store.Options{
		"CacheBytes":    {{CacheBytes: 1}, {CacheBytes: 1 << 40}, {CacheBytes: -1}},
		"RecordBytes":   {{RecordBytes: 1 << 40}, {RecordBytes: -1}},
		"MemtableBytes": {{MemtableBytes: 1}, {MemtableBytes: 1 << 40}, {MemtableBytes: -1}},
		"TreeInterval":  {{TreeInterval: -1}, {TreeInterval: 1025}},
		"PendingBytes":  {{PendingBytes: 1}, {PendingBytes: 1 << 40}, {PendingBytes: -1}},
		"TreeBytes":     {{TreeBytes: 1}, {TreeBytes: 1 << 40}, {TreeBytes: -1}},
		"PointBytes":    {{PointBytes: 1}, {PointBytes: 1 << 40}, {PointBytes: -1}},
		"UnsafeNoSync":  nil,
		"ReadOnly":      nil,
		"Logger":        nil,
		"NodeMemory":    nil,
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[store.Options]()) {
		if !field.IsExported() { // of no use outside
			continue
		}
		bad, known := cases[field.Name]
		if !known {
			t.Errorf("field %s has no case", field.Name)
		}
		optional := field.Type.Kind() == reflect.Bool || field.Type.Kind() == reflect.Func
		if !optional && reflect.ValueOf(defaults).FieldByIndex(field.Index).IsZero() {
			t.Errorf("field %s has no default", field.Name)
		}
		for _, o := range bad {
			if _, err := store.Open(t.TempDir(), o); err == nil || !strings.Contains(err.Error(), field.Name) {
				t.Errorf("%+v: %v, want an error that names %s", o, err, field.Name)
			}
		}
	}
}

// BenchmarkCommit commits blocks of 1,000 transfers among 100,000 accounts: 4
// changed keys each, 300 bytes a transaction.
func BenchmarkCommit(b *testing.B) {
	const accounts, txs = 100_000, 1000
	s := must(store.Open(b.TempDir(), store.Options{}))(b)
	kv := state.NewOverlay(state.NewMemoryBackend())
	value := bytes.Repeat([]byte("v"), 40)
	account := func(i int) []byte {
		d := id("account %d", i)
		return append([]byte("a/"), d[:]...)
	}
	for i := range accounts {
		kv.Set(account(i), value)
	}
	tree := must(state.NewTree(s, 0).Next(0, kv.Changes(), 2))(b)
	check(b, s.Commit(store.Finalized{Changes: kv.Changes(), Tree: tree}))
	rng := rand.New(rand.NewPCG(5, 6))
	body := make([]byte, 300*txs)
	height := chain.Height(0)
	var building time.Duration
	for b.Loop() {
		b.StopTimer()
		height++
		kv := state.NewOverlay(state.NewMemoryBackend())
		f := store.Finalized{Height: height, Digest: id("block %d", height), Block: body, Receipts: make([]byte, 100*txs)}
		for i := range txs {
			f.Txs = append(f.Txs, id("tx %d/%d", height, i))
			for range 4 {
				kv.Set(account(rng.IntN(accounts)), fmt.Appendf(value, "%d/%d", height, i))
			}
		}
		f.Changes = kv.Changes()
		if mark, ok := s.TreeMark(); ok {
			tree = tree.Persisted(mark)
		}
		b.StartTimer()
		start := b.Elapsed()
		tree = must(tree.Next(uint64(height), f.Changes, 1))(b)
		f.Tree = tree
		building += b.Elapsed() - start
		check(b, s.Commit(f))
	}
	b.ReportMetric(float64(building.Microseconds())/1000/float64(height), "ms-tree/op")
	b.ReportMetric(float64((b.Elapsed()-building).Microseconds())/1000/float64(height), "ms-commit/op")
	check(b, s.Close())
}
