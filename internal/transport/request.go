package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The first byte of an answer.
const (
	answerOK      = 0
	answerRefused = 1
)

// RefusedError is a peer's refusal to answer a request.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("transport: the peer refused the request: %.*q", maxReasonBytes, e.Reason)
}

// Request asks a connected peer and returns its answer. Errors: ErrUnknownPeer,
// ErrNotConnected, ErrUnknownChannel, *MessageTooLargeError, *RefusedError,
// that of ctx, or that of the connection. ctx should have a deadline.
func (m *Mesh) Request(ctx context.Context, to crypto.PublicKey, service uint8, request []byte) ([]byte, error) {
	s, ok := m.services[service]
	if !ok {
		return nil, fmt.Errorf("%w: %d", ErrUnknownChannel, service)
	}
	if len(request) > s.MaxRequestBytes {
		return nil, &MessageTooLargeError{What: "request to " + s.Name, Bytes: uint64(len(request)), Limit: s.MaxRequestBytes}
	}
	p, err := m.peer(to)
	if err != nil {
		return nil, err
	}
	l := p.current()
	if l == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotConnected, to.Short())
	}
	answer, err := l.ask(ctx, s, request)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("transport: asking %s for %s: %w", to.Short(), s.Name, explain(err))
	}
	return answer, nil
}

func (l *link) ask(ctx context.Context, s *Service, request []byte) ([]byte, error) {
	stream, err := l.conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, stream.Reset)()
	answer, err := l.exchange(stream, s, request)
	if err != nil {
		stream.Reset()
		return nil, err
	}
	return answer, stream.Close()
}

func (l *link) exchange(stream *Stream, s *Service, request []byte) ([]byte, error) {
	frame := appendMessage(append(make([]byte, 0, 1+lengthBytes+len(request)), s.ID), request)
	_, sendErr := stream.Write(frame)
	if sendErr == nil {
		sendErr = stream.CloseWrite()
	}
	// A peer that has answered no longer reads, so only the answer counts.
	var verdict [1]byte
	if _, err := io.ReadFull(stream, verdict[:]); err != nil {
		return nil, errors.Join(sendErr, err)
	}
	limit := s.MaxResponseBytes
	if verdict[0] != answerOK {
		limit = maxReasonBytes
	}
	answer, err := ReadMessage(stream, limit)
	if err != nil {
		return nil, err
	}
	if verdict[0] != answerOK {
		return nil, &RefusedError{Reason: string(answer)}
	}
	return answer, nil
}

func (l *link) acceptRequests(ctx context.Context) error {
	for {
		stream, err := l.conn.AcceptStream(ctx)
		if err != nil {
			return err
		}
		if err := l.peer.requests.wait(ctx, 1); errors.Is(err, errTooFast) {
			return violation{fmt.Errorf("%w: requests", err), StreamFlood}
		} else if err != nil {
			return nil // the connection has ended
		}
		l.wg.Go(func() { l.ending(l.answer(stream)) })
	}
}

// requestIDTimeout bounds how long a peer may take to say what it asks for.
const requestIDTimeout = 10 * time.Second

// answer serves one request. Only a breach of the protocol is an error: an
// asker that goes away is its own business.
func (l *link) answer(stream *Stream) error {
	s, err := l.asked(stream)
	if err != nil {
		return l.giveUp(stream, err)
	}
	// Counted before the request is read, so that what unanswered requests hold
	// is bounded too.
	running := &l.inflight[s.ID]
	defer running.Add(-1)
	if running.Add(1) > int32(s.MaxConcurrent) {
		l.peer.mesh.metrics.add(RequestConcurrency)
		l.reply(stream, answerRefused, []byte("too many requests at once to "+s.Name))
		return nil
	}
	request, err := ReadMessage(stream, s.MaxRequestBytes)
	if err != nil {
		return l.giveUp(stream, err)
	}
	ctx, cancel := context.WithTimeout(stream.q.Context(), s.Timeout)
	defer cancel()
	response, err := s.Respond(ctx, l.peer.id, request)
	if err == nil && len(response) > s.MaxResponseBytes {
		err = &MessageTooLargeError{What: "response of " + s.Name, Bytes: uint64(len(response)), Limit: s.MaxResponseBytes}
		l.peer.mesh.log.Error("transport: a service answered at too great a length", "error", err)
	}
	if err != nil {
		reason := err.Error()
		l.reply(stream, answerRefused, []byte(reason[:min(len(reason), maxReasonBytes)]))
		return nil
	}
	if err := l.peer.afford(ctx, len(response)); err != nil {
		l.peer.mesh.metrics.add(RequestSlow)
		stream.Reset()
		return nil
	}
	l.reply(stream, answerOK, response)
	return nil
}

// asked reads which service is asked, and gives the rest of the exchange the
// service's time.
func (l *link) asked(stream *Stream) (*Service, error) {
	if err := stream.SetDeadline(time.Now().Add(requestIDTimeout)); err != nil {
		return nil, err
	}
	var id [1]byte
	if _, err := io.ReadFull(stream, id[:]); err != nil {
		return nil, err
	}
	s, ok := l.peer.mesh.services[id[0]]
	if !ok {
		return nil, fmt.Errorf("%w: service %d", ErrUnknownChannel, id[0])
	}
	return s, stream.SetDeadline(time.Now().Add(s.Timeout))
}

// giveUp drops a request that cannot be read, and returns err if the peer is
// to blame for it.
func (l *link) giveUp(stream *Stream, err error) error {
	stream.Reset()
	if as, ok := breach(err); ok {
		return violation{fmt.Errorf("transport: reading a request: %w", err), as}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.peer.mesh.metrics.add(RequestSlow)
	}
	return nil
}

func (l *link) reply(stream *Stream, verdict byte, answer []byte) {
	frame := appendMessage(append(make([]byte, 0, 1+lengthBytes+len(answer)), verdict), answer)
	_, err := stream.Write(frame)
	if err == nil {
		err = stream.Close()
	}
	if err != nil {
		stream.Reset()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.peer.mesh.metrics.add(RequestSlow)
		}
		l.peer.mesh.log.Debug("transport: an answer was not taken", "peer", l.peer.id.Short(), "error", err)
	}
}
