package transport

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// mergedBytes is the size of the largest datagram, or run of them, that the
	// system hands over.
	mergedBytes = 1<<16 - 1
	mergedRuns  = 8
	controlSize = 128 // of what the system says of a datagram
)

// merged takes datagrams from the system in runs: those of one sender that came
// together and are of one size, the last perhaps shorter, are one message of the
// system, which then handles them once and not each for itself. It belongs to the
// one goroutine that reads from the socket.
type merged struct {
	conn    *ipv4.PacketConn
	runs    []ipv4.Message
	n, next int // runs[next:n] are not wholly handed out
	offset  int // of what is left of runs[next]
}

// newMerged has the system merge what comes, if it can: what is older than Linux
// 5.0 cannot, and each datagram is a run of its own.
func newMerged(udp *net.UDPConn) (*merged, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("transport: the socket: %w", err)
	}
	if err := raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) // see above
	}); err != nil {
		return nil, fmt.Errorf("transport: the socket: %w", err)
	}
	m := &merged{conn: ipv4.NewPacketConn(udp), runs: make([]ipv4.Message, mergedRuns)}
	for i := range m.runs {
		m.runs[i] = ipv4.Message{Buffers: [][]byte{make([]byte, mergedBytes)}, OOB: make([]byte, controlSize)}
	}
	return m, nil
}

// ReadBatch reads at least one datagram, and as many more as are there and have
// room in ms. One longer than its buffer is cut off.
func (m *merged) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if m.next == m.n {
		n, err := m.conn.ReadBatch(m.runs, flags)
		if err != nil {
			return 0, err
		}
		m.n, m.next, m.offset = n, 0, 0
	}
	given := 0
	for given < len(ms) && m.next < m.n {
		m.give(&ms[given])
		given++
	}
	return given, nil
}

// give hands out the next datagram of a run.
func (m *merged) give(to *ipv4.Message) {
	run := &m.runs[m.next]
	control := run.OOB[:run.NN]
	rest := run.Buffers[0][m.offset:run.N]
	size := len(rest)
	if of := segmentBytes(control); of > 0 {
		size = min(size, of)
	}
	to.N = copy(to.Buffers[0], rest[:size])
	to.NN = copy(to.OOB, control)
	to.Addr, to.Flags = run.Addr, run.Flags
	if m.offset += size; m.offset >= run.N {
		m.next, m.offset = m.next+1, 0
	}
}

// segmentBytes returns the size of the datagrams of a run, 0 if it is one alone.
func segmentBytes(control []byte) int {
	for len(control) > 0 {
		header, body, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		if header.Level == unix.IPPROTO_UDP && header.Type == unix.UDP_GRO && len(body) >= 4 { // an int, as udp(7) has it
			return int(int32(binary.NativeEndian.Uint32(body)))
		}
		control = rest
	}
	return 0
}
