package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

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
	return s.verified(id)
}

// verified is Verified for who holds s.mu.
func (s *Store) verified(id crypto.Digest) (bytes int64, whole bool) {
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
	by   string // who brings it
	from time.Time
	end  context.CancelCauseFunc
	have atomic.Int64 // bytes verified
	kept atomic.Int64 // those of them that it has brought
	last atomic.Int64 // when it brought some, in nanoseconds since 1970; 0 until it may
}

// brought notes that a chunk has come.
func (r *reception) brought(have, more int64) {
	r.have.Store(have)
	r.kept.Add(more)
	r.last.Store(time.Now().UnixNano())
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

// maxClaimWait is how long an upload waits for another of the same blob to end.
const maxClaimWait = 20 * time.Second

// ownStall is after how long an upload that brings nothing is taken over by a newer
// one of the same uploader, if Config.Stall is not less. Not at once: what an upload
// sent before its line was cut may come, and look like the newer one, after the
// upload that goes on has begun.
const ownStall = time.Second

// errBusy ends an upload that waited for another as long as it may.
var errBusy = errors.New("blob: another upload of the blob is under way")

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
	// By tells uploaders apart, if it is not empty: a newer upload of the same one
	// takes over from one that has brought nothing for a second.
	By string
}

// Receive has the store take in a blob that somebody brings. Every chunk is
// compared before it is kept, and what has come when the upload fails is kept for
// the next Receive or Fetch. Nobody keeps others from bringing a blob: not before
// its outline has come, which who knows no more than the id cannot give; and one
// that brings nothing for Config.Stall is taken over by the next. While one brings
// chunks, the next waits for it, for 20 s. It returns the blob's size; with an
// error, how many of the bytes that are kept this upload brought. Errors:
// *OffsetError, *TooLargeError, *CorruptError, ErrFull, that of Body or ctx.
func (s *Store) Receive(ctx context.Context, id crypto.Digest, u Upload) (int64, error) {
	if length, err := s.Length(id); err == nil {
		return length, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, u.Abort)()
	mine := &reception{by: u.By, from: time.Now(), end: cancel}
	length, err := s.receive(ctx, id, u, mine)
	if err != nil {
		if context.Cause(ctx) != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return mine.kept.Load(), fmt.Errorf("blob: receiving %s: %w", id.Short(), err)
	}
	return length, nil
}

func (s *Store) receive(ctx context.Context, id crypto.Digest, u Upload, mine *reception) (int64, error) {
	limit := min(u.Limit, s.cfg.MaxBlobBytes)
	encoded, err := readOutline(u.Body, id, limit)
	if err != nil {
		return 0, err
	}
	wait, cancel := context.WithTimeoutCause(ctx, maxClaimWait, errBusy)
	defer cancel()
	done, err := s.claim(wait, id, mine)
	if err != nil {
		return 0, err
	}
	defer done()
	if length, err := s.Length(id); err == nil {
		return length, nil
	}
	p, err := s.resume(id, limit)
	if err != nil {
		return 0, err
	}
	if !p.known {
		err = p.learn(encoded)
	}
	if err == nil {
		err = p.receiveFrom(ctx, u.From, u.Body, mine)
	}
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		return 0, errors.Join(err, p.suspend())
	}
	return p.outline.length, nil
}

// overtake ends an upload of the blob that is under way, if it is of the same
// uploader or has brought nothing for long, and returns after how long to look
// again. The caller holds s.mu.
func (s *Store) overtake(id crypto.Digest, mine *reception) (again time.Duration) {
	r := s.receiving[id]
	if r == nil {
		return s.cfg.Stall
	}
	idle := time.Duration(0)
	if last := r.last.Load(); last != 0 {
		idle = time.Since(time.Unix(0, last))
	}
	stall := s.cfg.Stall
	if mine != nil && mine.by != "" && mine.by == r.by && mine.from.After(r.from) {
		stall = min(stall, ownStall)
	}
	if idle >= stall {
		r.end(errOvertaken)
		return s.cfg.Stall
	}
	return stall - max(0, idle)
}

// receiveFrom reads the chunks from an offset on.
func (p *partial) receiveFrom(ctx context.Context, from int64, r io.Reader, progress *reception) error {
	progress.brought(p.verified(), 0)
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
		progress.brought(p.verified(), int64(len(chunk)))
	}
	return nil
}

// readOutline reads the outline that r begins with, which must be that of the blob.
func readOutline(r io.Reader, id crypto.Digest, limit int64) ([]byte, error) {
	head := make([]byte, lengthBytes)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("reading the outline: %w", err)
	}
	length, err := decodeLength(head)
	if err != nil {
		return nil, err
	}
	if length > limit {
		return nil, &TooLargeError{What: "blob " + id.Short(), Bytes: length, Limit: limit}
	}
	encoded := make([]byte, outlineBytes(length))
	copy(encoded, head)
	if _, err := io.ReadFull(r, encoded[lengthBytes:]); err != nil {
		return nil, fmt.Errorf("reading the outline: %w", err)
	}
	_, err = decodeOutline(encoded, id, limit)
	return encoded, err
}
