package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What every connection of this package keeps to.
const (
	defaultIdleTimeout = 20 * time.Second
	// A silent connection is asked whether it lives this often before it is given up.
	keepAlives       = 3
	handshakeTimeout = 5 * time.Second

	streamWindow         = 512 << 10 // at first; grows by use to
	maxStreamWindow      = 4 << 20
	connWindow           = 2 << 20 // at first; grows by use to
	maxConnWindow        = 24 << 20
	maxIncomingStreams   = 256
	maxIncomingChannels  = 64 // one-way streams: the welcome and the channels of a mesh
	defaultMaxConns      = 1024
	maxProtocolNameBytes = 64
	maxSockets           = 8 // an endpoint's own, after Rebinds
	maxConnsOfKey        = 16
	// By so much the receive windows of all accepted connections that are not
	// preferred may grow together beyond connWindow.
	maxWindowGrowth = 128 << 20
)

// Config says who an endpoint is and where it listens.
type Config struct {
	Key crypto.PrivateKey
	// Network is the chain id. Endpoints of different networks refuse each
	// other in the handshake.
	Network crypto.Digest
	// ListenAddr is the HOST:PORT of the UDP socket; an empty host is every
	// interface, port 0 any free one. If it is empty the endpoint only dials.
	ListenAddr string
	// MaxConns bounds the connections accepted and not yet closed, over all
	// protocols; 0 is 1,024.
	MaxConns int
	// HandshakeTimeout bounds the silence within a handshake; the whole of it may
	// take twice that. 0 is 5 s.
	HandshakeTimeout time.Duration
	// MaxUnproven bounds the handshakes under way whose callers have not shown
	// that they can be reached at their address; above it they have to. 0 is 128.
	MaxUnproven int
	// IdleTimeout is how long a connection lives on while nothing of the peer
	// arrives, 1 s to 60 s; 0 is 20 s. Of two ends the shorter one counts. It also
	// bounds how long two nodes go without each other after the path between them has
	// healed: meanwhile QUIC asks for a sign of life at intervals that double
	// (RFC 9002 §6.2.1), so that the next one may come as late after the end of an outage
	// as the outage was long, while a new connection takes moments.
	IdleTimeout time.Duration
	Log         *slog.Logger
}

func (c Config) valid() error {
	if c.Key.IsZero() {
		return errors.New("transport: Config.Key is missing")
	}
	if c.MaxConns < 0 {
		return fmt.Errorf("transport: Config.MaxConns is %d", c.MaxConns)
	}
	if c.HandshakeTimeout < 0 || c.MaxUnproven < 0 {
		return fmt.Errorf("transport: Config.HandshakeTimeout is %v, Config.MaxUnproven is %d", c.HandshakeTimeout, c.MaxUnproven)
	}
	if c.IdleTimeout != 0 && (c.IdleTimeout < time.Second || c.IdleTimeout > time.Minute) {
		return fmt.Errorf("transport: Config.IdleTimeout is %v, want 1s to 1m", c.IdleTimeout)
	}
	if c.Log == nil {
		return errors.New("transport: Config.Log is missing")
	}
	return nil
}

var (
	// ErrClosed says that the endpoint, listener or mesh has been closed.
	ErrClosed = errors.New("transport: closed")
	// ErrProtocol says that a peer speaks no such protocol on this network.
	ErrProtocol = errors.New("transport: the peer does not speak this protocol on this network")
	// ErrTooManyRebinds says that connections still use eight earlier sockets.
	ErrTooManyRebinds = errors.New("transport: connections still use as many earlier sockets as an endpoint may have, 8")
)

// Endpoint is one identity and one UDP socket, which listens and dials.
type Endpoint struct {
	cfg  Config
	self identity
	cert tls.Certificate
	quic *quic.Config
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	metrics *Metrics
	gate    *gate

	mu        sync.Mutex
	sockets   []*socket // the last one dials; the first one listens
	protocols map[string]*Listener
	conns     map[*Conn]struct{}
	accepted  int                      // of conns, those that count against MaxConns
	ofKey     map[crypto.PublicKey]int // of conns, those accepted, by key
	growth    windowGrowth
	closed    bool
}

