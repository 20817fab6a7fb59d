package transport_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// TestPeersHearEachOtherSoonAfterAnOutage cuts the path between two nodes that talk
// without a pause, so that their windows fill and only QUIC's probes leave, at
// intervals that double: while a connection from before an outage of many seconds is
// kept, its end may go unnoticed for as long again. It has to be given up after the
// idle timeout, whatever is still being sent, and a new one made within the time that
// the package promises.
func TestPeersHearEachOtherSoonAfterAnOutage(t *testing.T) {
	const (
		silence  = time.Second
		promised = 4 * time.Second
	)
	var ends []*transport.Endpoint
	var at []netip.AddrPort
	for i := range 2 {
		e := open(t, transport.Config{Key: key(byte(i + 1)), ListenAddr: "127.0.0.1:0", IdleTimeout: silence})
		ends, at = append(ends, e), append(at, e.Addr().(*net.UDPAddr).AddrPort())
	}
	path, err := netem.Open(netem.Config{Seed: 1, At: netip.MustParseAddr("127.0.0.1"), Nodes: at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := path.Close(); err != nil {
			t.Error(err)
		}
	})
	var nodes [2]*node
	var latest [2]atomic.Uint64 // number of the latest message that arrived
	for i := range nodes {
		peer := transport.NodeAddr{ID: ends[1-i].ID(), Addr: path.Addr(i, 1-i).String()}
		nodes[i] = join(t, ends[i], meshOptions{peers: []transport.NodeAddr{peer}, redialMax: time.Second,
			handle: func(_ uint8, _ crypto.PublicKey, m []byte) { latest[i].Store(binary.BigEndian.Uint64(m)) }})
	}
	for i := range nodes {
		nodes[i].run(t)
	}
	connected := func(want int32) func() bool {
		return func() bool { return nodes[0].up.Load() == want && nodes[1].up.Load() == want }
	}
	eventually(t, "they are connected", connected(1))

	var number atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	talked := make(chan struct{})
	go func() {
		defer close(talked)
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
			m := binary.BigEndian.AppendUint64(make([]byte, 0, 400), number.Add(1))[:400]
			for i, n := range nodes {
				if err := n.mesh.Send(ends[1-i].ID(), votes, m); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	defer func() { cancel(); <-talked }()
	heard := func(since uint64) func() bool {
		return func() bool { return latest[0].Load() > since && latest[1].Load() > since }
	}
	eventually(t, "they hear each other", heard(100))

	path.Partition([]int{0, 1})
	within(t, 4*silence, "both take a dead connection for lost while they talk", connected(0))
	path.Partition([]int{0, 0})
	within(t, promised, "they hear each other again", heard(number.Load()))
}
