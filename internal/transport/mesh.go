package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

var (
	// ErrUnknownPeer says that a peer is neither configured nor connected.
	ErrUnknownPeer = errors.New("transport: peer is neither configured nor connected")
	// ErrNotConnected says that a configured peer has no connection now.
	ErrNotConnected = errors.New("transport: peer is not connected")
	// ErrUnknownChannel says that the mesh has no such channel or service.
	ErrUnknownChannel = errors.New("transport: no such channel or service")
	// ErrQueueFull says that a channel of DropNewest has no room for a peer.
	ErrQueueFull = errors.New("transport: the peer's queue is full")
)

// Mesh keeps one connection to each peer and carries messages over it.
//
// Both ends dial. When two connections to a peer exist, both ends keep the same
// one: that of the peer's newer life if it has restarted; else, if they may have
// been dialed at the same time, the one that the lower key dialed; else the
// newer, because a peer dials only when it has none.
type Mesh struct {
	endpoint *Endpoint
	cfg      MeshConfig
	channels map[uint8]*Channel
	services map[uint8]*Service
	listener *Listener
	log      *slog.Logger
	metrics  *Metrics
	ledger   *ledger
	wg       sync.WaitGroup

	common         map[uint8]*meter // what all observers send, by channel
	commonRequests *meter           // what all observers ask
	egress         *rate.Limiter    // of bytes sent to all observers
	egressTurn     chan struct{}    // held while waiting for them

	mu        sync.Mutex
	peers     map[crypto.PublicKey]*peer
	observers int                            // those of peers that are observers
	blocked   map[crypto.PublicKey]time.Time // until when; at most maxBlocked
	running   context.Context                // Run's, nil before it
	stopped   bool
}

// NewMesh begins to listen for the mesh's protocol. Messages may be sent at
// once and wait in their queues; connections are made by Run.
func NewMesh(endpoint *Endpoint, cfg MeshConfig) (*Mesh, error) {
	cfg.setDefaults()
	cfg.Peers, cfg.Channels, cfg.Services = slices.Clone(cfg.Peers), slices.Clone(cfg.Channels), slices.Clone(cfg.Services)
	if err := cfg.valid(endpoint.ID()); err != nil {
		return nil, fmt.Errorf("transport: mesh %s: %w", cfg.Protocol, err)
	}
	m := &Mesh{
		endpoint: endpoint, cfg: cfg, log: endpoint.cfg.Log, metrics: endpoint.metrics,
		ledger: newLedger(cfg.MemberQueueBytes, cfg.ObserverQueueBytes, endpoint.metrics),
		common: map[uint8]*meter{}, commonRequests: newMeter(streamRate),
		channels: map[uint8]*Channel{}, services: map[uint8]*Service{},
		peers: map[crypto.PublicKey]*peer{}, blocked: map[crypto.PublicKey]time.Time{},
		egress: newEgress(cfg.ObserversEgress, &cfg), egressTurn: make(chan struct{}, 1),
	}
	for i := range cfg.Channels {
		m.channels[cfg.Channels[i].ID] = &cfg.Channels[i]
		m.common[cfg.Channels[i].ID] = newMeter(cfg.Channels[i].Ingress)
	}
	for i := range cfg.Services {
		m.services[cfg.Services[i].ID] = &cfg.Services[i]
	}
	for _, addr := range cfg.Peers {
		m.peers[addr.ID] = newPeer(m, addr, member)
	}
	var err error
	m.listener, err = endpoint.Listen(Protocol{
		Name: cfg.Protocol, Admit: m.admits, Prefer: m.prefers, Backlog: min(maxBacklog, defaultBacklog+cfg.MaxObservers),
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// admits is the handshake's question; observers are counted again when they
// join, and weighed by where they are.
func (m *Mesh) admits(id crypto.PublicKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id == m.endpoint.ID() {
		return false
	}
	if m.isBlocked(id) {
		m.metrics.add(ConnectionBlocked)
		return false
	}
	if _, known := m.peers[id]; known || m.observers < m.cfg.MaxObservers || m.mayMakeRoom() {
		return true
	}
	m.metrics.add(ObserverPlaces)
	return false
}

// prefers reports whether the connections of a node have room of their own.
func (m *Mesh) prefers(id crypto.PublicKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[id]
	return p != nil && p.class == member
}

// isBlocked forgets blocks that have run out. The caller holds m.mu.
func (m *Mesh) isBlocked(id crypto.PublicKey) bool {
	until, ok := m.blocked[id]
	if ok && time.Now().After(until) {
		delete(m.blocked, id)
		return false
	}
	return ok
}

// Run accepts and dials until ctx ends or the endpoint is closed, then closes
// every connection of the mesh and returns when all its goroutines and handlers
// have ended. It returns nil if ctx ended. A mesh runs once.
func (m *Mesh) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	m.mu.Lock()
	if m.running != nil {
		panic("transport: a mesh runs once")
	}
	m.running = ctx
	for _, p := range m.peers {
		m.dialing(p)
	}
	m.mu.Unlock()
	var failure error
	for {
		c, err := m.listener.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				failure = err
			}
			break
		}
		m.adopt(c)
	}
	cancel()
	m.stop()
	return failure
}

