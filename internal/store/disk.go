package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrDiskFull says that a write found no room on the disk.
	ErrDiskFull = errors.New("store: the disk is full: make room and start the node again, what was stored is whole")
	// ErrDisk says that a write or a sync failed for another reason.
	ErrDisk = errors.New("store: the disk does not write: look at it and at the kernel's log before the node is started again")
)

// diskError names a failed write: what was done to which file, and what its
// owner can do about it.
func diskError(what, path string, err error) error {
	kind := ErrDisk
	if vfs.IsNoSpaceError(err) {
		kind = ErrDiskFull
	}
	return fmt.Errorf("%w: %s %s: %w", kind, what, path, err)
}

// failStop is a file system that stops at its first failed write: the goroutine
// that met it waits for ever, and so does every one that writes later. Pebble,
// which would panic in a goroutine of its own or try again, never learns of the
// failure, and nothing on the disk changes after it. Reads go on.
type failStop struct {
	vfs.FS
	once   sync.Once
	failed chan struct{} // closed after err is set
	err    error
}

func newFailStop(fs vfs.FS) *failStop { return &failStop{FS: fs, failed: make(chan struct{})} }

// Unwrap returns the file system underneath.
func (fs *failStop) Unwrap() vfs.FS { return fs.FS }

// Lock does nothing: the directory is the Store's already, until its Close.
func (fs *failStop) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// stop records the first failure and never returns.
func (fs *failStop) stop(err error) {
	fs.note(err)
	select {}
}

// note records the first failure, after which nothing is written.
func (fs *failStop) note(err error) {
	fs.once.Do(func() {
		fs.err = err
		close(fs.failed)
	})
}

// write does one change of the disk. A file that is not there, or already
// there, is an answer and no failure.
func (fs *failStop) write(what, path string, do func() error) error {
	select {
	case <-fs.failed:
		select {}
	default:
	}
	err := do()
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) || errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	fs.stop(diskError(what, path, err))
	return err
}

// call runs an operation of the database, and gives up when a write failed: the
// operation may then never end. So does not only what writes, but also what waits for
// others' writes: a write of the list of tables (the database's manifest lock) holds up
// DB.Metrics and Snapshot.Close. What reads, and DB.NewSnapshot, wait for no write.
func (fs *failStop) call(run func() error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	select {
	case err := <-done:
		return err
	case <-fs.failed:
		return fs.err
	}
}

func (fs *failStop) file(what, path string, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = fs.write(what, path, func() error {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &failStopFile{File: f, fs: fs, path: path}, nil
}

// Create creates a file.
func (fs *failStop) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file("creating", name, func() (vfs.File, error) { return fs.FS.Create(name, category) })
}

// OpenReadWrite opens a file to write.
func (fs *failStop) OpenReadWrite(name string, category vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.file("opening", name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, category, o...) })
}

// ReuseForWrite renames a file and opens it to write.
func (fs *failStop) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file("reusing", newname, func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir opens a directory to sync.
func (fs *failStop) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &failStopFile{File: f, fs: fs, path: name}, nil
}

// Link makes a hard link.
func (fs *failStop) Link(oldname, newname string) error {
	return fs.write("linking", newname, func() error { return fs.FS.Link(oldname, newname) })
}

// Remove removes a file.
func (fs *failStop) Remove(name string) error {
	return fs.write("removing", name, func() error { return fs.FS.Remove(name) })
}

// RemoveAll removes a tree of files.
func (fs *failStop) RemoveAll(name string) error {
	return fs.write("removing", name, func() error { return fs.FS.RemoveAll(name) })
}

// Rename renames a file.
func (fs *failStop) Rename(oldname, newname string) error {
	return fs.write("renaming", newname, func() error { return fs.FS.Rename(oldname, newname) })
}

// MkdirAll makes a directory.
func (fs *failStop) MkdirAll(dir string, perm os.FileMode) error {
	return fs.write("making", dir, func() error { return fs.FS.MkdirAll(dir, perm) })
}

// failStopFile is a file of a failStop.
type failStopFile struct {
	vfs.File
	fs   *failStop
	path string
}

// Write writes at the end.
func (f *failStopFile) Write(p []byte) (n int, err error) {
	err = f.fs.write("writing", f.path, func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

// WriteAt writes at an offset.
func (f *failStopFile) WriteAt(p []byte, offset int64) (n int, err error) {
	err = f.fs.write("writing", f.path, func() error {
		n, err = f.File.WriteAt(p, offset)
		return err
	})
	return n, err
}

// Sync makes the file durable.
func (f *failStopFile) Sync() error { return f.fs.write("syncing", f.path, f.File.Sync) }

// SyncData makes the file's data durable.
func (f *failStopFile) SyncData() error { return f.fs.write("syncing", f.path, f.File.SyncData) }

// SyncTo begins to make a part of the file durable.
func (f *failStopFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.write("syncing", f.path, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
