package transport_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

const protocol = "hypermesh/test/1"

var network = crypto.Digest{1, 2, 3}

// key returns the same key for the same number.
func key(n byte) crypto.PrivateKey { return crypto.PrivateKeyFromSeed([32]byte{n}) }

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, cfg transport.Config) *transport.Endpoint {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = quiet
	}
	if cfg.Network.IsZero() {
		cfg.Network = network
	}
	e, err := transport.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func listening(t testing.TB, n byte) *transport.Endpoint {
	t.Helper()
	return open(t, transport.Config{Key: key(n), ListenAddr: "127.0.0.1:0"})
}

func everybody(crypto.PublicKey) bool { return true }

func serve(t testing.TB, e *transport.Endpoint) *transport.Listener {
	t.Helper()
	l, err := e.Listen(transport.Protocol{Name: protocol, Admit: everybody})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// deadline bounds a whole test.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// pair returns both ends of a connection from a fresh dialer to a fresh
// listener.
func pair(t testing.TB) (dialed, accepted *transport.Conn) {
	t.Helper()
	server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
	l := serve(t, server)
	ctx := deadline(t)
	dialed, err := client.Dial(ctx, server.NodeAddr(), protocol)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return dialed, accepted
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	within(t, time.Minute, what, cond)
}

// within waits until cond holds, for so long at most.
func within(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain: " + what)
		}
	}
}

// either is done when one of two contexts is.
func either(a, b context.Context) <-chan struct{} {
	ctx, cancel := context.WithCancel(a)
	context.AfterFunc(b, cancel)
	return ctx.Done()
}

// relay is a NAT: it forwards datagrams between callers and one server, from an
// outer socket for each caller, and can give them new ones.
type relay struct {
	t      testing.TB
	inner  *net.UDPConn
	server *net.UDPAddr
	wg     sync.WaitGroup

	mu     sync.Mutex
	outer  map[netip.AddrPort]*net.UDPConn
	packet map[netip.AddrPort]int // how many came from each caller
}

func newRelay(t testing.TB, server net.Addr) *relay {
	t.Helper()
	r := &relay{
		t: t, inner: udp(t), server: server.(*net.UDPAddr),
		outer: map[netip.AddrPort]*net.UDPConn{}, packet: map[netip.AddrPort]int{},
	}
	forwarding := make(chan struct{})
	go func() {
		defer close(forwarding)
		r.forward()
	}()
	t.Cleanup(func() {
		closeUDP(t, r.inner)
		<-forwarding
		r.rebind()
		r.wg.Wait()
	})
	return r
}

func udp(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closeUDP(t testing.TB, c *net.UDPConn) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// rebind forgets the outer addresses; what is under way is lost.
func (r *relay) rebind() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for from, c := range r.outer {
		closeUDP(r.t, c)
		delete(r.outer, from)
	}
}

func (r *relay) forward() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.inner.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.packet[from]++
		out, err := r.outerOf(from)
		if err == nil {
			_, err = out.WriteToUDP(buf[:n], r.server)
		}
		r.mu.Unlock()
		if err != nil {
			r.t.Error(err)
			return
		}
	}
}

// outerOf returns the caller's outer socket. The caller holds r.mu.
func (r *relay) outerOf(from netip.AddrPort) (*net.UDPConn, error) {
	if out, ok := r.outer[from]; ok {
		return out, nil
	}
	out, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	r.outer[from] = out
	r.wg.Go(func() { r.backward(out, from) })
	return out, nil
}

func (r *relay) backward(outer *net.UDPConn, to netip.AddrPort) {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := outer.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = r.inner.WriteToUDPAddrPort(buf[:n], to) // a datagram may be lost
	}
}

// packets returns how many packets came from each caller.
func (r *relay) packets() map[netip.AddrPort]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.packet)
}
