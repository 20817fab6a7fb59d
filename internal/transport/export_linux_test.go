package transport

import (
	"net"

	"golang.org/x/net/ipv4"
)

// SegmentBytes is the size of the datagrams of a run.
func SegmentBytes(control []byte) int { return segmentBytes(control) }

// ReadMerged returns what reads datagrams from a socket, and what tells how many
// runs of more than one it was given.
func ReadMerged(udp *net.UDPConn) (read func([]ipv4.Message) (int, error), merges func() int, err error) {
	m, err := newMerged(udp)
	if err != nil {
		return nil, nil, err
	}
	runs := 0
	return func(ms []ipv4.Message) (int, error) {
		n, err := m.ReadBatch(ms, 0)
		if m.next < m.n && m.offset > 0 {
			runs++
		}
		return n, err
	}, func() int { return runs }, nil
}
