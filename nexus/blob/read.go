package blob

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Blob reads one blob of a store, each chunk verified before any byte of it is
// handed out. It is an io.ReadSeekCloser.
type Blob struct {
	store   *Store
	entry   *entry
	outline outline
	file    *os.File
	offset  int64
	buf     []byte
	loaded  int // the chunk in buf, −1 if none
	closed  bool
}

var _ io.ReadSeekCloser = (*Blob)(nil)

// Open opens a blob, which stays in the store until it is closed. Errors:
// ErrNotFound; *CorruptError, after which the store no longer has the blob.
func (s *Store) Open(id crypto.Digest) (*Blob, error) {
	s.mu.Lock()
	e, ok := s.entries[id]
	if !ok {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	e.users++
	s.order.MoveToBack(e.place)
	s.mu.Unlock()
	b := &Blob{store: s, entry: e, loaded: -1}
	if err := b.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob: opening %s: %w", id.Short(), err), b.Close())
	}
	return b, nil
}

func (b *Blob) open() error {
	path := b.store.path(dirBlobs, b.entry.id.String())
	encoded, err := os.ReadFile(path + outlineSuffix)
	if err != nil {
		return err
	}
	if b.outline, err = decodeOutline(encoded, b.entry.id, MaxBytes); err != nil {
		b.store.discard(b.entry)
		return err
	}
	if b.file, err = os.Open(path); err != nil {
		return err
	}
	// The order of use survives a restart as the files' times.
	now := time.Now()
	return os.Chtimes(path, now, now)
}

// discard takes a corrupt blob out of the store, so that it can be had anew.
func (s *Store) discard(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.id] == e {
		s.cfg.Log.Error("blob: the disk changed a blob, dropping it", "blob", e.id.Short())
		s.drop(e)
	}
}

// ID returns the blob's id.
func (b *Blob) ID() crypto.Digest { return b.entry.id }

// Length returns the blob's size in bytes.
func (b *Blob) Length() int64 { return b.outline.length }

// Close ends the reading. Closing twice is closing once.
func (b *Blob) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.store.mu.Lock()
	b.entry.users--
	b.store.mu.Unlock()
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// Read reads on from the offset.
func (b *Blob) Read(p []byte) (int, error) {
	if b.offset >= b.outline.length {
		return 0, io.EOF
	}
	chunk, err := b.chunk(int(b.offset / ChunkBytes))
	if err != nil {
		return 0, err
	}
	n := copy(p, chunk[b.offset%ChunkBytes:])
	b.offset += int64(n)
	return n, nil
}

// Seek sets the offset.
func (b *Blob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += b.offset
	case io.SeekEnd:
		offset += b.outline.length
	default:
		return 0, fmt.Errorf("blob: seeking from %d", whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("blob: seeking to offset %d", offset)
	}
	b.offset = offset
	return offset, nil
}

// chunk returns chunk i, verified; it is good until the next call.
func (b *Blob) chunk(i int) ([]byte, error) {
	size := b.outline.size(i)
	if b.loaded == i {
		return b.buf[:size], nil
	}
	if b.buf == nil {
		b.buf = make([]byte, min(ChunkBytes, b.outline.length))
	}
	b.loaded = -1
	if err := b.load(i, b.buf[:size]); err != nil {
		return nil, err
	}
	b.loaded = i
	return b.buf[:size], nil
}

// load reads chunk i into buf, which is of its size, and verifies it.
func (b *Blob) load(i int, buf []byte) error {
	if err := b.readAt(i, buf); err != nil {
		return err
	}
	if !b.outline.verifies(i, buf) {
		b.store.discard(b.entry)
		return &CorruptError{ID: b.entry.id, Chunk: i}
	}
	return nil
}

// readAt reads chunk i into buf, which is of its size, as the disk has it.
func (b *Blob) readAt(i int, buf []byte) error {
	if n, err := b.file.ReadAt(buf, int64(i)*ChunkBytes); err != nil && (err != io.EOF || n < len(buf)) {
		return fmt.Errorf("blob: reading chunk %d of %s: %w", i, b.entry.id.Short(), err)
	}
	return nil
}
