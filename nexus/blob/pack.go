package blob

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"
)

// An archive is the magic, then entries in the order of their paths, component
// by component, each a kind, a path (its length in 2 bytes, big endian, and
// itself) and for a file its size (8 bytes, big endian) and content, then the
// kind that ends it. There are no times, owners or modes.
const (
	packMagic = "hypermesh pack 1\n"

	kindEnd  = 0
	kindDir  = 1
	kindFile = 2

	maxPathBytes = 1024
	maxNameBytes = 255
	maxPathDepth = 32
)

// Limits bound an archive.
type Limits struct {
	MaxEntries   int   // files and directories
	MaxFileBytes int64 // one file
	MaxBytes     int64 // all files together
}

// ArchiveError says which entry cannot be packed or unpacked and why.
type ArchiveError struct {
	Path   string // empty if it is the archive's form
	Reason string
}

func (e *ArchiveError) Error() string {
	if e.Path == "" {
		return "blob: archive: " + e.Reason
	}
	return fmt.Sprintf("blob: archive: %.300q: %s", e.Path, e.Reason)
}

// ledger is what packing and unpacking both check as they go.
type ledger struct {
	limits  Limits
	entries int
	bytes   int64
	last    string // path, with NUL for the separator so that it sorts by component
	dirs    map[string]bool
}

func newLedger(limits Limits) *ledger {
	return &ledger{limits: limits, dirs: map[string]bool{".": true}}
}

// enter admits the next entry.
func (l *ledger) enter(kind byte, name string, size int64) error {
	if reason := badPath(name); reason != "" {
		return &ArchiveError{Path: name, Reason: reason}
	}
	sortable := strings.ReplaceAll(name, "/", "\x00")
	if sortable <= l.last {
		return &ArchiveError{Path: name, Reason: "out of order, or there twice"}
	}
	if !l.dirs[path.Dir(name)] {
		return &ArchiveError{Path: name, Reason: "its directory is missing"}
	}
	l.last = sortable
	if l.entries++; l.entries > l.limits.MaxEntries {
		return &TooLargeError{What: "archive's number of entries, not", Bytes: int64(l.entries), Limit: int64(l.limits.MaxEntries)}
	}
	if kind == kindDir {
		l.dirs[name] = true
		return nil
	}
	if size < 0 || size > l.limits.MaxFileBytes {
		return &TooLargeError{What: "archived file " + fmt.Sprintf("%.100q", name), Bytes: size, Limit: l.limits.MaxFileBytes}
	}
	if l.bytes += size; l.bytes > l.limits.MaxBytes {
		return &TooLargeError{What: "archive", Bytes: l.bytes, Limit: l.limits.MaxBytes}
	}
	return nil
}

// badPath returns what is wrong with an entry's path, or nothing.
func badPath(name string) string {
	switch {
	case len(name) > maxPathBytes:
		return fmt.Sprintf("path of %d bytes, limit %d", len(name), maxPathBytes)
	case !utf8.ValidString(name):
		return "path is not UTF-8"
	case strings.Count(name, "/") >= maxPathDepth:
		return fmt.Sprintf("path of more than %d parts", maxPathDepth)
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Sprintf("path has the part %q", part)
		case len(part) > maxNameBytes:
			return fmt.Sprintf("path has a part of %d bytes, limit %d", len(part), maxNameBytes)
		case strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
			return "path has a control character or a backslash"
		}
	}
	return ""
}

// packed reads an archive of a directory: what has been written of it waits in
// head, what follows is the rest of file, then the entries left.
type packed struct {
	root *os.Root
	left []packEntry
	head bytes.Reader
	file *os.File
	rest int64  // bytes of file still to read
	path string // of file
}

type packEntry struct {
	kind byte
	path string
	size int64
}

// Pack returns a reader of the archive of a directory and the archive's size in
// bytes. It lists the directory at once and opens each file when its turn
// comes; a file that has changed its size meanwhile is an error. Errors:
// *ArchiveError for a link, a device, a name that Unpack would refuse;
// *TooLargeError.
func Pack(dir string, limits Limits) (io.ReadCloser, int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("blob: packing: %w", err)
	}
	p := &packed{root: root}
	size, err := p.list(limits)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("blob: packing: %w", err), root.Close())
	}
	p.head.Reset([]byte(packMagic))
	return p, size, nil
}

// list walks the directory, which fs.WalkDir does in an archive's order.
func (p *packed) list(limits Limits) (size int64, err error) {
	l := newLedger(limits)
	size = int64(len(packMagic))
	err = fs.WalkDir(p.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		e := packEntry{kind: kindDir, path: name}
		switch {
		case d.IsDir():
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			e.kind, e.size = kindFile, info.Size()
		default:
			return &ArchiveError{Path: name, Reason: "is neither a regular file nor a directory"}
		}
		p.left = append(p.left, e)
		size += int64(len(e.header())) + e.size
		return l.enter(e.kind, e.path, e.size)
	})
	p.left = append(p.left, packEntry{kind: kindEnd})
	return size + 1, err
}

