package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/quic-go/quic-go"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// maxResolved is how many addresses of one host name are tried in turn.
const maxResolved = 4

// socket is one UDP socket and the QUIC machinery that reads from it.
type socket struct {
	udp       *patientConn
	transport *quic.Transport
}

// patientConn is a UDP socket whose transient send errors are lost packets: a
// network that is gone for a moment must not end connections that would
// survive it.
type patientConn struct {
	*net.UDPConn
	*merged // how it reads
}

var _ quic.OOBCapablePacketConn = (*patientConn)(nil)

// WriteMsgUDP sends one datagram, or several of equal size.
func (c *patientConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = c.UDPConn.WriteMsgUDP(b, oob, addr)
	if isTransient(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

func isTransient(err error) bool {
	if err == nil {
		return false
	}
	for _, transient := range []syscall.Errno{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL,
		syscall.EPERM, syscall.ENOBUFS, syscall.ECONNREFUSED,
	} {
		if errors.Is(err, transient) {
			return true
		}
	}
	return false
}

// openSocket binds addr, or any free port of every interface if it is empty.
// Stateless resets (RFC 9000 §10.3) are keyed by the node's key, so that a
// restarted node tells its peers at once that their connections are gone.
func openSocket(addr string, key crypto.PrivateKey) (*socket, error) {
	if addr == "" {
		addr = ":0"
	}
	local, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("transport: listen address %q: %w", addr, err)
	}
	udp, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, fmt.Errorf("transport: listening: %w", err)
	}
	seed := key.Seed()
	reset := quic.StatelessResetKey(crypto.DomainStatelessReset.Hash(seed[:]))
	runs, err := newMerged(udp)
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	conn := &patientConn{UDPConn: udp, merged: runs}
	return &socket{
		udp:       conn,
		transport: &quic.Transport{Conn: conn, ConnectionIDLength: 8, StatelessResetKey: &reset},
	}, nil
}

// close ends every connection that began on the socket without a word to the
// peers, and the socket.
func (s *socket) close() error {
	return errors.Join(s.transport.Close(), s.udp.Close())
}

func (s *socket) localAddr() *net.UDPAddr { return s.udp.LocalAddr().(*net.UDPAddr) }

// resolve returns the UDP addresses of a HOST:PORT that the socket can reach.
func (s *socket) resolve(ctx context.Context, hostPort string) ([]*net.UDPAddr, error) {
	if err := checkHostPort(hostPort); err != nil {
		return nil, fmt.Errorf("transport: address %.100q: %w", hostPort, err)
	}
	host, service, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("transport: address %.100q: %w", hostPort, err)
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, fmt.Errorf("transport: address %.100q: %w", hostPort, err)
	}
	var addrs []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{literal}
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, s.family(), host); err != nil {
		return nil, fmt.Errorf("transport: address %.100q: %w", hostPort, err)
	}
	var out []*net.UDPAddr
	for _, addr := range addrs[:min(len(addrs), maxResolved)] {
		out = append(out, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr.Unmap(), uint16(port))))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("transport: address %.100q: the host has no address", hostPort)
	}
	return out, nil
}

// family is the resolver's name of the address family that the socket sends
// to; one bound to the IPv6 wildcard sends to both.
func (s *socket) family() string {
	ip := s.localAddr().IP
	switch {
	case ip.To4() != nil:
		return "ip4"
	case ip.IsUnspecified():
		return "ip"
	default:
		return "ip6"
	}
}
