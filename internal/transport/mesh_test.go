package transport_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

const (
	votes  = 1 // DropOldest
	blocks = 2 // DropNewest
	echo   = 7
)

// node is one member of a test's mesh.
type node struct {
	*transport.Endpoint
	mesh *transport.Mesh
	stop func()
	up   atomic.Int32 // connected peers
}

// meshOptions are what a test sets; the rest is alike in all.
type meshOptions struct {
	peers     []transport.NodeAddr
	handle    func(channel uint8, from crypto.PublicKey, message []byte)
	respond   func(context.Context, crypto.PublicKey, []byte) ([]byte, error)
	observers int
	queue     int
	redial    time.Duration
	redialMax time.Duration // 0: 200 ms
	grace     time.Duration
	patience  time.Duration
	ingress   transport.Rate // of votes
	shared    int            // bytes, of all observers' queues
	ofSource  int            // observers
	egress    int            // bytes a second to one observer
	allEgress int            // and to all
	timeout   time.Duration  // of a request
}

func join(t testing.TB, e *transport.Endpoint, o meshOptions) *node {
	t.Helper()
	n := &node{Endpoint: e}
	if o.handle == nil {
		o.handle = func(uint8, crypto.PublicKey, []byte) {}
	}
	if o.respond == nil {
		o.respond = func(_ context.Context, _ crypto.PublicKey, request []byte) ([]byte, error) { return request, nil }
	}
	handle := func(ch uint8) func(crypto.PublicKey, []byte) {
		return func(from crypto.PublicKey, message []byte) { o.handle(ch, from, message) }
	}
	queue := cmp.Or(o.queue, 8<<20)
	cfg := transport.MeshConfig{
		Protocol: "hypermesh/mesh/1", Peers: o.peers, MaxObservers: o.observers,
		RedialMin: o.redial, RedialMax: max(o.redial, cmp.Or(o.redialMax, 200*time.Millisecond)), Grace: o.grace,
		Patience: o.patience, ObserverQueueBytes: o.shared, MaxObserversOfSource: o.ofSource,
		ObserverEgress: o.egress, ObserversEgress: o.allEgress,
		Channels: []transport.Channel{
			{ID: votes, Name: "votes", MaxMessageBytes: 1 << 10, QueueBytes: queue, WhenFull: transport.DropOldest, Urgency: 0, Ingress: o.ingress, Handle: handle(votes)},
			{ID: blocks, Name: "blocks", MaxMessageBytes: 1 << 20, QueueBytes: queue, WhenFull: transport.DropNewest, Urgency: 4, ToObservers: true, Handle: handle(blocks)},
		},
		Services: []transport.Service{{
			ID: echo, Name: "echo", MaxRequestBytes: 1 << 20, MaxResponseBytes: 1 << 20, MaxConcurrent: 4,
			Timeout: cmp.Or(o.timeout, 10*time.Second), Respond: o.respond,
		}},
		Changed: func(_ crypto.PublicKey, connected bool) {
			if connected {
				n.up.Add(1)
			} else {
				n.up.Add(-1)
			}
		},
	}
	var err error
	if n.mesh, err = transport.NewMesh(e, cfg); err != nil {
		t.Fatal(err)
	}
	return n
}

// run starts the mesh; it stops with the test at the latest.
func (n *node) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.mesh.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, transport.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
}

// cluster returns that many nodes that all know each other, connected. Only
// the lower key of a pair gets to dial, so that no connection replaces another.
func cluster(t testing.TB, size int, handle func(at int, channel uint8, from crypto.PublicKey, message []byte)) []*node {
	t.Helper()
	endpoints := make([]*transport.Endpoint, size)
	for i := range endpoints {
		endpoints[i] = listening(t, byte(i+1))
	}
	nodes := make([]*node, size)
	for i, e := range endpoints {
		nodes[i] = join(t, e, meshOptions{peers: addrs(endpoints, e), redial: 10 * time.Second, handle: func(ch uint8, from crypto.PublicKey, m []byte) {
			if handle != nil {
				handle(i, ch, from, m)
			}
		}})
	}
	for _, n := range nodes {
		n.run(t)
	}
	for _, n := range nodes {
		eventually(t, "all are connected", func() bool { return n.up.Load() == int32(size-1) })
	}
	return nodes
}

