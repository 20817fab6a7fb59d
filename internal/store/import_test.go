package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// closing makes the next block one that ends an epoch.
func (h *history) closing(t testing.TB, epoch uint64) store.Finalized {
	return h.closed(h.next(t), epoch)
}

// closed makes a block one that ends an epoch.
func (h *history) closed(f store.Finalized, epoch uint64) store.Finalized {
	f.Closing = &store.Closing{Epoch: epoch, Record: fmt.Appendf(nil, "end of %d", epoch), Before: h.before}
	return f
}

// leaves returns a version of the tree that a store can open.
func leaves(t testing.TB, s *store.Store, height chain.Height) []state.Entry {
	t.Helper()
	tree, err := s.OpenTree(height)
	check(t, err)
	var out []state.Entry
	for e, err := range tree.Iterate(crypto.Digest{}) {
		check(t, err)
		out = append(out, e)
	}
	return out
}

func (h *history) checkLeaves(t testing.TB, list []state.Entry, height int) {
	t.Helper()
	got := map[string]string{}
	for _, e := range list {
		got[string(e.Key)] = string(e.Value)
	}
	if !maps.Equal(got, h.states[height]) {
		t.Fatalf("the version of height %d has %d leaves, want %d", height, len(got), len(h.states[height]))
	}
}

// The versions before the last two ends of epochs stay, whatever is written and
// pruned since.
func TestStateBeforeTheEndOfAnEpochStays(t *testing.T) {
	bounded(t)
	for _, interval := range []int{1, 4, 100} {
		t.Run(fmt.Sprint(interval), func(t *testing.T) {
			disk := vfs.NewMem()
			open := func() *store.Store { return must(store.OpenOn(disk, "db", store.Options{TreeInterval: interval}))(t) }
			s := open()
			h := newHistory(s)
			closings := map[int]uint64{5: 1, 6: 2, 17: 3, 30: 4}
			for height := range 40 {
				var f store.Finalized
				if epoch, ends := closings[height]; ends {
					f = h.closing(t, epoch)
				} else {
					f = h.next(t)
				}
				check(t, s.Commit(f))
				_, err := s.Prune(context.Background(), store.PruneOptions{KeepVersions: 1})
				check(t, err)
				if height%7 == 0 {
					check(t, s.Close())
					s = open()
					h.tree = must(s.OpenTree(chain.Height(height)))(t)
				}
				switch {
				case height >= 30:
					h.checkLeaves(t, leaves(t, s, 29), 29)
					h.checkLeaves(t, leaves(t, s, 16), 16)
				case height >= 17:
					h.checkLeaves(t, leaves(t, s, 16), 16)
					h.checkLeaves(t, leaves(t, s, 5), 5)
				case height >= 6:
					h.checkLeaves(t, leaves(t, s, 4), 4)
				}
			}
			if _, err := s.OpenTree(4); !errors.Is(err, state.ErrNoVersion) {
				t.Errorf("the version before the end of epoch 1: %v, want ErrNoVersion", err)
			}
			end, ok, err := s.EpochEnd(3)
			if err != nil || !ok || end.Height != 17 || string(end.Record) != "end of 3" {
				t.Errorf("%+v, %v, %v", end, ok, err)
			}
			ends, err := s.LastEpochEnds(3)
			if err != nil || len(ends) != 3 || ends[0].Epoch != 4 || ends[2].Epoch != 2 || ends[0].Height != 30 {
				t.Errorf("%+v, %v", ends, err)
			}
			if _, ok, err := s.EpochEnd(5); ok || err != nil {
				t.Errorf("the end of an epoch that goes on: %v, %v", ok, err)
			}
			h.checkLeaves(t, leaves(t, s, 39), 39)
			check(t, s.Close())
		})
	}
}

func TestEndOfAnEpochWithAnotherTreeIsRefused(t *testing.T) {
	s := must(store.OpenMemory(store.Options{}))(t)
	h := newHistory(s)
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	f := h.closing(t, 1)
	f.Closing.Before = f.Tree
	if err := s.Commit(f); !errors.Is(err, store.ErrTree) {
		t.Errorf("the tree after the block: %v", err)
	}
	f.Closing.Before = must(state.NewTree(s, 0).Next(2, nil, 1))(t)
	if err := s.Commit(f); err == nil {
		t.Error("a tree of no descent is taken")
	}
	check(t, s.Close())
}

