package transport

import (
	"context"
	"fmt"
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	defaultBacklog   = 32
	maxBacklog       = 4096
	preferredBacklog = 256
)

// Protocol is what an endpoint serves under one name.
type Protocol struct {
	// Name is of the form hypermesh/chain/1, 1 to 64 bytes.
	Name string
	// Admit decides whom to accept. It is called on the endpoint's accepting
	// goroutine and must not block.
	Admit func(crypto.PublicKey) bool
	// Prefer, if set, says whose connections have room of their own: they do
	// not count against Config.MaxConns, have a backlog of their own, and are
	// accepted first. It must say so of a bounded number of nodes, and must not
	// block.
	Prefer func(crypto.PublicKey) bool
	// Backlog bounds the connections that wait for Accept; 0 is 32.
	Backlog int
}

// Listener accepts the connections of one protocol.
type Listener struct {
	endpoint *Endpoint
	protocol Protocol
	inbox    chan *Conn
	first    chan *Conn    // of the preferred
	done     chan struct{} // closed by shut
	once     sync.Once
}

// Listen begins to serve a protocol.
func (e *Endpoint) Listen(p Protocol) (*Listener, error) {
	if p.Backlog == 0 {
		p.Backlog = defaultBacklog
	}
	switch {
	case len(p.Name) == 0 || len(p.Name) > maxProtocolNameBytes:
		return nil, fmt.Errorf("transport: protocol name %.80q of %d bytes, want 1 to %d", p.Name, len(p.Name), maxProtocolNameBytes)
	case p.Admit == nil:
		return nil, fmt.Errorf("transport: protocol %s: Admit is missing", p.Name)
	case p.Backlog < 0 || p.Backlog > maxBacklog:
		return nil, fmt.Errorf("transport: protocol %s: backlog %d, want 1 to %d", p.Name, p.Backlog, maxBacklog)
	}
	l := &Listener{
		endpoint: e, protocol: p, done: make(chan struct{}),
		inbox: make(chan *Conn, p.Backlog), first: make(chan *Conn, max(p.Backlog, preferredBacklog)),
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	if _, taken := e.protocols[e.wireName(p.Name)]; taken {
		return nil, fmt.Errorf("transport: protocol %s is served already", p.Name)
	}
	e.protocols[e.wireName(p.Name)] = l
	return l, nil
}

// Accept returns the next admitted connection, or ErrClosed, or the error of
// ctx.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	select {
	case <-l.done:
		return nil, ErrClosed
	default:
	}
	select {
	case c := <-l.first:
		return c, nil
	default:
	}
	select {
	case c := <-l.first:
		return c, nil
	case c := <-l.inbox:
		return c, nil
	case <-l.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close stops serving the protocol and closes the connections that wait to be
// accepted; those that were accepted live on.
func (l *Listener) Close() {
	l.endpoint.mu.Lock()
	name := l.endpoint.wireName(l.protocol.Name)
	if l.endpoint.protocols[name] == l {
		delete(l.endpoint.protocols, name)
	}
	l.endpoint.mu.Unlock()
	l.shut()
}

func (l *Listener) shut() {
	l.once.Do(func() { close(l.done) })
	for {
		select {
		case c := <-l.first:
			c.Close(CloseShutdown, "the protocol is no longer served")
		case c := <-l.inbox:
			c.Close(CloseShutdown, "the protocol is no longer served")
		default:
			return
		}
	}
}