func addrs(all []*transport.Endpoint, without *transport.Endpoint) []transport.NodeAddr {
	var out []transport.NodeAddr
	for _, e := range all {
		if e != without {
			out = append(out, e.NodeAddr())
		}
	}
	return out
}

// TestMeshCarriesEverythingInOrder has 4 nodes send 10,000 messages to each
// other on each of two channels.
func TestMeshCarriesEverythingInOrder(t *testing.T) {
	const size, count = 4, 10_000
	type flow struct {
		at      int
		channel uint8
		from    crypto.PublicKey
	}
	var mu sync.Mutex
	next := map[flow]uint64{}
	var disorder atomic.Int64
	finished := make(chan struct{}, size*size*2)
	nodes := cluster(t, size, func(at int, ch uint8, from crypto.PublicKey, message []byte) {
		mu.Lock()
		defer mu.Unlock()
		f := flow{at, ch, from}
		if binary.BigEndian.Uint64(message) != next[f] {
			disorder.Add(1)
		}
		next[f]++
		if next[f] == count {
			finished <- struct{}{}
		}
	})
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			for i := range uint64(count) {
				message := binary.BigEndian.AppendUint64(make([]byte, 0, 108), i)
				message = append(message, make([]byte, i%100)...)
				if err := errors.Join(n.mesh.Broadcast(votes, message), n.mesh.Broadcast(blocks, message)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ctx := deadline(t)
	for range size * (size - 1) * 2 {
		select {
		case <-finished:
		case <-ctx.Done():
			t.Fatalf("incomplete: %v", next)
		}
	}
	if n := disorder.Load(); n > 0 {
		t.Fatalf("%d messages out of order", n)
	}
	for _, n := range nodes {
		for _, p := range n.mesh.Stats() {
			if !p.Connected || p.Connections != 1 || p.RTT == 0 || p.BytesSent < count*100 {
				t.Errorf("statistics %+v", p)
			}
			for _, ch := range p.Channels {
				if ch.Sent != count || ch.Received != count || ch.Dropped != 0 || ch.QueuedBytes != 0 {
					t.Errorf("statistics of channel %+v", ch)
				}
			}
		}
	}
}

// TestSimultaneousDials has both ends dial at once, many times over. While two
// dials are under way messages may be lost; then one connection stays.
func TestSimultaneousDials(t *testing.T) {
	for range 10 {
		a, b := listening(t, 1), listening(t, 2)
		got := make(chan struct{}, 1024)
		handle := func(uint8, crypto.PublicKey, []byte) { got <- struct{}{} }
		na := join(t, a, meshOptions{peers: addrs([]*transport.Endpoint{b}, nil), redial: time.Millisecond, handle: handle})
		nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), redial: time.Millisecond, handle: handle})
		na.run(t)
		nb.run(t)
		lives := func() uint64 { return na.mesh.Stats()[0].Connections + nb.mesh.Stats()[0].Connections }
		eventually(t, "one connection carries 200 messages each way", func() bool {
			before := lives()
			for range 200 {
				if err := errors.Join(na.mesh.Send(b.ID(), votes, nil), nb.mesh.Send(a.ID(), votes, nil)); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					select {
					case <-got:
					case <-time.After(100 * time.Millisecond):
						return false
					}
				}
			}
			return lives() == before && a.Conns() == 1 && b.Conns() == 1 && na.up.Load() == 1 && nb.up.Load() == 1
		})
		na.stop()
		nb.stop()
	}
}

