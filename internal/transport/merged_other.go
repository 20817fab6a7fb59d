//go:build !linux

package transport

import "net"

// merged is Linux's alone.
type merged struct{}

func newMerged(*net.UDPConn) (*merged, error) { return nil, nil }
