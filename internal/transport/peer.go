package transport

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// simultaneous is how long two ends may dial without knowing of each other's
// success: a dial that is answered later than this after a connection was made
// was begun by a peer that no longer has that connection.
const simultaneous = 2 * handshakeTimeout

// Connections a second, and at once, that a peer may make.
const (
	callRate  = 1
	callBurst = 32
)

// peer is what a mesh knows of one other node. It outlives its connections.
type peer struct {
	mesh   *Mesh
	id     crypto.PublicKey
	queues map[uint8]*queue // by channel; never changed
	counts map[uint8]*counts
	moved  chan struct{} // holds a token when addr has changed

	// These belong to mesh.mu.
	class  class              // isMember follows it
	undial context.CancelFunc // ends a member's dialing; nil while nobody dials
	expiry *time.Timer        // ends the grace of one that is leaving; nil otherwise

	isMember atomic.Bool         // class == member
	account  *account            // belongs to mesh.ledger, as does held
	held     int                 // bytes of all queues
	limits   map[uint8]*throttle // by channel; never changed
	requests *throttle           // of requests, likewise
	calls    *rate.Limiter       // of connections that the peer makes
	egress   *rate.Limiter       // of bytes sent to it while it is no member

	mu          sync.Mutex
	addr        string
	link        *link // nil while not connected
	last        *link // the latest there was
	sentBefore  uint64
	gotBefore   uint64
	connections uint64
}

type counts struct{ sent, received atomic.Uint64 }

func newPeer(m *Mesh, addr NodeAddr, as class) *peer {
	p := &peer{
		mesh: m, id: addr.ID, addr: addr.Addr, moved: make(chan struct{}, 1),
		queues: map[uint8]*queue{}, counts: map[uint8]*counts{}, limits: map[uint8]*throttle{},
		calls:  rate.NewLimiter(callRate, callBurst),
		egress: newEgress(m.cfg.ObserverEgress, &m.cfg),
	}
	for id, ch := range m.channels {
		p.queues[id] = newQueue(ch.QueueBytes, ch.WhenFull)
		p.counts[id] = &counts{}
		p.limits[id] = newThrottle(p, ch.Ingress, ch.MaxMessageBytes, m.common[id])
	}
	p.requests = newThrottle(p, streamRate, 1, m.commonRequests)
	m.classify(p, as)
	return p
}

// push queues a message for the peer, and reports whether it did.
func (p *peer) push(channel uint8, message []byte) bool {
	grown, dropped, ok := p.queues[channel].push(message, p.mesh.ledger.number())
	for range dropped {
		p.mesh.metrics.add(QueueFull)
	}
	if grown != 0 {
		p.mesh.ledger.charge(p, grown)
	}
	return ok
}

// take removes messages from a queue of the peer.
func (p *peer) take(channel uint8, dst [][]byte) [][]byte {
	dst, taken := p.queues[channel].take(dst, batchBytes)
	if taken != 0 {
		p.mesh.ledger.charge(p, -taken)
	}
	return dst
}

func (p *peer) current() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}

func (p *peer) address() NodeAddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return NodeAddr{ID: p.id, Addr: p.addr}
}

// setAddr changes where the peer is dialed, at once if it is not connected.
func (p *peer) setAddr(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addr == addr {
		return
	}
	p.addr = addr
	select {
	case p.moved <- struct{}{}:
	default:
	}
}

// install makes c the peer's connection if it is the better one, and returns
// its link, nil if it is not, and the link before it, which may have ended.
func (p *peer) install(c *Conn) (fresh, old *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil && !p.prefers(c, p.link) {
		return nil, nil
	}
	old = p.last
	p.link = newLink(p, c)
	p.last = p.link
	p.connections++
	return p.link, old
}

// prefers reports whether c takes the place of the live link (see Mesh).
func (p *peer) prefers(c *Conn, live *link) bool {
	switch {
	case live.conn.Err() != nil, c.peer.incarnation != live.conn.peer.incarnation:
		return true
	case c.Dialed() == live.conn.Dialed(), time.Since(live.since) > simultaneous:
		return true
	default:
		return c.Dialed() == p.weAreLower()
	}
}