// TestPeerRestart kills a peer without a word and starts it again at the same
// address, for both orders of the keys.
func TestPeerRestart(t *testing.T) {
	for _, keys := range [][2]byte{{1, 2}, {2, 1}} {
		t.Run(fmt.Sprintf("keys %v", keys), func(t *testing.T) {
			a, b := listening(t, keys[0]), listening(t, keys[1])
			got := make(chan string, 16)
			handle := func(_ uint8, _ crypto.PublicKey, m []byte) { got <- string(m) }
			na := join(t, a, meshOptions{peers: addrs([]*transport.Endpoint{b}, nil), handle: handle, redial: 20 * time.Millisecond})
			nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), handle: handle, redial: 20 * time.Millisecond})
			na.run(t)
			nb.run(t)
			eventually(t, "first connection", func() bool { return na.up.Load() == 1 && nb.up.Load() == 1 })
			at := b.Addr().String()
			if err := b.Crash(); err != nil {
				t.Logf("crashing: %v", err)
			}
			nb.stop()
			if err := na.mesh.Send(b.ID(), votes, []byte("into the void, or late")); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			b = open(t, transport.Config{Key: key(keys[1]), ListenAddr: at})
			nb = join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), handle: handle, redial: 20 * time.Millisecond})
			nb.run(t)
			eventually(t, "second connection", func() bool { return nb.up.Load() == 1 && na.mesh.Stats()[0].Connections >= 2 })
			t.Logf("connected %v after the restart", time.Since(began).Round(time.Millisecond))
			ctx, again := deadline(t), time.NewTicker(50*time.Millisecond)
			defer again.Stop()
			for message := ""; message != "risen"; {
				if err := nb.mesh.Send(a.ID(), blocks, []byte("risen")); err != nil { // lost, if one connection takes another's place
					t.Fatal(err)
				}
				select {
				case message = <-got:
				case <-again.C:
				case <-ctx.Done():
					t.Fatal("no message after the restart")
				}
			}
		})
	}
}

// TestSlowReader stalls one channel's handler while its queue is flooded.
func TestSlowReader(t *testing.T) {
	const queue = 4 << 20
	a, b := listening(t, 1), listening(t, 2)
	stalled, quick := make(chan struct{}), make(chan struct{}, 1024)
	release := sync.OnceFunc(func() { close(stalled) })
	handle := func(ch uint8, _ crypto.PublicKey, _ []byte) {
		if ch == blocks {
			<-stalled
		} else {
			quick <- struct{}{}
		}
	}
	na := join(t, a, meshOptions{peers: addrs([]*transport.Endpoint{b}, nil), queue: queue})
	nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), queue: queue, handle: handle})
	na.run(t)
	nb.run(t)
	t.Cleanup(release)
	eventually(t, "connected", func() bool { return na.up.Load() == 1 && nb.up.Load() == 1 })
	before := heap()
	full := 0
	for range 400 {
		switch err := na.mesh.Send(b.ID(), blocks, make([]byte, 1<<20)); {
		case errors.Is(err, transport.ErrQueueFull):
			full++
		case err != nil:
			t.Fatal(err)
		}
		if s := na.mesh.Stats()[0].Channels[1]; s.QueuedBytes > queue || s.Dropped != uint64(full) {
			t.Fatalf("queue of %d bytes, %d dropped, want %d", s.QueuedBytes, s.Dropped, full)
		}
	}
	if full < 300 {
		t.Fatalf("only %d of 400 MiB were refused", full)
	}
	if grown := int64(heap()) - int64(before); grown > 40<<20 {
		t.Fatalf("the heap grew by %d MiB", grown>>20)
	}
	for range 100 {
		if err := na.mesh.Send(b.ID(), votes, []byte("vote")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-quick:
		case <-deadline(t).Done():
			t.Fatal("a stalled channel holds up another")
		}
	}
	if _, err := na.mesh.Request(deadline(t), b.ID(), echo, make([]byte, 1<<20)); err != nil {
		t.Fatalf("a stalled channel holds up requests: %v", err)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestDropOldest fills the queue of a peer that is not there.
func TestDropOldest(t *testing.T) {
	a, b := listening(t, 1), listening(t, 2)
	got := make(chan []byte, 1<<16)
	const limit = 1<<20 + 100
	na := join(t, a, meshOptions{peers: addrs([]*transport.Endpoint{b}, nil), queue: limit})
	for i := range uint64(20_000) {
		if err := na.mesh.Send(b.ID(), votes, binary.BigEndian.AppendUint64(make([]byte, 0, 200), i)[:200]); err != nil {
			t.Fatal(err)
		}
	}
	const kept = limit / (200 + 64)
	if s := na.mesh.Stats()[0].Channels[0]; s.Dropped != 20_000-kept || s.QueuedBytes > limit {
		t.Fatalf("statistics %+v", s)
	}
	nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), queue: limit, handle: func(_ uint8, _ crypto.PublicKey, m []byte) { got <- m }})
	nb.run(t)
	na.run(t)
	for i := range kept {
		select {
		case m := <-got:
			if n := binary.BigEndian.Uint64(m); n != uint64(20_000-kept+i) {
				t.Fatalf("message %d at place %d", n, i)
			}
		case <-deadline(t).Done():
			t.Fatalf("%d of %d messages arrived", i, kept)
		}
	}
}

