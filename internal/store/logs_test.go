package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/store"
)

func TestLogsOfSeveralEpochs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "logs")
	l := must(store.OpenLogs(dir))(t)
	if _, err := store.OpenLogs(dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second OpenLogs: %v, want ErrLocked", err)
	}
	for _, epoch := range []consensus.Epoch{10, 9, 2} {
		log := must(l.Open(epoch))(t)
		check(t, log.Append([][]byte{record("of epoch %d", epoch)}))
		if again := must(l.Open(epoch))(t); again != log {
			t.Errorf("epoch %d is open twice", epoch)
		}
	}
	check(t, l.Delete(9))
	check(t, l.Delete(9))
	check(t, l.Close())
	for _, name := range []string{"consensus-010.log", "consensus-x.log", "consensus-7.log.tmp", "consensus-.log", "other.log"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("junk"), 0o644))
	}
	l = must(store.OpenLogs(dir))(t)
	if epochs := must(l.Epochs())(t); !slices.Equal(epochs, []consensus.Epoch{2, 10}) {
		t.Errorf("logs of epochs %v, want 2 and 10", epochs)
	}
	if got := replay(t, must(l.Open(10))(t)); !slices.Equal(got, []string{"of epoch 10"}) {
		t.Errorf("the log of epoch 10 holds %q", got)
	}
	if got := replay(t, must(l.Open(9))(t)); len(got) != 0 {
		t.Errorf("the deleted log of epoch 9 holds %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "consensus-7.log.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left of a rewrite is still there: %v", err)
	}
	check(t, l.Close())
	check(t, os.WriteFile(filepath.Join(dir, "consensus-11.log"), []byte("no log"), 0o644))
	l = must(store.OpenLogs(dir))(t)
	if _, err := l.Open(11); !errors.Is(err, store.ErrLogCorrupt) {
		t.Errorf("opening a file that is no log: %v, want ErrLogCorrupt", err)
	}
	check(t, l.Close())
}

// TestFullDiskStopsALog lets the disk be full, or fail, in every operation that
// writes a log, and then have room again.
func TestFullDiskStopsALog(t *testing.T) {
	for _, c := range []struct {
		during string
		kind   errorfs.OpKind
		cause  error
		want   error
	}{
		{"append", errorfs.OpFileWriteAt, syscall.ENOSPC, store.ErrDiskFull},
		{"append", errorfs.OpFileSyncData, syscall.ENOSPC, store.ErrDiskFull},
		{"append", errorfs.OpFileSyncData, syscall.EIO, store.ErrDisk},
		{"rewrite", errorfs.OpCreate, syscall.ENOSPC, store.ErrDiskFull},
		{"rewrite", errorfs.OpFileWrite, syscall.ENOSPC, store.ErrDiskFull},
		{"rewrite", errorfs.OpFileSync, syscall.EIO, store.ErrDisk},
		{"rewrite", errorfs.OpRename, syscall.ENOSPC, store.ErrDiskFull},
		{"open", errorfs.OpCreate, syscall.ENOSPC, store.ErrDiskFull},
		{"delete", errorfs.OpRemove, syscall.EIO, store.ErrDisk},
	} {
		broken := false
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
			if broken && o.Kind == c.kind {
				return c.cause
			}
			return nil
		}))
		logs := must(store.OpenLogsOn(fs, "logs"))(t)
		log := must(logs.Open(3))(t)
		check(t, log.Append([][]byte{record("durable")}))
		broken = true
		var err error
		switch c.during {
		case "append":
			err = log.Append([][]byte{record("lost or not")})
		case "rewrite":
			err = log.Rewrite([][]byte{record("durable"), record("rewritten")})
		case "open":
			_, err = logs.Open(4)
		case "delete":
			err = logs.Delete(3)
		}
		if !errors.Is(err, c.want) || !errors.Is(err, c.cause) {
			t.Errorf("%v in the %s of a log: %v, want %v", c.cause, c.during, err, c.want)
		}
		broken = false
		check(t, logs.Close())
		logs = must(store.OpenLogsOn(fs, "logs"))(t)
		if got := replay(t, must(logs.Open(3))(t)); len(got) == 0 || got[0] != "durable" {
			t.Errorf("with room again after a failed %s the log holds %q", c.during, got)
		}
		check(t, must(logs.Open(3))(t).Append([][]byte{record("on")}))
		check(t, logs.Close())
	}
}
