package transport

import (
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Codes with which a stream's directions are given up.
const (
	streamDone      quic.StreamErrorCode = iota // the reader has what it wanted
	streamCancelled                             // whoever asked no longer wants it
)

// Stream is one ordered byte stream in both directions: a net.Conn whose
// deadlines end in an os.ErrDeadlineExceeded.
type Stream struct {
	q    *quic.Stream
	conn *Conn

	// What SetPace set; nil: reads and writes go as fast as they can.
	piece   int
	in, out func(n int)
	writing sync.Mutex // held while a Write is under way
	mu      sync.Mutex
	ended   bool // nothing more can be written
}

var _ net.Conn = (*Stream)(nil)

// Conn returns the connection that the stream belongs to.
func (s *Stream) Conn() *Conn { return s.conn }

// SetPace has the stream call in after it has read, and out before it writes,
// with the number of bytes, at most piece at a time: they wait until so many may
// pass. While a reader waits the peer is held back by flow control. Call it
// before the first Read and Write. Closing the stream does not wait.
func (s *Stream) SetPace(piece int, in, out func(n int)) { s.piece, s.in, s.out = piece, in, out }

// Read reads what the peer has written, io.EOF after its CloseWrite or Close.
func (s *Stream) Read(p []byte) (int, error) {
	if s.in == nil {
		return s.q.Read(p)
	}
	n, err := s.q.Read(p[:min(len(p), s.piece)])
	s.in(n)
	return n, err
}

// Write writes p; it returns when all but the last packet's worth has been
// sent, and blocks while the peer does not read.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.out == nil {
		return s.q.Write(p)
	}
	written := 0
	for len(p) > 0 {
		part := p[:min(len(p), s.piece)]
		s.out(len(part))
		n, err := s.q.Write(part)
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// CloseWrite ends the direction to the peer, which reads io.EOF after all that
// was written. It fails if the peer has stopped reading.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.end() {
		return s.q.Close()
	}
	return nil
}

// end reports whether the caller is the first to end the direction to the
// peer.
func (s *Stream) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.ended
	s.ended = true
	return first
}

// Close ends both directions. What was written still reaches the peer, unless
// a Write is blocked: that fails, and the peer's reads with it. It is no error
// if the peer has stopped reading. Safe to call more than once and while other
// goroutines read and write.
func (s *Stream) Close() error {
	s.q.CancelRead(streamDone)
	if !s.writing.TryLock() {
		s.Reset()
		return nil
	}
	defer s.writing.Unlock()
	if !s.end() {
		return nil
	}
	if err := s.q.Close(); err != nil {
		s.q.CancelWrite(streamDone) // the peer has stopped reading, the only error there is
	}
	return nil
}

// Reset gives up both directions at once; the peer's reads and writes fail.
func (s *Stream) Reset() {
	s.end()
	s.q.CancelRead(streamCancelled)
	s.q.CancelWrite(streamCancelled)
}

// LocalAddr returns where this end was when the connection began.
func (s *Stream) LocalAddr() net.Addr { return s.conn.local }

// RemoteAddr returns where the peer was when the connection began.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.remote }

// SetDeadline bounds reads and writes.
func (s *Stream) SetDeadline(t time.Time) error { return s.q.SetDeadline(t) }

// SetReadDeadline bounds reads.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.q.SetReadDeadline(t) }

// SetWriteDeadline bounds writes.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.q.SetWriteDeadline(t) }