func TestSendErrors(t *testing.T) {
	a := listening(t, 1)
	n := join(t, a, meshOptions{peers: []transport.NodeAddr{{ID: key(2).Public(), Addr: "127.0.0.1:1"}}})
	known, stranger := key(2).Public(), key(3).Public()
	if err := n.mesh.Send(stranger, votes, nil); !errors.Is(err, transport.ErrUnknownPeer) {
		t.Error(err)
	}
	if err := n.mesh.Send(known, 99, nil); !errors.Is(err, transport.ErrUnknownChannel) {
		t.Error(err)
	}
	long, ok := errors.AsType[*transport.MessageTooLargeError](n.mesh.Broadcast(votes, make([]byte, 1025)))
	if !ok || long.Bytes != 1025 || long.Limit != 1024 {
		t.Errorf("error %v", long)
	}
	if _, err := n.mesh.Request(deadline(t), known, echo, nil); !errors.Is(err, transport.ErrNotConnected) {
		t.Error(err)
	}
	if _, err := n.mesh.Request(deadline(t), known, 99, nil); !errors.Is(err, transport.ErrUnknownChannel) {
		t.Error(err)
	}
	if _, err := transport.NewMesh(a, transport.MeshConfig{Protocol: "x", Peers: []transport.NodeAddr{a.NodeAddr()}}); err == nil {
		t.Error("a mesh with itself")
	}
}