// Open binds the socket and, if cfg says so, begins to listen: for the
// protocols that Listen adds, so for nothing yet.
func Open(cfg Config) (*Endpoint, error) {
	if err := cfg.valid(); err != nil {
		return nil, err
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = handshakeTimeout
	}
	if cfg.MaxUnproven == 0 {
		cfg.MaxUnproven = defaultUnproven
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = defaultIdleTimeout
	}
	cert, self, err := newCertificate(cfg.Key)
	if err != nil {
		return nil, err
	}
	first, err := openSocket(cfg.ListenAddr, cfg.Key)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Endpoint{
		cfg: cfg, self: self, cert: cert, ctx: ctx, stop: stop, metrics: &Metrics{},
		quic: &quic.Config{
			HandshakeIdleTimeout:           cfg.HandshakeTimeout,
			MaxIdleTimeout:                 cfg.IdleTimeout,
			KeepAlivePeriod:                cfg.IdleTimeout / keepAlives,
			InitialStreamReceiveWindow:     streamWindow,
			MaxStreamReceiveWindow:         maxStreamWindow,
			InitialConnectionReceiveWindow: connWindow,
			MaxConnectionReceiveWindow:     maxConnWindow,
			MaxIncomingStreams:             maxIncomingStreams,
			MaxIncomingUniStreams:          maxIncomingChannels,
		},
		sockets:   []*socket{first},
		protocols: map[string]*Listener{},
		conns:     map[*Conn]struct{}{},
		ofKey:     map[crypto.PublicKey]int{},
		growth:    windowGrowth{of: map[*quic.Conn]uint64{}, favoured: map[*quic.Conn]struct{}{}},
	}
	e.gate = newGate(e.metrics, cfg.MaxUnproven)
	if cfg.ListenAddr == "" {
		return e, nil
	}
	first.transport.VerifySourceAddress = e.gate.mustProve
	first.transport.ConnContext = e.gate.enter
	accepting := e.quic.Clone()
	accepting.AllowConnectionWindowIncrease = e.growth.allow
	listener, err := first.transport.Listen(e.serverTLS(), accepting)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("transport: listening: %w", err), e.Close())
	}
	e.wg.Go(func() { e.acceptAll(listener) })
	return e, nil
}

// ID returns the endpoint's own identity.
func (e *Endpoint) ID() crypto.PublicKey { return e.self.key }

// Addr returns the address that the endpoint listens at.
func (e *Endpoint) Addr() net.Addr { return e.listening().localAddr() }

// NodeAddr returns ID and Addr. It is of use to others only if ListenAddr named
// a host.
func (e *Endpoint) NodeAddr() NodeAddr { return NodeAddr{ID: e.self.key, Addr: e.Addr().String()} }

func (e *Endpoint) listening() *socket {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sockets[0]
}

// serverTLS offers the protocols there are when a peer calls.
func (e *Endpoint) serverTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			e.mu.Lock()
			defer e.mu.Unlock()
			names := make([]string, 0, len(e.protocols))
			for name := range e.protocols {
				names = append(names, name)
			}
			if len(names) == 0 {
				return nil, errors.New("transport: no protocol is served")
			}
			return tlsConfig(e.cert, names, anyIdentity), nil
		},
	}
}

// wireName is a protocol's name in the handshake (RFC 7301): NAME@NETWORK.
func (e *Endpoint) wireName(protocol string) string {
	return protocol + "@" + e.cfg.Network.String()
}

func (e *Endpoint) acceptAll(listener *quic.Listener) {
	for {
		q, err := listener.Accept(e.ctx)
		if err != nil {
			if e.ctx.Err() == nil {
				e.cfg.Log.Error("transport: no longer accepting connections", "error", err)
			}
			return
		}
		e.admit(q)
	}
}

