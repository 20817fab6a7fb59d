package transport

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

const maxHostBytes = 253 // a DNS name, RFC 1035 §2.3.4

// NodeAddr is where a node is reached and who must answer there.
type NodeAddr struct {
	ID   crypto.PublicKey
	Addr string // HOST:PORT, the host a name or an address (IPv6 in brackets)
}

// ParseNodeAddr reads NODEID@HOST:PORT, the node id as 64 lower-case
// hexadecimal digits.
func ParseNodeAddr(s string) (NodeAddr, error) {
	id, addr, found := strings.Cut(s, "@")
	if !found {
		return NodeAddr{}, fmt.Errorf("transport: node address %.100q, want NODEID@HOST:PORT", s)
	}
	key, err := crypto.ParsePublicKey(id)
	if err != nil {
		return NodeAddr{}, fmt.Errorf("transport: node address %.100q: node id: %w", s, err)
	}
	if err := key.Check(); err != nil {
		return NodeAddr{}, fmt.Errorf("transport: node address %.100q: node id: %w", s, err)
	}
	if err := checkHostPort(addr); err != nil {
		return NodeAddr{}, fmt.Errorf("transport: node address %.100q: %w", s, err)
	}
	return NodeAddr{ID: key, Addr: addr}, nil
}

// checkHostPort refuses what cannot be dialed: no host, or a port outside
// 1…65535.
func checkHostPort(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "" || len(host) > maxHostBytes {
		return fmt.Errorf("host of %d bytes, want 1 to %d", len(host), maxHostBytes)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port %q, want 1 to 65535", port)
	}
	return nil
}

// String returns NODEID@HOST:PORT.
func (a NodeAddr) String() string { return a.ID.String() + "@" + a.Addr }

// MarshalText is String.
func (a NodeAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseNodeAddr.
func (a *NodeAddr) UnmarshalText(text []byte) error {
	parsed, err := ParseNodeAddr(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