func (e packEntry) header() []byte {
	out := []byte{e.kind}
	if e.kind == kindEnd {
		return out
	}
	out = binary.BigEndian.AppendUint16(out, uint16(len(e.path)))
	out = append(out, e.path...)
	if e.kind == kindFile {
		out = binary.BigEndian.AppendUint64(out, uint64(e.size))
	}
	return out
}

// Read reads on in the archive.
func (p *packed) Read(out []byte) (int, error) {
	for {
		if p.head.Len() > 0 {
			return p.head.Read(out)
		}
		if p.file != nil {
			if p.rest > 0 {
				return p.readFile(out)
			}
			if err := p.endFile(); err != nil {
				return 0, err
			}
		}
		if len(p.left) == 0 {
			return 0, io.EOF
		}
		if err := p.next(); err != nil {
			return 0, fmt.Errorf("blob: packing: %w", err)
		}
	}
}

// next begins the next entry.
func (p *packed) next() error {
	e := p.left[0]
	p.left = p.left[1:]
	p.head.Reset(e.header())
	if e.kind != kindFile {
		return nil
	}
	named, err := p.root.Lstat(e.path)
	if err != nil {
		return err
	}
	// A Root follows links within it, and opening a pipe would wait for a
	// writer.
	file, err := p.root.OpenFile(e.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && (!named.Mode().IsRegular() || !os.SameFile(named, info) || info.Size() != e.size) {
		err = &ArchiveError{Path: e.path, Reason: "changed while it was packed"}
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	p.file, p.rest, p.path = file, e.size, e.path
	return nil
}

func (p *packed) readFile(out []byte) (int, error) {
	n, err := p.file.Read(out[:min(int64(len(out)), p.rest)])
	p.rest -= int64(n)
	if err == io.EOF && p.rest > 0 {
		return n, &ArchiveError{Path: p.path, Reason: "shrank while it was packed"}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (p *packed) endFile() error {
	err := p.file.Close()
	p.file = nil
	return err
}

// Close ends the reading.
func (p *packed) Close() error {
	var err error
	if p.file != nil {
		err = p.endFile()
	}
	p.left = nil
	p.head.Reset(nil)
	return errors.Join(err, p.root.Close())
}

// Unpack makes dir, which must not exist or be empty, the directory that an
// archive of Pack describes. The archive is unpacked beside it and moved there
// when it has been read to its end, so that after an error there is nothing.
// Errors: *ArchiveError; *TooLargeError; those of r and the file system.
func Unpack(r io.Reader, dir string, limits Limits) error {
	temp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".unpack-*")
	if err != nil {
		return fmt.Errorf("blob: unpacking: %w", err)
	}
	if err := unpackInto(r, temp, limits); err != nil {
		return errors.Join(fmt.Errorf("blob: unpacking: %w", err), os.RemoveAll(temp))
	}
	if err := errors.Join(os.Chmod(temp, 0o755), os.Rename(temp, dir)); err != nil {
		return errors.Join(fmt.Errorf("blob: unpacking: %w", err), os.RemoveAll(temp))
	}
	return nil
}

func unpackInto(r io.Reader, dir string, limits Limits) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	in := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(packMagic))
	if _, err := io.ReadFull(in, magic); err != nil {
		return cutShort(err)
	}
	if string(magic) != packMagic {
		return &ArchiveError{Reason: "does not begin as one"}
	}
	l := newLedger(limits)
	for {
		more, err := unpackEntry(in, root, l)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		if err == nil {
			err = &ArchiveError{Reason: "there are bytes after its end"}
		}
		return err
	}
	return nil
}

// cutShort names the end of input within an archive.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &ArchiveError{Reason: "is cut short"}
	}
	return err
}

// unpackEntry reports whether there was an entry and not the end.
func unpackEntry(in *bufio.Reader, root *os.Root, l *ledger) (bool, error) {
	kind, err := in.ReadByte()
	if err != nil {
		return false, cutShort(err)
	}
	switch kind {
	case kindEnd:
		return false, nil
	case kindDir, kindFile:
	default:
		return false, &ArchiveError{Reason: fmt.Sprintf("entry of kind %d", kind)}
	}
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return false, cutShort(err)
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > maxPathBytes {
		return false, &ArchiveError{Reason: fmt.Sprintf("path of %d bytes, limit %d", n, maxPathBytes)}
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(in, name); err != nil {
		return false, cutShort(err)
	}
	if kind == kindDir {
		if err := l.enter(kindDir, string(name), 0); err != nil {
			return false, err
		}
		return true, root.Mkdir(string(name), 0o755)
	}
	var size [8]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return false, cutShort(err)
	}
	bytes := int64(min(binary.BigEndian.Uint64(size[:]), 1<<62))
	if err := l.enter(kindFile, string(name), bytes); err != nil {
		return false, err
	}
	return true, unpackFile(in, root, string(name), bytes)
}

func unpackFile(in io.Reader, root *os.Root, name string, size int64) error {
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyN(file, in, size)
	return errors.Join(cutShort(err), file.Close())
}
