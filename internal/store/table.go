package store

import (
	"errors"
	"syscall"

	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// tableBuffer is how many bytes of a table are written at a time, coldBuffer of
	// one that goes around the page cache.
	tableBuffer = 256 << 10
	coldBuffer  = 1 << 20
	// directAlign is what memory, place and length of a write around the page cache
	// are multiples of; no disk asks for more. Memory that is much larger is aligned
	// by the Go runtime; where it is not, the write is refused and goes the other way.
	directAlign = 4096
)

// tableFile is a file that is written in large pieces.
type tableFile struct {
	file   vfs.File
	direct *failStopFile // not nil: the same file, whose writes go around the page cache
	buf    []byte
}

var _ objstorage.Writable = (*tableFile)(nil)

// newTableFile writes a new file. What is cold goes around the page cache where the
// operating system and the disk can: copying into it was most of what a flush cost.
func newTableFile(file vfs.File, cold bool) *tableFile {
	if own, ok := file.(*failStopFile); ok && cold && setDirect(file, true) {
		return &tableFile{file: file, direct: own, buf: make([]byte, 0, coldBuffer)}
	}
	return &tableFile{file: vfs.NewSyncingFile(file, vfs.SyncingFileOptions{BytesPerSync: 1 << 20}), buf: make([]byte, 0, tableBuffer)}
}

// Write adds p.
func (f *tableFile) Write(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), cap(f.buf)-len(f.buf))
		f.buf, p = append(f.buf, p[:n]...), p[n:]
		if len(f.buf) == cap(f.buf) {
			if err := f.drain(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *tableFile) drain() error {
	rest := f.buf
	if whole := len(rest) / directAlign * directAlign; f.direct != nil && whole > 0 {
		n, err := f.direct.writeDirect(rest[:whole])
		if rest = rest[n:]; err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	if len(rest) > 0 {
		if f.direct != nil { // the end, or not possible after all
			if !setDirect(f.file, false) {
				return errors.New("store: a table cannot be written through the page cache any more")
			}
			f.direct = nil
		}
		if _, err := f.file.Write(rest); err != nil {
			return err
		}
	}
	f.buf = f.buf[:0]
	return nil
}

// Finish makes the file durable.
func (f *tableFile) Finish() error {
	return errors.Join(f.drain(), f.file.Sync(), f.file.Close())
}

// Abort gives the file up.
func (f *tableFile) Abort() { closeRead(f.file) }

// writeDirect is Write of a file that writes around the page cache. It is
// ErrUnsupported if that was refused, after n bytes.
func (f *failStopFile) writeDirect(p []byte) (n int, err error) {
	err = f.fs.write("writing", f.path, func() error {
		n, err = f.File.Write(p)
		if errors.Is(err, syscall.EINVAL) {
			return errors.ErrUnsupported
		}
		return err
	})
	return n, err
}
