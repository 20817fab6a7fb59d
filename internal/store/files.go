package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ErrDamaged says that a file of the database is not what was written.
var ErrDamaged = errors.New("store: a file of the database is damaged: restore it from a backup, or remove the data directory and join again; the file is")

// sealFile is there while the database is closed: it has the size of every file,
// and the digest of each that has no checksums of its own in every part (tables
// have). Pebble takes a damaged end of its log for a write that a crash cut off;
// with the seal it is known that there was no crash.
const sealFile = "SEAL"

const maxSealBytes = 64 << 20

// sealed is one file as Close left it.
type sealed struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Bytes  uint64
	Digest crypto.Digest // zero for tables
}

// seal is the content of sealFile.
type seal struct {
	_      struct{} `cbor:",toarray"`
	Files  []sealed // by name
	Digest crypto.Digest
}

func (s *seal) digest() crypto.Digest { return crypto.DomainStoreFile.Hash(codec.Marshal(s.Files)) }

// filesOf returns the names of the database's files, sorted.
func filesOf(fs vfs.FS, dir string) ([]string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return name == sealFile || name == sealFile+".tmp" || name == "LOCK" || name == flushDir
	})
	slices.Sort(names)
	return names, nil
}

func isTable(name string) bool { return strings.HasSuffix(name, ".sst") }

// look returns what a seal says of a file.
func look(fs vfs.FS, dir, name string) (sealed, error) {
	out := sealed{Name: name}
	path := fs.PathJoin(dir, name)
	info, err := fs.Stat(path)
	if err != nil {
		return out, err
	}
	out.Bytes = uint64(info.Size())
	if isTable(name) {
		return out, nil
	}
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return out, err
	}
	stream := crypto.DomainStoreFile.NewStream()
	_, err = io.Copy(stream, f)
	out.Digest = stream.Sum()
	return out, errors.Join(err, f.Close())
}

// writeSeal seals the files of a database that is closed.
func writeSeal(fs vfs.FS, dir string) error {
	names, err := filesOf(fs, dir)
	if err != nil {
		return err
	}
	s := seal{Files: make([]sealed, len(names))}
	for i, name := range names {
		if s.Files[i], err = look(fs, dir, name); err != nil {
			return err
		}
	}
	s.Digest = s.digest()
	path := fs.PathJoin(dir, sealFile)
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(codec.Marshal(s))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// readSeal returns the seal, nil if there is none: the database is open, or its
// owner crashed.
func readSeal(fs vfs.FS, dir string) (*seal, error) {
	path := fs.PathJoin(dir, sealFile)
	info, err := fs.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSealBytes {
		return nil, fmt.Errorf("%w %s: %d bytes, limit %d", ErrDamaged, path, info.Size(), maxSealBytes)
	}
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var s seal
	if err := codec.Unmarshal(raw, &s, maxSealBytes); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrDamaged, path, err)
	}
	if s.Digest != s.digest() {
		return nil, fmt.Errorf("%w %s: its digest is not that of its content", ErrDamaged, path)
	}
	return &s, nil
}

// faults compares the files with the seal.
func (s *seal) faults(fs vfs.FS, dir string) []error {
	var out []error
	for _, want := range s.Files {
		path := fs.PathJoin(dir, want.Name)
		got, err := look(fs, dir, want.Name)
		switch {
		case err != nil:
			out = append(out, fmt.Errorf("%w %s: %w", ErrDamaged, path, err))
		case got.Bytes != want.Bytes:
			out = append(out, fmt.Errorf("%w %s: %d bytes, it had %d when the database was closed", ErrDamaged, path, got.Bytes, want.Bytes))
		case got != want:
			out = append(out, fmt.Errorf("%w %s: its content is another than when the database was closed", ErrDamaged, path))
		}
	}
	return out
}

// checkSeal checks the files of a database that was closed.
func checkSeal(fs vfs.FS, dir string) error {
	s, err := readSeal(fs, dir)
	if err != nil || s == nil {
		return err
	}
	return errors.Join(s.faults(fs, dir)...)
}

// removeSeal takes the seal away, durably, before the files change.
func removeSeal(fs vfs.FS, dir string) error {
	if err := fs.Remove(fs.PathJoin(dir, sealFile)); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(fs, dir)
}

// named names the file if a read failed because of its content.
func named(err error) error {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return fmt.Errorf("%w %s: %w", ErrDamaged, info.Path, info.Details)
	}
	return err
}

// FileCheck is what CheckFiles found.
type FileCheck struct {
	Files  int
	Bytes  uint64
	Sealed bool // false: not closed in order, so that a damaged end of a log is not told from a torn write
	Faults []error
}

// CheckFiles reads every file of the closed database in dir and holds it against
// its checksums. A fault is an ErrDamaged that names the file.
func CheckFiles(ctx context.Context, dir string) (FileCheck, error) {
	lock, err := lockDir(vfs.Default, dir)
	if err != nil {
		return FileCheck{}, err
	}
	out, err := checkFiles(ctx, vfs.Default, dir)
	return out, errors.Join(err, lock.Close())
}

func checkFiles(ctx context.Context, fs vfs.FS, dir string) (FileCheck, error) {
	var out FileCheck
	s, err := readSeal(fs, dir)
	switch {
	case errors.Is(err, ErrDamaged):
		out.Faults = append(out.Faults, err)
	case err != nil:
		return out, err
	case s != nil:
		out.Sealed = true
		out.Faults = s.faults(fs, dir)
	}
	names, err := filesOf(fs, dir)
	if err != nil {
		return out, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return out, err
		}
		out.Files++
		out.Bytes += uint64(info.Size())
		if !isTable(name) {
			continue
		}
		if err := checkTable(ctx, fs, path); err != nil {
			out.Faults = append(out.Faults, fmt.Errorf("%w %s: %w", ErrDamaged, path, err))
		}
	}
	return out, nil
}

// checkTable reads every block of a table.
func checkTable(ctx context.Context, fs vfs.FS, path string) (err error) {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	o := Options{}.pebble(newFailStop(fs))
	o.EnsureDefaults()
	r, err := sstable.NewReader(ctx, readable, o.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
