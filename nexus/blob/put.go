package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Put stores what r gives, at most limit bytes and at most what the store takes
// as one blob, and returns its id and size. It looks at ctx between chunks; a
// read that blocks is the caller's to end. Errors: *TooLargeError, ErrFull, that
// of r or ctx.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (crypto.Digest, int64, error) {
	return s.put(ctx, r, limit, nil)
}

// PutVerified is Put for a blob that has to be want: anything else is refused
// with a *CorruptError and not kept.
func (s *Store) PutVerified(ctx context.Context, r io.Reader, want crypto.Digest, limit int64) (int64, error) {
	_, size, err := s.put(ctx, r, limit, &want)
	return size, err
}

func (s *Store) put(ctx context.Context, r io.Reader, limit int64, want *crypto.Digest) (crypto.Digest, int64, error) {
	w, err := s.newWriter()
	if err != nil {
		return crypto.Digest{}, 0, fmt.Errorf("blob: putting a blob: %w", err)
	}
	limit = min(limit, s.cfg.MaxBlobBytes)
	id, err := w.copyFrom(ctx, r, limit)
	if err == nil && want != nil && id != *want {
		err = &CorruptError{ID: *want, Chunk: -1}
	}
	if err == nil {
		err = w.commit(id)
	}
	if err != nil {
		return crypto.Digest{}, 0, errors.Join(fmt.Errorf("blob: putting a blob: %w", err), w.abandon())
	}
	return id, w.outline.length, nil
}

// writer writes one blob beside the others.
type writer struct {
	store   *Store
	dir     string // where the two files are
	name    string
	data    *os.File
	outline outline
	bytes   int64 // reserved
}

func (s *Store) newWriter() (*writer, error) {
	s.mu.Lock()
	s.temps++
	name := strconv.FormatUint(s.temps, 10)
	s.mu.Unlock()
	data, err := os.OpenFile(s.path(dirTemp, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	w := &writer{store: s, dir: dirTemp, name: name, data: data}
	if err := w.reserve(lengthBytes); err != nil {
		return nil, errors.Join(err, w.abandon())
	}
	return w, nil
}

func (w *writer) reserve(bytes int64) error {
	if err := w.store.reserve(bytes); err != nil {
		return err
	}
	w.bytes += bytes
	return nil
}

// copyFrom writes all of r and returns the id.
func (w *writer) copyFrom(ctx context.Context, r io.Reader, limit int64) (crypto.Digest, error) {
	chunk := make([]byte, ChunkBytes)
	for {
		if err := ctx.Err(); err != nil {
			return crypto.Digest{}, context.Cause(ctx)
		}
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			if w.outline.length+int64(n) > limit {
				return crypto.Digest{}, &TooLargeError{What: "blob", Bytes: w.outline.length + int64(n), Limit: limit}
			}
			if err := w.reserve(int64(n) + crypto.DigestSize); err != nil {
				return crypto.Digest{}, err
			}
			if _, err := w.data.Write(chunk[:n]); err != nil {
				return crypto.Digest{}, err
			}
			w.outline.length += int64(n)
			w.outline.chunks = append(w.outline.chunks, crypto.DomainBlobChunk.Hash(chunk[:n]))
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return w.outline.id(), w.writeOutline()
		case err != nil:
			return crypto.Digest{}, err
		}
	}
}

func (w *writer) writeOutline() error {
	path := w.store.path(w.dir, w.name+outlineSuffix)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(w.outline.encode())
	return errors.Join(err, file.Sync(), file.Close())
}

// commit makes the written files the blob id, durably, unless the store has it
// already. It is the caller's place to abandon after an error.
func (w *writer) commit(id crypto.Digest) error {
	if err := w.data.Sync(); err != nil {
		return err
	}
	s := w.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if present, ok := s.entries[id]; ok {
		s.order.MoveToBack(present.place)
		s.bytes -= w.bytes
		w.bytes = 0
		return errors.Join(w.data.Close(), s.removeWritten(w))
	}
	// The outline first: data without one would not be known for a blob, and
	// an outline without data is removed by the next Open.
	for _, suffix := range []string{outlineSuffix, ""} {
		if err := os.Rename(s.path(w.dir, w.name+suffix), s.path(dirBlobs, id.String()+suffix)); err != nil {
			return errors.Join(err, s.removeFiles(dirBlobs, id))
		}
	}
	if err := errors.Join(syncDir(s.path(dirBlobs)), w.data.Close()); err != nil {
		return errors.Join(err, s.removeFiles(dirBlobs, id))
	}
	s.insert(&entry{id: id, length: w.outline.length, bytes: w.bytes})
	s.thin()
	return nil
}

// abandon removes what was written and frees what was reserved.
func (w *writer) abandon() error {
	w.store.release(w.bytes)
	w.bytes = 0
	err := w.data.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // by commit
	}
	return errors.Join(err, w.store.removeWritten(w))
}

func (s *Store) removeWritten(w *writer) error {
	var failures []error
	for _, suffix := range []string{"", outlineSuffix} {
		if err := os.Remove(s.path(w.dir, w.name+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// Remove deletes a blob that is neither pinned nor being read. It is no error
// if there is none.
func (s *Store) Remove(id crypto.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	switch {
	case !ok:
		return nil
	case s.pins[id]:
		return fmt.Errorf("blob: removing %s: it is pinned", id.Short())
	case e.users > 0:
		return fmt.Errorf("blob: removing %s: it is being read", id.Short())
	}
	s.drop(e)
	return nil
}