func TestRequests(t *testing.T) {
	a, b := listening(t, 1), listening(t, 2)
	abandoned := make(chan struct{})
	busy, release := make(chan struct{}, 8), make(chan struct{})
	na := join(t, a, meshOptions{peers: addrs([]*transport.Endpoint{b}, nil)})
	nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), respond: func(ctx context.Context, _ crypto.PublicKey, q []byte) ([]byte, error) {
		switch {
		case bytes.HasPrefix(q, []byte("refuse")):
			return nil, errors.New(string(bytes.Repeat([]byte("no"), 500)))
		case bytes.HasPrefix(q, []byte("wait")):
			<-ctx.Done()
			close(abandoned)
			return nil, ctx.Err()
		case bytes.HasPrefix(q, []byte("busy")):
			busy <- struct{}{}
			<-release
		case bytes.HasPrefix(q, []byte("long")):
			return make([]byte, 1<<20+1), nil
		}
		return q, nil
	}})
	na.run(t)
	nb.run(t)
	eventually(t, "connected", func() bool { return na.up.Load() == 1 && nb.up.Load() == 1 })
	ask := func(q string) ([]byte, error) { return na.mesh.Request(deadline(t), b.ID(), echo, []byte(q)) }
	big := string(bytes.Repeat([]byte("x"), 1<<20))
	for _, q := range []string{"", "hello", big} {
		if answer, err := ask(q); err != nil || string(answer) != q {
			t.Fatalf("asked %d bytes: %d bytes, %v", len(q), len(answer), err)
		}
	}
	refused, ok := errors.AsType[*transport.RefusedError](second(ask("refuse")))
	if !ok || len(refused.Reason) != 256 {
		t.Fatalf("refusal %v", refused)
	}
	if _, ok := errors.AsType[*transport.RefusedError](second(ask("long"))); !ok {
		t.Fatal("a response above the limit")
	}
	if _, ok := errors.AsType[*transport.MessageTooLargeError](second(ask(big + "x"))); !ok {
		t.Fatal("a request above the limit")
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := na.mesh.Request(short, b.ID(), echo, []byte("wait")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an abandoned request: %v", err)
	}
	<-abandoned
	answers := make(chan error, 4)
	for range 4 {
		go func() { answers <- second(ask("busy")) }()
	}
	for range 4 {
		<-busy
	}
	if _, ok := errors.AsType[*transport.RefusedError](second(ask("fifth"))); !ok {
		t.Fatal("a fifth request at once is not refused")
	}
	close(release)
	for range 4 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	if na.mesh.Stats()[0].Connections != 1 {
		t.Fatal("a refusal cost the connection")
	}
}

func second[A any](_ A, err error) error { return err }

// TestViolations breaks the framing in every way a peer can.
func TestViolations(t *testing.T) {
	oneWay := func(data ...byte) func(*testing.T, *transport.Conn) {
		return func(t *testing.T, c *transport.Conn) {
			s, err := transport.OpenOneWay(deadline(t), c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(data); err != nil {
				t.Fatal(err)
			}
			if data[0] == 0 {
				s.CancelWrite(0)
			}
		}
	}
	request := func(data ...byte) func(*testing.T, *transport.Conn) {
		return func(t *testing.T, c *transport.Conn) {
			if err := send(deadline(t), c, data); err != nil {
				t.Fatal(err)
			}
		}
	}
	twice := func(t *testing.T, c *transport.Conn) {
		oneWay(votes, 0, 0, 0, 1, 9)(t, c)
		oneWay(votes, 0, 0, 0, 1, 9)(t, c)
	}
	for name, breach := range map[string]func(*testing.T, *transport.Conn){
		"unknown channel":   oneWay(99),
		"message too large": oneWay(votes, 0, 0, 4, 1),
		"channel twice":     twice,
		"unknown service":   request(99),
		"request too large": request(echo, 0, 16, 0, 1),
		"request cut short": request(echo, 0, 0, 0, 9, 1),
	} {
		t.Run(name, func(t *testing.T) {
			a, raw := listening(t, 1), open(t, transport.Config{Key: key(2)})
			na := join(t, a, meshOptions{observers: 1})
			na.run(t)
			c, err := raw.Dial(deadline(t), a.NodeAddr(), "hypermesh/mesh/1")
			if err != nil {
				t.Fatal(err)
			}
			breach(t, c)
			<-c.Done()
			wantClose(t, c.Err(), transport.CloseViolation)
			eventually(t, "the observer is forgotten", func() bool { return len(na.mesh.Stats()) == 0 })
		})
	}
}

func TestObserversAreBoundedAndHear(t *testing.T) {
	a := listening(t, 1)
	na := join(t, a, meshOptions{observers: 1})
	na.run(t)
	heard := make(chan uint8, 4)
	b, c := listening(t, 2), open(t, transport.Config{Key: key(3)})
	nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), handle: func(ch uint8, _ crypto.PublicKey, _ []byte) { heard <- ch }})
	nb.run(t)
	eventually(t, "an observer", func() bool { return na.up.Load() == 1 })
	_, err := c.Dial(deadline(t), a.NodeAddr(), "hypermesh/mesh/1")
	wantClose(t, err, transport.CloseNotAdmitted)
	if err := errors.Join(na.mesh.Broadcast(votes, []byte("v")), na.mesh.Broadcast(blocks, []byte("b"))); err != nil {
		t.Fatal(err)
	}
	if ch := <-heard; ch != blocks {
		t.Fatalf("the observer heard channel %d", ch)
	}
	if s := na.mesh.Stats(); len(s) != 1 || s[0].Configured || s[0].Channels[0].QueuedBytes != 0 {
		t.Fatalf("statistics %+v", s)
	}
}

