package store_test

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hypermesh/hypermesh/internal/store"
)

// changesDisk reports whether an operation needs the disk to take something.
func changesDisk(kind errorfs.OpKind) bool {
	return slices.Contains([]errorfs.OpKind{
		errorfs.OpCreate, errorfs.OpLink, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpMkdirAll,
		errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo,
	}, kind)
}

// TestFullDiskStopsTheStore lets the disk be full from its n-th write on, for
// many n: the next Commit says so, whichever goroutine of the database met it,
// and with room again every committed block is there.
func TestFullDiskStopsTheStore(t *testing.T) {
	bounded(t)
	options := store.Options{MemtableBytes: 1 << 20, TreeInterval: 2}
	for n := int64(1); n < 400; n += 1 + n/12 {
		var writes, full atomic.Int64
		full.Store(1 << 40)
		disk := vfs.NewMem()
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if changesDisk(o.Kind) && writes.Add(1) >= full.Load() {
				return syscall.ENOSPC
			}
			return nil
		}))
		s := must(store.OpenOn(fs, "db", options))(t)
		h := newHistory(s)
		full.Store(writes.Load() + n)
		committed := 0
		var err error
		for err == nil {
			if err = s.Commit(h.next(t)); err == nil {
				committed++
			}
			if committed%7 == 6 && err == nil {
				go func(s *store.Store) { _ = s.Flush() }(s) // a table is written beside the commits; its error is Err's
			}
		}
		if !errors.Is(err, store.ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full at write %d: %v, want ErrDiskFull", n, err)
		}
		if s.Err() == nil {
			t.Errorf("full at write %d: the store goes on", n)
		}
		if again := s.Commit(h.next(t)); !errors.Is(again, store.ErrDiskFull) && !errors.Is(again, store.ErrHeight) {
			t.Errorf("full at write %d: a later commit: %v", n, again)
		}
		check(t, s.Close())
		full.Store(1 << 40)
		s = must(store.OpenOn(fs, "db", options))(t)
		blocks := 0
		if tip, ok := s.Latest(); ok {
			blocks = int(tip.Height) + 1
		}
		if blocks != committed && blocks != committed+1 {
			t.Errorf("full at write %d: %d blocks with room again, %d were committed", n, blocks, committed)
		}
		checkWhole(t, s, h, blocks)
		check(t, s.Close())
	}
}

// TestFullDiskAtOpening refuses to open, and leaves what is there.
func TestFullDiskAtOpening(t *testing.T) {
	bounded(t)
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if changesDisk(o.Kind) && full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := must(store.OpenOn(fs, "db", store.Options{}))(t)
	h := newHistory(s)
	check(t, s.Commit(h.next(t)))
	check(t, s.Close())
	full.Store(true)
	if _, err := store.OpenOn(fs, "db", store.Options{}); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("opening on a full disk: %v, want ErrDiskFull", err)
	}
	full.Store(false)
	s = must(store.OpenOn(fs, "db", store.Options{}))(t)
	checkWhole(t, s, h, 1)
	check(t, s.Close())
}

// TestNobodyWaitsForADiskThatStopped has the disk be full when the database's list of
// tables is written, which more waits for than what writes: who measures the store, or
// closes a snapshot after reading, say of a block that is executed. All of them end, or the
// node would not.
func TestNobodyWaitsForADiskThatStopped(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
		if full.Load() && changesDisk(o.Kind) && strings.HasPrefix(path.Base(o.Path), "MANIFEST-") {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := must(store.OpenOn(fs, "db", store.Options{TreeInterval: 1}))(t)
	h := newHistory(s)
	for range 5 {
		check(t, s.Commit(h.next(t)))
	}
	snapshot := must(s.Snapshot())(t)
	full.Store(true)
	go func() { _ = s.Flush() }() // never ends: its goroutine has the list, and waits for the disk
	check(t, ends(t, "the failure of the disk", func() error { <-s.Failed(); return nil }))
	block := h.next(t)
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"closing a snapshot", snapshot.Close},
		{"measuring", func() error { _, err := s.Stat(); return err }},
		{"pruning", func() error {
			_, err := s.Prune(t.Context(), store.PruneOptions{KeepVersions: 1, NodesPerSecond: 1000})
			return err
		}},
		{"a commit", func() error { return s.Commit(block) }},
	} {
		if err := ends(t, c.what, c.do); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("%s on a full disk: %v, want ErrDiskFull", c.what, err)
		}
	}
	check(t, ends(t, "reading", func() error {
		if got := collect(s.State()); !maps.Equal(got, h.states[4]) {
			t.Errorf("the state has %d keys, want %d", len(got), len(h.states[4]))
		}
		_, err := s.CheckState(t.Context())
		return err
	}))
	check(t, ends(t, "closing the store", s.Close))
}
