package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// damageOptions make every kind of file in a short history.
var damageOptions = store.Options{TreeInterval: 6, PendingBytes: 1 << 20, MemtableBytes: 1 << 20, CacheBytes: 1 << 20}

// damageWorld returns a history whose store has tables of every level, a log with
// blocks in it, and whatever else a database has.
func damageWorld(t *testing.T) *world {
	w := newWorld(t, 5, damageOptions)
	w.large = 8000
	for i := range 22 {
		check(t, w.s.Commit(w.block(i == 8)))
		if i == 14 {
			check(t, w.s.Flush())
			check(t, w.s.Compact(t.Context()))
		}
	}
	must(w.s.Prune(context.Background(), store.PruneOptions{KeepVersions: 10}))(t)
	check(t, w.s.Close())
	return w
}

// kindOf returns what kind of file a name is of.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".sst"):
		return "table"
	case strings.HasSuffix(name, ".log"):
		return "log"
	}
	return strings.TrimRight(name, "0123456789.")
}

// flipBit changes one bit of a file.
func flipBit(t *testing.T, fs vfs.FS, path string, bit int64) {
	t.Helper()
	f := must(fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified))(t)
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	must(f.WriteAt(b[:], bit/8))(t)
	check(t, f.Close())
}

// answers reads everything, and returns the first error. Whatever it is told
// must be what the model says of the height that the store is at.
func (w *world) answers(s *store.Store) (blocks int, err error) {
	defer func() {
		if fault, ok := recover().(*state.Fault); ok {
			err = fault
		}
	}()
	tip, some := s.Latest()
	if !some {
		return 0, nil
	}
	blocks = int(tip.Height) + 1
	if got := collect(s.State()); !maps.Equal(got, w.states[tip.Height]) {
		w.t.Fatalf("the state of height %d is wrong", tip.Height)
	}
	for k := range 60 {
		key := fmt.Sprintf("key/%d", k)
		value, ok := s.State().Get([]byte(key))
		if want, present := w.states[tip.Height][key]; ok != present || string(value) != want {
			w.t.Fatalf("the state of height %d says of %s %d bytes (%v), want %d (%v)", tip.Height, key, len(value), ok, len(want), present)
		}
	}
	for i := range tip.Height + 1 {
		for name, read := range map[string]func(chain.Height) ([]byte, bool, error){
			"header": s.Header, "block": s.Block, "certificate": s.Certificate, "receipts": s.Receipts,
		} {
			data, ok, err := read(i)
			if err != nil {
				return blocks, err
			}
			if want := fmt.Sprintf("%s %d", name, i); !ok || string(data) != want {
				w.t.Fatalf("the %s of block %d is %q (%v)", name, i, data, ok)
			}
		}
		position, ok, err := s.TxPosition(id("tx %d/1", i))
		if err != nil {
			return blocks, err
		}
		if !ok || position != (store.Position{Height: i, Index: 1}) {
			w.t.Fatalf("a transaction of block %d is at %v (%v)", i, position, ok)
		}
		if err := w.versionAnswers(s, i); err != nil {
			return blocks, err
		}
	}
	return blocks, s.Err()
}

func (w *world) versionAnswers(s *store.Store, height chain.Height) error {
	tree, err := s.OpenTree(height)
	if errors.Is(err, state.ErrNoVersion) {
		return nil
	}
	if err != nil {
		return err
	}
	got := map[string]string{}
	for e, err := range tree.Iterate(crypto.Digest{}) {
		if err != nil {
			return err
		}
		got[string(e.Key)] = string(e.Value)
	}
	if tree.Root() != w.roots[height] || !maps.Equal(got, w.states[height]) {
		w.t.Fatalf("version %d of the tree is wrong", height)
	}
	return nil
}

