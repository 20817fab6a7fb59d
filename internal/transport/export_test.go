package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Crash ends the endpoint as a killed process does: no peer hears of it.
func (e *Endpoint) Crash() error {
	e.mu.Lock()
	sockets := e.sockets
	e.mu.Unlock()
	var failures []error
	for _, s := range sockets {
		failures = append(failures, s.udp.Close())
	}
	return errors.Join(append(failures, e.Close())...)
}

// Conns returns how many connections the endpoint has.
func (e *Endpoint) Conns() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

// OneWay is a raw channel stream.
type OneWay = quic.SendStream

// OpenOneWay opens a raw channel stream, to break the framing with.
func OpenOneWay(ctx context.Context, c *Conn) (*OneWay, error) { return c.q.OpenUniStreamSync(ctx) }

// Gate is the gate alone.
type Gate struct{ gate *gate }

// NewGate returns a gate without a socket.
func NewGate() Gate { return Gate{newGate(&Metrics{}, defaultUnproven)} }

// Enter begins a handshake of a proven address that never ends.
func (g Gate) Enter(from netip.Addr) bool {
	addr := net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 1))
	_, err := g.gate.enter(context.Background(), &quic.ClientInfo{RemoteAddr: addr, AddrVerified: true})
	return err == nil
}

// Befriend says that a preferred peer was there.
func (g Gate) Befriend(addr netip.Addr) {
	g.gate.befriend(net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 1)))
}

// Pause returns the pause before dialing after so many failures.
func (m *Mesh) Pause(failed int) time.Duration { return m.pause(failed, false) }

// ReadFrames reads a channel's messages until the first error.
func ReadFrames(r interface {
	io.Reader
	SetReadDeadline(time.Time) error
}, patience time.Duration, limit int,
) ([][]byte, error) {
	frames := newFrameReader(r, patience)
	var out [][]byte
	for {
		message, err := frames.next(limit)
		if err != nil {
			return out, err
		}
		out = append(out, message)
	}
}

// Afford returns how long a message to a peer waits for its turn.
func (m *Mesh) Afford(ctx context.Context, id crypto.PublicKey, size int) (time.Duration, error) {
	p, err := m.peer(id)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = p.afford(ctx, size)
	return time.Since(began), err
}

// Held returns how many bytes wait for members and for observers, and for how many
// peers, as the mesh's sums have it.
func (m *Mesh) Held() (bytes, peers int) {
	m.ledger.mu.Lock()
	defer m.ledger.mu.Unlock()
	return m.ledger.members.used + m.ledger.observers.used, len(m.ledger.members.holders) + len(m.ledger.observers.holders)
}

// CheckCertificate is the check of a peer's certificate.
func CheckCertificate(raw []byte, now time.Time) (crypto.PublicKey, error) {
	id, err := checkCertificates([][]byte{raw}, now)
	return id.key, err
}

// CertificateOf returns the certificate of a key, in DER.
func CertificateOf(key crypto.PrivateKey) ([]byte, error) {
	cert, _, err := newCertificate(key)
	if err != nil {
		return nil, err
	}
	return cert.Certificate[0], nil
}