func (m *Mesh) stop() {
	m.listener.Close()
	m.mu.Lock()
	m.stopped = true
	peers := slices.Collect(maps.Values(m.peers))
	m.mu.Unlock()
	for _, p := range peers {
		if l := p.current(); l != nil {
			l.conn.Close(CloseShutdown, "the node is stopping")
		}
	}
	m.wg.Wait()
}

// refuses says why c cannot be the connection to its peer, nil if it can, and who
// has to go for it. The caller holds m.mu.
func (m *Mesh) refuses(c *Conn, p *peer) (*CloseError, *link) {
	newcomer := p == nil || p.class == leaving
	switch {
	case m.stopped:
		return &CloseError{Code: CloseShutdown, Reason: "the node is stopping"}, nil
	case m.isBlocked(c.Remote()):
		m.metrics.add(ConnectionBlocked)
		return &CloseError{Code: CloseBlocked, Reason: "blocked for a while"}, nil
	case newcomer && c.Dialed(): // its removal crossed the dial
		return &CloseError{Code: CloseDone, Reason: "no longer a peer"}, nil
	case p != nil && !c.Dialed() && !p.calls.Allow():
		m.metrics.add(ConnectionKey)
		return &CloseError{Code: CloseBusy, Reason: "too many connections of one node"}, nil
	case newcomer:
		return m.place(SourceOf(c.RemoteAddr()))
	default:
		return nil, nil
	}
}

// place says why there is no observer's place for a newcomer from a source, nil
// if there is one, and who has to go for it. The caller holds m.mu.
func (m *Mesh) place(from netip.Prefix) (*CloseError, *link) {
	full, many := m.observers >= m.cfg.MaxObservers, m.observersAt(from) >= m.cfg.MaxObserversOfSource
	switch {
	case full && !many:
		if victim := m.makesRoom(from); victim != nil {
			return nil, victim
		}
		fallthrough
	case full:
		m.metrics.add(ObserverPlaces)
		return &CloseError{Code: CloseBusy, Reason: "the node has as many observers as it takes"}, nil
	case many:
		m.metrics.add(ObserverSource)
		return &CloseError{Code: CloseBusy, Reason: "the node has as many observers from this address as it takes"}, nil
	default:
		return nil, nil
	}
}

// adopt makes c the connection to its peer, or closes it.
func (m *Mesh) adopt(c *Conn) {
	m.mu.Lock()
	p := m.peers[c.Remote()]
	refused, evicted := m.refuses(c, p)
	if refused != nil {
		m.mu.Unlock()
		c.Close(refused.Code, refused.Reason)
		return
	}
	if evicted != nil {
		m.metrics.add(ObserverEvicted)
		m.classify(evicted.peer, leaving) // its place is free; it is forgotten when its connection has ended
	}
	if p == nil {
		p = newPeer(m, NodeAddr{ID: c.Remote(), Addr: c.RemoteAddr().String()}, observing)
		m.peers[p.id] = p
	} else if p.class == leaving {
		m.classify(p, observing)
	}
	l, old := p.install(c)
	if l != nil {
		m.wg.Go(func() { l.run(old) })
	}
	m.mu.Unlock()
	if evicted != nil {
		evicted.conn.Close(CloseBusy, "the node has as many observers as it takes, and many of this network")
	}
	switch {
	case l == nil:
		c.Close(CloseDuplicate, "there is a connection already")
	case old != nil:
		old.conn.Close(CloseDuplicate, "a newer connection took over")
	}
}

// forget drops a peer that is no member and whose last connection has ended.
func (m *Mesh) forget(p *peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.class != member && p.current() == nil && m.peers[p.id] == p {
		m.classify(p, leaving)
		m.erase(p)
	}
}

// erase drops a peer with all that waits for it: nobody will take it any more, and
// what forgotten peers hold would fill the share of those who are there. The caller
// holds m.mu.
func (m *Mesh) erase(p *peer) {
	delete(m.peers, p.id)
	for _, q := range p.queues {
		m.ledger.charge(p, -q.end())
	}
}

