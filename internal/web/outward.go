package web

import (
	"fmt"
	"net/netip"
	"syscall"
)

// reserved are networks that are nobody's on the internet, beyond those that netip knows: a
// carrier's own, those of protocols, tests and documentation, and those that carry addresses of
// version 4 in version 6. 168.63.129.16 is no private address, and yet what a machine at Azure
// has inside: the service that gives it its keys.
var reserved = prefixes("0.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:db8::/32", "2002::/16", "fec0::/10")

func prefixes(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// PublicOnly is a net.Dialer's Control that refuses addresses which are not of the internet:
// this machine, its network, and what stands for either. It is asked for each address that is
// dialled, after names were resolved: a name that says something else the next time is no way
// around it.
func PublicOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("web: %.100q is no address: %w", address, err)
	}
	if ip := at.Addr(); !IsPublic(ip) {
		return fmt.Errorf("web: %s is not an address of the internet", ip.Unmap())
	}
	return nil
}

// IsPublic reports whether an address is one of the internet.
func IsPublic(ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.Zone() != "" || !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}