// What is for an observer waits while something waits for a member, and not for
// long: a member that is away does not silence the node.
func TestMembersGoFirst(t *testing.T) {
	a, b := listening(t, 1), listening(t, 2)
	away := key(9)
	na := join(t, a, meshOptions{observers: 1, peers: []transport.NodeAddr{{ID: away.Public()}}})
	nb := join(t, b, meshOptions{peers: []transport.NodeAddr{a.NodeAddr()}})
	na.run(t)
	nb.run(t)
	eventually(t, "an observer", func() bool { return na.up.Load() == 1 })
	if err := na.mesh.Send(away.Public(), votes, []byte("waits")); err != nil {
		t.Fatal(err)
	}
	if took, err := na.mesh.Afford(t.Context(), b.ID(), 100); err != nil || took < 5*time.Millisecond {
		t.Errorf("an observer's message waited %v behind a member's: %v", took, err)
	}
	if took, err := na.mesh.Afford(t.Context(), away.Public(), 100); err != nil || took > time.Second {
		t.Errorf("a member's message waited %v: %v", took, err)
	}
	if err := na.mesh.Broadcast(blocks, []byte("goes all the same")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the observer hears", func() bool { return nb.mesh.Stats()[0].Channels[1].Received == 1 })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := na.mesh.Afford(ended, b.ID(), 100); !errors.Is(err, context.Canceled) {
		t.Errorf("with its connection at an end: %v", err)
	}
}

func TestBlock(t *testing.T) {
	nodes := cluster(t, 2, nil)
	a, b := nodes[0], nodes[1]
	a.mesh.Block(b.ID(), time.Hour, "lied")
	eventually(t, "the connection ends", func() bool { return a.up.Load() == 0 && b.up.Load() == 0 })
	_, err := b.Dial(deadline(t), a.NodeAddr(), "hypermesh/mesh/1")
	wantClose(t, err, transport.CloseNotAdmitted)
	a.mesh.Block(b.ID(), -time.Second, "forgiven")
	if _, err := b.Dial(deadline(t), a.NodeAddr(), "hypermesh/mesh/1"); err != nil {
		t.Fatal(err)
	}
}

func TestMeshEndsEveryGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	nodes := cluster(t, 4, nil)
	ids := []crypto.PublicKey{}
	for _, n := range nodes {
		if err := n.mesh.Broadcast(votes, []byte("x")); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, n.ID())
	}
	if !slices.Contains(ids, key(1).Public()) {
		t.Fatal("a node lost its identity")
	}
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes {
		if n.Conns() != 0 {
			t.Errorf("%d connections outlive the mesh", n.Conns())
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "every goroutine ends", func() bool { return runtime.NumGoroutine() <= before })
}

// BenchmarkRoundTrip is one vote there and one back.
func BenchmarkRoundTrip(b *testing.B) {
	back := make(chan struct{}, 1)
	var nodes []*node
	var ready atomic.Pointer[[]*node]
	nodes = cluster(b, 2, func(at int, _ uint8, from crypto.PublicKey, m []byte) {
		if at == 0 {
			back <- struct{}{}
		} else if err := (*ready.Load())[1].mesh.Send(from, votes, m); err != nil {
			b.Error(err)
		}
	})
	ready.Store(&nodes)
	vote := make([]byte, 200)
	for b.Loop() {
		if err := nodes[0].mesh.Send(nodes[1].ID(), votes, vote); err != nil {
			b.Fatal(err)
		}
		<-back
	}
}