// admit welcomes a connection whose handshake is done, or closes it with the
// reason. The welcome, one byte on a one-way stream, is what the dialer waits
// for: in TLS 1.3 its handshake ends before we have seen its certificate.
func (e *Endpoint) admit(q *quic.Conn) {
	handshakeDone(q)
	c, listener, refused := e.register(q)
	if refused != nil {
		e.cfg.Log.Debug("transport: refused a connection", "from", q.RemoteAddr(), "reason", refused.Reason)
		closeConn(q, refused.Code, refused.Reason)
		return
	}
	if err := c.welcome(); err != nil {
		e.metrics.add(HandshakeFailed)
		c.Close(CloseViolation, "no stream for the welcome")
		return
	}
	inbox := listener.inbox
	if c.favoured {
		inbox = listener.first
	}
	select {
	case inbox <- c:
	default:
		e.metrics.add(ConnectionBacklog)
		c.Close(CloseBusy, "too many connections wait to be accepted")
	}
}

func (e *Endpoint) register(q *quic.Conn) (*Conn, *Listener, *CloseError) {
	state := q.ConnectionState().TLS
	raw := make([][]byte, len(state.PeerCertificates))
	for i, cert := range state.PeerCertificates {
		raw[i] = cert.Raw
	}
	peer, err := checkCertificates(raw, time.Now())
	if err != nil {
		e.metrics.add(HandshakeCertificate)
		return nil, nil, &CloseError{Code: CloseNotAdmitted, Reason: err.Error()}
	}
	e.mu.Lock()
	listener := e.protocols[state.NegotiatedProtocol]
	e.mu.Unlock()
	if listener == nil {
		return nil, nil, &CloseError{Code: CloseNotAdmitted, Reason: "the protocol is no longer served"}
	}
	if !listener.protocol.Admit(peer.key) {
		e.metrics.add(ConnectionNotAdmitted)
		return nil, nil, &CloseError{Code: CloseNotAdmitted, Reason: "node " + peer.key.Short() + " is not admitted to " + listener.protocol.Name}
	}
	c := newConn(q, peer, listener.protocol.Name, nil)
	c.favoured = listener.protocol.Prefer != nil && listener.protocol.Prefer(peer.key)
	if c.favoured {
		e.gate.befriend(q.RemoteAddr())
	}
	if refused := e.track(c); refused != nil {
		return nil, nil, refused
	}
	return c, listener, nil
}

// track enters c among the endpoint's connections until it ends.
func (e *Endpoint) track(c *Conn) *CloseError {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return &CloseError{Code: CloseShutdown, Reason: "the node is stopping"}
	}
	if !c.Dialed() {
		if refused := e.count(c); refused != nil {
			return refused
		}
	}
	e.conns[c] = struct{}{}
	context.AfterFunc(c.Context(), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.conns, c)
		if !c.Dialed() {
			e.discount(c)
		}
	})
	return nil
}

// count enters an accepted connection into the sums that bound them. The caller
// holds e.mu.
func (e *Endpoint) count(c *Conn) *CloseError {
	if e.ofKey[c.Remote()] >= maxConnsOfKey {
		e.metrics.add(ConnectionKey)
		return &CloseError{Code: CloseBusy, Reason: "too many connections of one node"}
	}
	if !c.favoured {
		if e.accepted >= e.cfg.MaxConns {
			e.metrics.add(ConnectionTotal)
			return &CloseError{Code: CloseBusy, Reason: "the node has as many connections as it takes"}
		}
		e.accepted++
	}
	e.growth.enter(c.q, c.favoured)
	e.ofKey[c.Remote()]++
	return nil
}

func (e *Endpoint) discount(c *Conn) {
	e.growth.forget(c.q)
	if !c.favoured {
		e.accepted--
	}
	if e.ofKey[c.Remote()]--; e.ofKey[c.Remote()] == 0 {
		delete(e.ofKey, c.Remote())
	}
}

