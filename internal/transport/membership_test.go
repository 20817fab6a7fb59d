package transport_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

func setPeers(t *testing.T, n *node, peers ...transport.NodeAddr) {
	t.Helper()
	if err := n.mesh.SetPeers(peers); err != nil {
		t.Fatal(err)
	}
}

func TestSetPeersWhileRunning(t *testing.T) {
	a, b, c := listening(t, 1), listening(t, 2), listening(t, 3)
	got := make(chan string, 16)
	na := join(t, a, meshOptions{redial: time.Millisecond, grace: time.Hour})
	nb := join(t, b, meshOptions{observers: 1, handle: func(_ uint8, _ crypto.PublicKey, m []byte) { got <- string(m) }})
	nc := join(t, c, meshOptions{observers: 1})
	for _, n := range []*node{na, nb, nc} {
		n.run(t)
	}
	unreachable := transport.NodeAddr{ID: b.ID(), Addr: "127.0.0.1:1"}
	setPeers(t, na, unreachable)
	if err := na.mesh.Send(b.ID(), blocks, []byte("queued")); err != nil {
		t.Fatal(err)
	}
	setPeers(t, na, c.NodeAddr(), unreachable)
	eventually(t, "the second peer is connected", func() bool { return nc.up.Load() == 1 })
	setPeers(t, na, c.NodeAddr(), b.NodeAddr())
	setPeers(t, na, b.NodeAddr(), c.NodeAddr())
	select {
	case m := <-got:
		if m != "queued" {
			t.Fatalf("message %q", m)
		}
	case <-deadline(t).Done():
		t.Fatal("the queue did not survive the change of address")
	}
	eventually(t, "both are connected", func() bool { return na.up.Load() == 2 })
	for _, s := range na.mesh.Stats() {
		if !s.Configured || s.Connections != 1 {
			t.Errorf("statistics %+v", s)
		}
	}
}

// TestARemovedPeerIsServedForTheGrace takes a peer off the list and back on it,
// off again, and lets the grace end.
func TestARemovedPeerIsServedForTheGrace(t *testing.T) {
	const grace = 300 * time.Millisecond
	a, b := listening(t, 1), listening(t, 2)
	got := make(chan string, 16)
	na := join(t, a, meshOptions{redial: time.Millisecond, grace: grace})
	nb := join(t, b, meshOptions{observers: 1, handle: func(_ uint8, _ crypto.PublicKey, m []byte) { got <- string(m) }})
	na.run(t)
	nb.run(t)
	setPeers(t, na, b.NodeAddr())
	eventually(t, "connected", func() bool { return na.up.Load() == 1 && nb.up.Load() == 1 })
	setPeers(t, na)
	setPeers(t, na, b.NodeAddr())
	setPeers(t, na)
	removed := time.Now()
	if err := na.mesh.Send(b.ID(), votes, []byte("farewell")); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "farewell" {
		t.Fatalf("message %q", m)
	}
	if s := na.mesh.Stats(); len(s) == 1 && (s[0].Configured || s[0].Connections != 1) {
		t.Fatalf("statistics %+v", s)
	}
	eventually(t, "the connection ends", func() bool { return na.up.Load() == 0 && len(na.mesh.Stats()) == 0 })
	if alive := time.Since(removed); alive < grace {
		t.Fatalf("the connection ended after %v, before the grace", alive)
	}
	if err := na.mesh.Send(b.ID(), votes, nil); !errors.Is(err, transport.ErrUnknownPeer) {
		t.Fatalf("sending to who was removed: %v", err)
	}
}

// TestARemovedPeerReturnsAsAnObserver has the removed peer go on dialing.
func TestARemovedPeerReturnsAsAnObserver(t *testing.T) {
	a, b := listening(t, 1), listening(t, 2)
	na := join(t, a, meshOptions{observers: 1, grace: time.Millisecond})
	nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), redial: time.Millisecond})
	na.run(t)
	nb.run(t)
	is := func(configured bool) func() bool {
		return func() bool {
			s := na.mesh.Stats()
			return len(s) == 1 && s[0].Connected && s[0].Configured == configured
		}
	}
	eventually(t, "an observer", is(false))
	for range 3 {
		before := na.mesh.Stats()[0].Connections
		setPeers(t, na, b.NodeAddr())
		if s := na.mesh.Stats()[0]; !s.Configured || !s.Connected || s.Connections != before {
			t.Fatalf("an observer that becomes a peer loses its connection: %+v", s)
		}
		setPeers(t, na)
		eventually(t, "an observer again", is(false))
	}
}

// TestAPeerWithoutAnAddressDialsUs is always admitted and never dialed.
func TestAPeerWithoutAnAddressDialsUs(t *testing.T) {
	a, b := listening(t, 1), listening(t, 2)
	na := join(t, a, meshOptions{peers: []transport.NodeAddr{{ID: b.ID()}}, redial: time.Millisecond})
	nb := join(t, b, meshOptions{peers: addrs([]*transport.Endpoint{a}, nil), redial: time.Millisecond})
	na.run(t)
	nb.run(t)
	eventually(t, "connected", func() bool { return na.up.Load() == 1 && nb.up.Load() == 1 })
}

func TestSetPeersRefuses(t *testing.T) {
	a := listening(t, 1)
	n := join(t, a, meshOptions{peers: []transport.NodeAddr{{ID: key(2).Public(), Addr: "127.0.0.1:1"}}})
	other := transport.NodeAddr{ID: key(3).Public(), Addr: "127.0.0.1:1"}
	for name, peers := range map[string][]transport.NodeAddr{
		"itself":         {other, a.NodeAddr()},
		"twice":          {other, other},
		"a bad address":  {other, {ID: key(4).Public(), Addr: "nowhere"}},
		"too many peers": make([]transport.NodeAddr, 4097),
	} {
		if err := n.mesh.SetPeers(peers); err == nil {
			t.Errorf("%s is accepted", name)
		}
		if s := n.mesh.Stats(); len(s) != 1 || s[0].ID != key(2).Public() {
			t.Errorf("%s changed the peers to %+v", name, s)
		}
	}
}

// What waits for a peer goes with it, be it a stranger that read nothing or a member
// that was never reached.
func TestForgottenPeersHoldNothing(t *testing.T) {
	victim := listening(t, victimKey)
	absent := transport.NodeAddr{ID: key(lateKey).Public()}
	n := join(t, victim, meshOptions{peers: []transport.NodeAddr{absent}, observers: 4})
	n.run(t)
	for i := range byte(3) {
		c, err := open(t, transport.Config{Key: key(strangerKey + i)}).Dial(deadline(t), victim.NodeAddr(), meshProtocol)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stranger has its place", func() bool { return n.up.Load() == 1 })
		for range 64 { // beyond what flow control lets go
			if err := n.mesh.Broadcast(blocks, make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
		}
		c.Close(transport.CloseDone, "")
		eventually(t, "the stranger is forgotten", func() bool { return n.up.Load() == 0 && len(n.mesh.Stats()) == 1 })
	}
	if _, peers := n.mesh.Held(); peers != 1 {
		t.Errorf("messages are held for %d peers, want 1, the member that may yet come", peers)
	}
	if err := n.mesh.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	if bytes, peers := n.mesh.Held(); bytes != 0 || peers != 0 {
		t.Errorf("%d bytes are held for %d peers when nobody is left", bytes, peers)
	}
}