func (m *Mesh) peer(id crypto.PublicKey) (*peer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.peers[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownPeer, id.Short())
	}
	return p, nil
}

func (m *Mesh) channel(id uint8, message []byte) (*Channel, error) {
	ch, ok := m.channels[id]
	if !ok {
		return nil, fmt.Errorf("%w: %d", ErrUnknownChannel, id)
	}
	if len(message) > ch.MaxMessageBytes {
		return nil, &MessageTooLargeError{What: "message on channel " + ch.Name, Bytes: uint64(len(message)), Limit: ch.MaxMessageBytes}
	}
	return ch, nil
}

// Send queues message for a peer; nobody may change it any more. While a
// configured peer is not connected its queues fill by their policy. Errors:
// ErrUnknownPeer, ErrUnknownChannel, *MessageTooLargeError, ErrQueueFull.
func (m *Mesh) Send(to crypto.PublicKey, channel uint8, message []byte) error {
	if _, err := m.channel(channel, message); err != nil {
		return err
	}
	p, err := m.peer(to)
	if err != nil {
		return err
	}
	if !p.push(channel, message) {
		return fmt.Errorf("%w: peer %s, channel %s", ErrQueueFull, to.Short(), m.channels[channel].Name)
	}
	return nil
}

// Broadcast queues message for every configured peer and, if the channel says
// so, every observer; nobody may change it any more. A full queue is counted in
// the peer's statistics and is no error. Errors: ErrUnknownChannel,
// *MessageTooLargeError.
func (m *Mesh) Broadcast(channel uint8, message []byte) error {
	ch, err := m.channel(channel, message)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.class == member {
			p.push(channel, message)
		}
	}
	if !ch.ToObservers {
		return nil
	}
	for _, p := range m.peers {
		if p.class != member {
			p.push(channel, message)
		}
	}
	return nil
}

// Block closes the connection to a peer and has none with it for a while. The
// earliest block to run out gives way when there are more than 5,120.
func (m *Mesh) Block(id crypto.PublicKey, duration time.Duration, reason string) {
	m.mu.Lock()
	if _, known := m.blocked[id]; !known && len(m.blocked) >= maxBlocked {
		var earliest crypto.PublicKey
		for other, until := range m.blocked {
			if earliest.IsZero() || until.Before(m.blocked[earliest]) {
				earliest = other
			}
		}
		delete(m.blocked, earliest)
	}
	m.blocked[id] = time.Now().Add(duration)
	m.metrics.add(ConnectionBlocked)
	p := m.peers[id]
	m.mu.Unlock()
	m.log.Warn("transport: blocking a peer", "peer", id.Short(), "for", duration, "reason", reason)
	if p == nil {
		return
	}
	if l := p.current(); l != nil {
		l.conn.Close(CloseBlocked, reason)
	}
}

// Blocked reports whether a node is blocked.
func (m *Mesh) Blocked(id crypto.PublicKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isBlocked(id)
}

// PeerStats are a peer's figures since the mesh was made, all lives of its
// connection together.
type PeerStats struct {
	NodeAddr
	Configured    bool
	Connected     bool
	RTT           time.Duration // smoothed; 0 when not connected
	BytesSent     uint64        // on the wire
	BytesReceived uint64        // likewise
	Connections   uint64        // how many there have been
	Channels      []ChannelStats
}

// ChannelStats are the figures of one channel of one peer.
type ChannelStats struct {
	ID          uint8
	Name        string
	Sent        uint64 // messages handed to the connection
	Received    uint64 // messages handed to Handle
	Dropped     uint64 // messages dropped because the queue was full
	QueuedBytes int    // now
}

// Stats returns the figures of every peer, in the order of their keys.
func (m *Mesh) Stats() []PeerStats {
	m.mu.Lock()
	out := make([]PeerStats, 0, len(m.peers))
	for _, p := range m.peers {
		s := p.stats()
		s.Configured = p.class == member
		out = append(out, s)
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b PeerStats) int { return a.ID.Compare(b.ID) })
	return out
}

// refusedPause is how many times longer than MeshConfig.RedialMax a node waits in
// the end before it dials anew who has no place for it: nodes that have none may be
// many more than places, and each handshake costs the other one, too.
const refusedPause = 8

// pause returns how long to wait before the attempt after so many failed ones, of
// which the last may have been refused.
func (m *Mesh) pause(failed int, refused bool) time.Duration {
	d, most := m.cfg.RedialMin, m.cfg.RedialMax
	if refused {
		most *= refusedPause
	}
	for range min(failed, 32) {
		d = min(2*d, most)
	}
	return d*3/4 + rand.N(d/2+1)
}