func TestImportIsResumedAndEndsWithTheFirstBlock(t *testing.T) {
	source := must(store.OpenMemory(store.Options{}))(t)
	h := newHistory(source)
	for range 20 {
		check(t, source.Commit(h.next(t)))
	}
	before := must2(source.Tip(19))(t)
	list := leaves(t, source, 19)
	check(t, source.Close())
	disk := vfs.NewMem()
	s := must(store.OpenOn(disk, "db", store.Options{}))(t)
	s = importInParts(t, s, disk, importing{list, before})
	if got := collect(s.State()); !maps.Equal(got, h.states[19]) {
		t.Fatal("the imported state differs")
	}
	if _, _, err := s.Import([]byte("goal"), state.MaxVersion+1); !errors.Is(err, state.ErrNoVersion) {
		t.Fatalf("importing a version beyond the last: %v, want ErrNoVersion", err)
	}
	if got := collect(s.State()); !maps.Equal(got, h.states[19]) {
		t.Fatal("an import that is refused took what there is")
	}
	i, _, err := s.Import([]byte("goal"), 19)
	check(t, err)
	tree, err := i.Finish(before, id("genesis"))
	check(t, err)
	h.tree = tree
	check(t, s.Commit(h.closing(t, 8)))
	if _, _, err := s.Import([]byte("goal"), 19); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("an import into a store with blocks: %v", err)
	}
	for range 30 {
		check(t, s.Commit(h.next(t)))
		_, err := s.Prune(context.Background(), store.PruneOptions{KeepVersions: 1})
		check(t, err)
	}
	check(t, s.Close())
	s = must(store.OpenOn(disk, "db", store.Options{}))(t)
	if _, _, ok, err := s.ImportGoal(); ok || err != nil {
		t.Errorf("the import is still noted: %v", err)
	}
	h.checkLeaves(t, leaves(t, s, 50), 50)
	h.checkLeaves(t, leaves(t, s, 19), 19)
	if origin, ok, err := s.Tip(0); err != nil || !ok || origin.Digest != id("genesis") {
		t.Errorf("the chain begins with %+v, %v, %v", origin, ok, err)
	}
	if end, ok, err := s.EpochEnd(7); err != nil || !ok || string(end.Record) != "end of 7" {
		t.Errorf("%+v, %v, %v", end, ok, err)
	}
	check(t, s.Close())
}

// importing is a state to be imported.
type importing struct {
	list   []state.Entry
	before store.Tip
}

// importInParts brings the state in, the upper half first, with restarts and
// after another goal was given up. It returns the store, opened again.
func importInParts(t *testing.T, s *store.Store, disk vfs.FS, what importing) *store.Store {
	t.Helper()
	reopen := func() {
		check(t, s.Close())
		s = must(store.OpenOn(disk, "db", store.Options{}))(t)
	}
	list, before := what.list, what.before
	other, progress, err := s.Import([]byte("other"), 19)
	if err != nil || progress != nil {
		t.Fatalf("%q, %v", progress, err)
	}
	junk := state.Entry{Position: state.Position([]byte("junk")), Key: []byte("junk"), Value: []byte("x")}
	check(t, other.Put(state.Range{From: junk.Position, To: junk.Position}, []state.Entry{junk}, []byte("some")))
	begin := func() (*store.Import, []byte) {
		i, progress, err := s.Import([]byte("goal"), 19)
		check(t, err)
		return i, progress
	}
	i, progress := begin()
	if progress != nil {
		t.Fatalf("another goal's progress is %q", progress)
	}
	if _, err := i.Finish(before, id("genesis")); !errors.Is(err, state.ErrWrongRoot) {
		t.Fatalf("an empty import: %v, want ErrWrongRoot", err)
	}
	half := len(list) / 2
	upper := state.Range{From: list[half].Position}
	for n := range upper.To {
		upper.To[n] = 0xff
	}
	check(t, i.Put(upper, list[half:], []byte("half")))
	reopen()
	if i, progress = begin(); string(progress) != "half" {
		t.Fatalf("progress %q after a restart", progress)
	}
	quarter := half / 2 // two parts of one stretch, and one that is put again after a crash took its progress
	lower := state.Range{To: list[quarter].Position}
	check(t, i.Put(state.Range{From: state.After(lower.To), To: list[half-1].Position}, list[quarter+1:half], []byte("more")))
	check(t, i.Put(lower, list[:quarter+1], []byte("nearly")))
	check(t, i.Put(lower, list[:quarter+1], []byte("all")))
	check(t, i.PutEpoch(store.EpochEnd{Epoch: 7, Height: 15, Record: []byte("end of 7")}))
	_, err = i.Finish(before, id("genesis"))
	check(t, err)
	reopen() // a crash between the tree and the first block
	if _, some := s.Latest(); some {
		t.Fatal("an import makes a block")
	}
	if goal, version, ok, err := s.ImportGoal(); err != nil || !ok || string(goal) != "goal" || version != 19 {
		t.Fatalf("goal %q, version %d, %v, %v", goal, version, ok, err)
	}
	return s
}

// must2 is must for what may be absent.
func must2[T any](v T, ok bool, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		if !ok {
			t.Fatal("not there")
		}
		return v
	}
}

// importingDisk is an import of a state that is large enough to be written in several
// turns.
type importingDisk struct {
	*testing.T
	parts  [][]state.Entry
	ranges []state.Range
	want   map[string]string
	before store.Tip
}

