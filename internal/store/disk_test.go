package store_test

import (
	"errors"
	"slices"
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
		<-s.Failed()
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
