package transport

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// class is what a mesh owes a peer.
type class uint8

const (
	member    class = iota + 1 // configured: dialed, always admitted, its queues wait for it
	observing                  // a stranger in one of the observers' places
	leaving                    // no longer configured: its connection lives on for the grace
)

// SetPeers makes peers the configured ones, without the endpoint itself, and
// may be called at any time. Those who stay keep their connections and queues;
// the address of one that is given another is dialed when there is no
// connection. An observer that becomes a peer keeps its connection. The
// connection of one that is no longer a peer is closed after the grace
// (MeshConfig.Grace), during which its queues still drain; if it dials again, it
// is an observer. An empty Addr is a peer that is never dialed and always
// admitted. The error names the first peer that is listed twice, is this node
// or has a malformed address; nothing has changed then.
func (m *Mesh) SetPeers(peers []NodeAddr) error {
	if err := validPeers(peers, m.endpoint.ID()); err != nil {
		return fmt.Errorf("transport: mesh %s: %w", m.cfg.Protocol, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	listed := make(map[crypto.PublicKey]bool, len(peers))
	for _, addr := range peers {
		listed[addr.ID] = true
		m.enlist(addr)
	}
	for id, p := range m.peers {
		if p.class == member && !listed[id] {
			m.dismiss(p)
		}
	}
	return nil
}

// enlist makes a node a member, or changes its address. The caller holds m.mu.
func (m *Mesh) enlist(addr NodeAddr) {
	p := m.peers[addr.ID]
	if p == nil {
		p = newPeer(m, addr, member)
		m.peers[addr.ID] = p
	} else {
		p.setAddr(addr.Addr)
		m.classify(p, member)
	}
	if m.running != nil {
		m.dialing(p)
	}
}

// dialing has a goroutine dial the peer whenever it has no connection. The
// caller holds m.mu, and the mesh runs.
func (m *Mesh) dialing(p *peer) {
	if m.stopped || p.class != member || p.undial != nil {
		return
	}
	ctx, cancel := context.WithCancel(m.running)
	p.undial = cancel
	m.wg.Go(func() { p.keep(ctx) })
}

// dismiss lets a member go. The caller holds m.mu.
func (m *Mesh) dismiss(p *peer) {
	m.classify(p, leaving)
	if p.undial != nil {
		p.undial()
		p.undial = nil
	}
	if p.isIdle() {
		m.erase(p)
		return
	}
	p.expiry = time.AfterFunc(m.cfg.Grace, func() { m.expire(p) })
}

// expire ends the connection of a peer whose grace is over.
func (m *Mesh) expire(p *peer) {
	m.mu.Lock()
	over := p.class == leaving
	m.mu.Unlock()
	if !over {
		return
	}
	if p.isIdle() {
		m.forget(p)
	} else if l := p.current(); l != nil {
		l.conn.Close(CloseDone, "no longer a peer") // and then forgotten
	}
}

// classify changes a peer's class. The caller holds m.mu.
func (m *Mesh) classify(p *peer, to class) {
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
	if p.class == observing {
		m.observers--
	}
	if to == observing {
		m.observers++
	}
	p.class = to
	p.isMember.Store(to == member)
	if to == member {
		m.ledger.move(p, &m.ledger.members)
	} else {
		m.ledger.move(p, &m.ledger.observers)
	}
}

// observersAt counts the observers of one source. The caller holds m.mu.
func (m *Mesh) observersAt(from netip.Prefix) int {
	n := 0
	for _, p := range m.peers {
		if l := p.current(); p.class == observing && l != nil && SourceOf(l.conn.RemoteAddr()) == from {
			n++
		}
	}
	return n
}
