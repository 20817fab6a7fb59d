package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// OffsetError says that an upload would go on behind what the store has.
type OffsetError struct {
	From, Have int64 // bytes
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("blob: the upload goes on at %d, the store has %d bytes", e.From, e.Have)
}

// Verified returns how many bytes from the beginning of a blob the store has, all
// of which are verified again when an upload or a fetch goes on, and whether that
// is the whole of it.
func (s *Store) Verified(id crypto.Digest) (bytes int64, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil {
		return e.length, true
	}
	if e := s.partials[id]; e != nil {
		have := max(0, e.bytes-outlineBytes(e.length))
		if have < e.length {
			have -= have % ChunkBytes
		}
		return have, false
	}
	if r := s.receiving[id]; r != nil {
		return r.have.Load(), false
	}
	return 0, false
}

// reception is an upload under way.
type reception struct {
	end  context.CancelCauseFunc
	have atomic.Int64 // bytes verified
}

// Forget removes the beginning of a blob that nobody uploads or fetches now. It
// is no error if there is none.
func (s *Store) Forget(id crypto.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.partials[id]; e != nil && s.fetching[id] == nil {
		s.drop(e)
	}
}

// errOvertaken ends an upload when somebody else brings the same blob.
var errOvertaken = errors.New("blob: another transfer of the blob goes on with it")

// Upload is a blob that somebody brings.
type Upload struct {
	// Body gives the outline, and then the blob's bytes from From on: a multiple of
	// ChunkBytes, or the length, that is not behind what Verified says.
	Body  io.Reader
	From  int64
	Limit int64 // of the blob's bytes
	// Abort has a Read of Body that blocks return soon.
	Abort func()
}

// Receive has the store take in a blob that somebody brings. Every chunk is
// compared before it is kept, and what has come when the upload fails is kept for
// the next Receive or Fetch, which need not wait for one that is slow: they take
// over from it. It returns the blob's size. Errors: *OffsetError, *TooLargeError,
// *CorruptError, ErrFull, that of Body or ctx.
func (s *Store) Receive(ctx context.Context, id crypto.Digest, u Upload) (int64, error) {
	s.overtake(id)
	done, err := s.claim(ctx, id)
	if err != nil {
		return 0, err
	}
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, u.Abort)()
	under := &reception{end: cancel}
	have, _ := s.Verified(id) // as long as it is read again
	under.have.Store(have)
	s.mu.Lock()
	s.receiving[id] = under
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.receiving, id)
		s.mu.Unlock()
	}()
	if length, err := s.Length(id); err == nil {
		return length, nil
	}
	p, err := s.resume(id, min(u.Limit, s.cfg.MaxBlobBytes))
	if err != nil {
		return 0, fmt.Errorf("blob: receiving %s: %w", id.Short(), err)
	}
	under.have.Store(p.verified())
	if err = p.receiveFrom(ctx, u.From, u.Body, &under.have); err == nil {
		err = p.finish()
	}
	if err != nil {
		if context.Cause(ctx) != nil {
			err = context.Cause(ctx)
		}
		return 0, errors.Join(fmt.Errorf("blob: receiving %s: %w", id.Short(), err), p.suspend())
	}
	return p.outline.length, nil
}

// overtake ends an upload of the blob that is under way.
func (s *Store) overtake(id crypto.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.receiving[id]; r != nil {
		r.end(errOvertaken)
	}
}

// receiveFrom reads an outline and the chunks from an offset on.
func (p *partial) receiveFrom(ctx context.Context, from int64, r io.Reader, progress *atomic.Int64) error {
	if err := p.readOutline(r); err != nil {
		return err
	}
	if have := p.verified(); from > have || from%ChunkBytes != 0 && from != p.outline.length {
		return &OffsetError{From: from, Have: have}
	}
	buf := make([]byte, min(ChunkBytes, p.outline.length))
	for i := chunksOf(from); i < len(p.outline.chunks); i++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		chunk := buf[:p.outline.size(i)]
		if _, err := io.ReadFull(r, chunk); err != nil {
			return fmt.Errorf("reading chunk %d: %w", i, err)
		}
		if i < p.have {
			continue // it is here
		}
		if err := p.add(chunk); err != nil {
			return err
		}
		progress.Store(p.verified())
	}
	return nil
}

// readOutline takes in the outline that r begins with, which must be that of the
// blob.
func (p *partial) readOutline(r io.Reader) error {
	head := make([]byte, lengthBytes)
	if _, err := io.ReadFull(r, head); err != nil {
		return fmt.Errorf("reading the outline: %w", err)
	}
	length, err := decodeLength(head)
	if err != nil {
		return err
	}
	if length > p.limit {
		return &TooLargeError{What: "blob " + p.id.Short(), Bytes: length, Limit: p.limit}
	}
	encoded := make([]byte, outlineBytes(length))
	copy(encoded, head)
	if _, err := io.ReadFull(r, encoded[lengthBytes:]); err != nil {
		return fmt.Errorf("reading the outline: %w", err)
	}
	if p.known { // and is what this one has to be
		_, err := decodeOutline(encoded, p.id, p.limit)
		return err
	}
	return p.learn(encoded)
}