// Dial connects to addr for a protocol. It returns once the peer has proven to
// be addr.ID and has admitted this endpoint. Errors: *IdentityError,
// ErrProtocol, *CloseError with the peer's reason, or that of ctx.
func (e *Endpoint) Dial(ctx context.Context, addr NodeAddr, protocol string) (*Conn, error) {
	e.mu.Lock()
	from := e.sockets[len(e.sockets)-1]
	e.mu.Unlock()
	if e.ctx.Err() != nil {
		return nil, ErrClosed
	}
	targets, err := from.resolve(ctx, addr.Addr)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, target := range targets {
		c, err := e.dialOne(ctx, from, target, addr.ID, protocol)
		if err == nil {
			return c, nil
		}
		failures = append(failures, fmt.Errorf("transport: dialing %s at %s for %s: %w", addr.ID.Short(), target, protocol, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

func (e *Endpoint) dialOne(ctx context.Context, from *socket, to *net.UDPAddr, want crypto.PublicKey, protocol string) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	var peer identity
	conf := tlsConfig(e.cert, []string{e.wireName(protocol)}, func(got identity) error {
		peer = got
		return pinned(want)(got)
	})
	q, err := from.transport.Dial(ctx, to, conf, e.quic)
	if err != nil {
		if peer.key != want && peer.key != (crypto.PublicKey{}) {
			e.metrics.add(DialIdentity)
		}
		return nil, explain(err)
	}
	c := newConn(q, peer, protocol, from)
	if err := c.awaitWelcome(ctx); err != nil {
		c.Close(CloseDone, "no welcome")
		return nil, explain(err)
	}
	if refused := e.track(c); refused != nil {
		c.Close(refused.Code, refused.Reason)
		return nil, ErrClosed
	}
	return c, nil
}

// Rebind opens a fresh UDP socket on every interface and moves to it all
// connections that this endpoint dialed, without losing a byte (RFC 9000 §9);
// later dials use it too. It is for a node whose address or network has
// changed. (A socket on every interface follows a new address by itself: the
// peer sees the packets come from elsewhere and goes along. Rebind is for a
// socket that was bound to the address that is gone, and for a fresh mapping
// through a NAT.) What cannot be moved stays where it was, and the error says
// so.
func (e *Endpoint) Rebind(ctx context.Context) error {
	e.mu.Lock()
	unused, moving, err := e.retireSockets()
	e.mu.Unlock()
	for _, s := range unused {
		err = errors.Join(err, s.close())
	}
	if err != nil {
		return err
	}
	fresh, err := openSocket("", e.cfg.Key)
	if err != nil {
		return err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return errors.Join(ErrClosed, fresh.close())
	}
	e.sockets = append(e.sockets, fresh)
	e.mu.Unlock()
	failures := make([]error, len(moving))
	var wg sync.WaitGroup
	for i, c := range moving {
		wg.Go(func() { failures[i] = c.migrate(ctx, fresh) })
	}
	wg.Wait()
	return errors.Join(failures...)
}

// retireSockets forgets the sockets that no connection uses any more, and
// returns them with the connections that Rebind has to move. The first socket,
// which listens, and the last, which dials, always stay. The caller holds e.mu.
func (e *Endpoint) retireSockets() (unused []*socket, moving []*Conn, err error) {
	used := map[*socket]bool{e.sockets[0]: true, e.sockets[len(e.sockets)-1]: true}
	for c := range e.conns {
		if c.Dialed() {
			moving = append(moving, c)
			for _, s := range c.boundTo() {
				used[s] = true
			}
		}
	}
	kept := make([]*socket, 0, len(e.sockets)+1)
	for _, s := range e.sockets {
		if used[s] {
			kept = append(kept, s)
		} else {
			unused = append(unused, s)
		}
	}
	e.sockets = kept
	if len(kept) >= maxSockets {
		return unused, nil, ErrTooManyRebinds
	}
	return unused, moving, nil
}

// Close tells every peer, closes every connection and listener, and releases
// the sockets. It returns when the endpoint's goroutines have ended.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	conns, listeners, sockets := e.conns, e.protocols, e.sockets
	e.conns, e.protocols = map[*Conn]struct{}{}, map[string]*Listener{}
	var wg sync.WaitGroup
	for c := range conns {
		wg.Go(func() { c.Close(CloseShutdown, "the node is stopping") })
	}
	e.mu.Unlock()
	wg.Wait()
	for _, l := range listeners {
		l.shut()
	}
	e.stop()
	e.wg.Wait()
	var failures []error
	for _, s := range sockets {
		failures = append(failures, s.close())
	}
	return errors.Join(failures...)
}
