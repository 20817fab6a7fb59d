package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// CloseCode says why a connection was closed. Protocols define their own from
// CloseOfProtocol up.
type CloseCode uint64

// The codes of this package.
const (
	CloseDone        CloseCode = iota // nothing more to say
	CloseNotAdmitted                  // the peer does not want us
	CloseDuplicate                    // another connection to the same peer took its place
	CloseBusy                         // as many connections as the peer takes
	CloseViolation                    // we broke the protocol
	CloseShutdown                     // the peer is stopping
	CloseBlocked                      // the peer has blocked us for a while

	CloseOfProtocol CloseCode = 0x100
)

const (
	maxReasonBytes = 256
	welcomeByte    = 1
)

// CloseError says that a connection was closed, by whom and why.
type CloseError struct {
	Code   CloseCode
	Reason string
	Remote bool // closed by the peer
}

func (e *CloseError) Error() string {
	by := "us"
	if e.Remote {
		by = "the peer"
	}
	return fmt.Sprintf("transport: connection closed by %s: %.*q (code %d)", by, maxReasonBytes, e.Reason, e.Code)
}

// explain turns quic-go's errors that callers may want to know into ours.
func explain(err error) error {
	if closed, ok := errors.AsType[*quic.ApplicationError](err); ok {
		return &CloseError{Code: CloseCode(closed.ErrorCode), Reason: closed.ErrorMessage, Remote: closed.Remote}
	}
	if failed, ok := errors.AsType[*quic.TransportError](err); ok && failed.ErrorCode == alertNoProtocol {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// Conn is one authenticated connection to a peer.
type Conn struct {
	q        *quic.Conn
	peer     identity
	protocol string
	dialed   bool
	favoured bool     // preferred by its protocol
	local    net.Addr // when it began; quic-go's may change under migration
	remote   net.Addr // likewise

	mu      sync.Mutex
	sockets []*socket // those it has been on, if it was dialed
}

// newConn wraps a connection that was dialed from a socket, or accepted if from
// is nil.
func newConn(q *quic.Conn, peer identity, protocol string, from *socket) *Conn {
	c := &Conn{q: q, peer: peer, protocol: protocol, dialed: from != nil, local: q.LocalAddr(), remote: q.RemoteAddr()}
	if c.dialed {
		c.sockets = []*socket{from}
	}
	return c
}

// Remote returns the peer's proven identity.
func (c *Conn) Remote() crypto.PublicKey { return c.peer.key }

// RemoteAddr returns where the peer was when the connection began.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// LocalAddr returns where this end was when the connection began.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// Protocol returns the name of the protocol that the connection is for.
func (c *Conn) Protocol() string { return c.protocol }

// Dialed reports whether this end dialed.
func (c *Conn) Dialed() bool { return c.dialed }

// Context ends with the connection.
func (c *Conn) Context() context.Context { return c.q.Context() }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.q.Context().Done() }

// Err returns nil while the connection lives and then why it ended, *CloseError
// if one end closed it.
func (c *Conn) Err() error {
	if c.q.Context().Err() == nil {
		return nil
	}
	return explain(context.Cause(c.q.Context()))
}

// OpenStream opens a stream. The peer's AcceptStream sees it once something has
// been written. It waits while the peer allows no further one.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) {
	q, err := c.q.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("transport: opening a stream to %s: %w", c.peer.key.Short(), explain(err))
	}
	return &Stream{q: q, conn: c}, nil
}

// AcceptStream returns the next stream that the peer opened.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	q, err := c.q.AcceptStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("transport: accepting a stream from %s: %w", c.peer.key.Short(), explain(err))
	}
	return &Stream{q: q, conn: c}, nil
}

// Close ends the connection and tells the peer why. What was written and not
// yet read by the peer may be lost. The reason is cut to 256 bytes.
func (c *Conn) Close(code CloseCode, reason string) { closeConn(c.q, code, reason) }

func closeConn(q *quic.Conn, code CloseCode, reason string) {
	if err := q.CloseWithError(quic.ApplicationErrorCode(code), reason[:min(len(reason), maxReasonBytes)]); err != nil {
		panic("transport: quic-go failed to close: " + err.Error()) // documented never to
	}
}

// ConnStats are a connection's figures so far.
type ConnStats struct {
	RTT           time.Duration // smoothed, RFC 9002 §5.3
	BytesSent     uint64        // on the wire without UDP and IP headers
	BytesReceived uint64        // likewise
	PacketsLost   uint64
}

// Stats returns the connection's figures so far.
func (c *Conn) Stats() ConnStats {
	s := c.q.ConnectionStats()
	return ConnStats{RTT: s.SmoothedRTT, BytesSent: s.BytesSent, BytesReceived: s.BytesReceived, PacketsLost: s.PacketsLost}
}

func (c *Conn) boundTo() []*socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sockets)
}

// migrate moves a dialed connection to another socket once the peer has
// answered there (RFC 9000 §9.2).
func (c *Conn) migrate(ctx context.Context, to *socket) error {
	if c.Err() != nil {
		return nil // it has ended meanwhile
	}
	path, err := c.q.AddPath(to.transport)
	if err != nil {
		return fmt.Errorf("transport: moving the connection to %s: %w", c.peer.key.Short(), err)
	}
	// From here on the new socket knows the connection and has to outlive it.
	c.mu.Lock()
	c.sockets = append(c.sockets, to)
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.Context(), cancel)()
	if err := path.Probe(ctx); err != nil {
		return errors.Join(fmt.Errorf("transport: probing a new path to %s: %w", c.peer.key.Short(), err), path.Close())
	}
	if err := path.Switch(); err != nil {
		return errors.Join(fmt.Errorf("transport: moving the connection to %s: %w", c.peer.key.Short(), err), path.Close())
	}
	return nil
}

// welcome tells the dialer that it is admitted.
func (c *Conn) welcome() error {
	s, err := c.q.OpenUniStream()
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte{welcomeByte}); err != nil {
		return err
	}
	return s.Close()
}

// awaitWelcome waits for the byte of welcome.
func (c *Conn) awaitWelcome(ctx context.Context) error {
	s, err := c.q.AcceptUniStream(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { s.CancelRead(streamCancelled) })()
	var b [2]byte
	n, err := s.Read(b[:])
	if n == 1 && b[0] == welcomeByte {
		return nil
	}
	if err == nil || n > 0 {
		return errors.New("transport: the peer's welcome is malformed")
	}
	return err
}
