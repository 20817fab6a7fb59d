package blob

import (
	"errors"
	"io"
	"os"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// partial is a blob that is being fetched: its outline, once known, and its
// first chunks, all verified.
type partial struct {
	writer
	id    crypto.Digest
	limit int64
	known bool // the outline is
	have  int  // chunks
}

// resume takes up what an earlier fetch of the blob left, or begins anew. The
// chunks on disk are verified again, up to the first that is not what it was.
func (s *Store) resume(id crypto.Digest, limit int64) (*partial, error) {
	p := &partial{id: id, limit: limit, writer: writer{store: s, dir: dirPartial, name: id.String()}}
	s.mu.Lock()
	if e, ok := s.partials[id]; ok {
		if e.length > limit { // another's beginning, which stays
			s.mu.Unlock()
			return nil, &TooLargeError{What: "blob " + id.Short(), Bytes: e.length, Limit: limit}
		}
		// From here on its bytes are the writer's.
		delete(s.partials, id)
		s.order.Remove(e.place)
		p.bytes = e.bytes
	}
	s.mu.Unlock()
	data, err := os.OpenFile(s.path(dirPartial, p.name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		s.release(p.bytes)
		return nil, err
	}
	p.data = data
	if err := p.reload(); err != nil {
		return nil, errors.Join(err, p.abandon())
	}
	return p, nil
}

// reload verifies what is on disk and forgets the rest.
func (p *partial) reload() error {
	encoded, err := os.ReadFile(p.store.path(dirPartial, p.name+outlineSuffix))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil {
		p.outline, err = decodeOutline(encoded, p.id, p.limit)
		if _, tooLarge := errors.AsType[*TooLargeError](err); tooLarge {
			return err
		}
		p.known = err == nil
	}
	buf := make([]byte, min(ChunkBytes, p.outline.length))
	for p.known && !p.complete() {
		chunk := buf[:p.outline.size(p.have)]
		if _, err := io.ReadFull(p.data, chunk); err != nil || !p.outline.verifies(p.have, chunk) {
			break // the rest is fetched again
		}
		p.have++
	}
	return p.rewind()
}

// rewind cuts the files and the bytes reserved to what has been verified.
func (p *partial) rewind() error {
	size := p.verified()
	if _, err := p.data.Seek(size, io.SeekStart); err != nil {
		return err
	}
	if err := p.data.Truncate(size); err != nil {
		return err
	}
	want := int64(0)
	if p.known {
		want = outlineBytes(p.outline.length) + size
	} else if err := os.Remove(p.store.path(dirPartial, p.name+outlineSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if want > p.bytes {
		return p.reserve(want - p.bytes)
	}
	p.store.release(p.bytes - want)
	p.bytes = want
	return nil
}

// verified returns how many bytes the verified chunks have.
func (p *partial) verified() int64 { return min(int64(p.have)*ChunkBytes, p.outline.length) }

func (p *partial) complete() bool { return p.known && p.have == len(p.outline.chunks) }

// learn takes the outline that a source gave.
func (p *partial) learn(encoded []byte) error {
	o, err := decodeOutline(encoded, p.id, p.limit)
	if err != nil {
		return err
	}
	if err := p.reserve(outlineBytes(o.length)); err != nil {
		return err
	}
	p.outline, p.known = o, true
	return p.writeOutline()
}

// add keeps the next chunk if it is what the outline says.
func (p *partial) add(chunk []byte) error {
	if !p.outline.verifies(p.have, chunk) {
		return &CorruptError{ID: p.id, Chunk: p.have}
	}
	if err := p.reserve(int64(len(chunk))); err != nil {
		return err
	}
	if _, err := p.data.Write(chunk); err != nil {
		return err
	}
	p.have++
	return nil
}

// finish makes the complete blob part of the store.
func (p *partial) finish() error { return p.commit(p.id) }

// suspend keeps what there is for the next fetch.
func (p *partial) suspend() error {
	if !p.known || p.have == 0 {
		return p.abandon()
	}
	if err := errors.Join(p.rewind(), p.data.Close()); err != nil {
		return errors.Join(err, p.abandon())
	}
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(&entry{id: p.id, length: p.outline.length, bytes: p.bytes, partial: true})
	s.thin()
	return nil
}
