package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// patience is how long either end of a transfer waits for the other to take or
// give the next chunk.
const patience = 30 * time.Second

const (
	maxRequestBytes = 128
	maxReasonBytes  = 256
	answerOverhead  = maxReasonBytes + 64
)

// request asks for a blob from some chunk on.
type request struct {
	_       struct{} `cbor:",toarray"`
	ID      crypto.Digest
	From    uint32 // the first chunk wanted
	Outline bool   // the asker needs the outline
}

// answer precedes the chunks, which follow without framing: the outline says
// how long each is.
type answer struct {
	_       struct{} `cbor:",toarray"`
	Refusal string   // empty if the chunks follow
	Outline []byte   // if asked for
}

const notFound = "not found"

// Source is where a blob may be had: a *transport.Conn whose peer answers every
// stream with Serve, or whatever opens a stream that will be served.
type Source interface {
	OpenStream(ctx context.Context) (*transport.Stream, error)
}

// Serve answers one request for a blob on a stream and closes it. Whether the
// peer may have the blob is the caller's to decide before. Errors: ErrNotFound,
// *CorruptError, or that of the stream; in every case the peer knows that it
// has not got the blob.
func (s *Store) Serve(ctx context.Context, stream *transport.Stream) error {
	return s.ServeOr(ctx, stream, nil)
}

// ServeOr is Serve for a store that knows where to look for a blob that it
// lacks: find, if it is not nil, may put the blob into the store before the
// peer is told that it is not found. While it looks the peer waits, for as long
// as it waits for a chunk.
func (s *Store) ServeOr(ctx context.Context, stream *transport.Stream, find func(context.Context, crypto.Digest) error) error {
	defer context.AfterFunc(ctx, stream.Reset)()
	if err := s.serve(ctx, stream, find); err != nil {
		stream.Reset()
		return fmt.Errorf("blob: serving %s: %w", stream.Conn().Remote().Short(), err)
	}
	return stream.Close()
}

func (s *Store) serve(ctx context.Context, stream *transport.Stream, find func(context.Context, crypto.Digest) error) error {
	if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var req request
	message, err := transport.ReadMessage(stream, maxRequestBytes)
	if err == nil {
		err = codec.Unmarshal(message, &req, maxRequestBytes)
	}
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	peer := stream.Conn().Remote()
	if !s.beginServing(peer) {
		return refuse(stream, "busy: as many transfers as this node serves at a time")
	}
	defer s.endServing(peer)
	if find != nil && !s.Has(req.ID) {
		if err := s.look(ctx, req.ID, find); err != nil {
			s.cfg.Log.Debug("blob: not found elsewhere either", "blob", req.ID.Short(), "error", err)
			return refuse(stream, notFound)
		}
		if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
	}
	b, err := s.Open(req.ID)
	if errors.Is(err, ErrNotFound) {
		return refuse(stream, notFound)
	}
	if err != nil {
		return err
	}
	return errors.Join(b.sendTo(stream, req), b.Close())
}

// beginServing reports whether one more transfer may be served to a peer: one
// that reads slowly must not keep all others from being served.
func (s *Store) beginServing(peer crypto.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served[peer] >= (s.cfg.MaxServing+1)/2 || s.serving >= s.cfg.MaxServing {
		return false
	}
	s.served[peer]++
	s.serving++
	return true
}

func (s *Store) endServing(peer crypto.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving--
	if s.served[peer]--; s.served[peer] == 0 {
		delete(s.served, peer)
	}
}

// look gives find as long as a peer waits.
func (s *Store) look(ctx context.Context, id crypto.Digest, find func(context.Context, crypto.Digest) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience*3/4)
	defer cancel()
	return find(ctx, id)
}

func refuse(stream *transport.Stream, reason string) error {
	return transport.WriteMessage(stream, codec.Marshal(answer{Refusal: reason}))
}

func (b *Blob) sendTo(stream *transport.Stream, req request) error {
	var ans answer
	if req.Outline {
		ans.Outline = b.outline.encode()
	}
	if err := transport.WriteMessage(stream, codec.Marshal(ans)); err != nil {
		return err
	}
	first, end := int(req.From), len(b.outline.chunks)
	return pipe(max(0, end-first),
		func(i int, buf []byte) ([]byte, error) {
			chunk := buf[:b.outline.size(first+i)]
			if i > 0 { // the peer compares it, and asks from it on if it is not what it was
				return chunk, b.readAt(first+i, chunk)
			}
			return chunk, b.load(first+i, chunk)
		},
		func(_ int, chunk []byte) error {
			if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			_, err := stream.Write(chunk)
			return err
		})
}

