package transport_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/internal/transport"
)

// TestRunsOfDatagramsComeApart sends datagrams alone and in runs, and reads them
// with fewer places than a run has: each comes as it was sent, with its sender and
// what the system says of it.
func TestRunsOfDatagramsComeApart(t *testing.T) {
	to, from := loopback(t), loopback(t)
	control(t, to, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) })
	read, merges, err := transport.ReadMerged(to)
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	send := func(segment, bytes int) {
		t.Helper()
		data := make([]byte, bytes)
		for i := range data {
			data[i] = byte(len(want) + i/7)
		}
		control(t, from, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment) })
		if _, err := from.WriteToUDP(data, to.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
		for segment > 0 && len(data) > segment {
			want, data = append(want, data[:segment]), data[segment:]
		}
		want = append(want, data)
	}
	send(1000, 10_300)
	send(0, 0)
	send(0, 40)
	send(1200, 12_000)
	send(0, 1452)
	send(0, 1500) // longer than there is room for
	want[len(want)-1] = want[len(want)-1][:1452]
	if err := to.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(want); {
		ms := make([]ipv4.Message, 4)
		for k := range ms {
			ms[k] = ipv4.Message{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, 128)}
		}
		n, err := read(ms)
		if err != nil || n == 0 {
			t.Fatalf("after %d datagrams: %d, %v", i, n, err)
		}
		for _, m := range ms[:n] {
			if got := m.Buffers[0][:m.N]; !bytes.Equal(got, want[i]) {
				t.Fatalf("datagram %d: %d bytes, want %d", i, len(got), len(want[i]))
			}
			if m.Addr.(*net.UDPAddr).Port != from.LocalAddr().(*net.UDPAddr).Port {
				t.Errorf("datagram %d: from %v", i, m.Addr)
			}
			said, err := unix.ParseSocketControlMessage(m.OOB[:m.NN])
			if err != nil || !slices.ContainsFunc(said, func(c unix.SocketControlMessage) bool {
				return c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_TOS
			}) {
				t.Errorf("datagram %d: the class of traffic is missing: %v", i, err)
			}
			i++
		}
	}
	if merges() == 0 {
		t.Error("the system merged nothing: the test shows nothing")
	}
}

// TestSizeOfARun: the system writes it as an int of the machine's order, after other things or alone.
func TestSizeOfARun(t *testing.T) {
	said := func(level, kind int, body []byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(body)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		h.Level, h.Type = int32(level), int32(kind)
		h.SetLen(unix.CmsgLen(len(body)))
		copy(b[unix.CmsgLen(0):], body)
		return b
	}
	size := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	for _, c := range []struct {
		control []byte
		want    int
	}{
		{nil, 0},
		{said(unix.IPPROTO_IP, unix.IP_TOS, []byte{1}), 0},
		{said(unix.IPPROTO_UDP, unix.UDP_GRO, size(1200)), 1200},
		{append(said(unix.IPPROTO_IP, unix.IP_TOS, []byte{1}), said(unix.IPPROTO_UDP, unix.UDP_GRO, size(1452))...), 1452},
		{said(unix.IPPROTO_UDP, unix.UDP_GRO, size(1<<16|7)), 1<<16 | 7}, // no half of it is left out
		{said(unix.IPPROTO_UDP, unix.UDP_GRO, []byte{1, 2}), 0},
	} {
		if got := transport.SegmentBytes(c.control); got != c.want {
			t.Errorf("%x: %d, want %d", c.control, got, c.want)
		}
	}
}

// loopback opens a socket.
func loopback(t *testing.T) *net.UDPConn {
	t.Helper()
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := udp.Close(); err != nil {
			t.Error(err)
		}
	})
	return udp
}

// control does something to a socket.
func control(t *testing.T, udp *net.UDPConn, do func(fd int) error) {
	t.Helper()
	raw, err := udp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}
