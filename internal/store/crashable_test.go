package store_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashable is a file system in memory of which a crash may leave copies while others
// write to it. A vfs.MemFS by itself would wait for ever: some of its operations take a
// lock for reading twice, and between the two CrashClone may come, which wants to write.
type crashable struct {
	*vfs.MemFS
	mu sync.Mutex // held by those, and by CrashClone
}

func newCrashable() *crashable { return &crashable{MemFS: vfs.NewCrashableMem()} }

// CrashClone returns what a crash now leaves.
func (c *crashable) CrashClone(cfg vfs.CrashCloneCfg) *crashable {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &crashable{MemFS: c.MemFS.CrashClone(cfg)}
}

// Link makes a hard link.
func (c *crashable) Link(oldname, newname string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.MemFS.Link(oldname, newname)
}

// ReuseForWrite renames a file and opens it to write.
func (c *crashable) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.MemFS.ReuseForWrite(oldname, newname, category)
}

// Lock makes its caller the owner of a file until the result is closed.
func (c *crashable) Lock(name string) (io.Closer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.MemFS.Lock(name)
}

// ends does what must come to an end, and returns its error: what waits for ever would
// take all other tests with it.
func ends(t testing.TB, what string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatalf("no end of this: %s", what)
		return nil
	}
}

// boundedTime is for how long a short test may run, ten times what it takes on a machine
// that has other work. All tests of a package together have ten minutes.
const boundedTime = 4 * time.Minute

// bounded ends the program if a short test does not end, and says in the last lines which
// one it was and what its goroutines wait for: what go test prints when its own time is over
// begins with that, and ends with thousands of lines of databases that stopped on purpose.
func bounded(t *testing.T) {
	if !testing.Short() {
		return
	}
	name := t.Name()
	timer := time.AfterFunc(boundedTime, func() {
		all := make([]byte, 32<<20)
		all = all[:runtime.Stack(all, true)]
		for goroutine := range bytes.SplitSeq(all, []byte("\n\n")) {
			if bytes.Contains(goroutine, []byte("internal/store")) && !bytes.Contains(goroutine, []byte("[select (no cases)")) {
				fmt.Fprintf(os.Stderr, "%s\n\n", goroutine)
			}
		}
		panic(fmt.Sprintf("%s has not ended after %v", name, boundedTime))
	})
	t.Cleanup(func() { timer.Stop() })
}

// TestCrashesBesideEveryOperation takes copies of a disk while another links, reuses and
// locks files.
func TestCrashesBesideEveryOperation(t *testing.T) {
	fs := newCrashable()
	check(t, fs.MkdirAll("db", 0o755))
	change := func(do func() error) chan error {
		done := make(chan error, 1)
		go func() {
			var err error
			for range 3000 {
				if err = do(); err != nil {
					break
				}
			}
			done <- err
		}()
		return done
	}
	create := func(name string) error {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		return f.Close()
	}
	changes := []chan error{
		change(func() error {
			if err := create("db/linked"); err != nil {
				return err
			}
			if err := fs.Link("db/linked", "db/link"); err != nil {
				return err
			}
			return fs.Remove("db/link")
		}),
		change(func() error {
			if err := create("db/old"); err != nil {
				return err
			}
			f, err := fs.ReuseForWrite("db/old", "db/new", vfs.WriteCategoryUnspecified)
			if err != nil {
				return err
			}
			return f.Close()
		}),
		change(func() error {
			lock, err := fs.Lock("db/lock")
			if err != nil {
				return err
			}
			return lock.Close()
		}),
	}
	check(t, ends(t, "crashes beside changes", func() error {
		for _, done := range changes {
			for over := false; !over; {
				select {
				case err := <-done:
					if err != nil {
						return err
					}
					over = true
				default:
					fs.CrashClone(vfs.CrashCloneCfg{})
				}
			}
		}
		return nil
	}))
}