// Fetch has the store get a blob of at most limit bytes from the sources, one
// after another until it has every chunk, and returns its size. What came from
// one source is kept when it fails, and also for the next Fetch. Errors:
// *TooLargeError; ErrFull; ErrNotFound if every source lacks the blob; else what
// each of the others met.
func (s *Store) Fetch(ctx context.Context, id crypto.Digest, limit int64, sources ...Source) (int64, error) {
	done, err := s.claim(ctx, id, nil)
	if err != nil {
		return 0, err
	}
	defer done()
	if length, err := s.Length(id); err == nil {
		if length > limit {
			return 0, &TooLargeError{What: "blob " + id.Short(), Bytes: length, Limit: limit}
		}
		return length, nil
	}
	p, err := s.resume(id, min(limit, s.cfg.MaxBlobBytes))
	if err != nil {
		return 0, fmt.Errorf("blob: fetching %s: %w", id.Short(), err)
	}
	if err = p.fetchAll(ctx, sources); err == nil {
		err = p.finish()
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("blob: fetching %s: %w", id.Short(), err), p.suspend())
	}
	return p.outline.length, nil
}

// fetchAll asks one source after another until the blob is complete.
func (p *partial) fetchAll(ctx context.Context, sources []Source) error {
	if p.complete() {
		return nil
	}
	var missing, failures []error
	for _, source := range sources {
		err := p.fetchFrom(ctx, source)
		if _, corrupt := errors.AsType[*CorruptError](err); corrupt && p.known && ctx.Err() == nil {
			// Asked from that chunk on, a source compares it, and learns that its disk
			// has changed it.
			if again := p.fetchFrom(ctx, source); again != nil {
				err = errors.Join(err, again)
			} else {
				err = nil
			}
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrNotFound):
			missing = append(missing, err)
			continue
		}
		failures = append(failures, err)
		if ctx.Err() != nil || hopeless(err) {
			break
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	return errors.Join(append(missing, fmt.Errorf("%w: none of %d sources has it", ErrNotFound, len(sources)))...)
}

// hopeless reports whether the fault is on this side, so that no other source
// could do better.
func hopeless(err error) bool {
	_, disk := errors.AsType[*os.PathError](err)
	return disk || errors.Is(err, ErrFull)
}

// claim waits until nobody else fetches or brings the blob, and ends an upload of
// it that may be taken over. mine is nil for a fetch.
func (s *Store) claim(ctx context.Context, id crypto.Digest, mine *reception) (done func(), err error) {
	for {
		s.mu.Lock()
		other, busy := s.fetching[id]
		if !busy {
			ended := make(chan struct{})
			s.fetching[id] = ended
			if mine != nil {
				have, _ := s.verified(id) // as long as it is read again
				mine.have.Store(have)
				s.receiving[id] = mine
			}
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.fetching, id)
				delete(s.receiving, id)
				s.mu.Unlock()
				close(ended)
			}, nil
		}
		again := s.overtake(id, mine)
		s.mu.Unlock()
		select {
		case <-other:
		case <-time.After(again):
		case <-ctx.Done():
			return nil, fmt.Errorf("blob: fetching %s: %w", id.Short(), context.Cause(ctx))
		}
	}
}

// fetchFrom gets the chunks that are missing from one source.
func (p *partial) fetchFrom(ctx context.Context, source Source) error {
	stream, err := source.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, stream.Reset)()
	if err := p.receive(stream); err != nil {
		stream.Reset()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("from %s: %w", stream.Conn().Remote().Short(), err)
	}
	return stream.Close()
}

func (p *partial) receive(stream *transport.Stream) error {
	if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	req := request{ID: p.id, From: uint32(p.have), Outline: !p.known}
	sendErr := transport.WriteMessage(stream, codec.Marshal(req))
	if sendErr == nil {
		sendErr = stream.CloseWrite()
	}
	// A peer that has answered no longer reads, so only the answer counts.
	limit := int(outlineBytes(p.limit)) + answerOverhead
	message, err := transport.ReadMessage(stream, limit)
	if long, ok := errors.AsType[*transport.MessageTooLargeError](err); ok {
		return &TooLargeError{What: "outline of blob " + p.id.Short(), Bytes: int64(long.Bytes), Limit: int64(limit)}
	}
	if err != nil {
		return errors.Join(sendErr, fmt.Errorf("reading the answer: %w", err))
	}
	var ans answer
	if err := codec.Unmarshal(message, &ans, limit); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	switch {
	case ans.Refusal == notFound:
		return ErrNotFound
	case ans.Refusal != "":
		return fmt.Errorf("refused: %.*q", maxReasonBytes, ans.Refusal)
	}
	if !p.known {
		if err := p.learn(ans.Outline); err != nil {
			return err
		}
	}
	if p.complete() {
		return nil
	}
	first := p.have
	return pipe(len(p.outline.chunks)-first,
		func(i int, buf []byte) ([]byte, error) {
			if err := stream.SetDeadline(time.Now().Add(patience)); err != nil {
				return nil, err
			}
			chunk := buf[:p.outline.size(first+i)]
			if _, err := io.ReadFull(stream, chunk); err != nil {
				return nil, fmt.Errorf("reading chunk %d: %w", first+i, err)
			}
			return chunk, nil
		},
		func(_ int, chunk []byte) error { return p.add(chunk) })
}