// TestFlippedBitsAreNamed flips single bits in every file of a store that was not
// closed, one at a time: either it does not open, or a read ends with an error, and the error
// names the file; or everything it says is right.
func TestFlippedBitsAreNamed(t *testing.T) {
	bounded(t)
	w := damageWorld(t)
	rng := rand.New(rand.NewPCG(1, 9))
	outcomes := map[string]map[string]int{}
	for _, name := range must(w.disk.mem.List("db"))(t) {
		info, err := w.disk.mem.Stat("db/" + name)
		check(t, err)
		if info.IsDir() || info.Size() == 0 || name == "SEAL" {
			continue
		}
		kind := kindOf(name)
		if outcomes[kind] == nil {
			outcomes[kind] = map[string]int{}
		}
		flips := 12
		if testing.Short() {
			flips = 3
		}
		for range flips {
			bit := rng.Int64N(8 * info.Size())
			copied := w.disk.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
			check(t, copied.Remove("db/SEAL")) // as after a crash: with it every flip is found before anything else
			flipBit(t, copied, "db/"+name, bit)
			outcome := w.outcome(copied, name)
			outcomes[kind][outcome]++
			if outcome == "unnamed" {
				t.Errorf("bit %d of %s: the error does not name the file", bit, name)
			}
		}
	}
	t.Log(outcomes)
	for _, kind := range []string{"table", "log", "MANIFEST-", "OPTIONS-"} {
		if outcomes[kind] == nil {
			t.Errorf("there is no %s among %v", kind, slices.Collect(maps.Keys(outcomes)))
		}
	}
	if table := outcomes["table"]; table["named"] == 0 || table["behind"] > 0 {
		t.Errorf("flips in tables: %v", table)
	}
}

// outcome opens a damaged store and reads all of it.
func (w *world) outcome(fs vfs.FS, name string) string {
	s, err := store.OpenOn(fs, "db", damageOptions)
	if err == nil {
		var blocks int
		blocks, err = w.answers(s)
		if closing := s.Close(); err == nil {
			err = closing
		}
		if err == nil && blocks < len(w.states) {
			return "behind"
		}
	}
	switch {
	case err == nil:
		return "right"
	case strings.Contains(err.Error(), name):
		return "named"
	}
	w.t.Log(name, err)
	return "unnamed"
}

// TestFlippedOptionsAreNamed flips bits all over the file of options.
func TestFlippedOptionsAreNamed(t *testing.T) {
	bounded(t)
	w := damageWorld(t)
	rng := rand.New(rand.NewPCG(2, 9))
	names := slices.DeleteFunc(must(w.disk.mem.List("db"))(t), func(name string) bool { return kindOf(name) != "OPTIONS-" })
	name := slices.Max(names)
	info, err := w.disk.mem.Stat("db/" + name)
	check(t, err)
	step := int64(17)
	if testing.Short() {
		step = 171
	}
	outcomes := map[string]int{}
	for bit := int64(0); bit < 8*info.Size(); bit += step {
		copied := w.disk.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
		check(t, copied.Remove("db/SEAL"))
		flipBit(t, copied, "db/"+name, bit)
		outcome := w.outcome(copied, name)
		outcomes[outcome]++
		if outcome != "named" && outcome != "right" {
			t.Errorf("bit %d of %s: %s", bit, name, outcome)
		}
	}
	if outcomes["named"] == 0 {
		t.Errorf("no flip was noticed: %v", outcomes)
	}
}

// TestEveryFlipInAManifestIsFound flips each bit of the list of tables in turn,
// and cuts the list off at each byte of its last record, as a crash does.
func TestEveryFlipInAManifestIsFound(t *testing.T) {
	bounded(t)
	w := newWorld(t, 6, damageOptions)
	for range 8 {
		check(t, w.s.Commit(w.block(false)))
		check(t, w.s.Flush())
	}
	check(t, w.s.Close())
	names := must(w.disk.mem.List("db"))(t)
	name := names[slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "MANIFEST-") })]
	f := must(w.disk.mem.Open("db/" + name))(t)
	data := must(io.ReadAll(f))(t)
	check(t, f.Close())
	if at, whole := store.CheckRecords(data); !whole || at != len(data) {
		t.Fatalf("a whole list is damaged at byte %d of %d", at, len(data))
	}
	for bit := range 8 * len(data) {
		damaged := slices.Clone(data)
		damaged[bit/8] ^= 1 << (bit % 8)
		if _, whole := store.CheckRecords(damaged); whole {
			t.Errorf("the flip of bit %d of %d is not found", bit, 8*len(data))
		}
	}
	last := 0
	for n := range data {
		if at, whole := store.CheckRecords(data[:n]); whole && at == n {
			last = n
		}
	}
	for n := last; n < len(data); n++ {
		zeros := append(slices.Clone(data[:min(len(data), (n+511)/512*512)]), make([]byte, len(data))...)
		for _, cut := range [][]byte{data[:n], zeros[:len(data)]} {
			if at, whole := store.CheckRecords(cut); !whole {
				t.Errorf("a list that was cut off at byte %d of %d is damaged at %d", n, len(data), at)
			}
		}
	}
}
