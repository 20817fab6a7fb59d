package transport

import (
	"cmp"
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

// networkOf returns the IPv4 /24 or IPv6 /48 of a source: what one owner of
// addresses has many of.
func networkOf(source netip.Prefix) netip.Prefix {
	if !source.IsValid() {
		return source
	}
	bits := 24
	if source.Addr().Is6() {
		bits = 48
	}
	return netip.PrefixFrom(source.Addr(), bits).Masked()
}

// crowd is how many observers there are from each network and source.
type crowd struct {
	links             []*link
	networks, sources map[netip.Prefix]int
}

// crowd counts the observers. The caller holds m.mu.
func (m *Mesh) crowd() *crowd {
	c := &crowd{networks: map[netip.Prefix]int{}, sources: map[netip.Prefix]int{}}
	for _, p := range m.peers {
		if l := p.current(); p.class == observing && l != nil {
			source := SourceOf(l.conn.RemoteAddr())
			c.networks[networkOf(source)]++
			c.sources[source]++
			c.links = append(c.links, l)
		}
	}
	return c
}

// mayMakeRoom reports whether an observer could have to go for a newcomer. The
// caller holds m.mu.
func (m *Mesh) mayMakeRoom() bool {
	for _, n := range m.crowd().networks {
		if n > 1 {
			return true
		}
	}
	return false
}

// makesRoom returns the observer that gives its place to a newcomer from a
// source, nil if none does. It is the youngest of the source with the most, in the
// network with the most, if the newcomer's then still has no more: whoever holds
// all places against somebody from elsewhere needs as many networks as there are
// places. The caller holds m.mu.
func (m *Mesh) makesRoom(from netip.Prefix) *link {
	c := m.crowd()
	var victim *link
	for _, l := range c.links {
		if victim == nil || c.before(l, victim) {
			victim = l
		}
	}
	if victim == nil {
		return nil
	}
	source := SourceOf(victim.conn.RemoteAddr())
	network, home := networkOf(source), networkOf(from)
	if network == home && c.sources[source] > c.sources[from]+1 || c.networks[network] > c.networks[home]+1 {
		return victim
	}
	return nil
}

// before reports whether a goes before b when one has to go.
func (c *crowd) before(a, b *link) bool {
	from, other := SourceOf(a.conn.RemoteAddr()), SourceOf(b.conn.RemoteAddr())
	return cmp.Or(
		cmp.Compare(c.networks[networkOf(other)], c.networks[networkOf(from)]),
		cmp.Compare(c.sources[other], c.sources[from]),
		b.since.Compare(a.since),
	) < 0
}