func (p *peer) weAreLower() bool { return p.mesh.endpoint.ID().Compare(p.id) < 0 }

// remove takes the ended link out, if it is still the peer's, and keeps its
// figures. It reports whether the peer is now without a connection.
func (p *peer) remove(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := l.conn.Stats()
	p.sentBefore += s.BytesSent
	p.gotBefore += s.BytesReceived
	if p.link != l {
		return false
	}
	p.link = nil
	return true
}

// keep dials the peer whenever it has no connection, until ctx ends. The lower
// key dials at once; the higher one gives it the time for that, so that both
// seldom dial at the same time.
func (p *peer) keep(ctx context.Context) {
	failed, refused := 0, false
	for first := true; ; first = false {
		if !(first && p.weAreLower()) {
			moved, ok := p.sleep(ctx, p.mesh.pause(failed+p.handicap(), refused))
			if !ok {
				return
			}
			if moved {
				failed, refused = 0, false
			}
		}
		l := p.current()
		if l == nil {
			if err := p.dial(ctx); err != nil {
				failed, refused = failed+1, isRefusal(err)
			}
			continue
		}
		select {
		case <-l.ended:
		case <-ctx.Done():
			return
		}
		failed, refused = failed+1, isRefusal(l.conn.Err())
		if time.Since(l.since) > p.mesh.cfg.RedialMax {
			failed = 0
		}
	}
}

// isIdle reports whether the peer's connections have ended, to the last callback.
func (p *peer) isIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return true
	}
	select {
	case <-p.last.ended:
		return true
	default:
		return false
	}
}

// handicap is by how many failed attempts the higher key lags behind.
func (p *peer) handicap() int {
	if p.weAreLower() {
		return 0
	}
	return 2
}

// errNoDial says why a peer is not dialed.
var errNoDial = errors.New("transport: the peer is blocked, or has no address")

// dial makes a connection, or says why there is none.
func (p *peer) dial(ctx context.Context) error {
	p.mesh.mu.Lock()
	blocked := p.mesh.isBlocked(p.id)
	p.mesh.mu.Unlock()
	addr := p.address()
	if blocked || addr.Addr == "" {
		return errNoDial
	}
	dialing, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c, err := p.mesh.endpoint.Dial(dialing, addr, p.mesh.cfg.Protocol)
	if err != nil {
		if ctx.Err() == nil {
			p.mesh.metrics.add(DialFailed)
			p.mesh.log.Debug("transport: dialing failed", "peer", p.id.Short(), "error", err)
		}
		return err
	}
	p.mesh.adopt(c)
	return nil
}

// isRefusal reports whether a peer that is there has no place for this node.
func isRefusal(err error) bool {
	closed, ok := errors.AsType[*CloseError](err)
	return ok && closed.Remote && (closed.Code == CloseNotAdmitted || closed.Code == CloseBusy || closed.Code == CloseBlocked)
}

// sleep waits for the pause, or less if the peer's address changes. It reports
// which, and false if ctx ended first.
func (p *peer) sleep(ctx context.Context, pause time.Duration) (moved, ok bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, true
	case <-p.moved:
		return true, true
	case <-ctx.Done():
		return false, false
	}
}

func (p *peer) stats() PeerStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PeerStats{
		NodeAddr:  NodeAddr{ID: p.id, Addr: p.addr},
		Connected: p.link != nil, Connections: p.connections,
		BytesSent: p.sentBefore, BytesReceived: p.gotBefore,
	}
	if p.link != nil {
		now := p.link.conn.Stats()
		s.RTT = now.RTT
		s.BytesSent += now.BytesSent
		s.BytesReceived += now.BytesReceived
	}
	for _, ch := range p.mesh.cfg.Channels {
		waiting, dropped := p.queues[ch.ID].figures()
		s.Channels = append(s.Channels, ChannelStats{
			ID: ch.ID, Name: ch.Name, QueuedBytes: waiting, Dropped: dropped,
			Sent: p.counts[ch.ID].sent.Load(), Received: p.counts[ch.ID].received.Load(),
		})
	}
	return s
}
