package server

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// dialTimeout bounds the dialing of another server.
const dialTimeout = 3 * time.Second

// pool keeps at most one connection to each other server for one protocol.
type pool struct {
	endpoint *transport.Endpoint
	protocol string
	roster   *roster

	mu    sync.Mutex
	links map[crypto.PublicKey]*outbound
}

// outbound is the way to one server. Its lock is held while it is dialed, so
// that there is one attempt at a time.
type outbound struct {
	dialing chan struct{} // one token: who holds it may dial
	conn    *transport.Conn
}

func newPool(endpoint *transport.Endpoint, protocol string, r *roster) *pool {
	return &pool{endpoint: endpoint, protocol: protocol, roster: r, links: map[crypto.PublicKey]*outbound{}}
}

// link returns the way to a server.
func (p *pool) link(id crypto.PublicKey) *outbound {
	p.mu.Lock()
	defer p.mu.Unlock()
	link := p.links[id]
	if link == nil {
		link = &outbound{dialing: make(chan struct{}, 1)}
		p.links[id] = link // there are no more than there were servers
	}
	return link
}

// conn returns a live connection to the server, dialing it if there is none.
func (p *pool) conn(ctx context.Context, id crypto.PublicKey) (*transport.Conn, error) {
	addr, ok := p.roster.addr(id)
	if !ok || id == p.endpoint.ID() {
		return nil, fmt.Errorf("server: %s is no other server of this cluster", id.Short())
	}
	link := p.link(id)
	if c := p.live(link); c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	select {
	case link.dialing <- struct{}{}:
		defer func() { <-link.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c := p.live(link); c != nil {
		return c, nil
	}
	c, err := p.endpoint.Dial(ctx, addr, p.protocol)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	link.conn = c
	return c, nil
}

func (p *pool) live(link *outbound) *transport.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if link.conn != nil && link.conn.Err() == nil {
		return link.conn
	}
	return nil
}

func (p *pool) openStream(ctx context.Context, id crypto.PublicKey) (*transport.Stream, error) {
	c, err := p.conn(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.OpenStream(ctx)
}

// source is one server's store of blobs: it is asked on a stream of its own.
type source struct {
	pool *pool
	id   crypto.PublicKey
}

// OpenStream implements blob.Source.
func (s source) OpenStream(ctx context.Context) (*transport.Stream, error) {
	return s.pool.openStream(ctx, s.id)
}

// inbox is a net.Listener of the streams that the other servers open.
type inbox struct {
	addr    net.Addr
	streams chan *transport.Stream
	once    sync.Once
	closed  chan struct{}
}

func newInbox(addr net.Addr) *inbox {
	return &inbox{addr: addr, streams: make(chan *transport.Stream), closed: make(chan struct{})}
}

// put gives a stream to whoever accepts.
func (b *inbox) put(s *transport.Stream) {
	select {
	case b.streams <- s:
	case <-b.closed:
		s.Reset()
	case <-s.Conn().Done():
	}
}

// Accept implements net.Listener.
func (b *inbox) Accept() (net.Conn, error) {
	select {
	case s := <-b.streams:
		return s, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *inbox) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// Addr implements net.Listener.
func (b *inbox) Addr() net.Addr { return b.addr }