// BenchmarkThroughput is blocks of 256 KiB one way.
func BenchmarkThroughput(b *testing.B) {
	const size = 256 << 10
	arrived := make(chan struct{}, 16)
	nodes := cluster(b, 2, func(at int, _ uint8, _ crypto.PublicKey, _ []byte) { arrived <- struct{}{} })
	block := make([]byte, size)
	b.SetBytes(size)
	credit := 16
	for b.Loop() {
		for credit == 0 {
			<-arrived
			credit++
		}
		credit--
		if err := nodes[0].mesh.Send(nodes[1].ID(), blocks, block); err != nil {
			b.Fatal(err)
		}
	}
	for ; credit < 16; credit++ {
		<-arrived
	}
}

// TestUnreadRequestsAreBounded opens more requests than are answered at once,
// and completes none: the surplus is refused without being read.
func TestUnreadRequestsAreBounded(t *testing.T) {
	a, raw := listening(t, 1), open(t, transport.Config{Key: key(2)})
	join(t, a, meshOptions{observers: 1}).run(t)
	c, err := raw.Dial(deadline(t), a.NodeAddr(), "hypermesh/mesh/1")
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan bool, 10)
	for range 10 {
		s, err := c.OpenStream(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte{echo, 0, 0, 0, 9, 1}); err != nil { // 8 bytes are missing
			t.Fatal(err)
		}
		go func() {
			var verdict [1]byte
			n, _ := s.Read(verdict[:]) // the four that are read end with the connection
			refused <- n == 1 && verdict[0] == 1
		}()
	}
	for range 6 {
		select {
		case r := <-refused:
			if !r {
				t.Fatal("a request was not refused")
			}
		case <-deadline(t).Done():
			t.Fatal("a surplus request waits")
		}
	}
	c.Close(transport.CloseDone, "enough")
	for range 4 {
		if <-refused {
			t.Fatal("more than the surplus was refused")
		}
	}
}

// TestBackoffIsCapped: a peer that comes back is dialed within the cap, however
// long it was gone.
func TestBackoffIsCapped(t *testing.T) {
	n := join(t, listening(t, 1), meshOptions{redial: 100 * time.Millisecond})
	const least, most = 100 * time.Millisecond, 200 * time.Millisecond
	seen := map[time.Duration]bool{}
	for failed := range 100_000 {
		d, want := n.mesh.Pause(failed), most
		if failed == 0 {
			want = least
		}
		if d < want*3/4 || d > want*5/4+1 {
			t.Fatalf("a pause of %v after %d failures", d, failed)
		}
		seen[d] = true
	}
	if len(seen) < 1000 {
		t.Fatalf("only %d different pauses", len(seen))
	}
}

// TestAPeerThatWasLongGoneIsReached fails many dials before the peer appears.
func TestAPeerThatWasLongGoneIsReached(t *testing.T) {
	gone := listening(t, 2)
	at := gone.NodeAddr()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	a := open(t, transport.Config{Key: key(1), HandshakeTimeout: 10 * time.Millisecond})
	na := join(t, a, meshOptions{peers: []transport.NodeAddr{at}, redial: time.Millisecond})
	na.run(t)
	eventually(t, "many dials fail", func() bool { return a.Metrics().Count(transport.DialFailed) >= 5 })
	b := open(t, transport.Config{Key: key(2), ListenAddr: at.Addr})
	nb := join(t, b, meshOptions{observers: 1})
	nb.run(t)
	eventually(t, "connected", func() bool { return na.up.Load() == 1 && nb.up.Load() == 1 })
}