func newImportingDisk(t *testing.T) *importingDisk {
	kv := state.NewOverlay(state.NewMemoryBackend())
	d := &importingDisk{T: t, want: map[string]string{}}
	for i := range 120 {
		value := bytes.Repeat([]byte{byte(i)}, 20_000)
		kv.Set(fmt.Appendf(nil, "key/%d", i), value)
		d.want[fmt.Sprintf("key/%d", i)] = string(value)
	}
	tree := must(state.NewTree(state.NewMemoryBackend(), 0).Next(19, kv.Changes(), 1))(t)
	d.before = store.Tip{Height: 19, Digest: id("block 19"), StateRoot: tree.Root()}
	var all []state.Entry
	for e, err := range tree.Iterate(crypto.Digest{}) {
		check(t, err)
		all = append(all, e)
	}
	var from crypto.Digest
	for part := range slices.Chunk(all, 15) {
		to := part[len(part)-1].Position
		d.parts, d.ranges = append(d.parts, part), append(d.ranges, state.Range{From: from, To: to})
		from = state.After(to)
	}
	return d
}

// run imports, from where it was left, up to the first block.
func (d *importingDisk) run(fs vfs.FS) {
	d.Helper()
	check(d, d.try(fs))
}

// try is run, returning the first error of the store. What it leaves then is not closed
// well.
func (d *importingDisk) try(fs vfs.FS) error {
	d.Helper()
	s, err := store.OpenOn(fs, "db", store.Options{PendingBytes: 1 << 20, MemtableBytes: 1 << 20})
	if err != nil {
		return err
	}
	if _, some := s.Latest(); !some {
		if err := d.fill(s); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	if got := collect(s.State()); !maps.Equal(got, d.want) {
		d.Fatalf("the state has %d keys, want %d", len(got), len(d.want))
	}
	for _, height := range []chain.Height{19, 20} {
		if got := leaves(d, s, height); len(got) != len(d.want) {
			d.Fatalf("version %d has %d leaves, want %d", height, len(got), len(d.want))
		}
	}
	if c := must(s.CheckState(d.Context()))(d.T); !c.Sound() {
		d.Fatalf("%+v", c)
	}
	return s.Close()
}

// fill imports what the store does not have, and commits the block after it.
func (d *importingDisk) fill(s *store.Store) error {
	i, progress, err := s.Import([]byte("goal"), 19)
	if err != nil {
		return err
	}
	done := 0
	if len(progress) > 0 {
		done = int(progress[0])
	}
	order := []int{5, 0, 1, 7, 2, 6, 3, 4}
	for n := done; n < len(order); n++ {
		if err := i.Put(d.ranges[order[n]], d.parts[order[n]], []byte{byte(n + 1)}); err != nil {
			return err
		}
	}
	tree, err := i.Finish(d.before, id("genesis"))
	if err != nil {
		return err
	}
	next := must(tree.Next(20, nil, 1))(d.T)
	return s.Commit(store.Finalized{
		Height: 20, Digest: id("block 20"), Block: []byte("block"), Tree: next, Closing: &store.Closing{Epoch: 1, Record: []byte("end"), Before: tree},
	})
}

// An import is cut off before each of its writes in turn, and again where it goes on
// from there: what the progress says is there is there.
func TestCrashDuringAnImport(t *testing.T) {
	bounded(t)
	d := newImportingDisk(t)
	step := 1
	if testing.Short() {
		step = 5
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for n := 0; ; n += step {
		disk := newCrashDisk(newCrashable(), rng)
		disk.plan(n)
		d.run(disk.fs)
		disk.mu.Lock()
		over := disk.crashed == nil
		disk.mu.Unlock()
		if over {
			if n < 50 {
				t.Errorf("the import has only %d writes", n)
			}
			return
		}
		again := newCrashDisk(disk.cut(), rng)
		again.plan(rng.IntN(60))
		d.run(again.fs)
		d.run(newCrashDisk(again.cut(), rng).fs)
	}
}

// The disk is full from the n-th write of an import on, for many n: the import says so,
// and with room again goes on from its progress and is whole.
func TestFullDiskDuringAnImport(t *testing.T) {
	bounded(t)
	d := newImportingDisk(t)
	step := int64(1)
	if testing.Short() {
		step = 8
	}
	for n := int64(1); ; n += step {
		var writes atomic.Int64
		var room atomic.Bool
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
			if changesDisk(o.Kind) && writes.Add(1) >= n && !room.Load() {
				return syscall.ENOSPC
			}
			return nil
		}))
		err := d.try(fs)
		if err == nil {
			if n < 50 {
				t.Errorf("the import has only %d writes", n)
			}
			return
		}
		if !errors.Is(err, store.ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full at write %d: %v, want ErrDiskFull", n, err)
		}
		room.Store(true)
		d.run(fs)
	}
}
