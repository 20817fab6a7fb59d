package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

func TestNeighboursAreChecked(t *testing.T) {
	id := func(n int) string { return keyOf(n, 't').Public().String() }
	at := func(n int) string { return id(n) + "@127.0.0.1:7100" }
	for _, c := range []struct {
		want   string // empty: fine
		config Config
	}{
		{"", Config{Sentries: []string{at(1), at(2)}}},
		{"", Config{SentryFor: []string{id(1), at(2)}, Peers: []string{at(3), at(1)}}},
		{"sentries: transport: node address", Config{Sentries: []string{id(1)}}},
		{"sentry_for: ", Config{SentryFor: []string{"nobody"}}},
		{"sentry_for: ", Config{SentryFor: []string{id(1) + "@nowhere"}}},
		{"sentries has 5 nodes, limit 4", Config{Sentries: []string{at(1), at(2), at(3), at(4), at(5)}}},
		{"sentry_for has 5 nodes, limit 4", Config{SentryFor: []string{id(1), id(2), id(3), id(4), id(5)}}},
		{"is there twice", Config{Sentries: []string{at(1), at(1)}}},
		{"sentry_for beside sentries", Config{Sentries: []string{at(1)}, SentryFor: []string{id(2)}}},
		{"peers beside sentries", Config{Sentries: []string{at(1)}, Peers: []string{at(2)}}},
	} {
		c.config.CacheMiB, c.config.TreeMiB, c.config.ObserversMiB, c.config.Retention, c.config.KeepVersions = 1, 1, 1, RetentionPruned, 1
		if err := c.config.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestCallersAreBoundedByHost(t *testing.T) {
	c := callers{hosts: map[netip.Prefix]int{}}
	host := func(n int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 32) }
	var inside, gone []*caller
	entered := func(n, tries int) (in int) {
		for range tries {
			var who *caller
			if who = c.enter(host(n), func() { gone = append(gone, who) }); who != nil {
				inside = append(inside, who)
				in++
			}
		}
		return in
	}
	if got := entered(1, 100); got != maxCallersOfHost {
		t.Errorf("%d callers of one host, limit %d", got, maxCallersOfHost)
	}
	for n := 2; len(inside) < maxCallers; n++ {
		entered(n, maxCallersOfHost)
	}
	if len(c.all) != maxCallers || len(gone) != 0 {
		t.Errorf("%d callers of %d hosts, and %d had to go", len(c.all), len(c.hosts), len(gone))
	}
	for n := range 3 {
		if entered(200+n, 1) != 1 || len(c.all) != maxCallers || len(gone) != n+1 || gone[n] != inside[n] {
			t.Errorf("the newest of more than %d callers does not take the oldest one's place: %d, %d had to go", maxCallers, len(c.all), len(gone))
		}
	}
	for _, who := range inside { // those who had to go, too
		c.leave(who)
	}
	if len(c.hosts)+len(c.all) != 0 || entered(1, 100) != maxCallersOfHost {
		t.Error("who left makes no room")
	}
}

// outsider is an endpoint that is no node.
func (l *loopback) outsider(role byte, n int) *transport.Endpoint {
	l.Helper()
	e, err := transport.Open(transport.Config{Key: keyOf(n, role), Network: l.genesis.Digest(), ListenAddr: "127.0.0.1:0", Log: quiet()})
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		if err := e.Close(); err != nil {
			l.Error(err)
		}
	})
	return e
}

func (m *member) addr() transport.NodeAddr {
	return transport.NodeAddr{ID: keyOf(m.index, 't').Public(), Addr: m.listen}
}

// connected reports whether the member has a connection with a key.
func (m *member) connected(with crypto.PublicKey) bool {
	return slices.Contains(m.network.Peers(), with)
}

// eventually waits without blocks.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("no %s in %v", what, patience)
		}
	}
}

// hide puts a validator behind a sentry: nobody else knows where it is.
func (l *loopback) hide(hidden, sentry int) {
	without := func(peers []string, i int) []string {
		return slices.DeleteFunc(slices.Clone(peers), func(p string) bool { return strings.HasPrefix(p, keyOf(i, 't').Public().String()) })
	}
	l.adjust = func(i int, c *Config) {
		switch i {
		case hidden:
			c.Peers, c.Sentries = nil, []string{l.members[sentry].addr().String()}
		case sentry:
			c.Peers, c.SentryFor = without(without(l.peers, hidden), sentry), []string{keyOf(hidden, 't').Public().String()}
		default:
			c.Peers = without(c.Peers, hidden)
		}
	}
}

// crowd has strangers take all places for observers that one address may have at a
// member, which is connected with two others.
func (l *loopback) crowd(at *member) {
	l.Helper()
	part := DefaultConfig().MaxObservers / 4
	for n := range part {
		mesh, err := transport.NewMesh(l.outsider('s', n), transport.MeshConfig{Protocol: Protocol, Peers: []transport.NodeAddr{at.addr()}, Channels: deaf()})
		if err != nil {
			l.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- mesh.Run(ctx) }()
		l.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				l.Error(err)
			}
		})
	}
	eventually(l, "crowd", func() bool { return len(at.network.Peers()) == 2+part })
}

// TestASentryHasAMembersPlace: strangers hold all places for observers that their
// address may have at one validator; the sentry of another gets in. Its validator
// is connected with it alone, proposes, and exchanges transactions with the rest.
func TestASentryHasAMembersPlace(t *testing.T) {
	l := newLoopback(t)
	const hidden, sentry = 0, 4
	l.hide(hidden, sentry)
	l.start(1, 2, 3)
	crowded := l.members[1]
	l.crowd(crowded)
	l.start(sentry, hidden)
	s, h := l.members[sentry], l.members[hidden]
	key := s.addr().ID
	for i := range 3 {
		m := l.members[i+1]
		m.until("sentry's place", func() bool { return slices.Contains(m.network.places(), key) && m.connected(key) })
	}
	h.signs(true)
	h.until("block of the validator behind the sentry", func() bool {
		header, err := storedHeader(h.store, h.height())
		return err == nil && h.height() > 0 && header.Proposer == keyOf(hidden, 'c').Public()
	})
	if got := h.network.Peers(); !slices.Equal(got, []crypto.PublicKey{key}) {
		t.Errorf("the validator behind a sentry is connected with %v", got)
	}
	// Nobody else is let in, by either protocol.
	for _, protocol := range []string{Protocol, sentryProtocol} {
		if _, err := l.outsider('s', 100).Dial(t.Context(), h.addr(), protocol); err == nil {
			t.Errorf("a stranger has a connection of %s with a validator behind a sentry", protocol)
		}
	}
	// Without a quorum nothing is included, so that what is in a pool came by gossip.
	l.halt(2)
	l.halt(3)
	out, in := transfer(t, 1, 0, user(5).address()), transfer(t, 2, 0, user(5).address())
	h.submit(out)
	crowded.submit(in)
	eventually(t, "transaction of the hidden validator at the other", func() bool { _, ok := crowded.pool.Get(out.ID()); return ok })
	eventually(t, "transaction of the other at the hidden validator", func() bool { _, ok := h.pool.Get(in.ID()); return ok })
	l.start(2, 3)
	h.has(in.ID())
	crowded.has(out.ID())
	for i, m := range l.members {
		if n := m.engine.Metrics().Blamed; n > 0 {
			t.Errorf("node %d blocked honest peers %d times", i, n)
		}
	}
}

// deaf is the channels of a mesh that does nothing.
func deaf() []transport.Channel {
	var channels []transport.Channel
	for _, id := range []uint8{uint8(consensus.ChannelVotes), uint8(consensus.ChannelCertificates), uint8(consensus.ChannelProposals), uint8(consensus.ChannelFetch), channelGossip} {
		channels = append(channels, transport.Channel{
			ID: id, Name: fmt.Sprint(id), MaxMessageBytes: transport.MaxMessageBytes, QueueBytes: transport.MaxMessageBytes + 64, WhenFull: transport.DropNewest,
			Handle: func(crypto.PublicKey, []byte) {},
		})
	}
	return channels
}

// TestStrangersGetNoSentrysPlace: what does not hold is refused, and costs nobody
// anything.
func TestStrangersGetNoSentrysPlace(t *testing.T) {
	l := newLoopback(t)
	l.start(0)
	m := l.members[0]
	c, _ := m.app.committees.of(1)
	signer, _ := c.IndexOf(keyOf(1, 'c').Public())
	delegate := func(key crypto.PrivateKey, epoch consensus.Epoch, to *transport.Endpoint) [][]byte {
		return [][]byte{consensus.EncodeMessage(consensus.SignDelegation(key, string(testChain), epoch, signer, to.ID()))}
	}
	ask := func(e *transport.Endpoint, message []byte) error {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, err := e.Dial(ctx, m.addr(), sentryProtocol)
		if err != nil {
			return err
		}
		defer conn.Close(transport.CloseDone, "")
		stream, err := conn.OpenStream(ctx)
		if err != nil {
			return err
		}
		if err := transport.WriteMessage(stream, message); err != nil {
			return err
		}
		_, err = transport.ReadMessage(stream, 1)
		return err
	}
	other := l.outsider('s', 90)
	vote := consensus.EncodeMessage(consensus.SignVote(keyOf(1, 'c'), signer, string(testChain), consensus.Statement{
		Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: consensus.Round{Epoch: 1, View: 1}},
	}))
	for i, c := range []struct {
		name    string
		message func(e *transport.Endpoint) []byte
	}{
		{"nothing", func(*transport.Endpoint) []byte { return nil }},
		{"no list", func(*transport.Endpoint) []byte { return []byte{0xff} }},
		{"an empty list", func(*transport.Endpoint) []byte { return codec.Marshal([][]byte{}) }},
		{"a message that is too long", func(*transport.Endpoint) []byte { return make([]byte, maxShownBytes+1) }},
		{"too many", func(e *transport.Endpoint) []byte {
			return codec.Marshal(slices.Repeat(delegate(keyOf(1, 'c'), 9, e), maxShown+1))
		}},
		{"a vote", func(*transport.Endpoint) []byte { return codec.Marshal([][]byte{vote}) }},
		{"one of a far epoch", func(e *transport.Endpoint) []byte { return codec.Marshal(delegate(keyOf(1, 'c'), 9, e)) }},
		{"a forged one", func(e *transport.Endpoint) []byte { return codec.Marshal(delegate(keyOf(2, 'c'), 1, e)) }},
		{"another's", func(*transport.Endpoint) []byte { return codec.Marshal(delegate(keyOf(1, 'c'), 1, other)) }},
	} {
		e := l.outsider('s', i)
		if err := ask(e, c.message(e)); err == nil || slices.Contains(m.network.places(), e.ID()) {
			t.Errorf("%s: a place", c.name)
		}
		if m.network.mesh.Blocked(e.ID()) {
			t.Errorf("%s: blocked; anybody can have any number of names", c.name)
		}
		if err := ask(e, codec.Marshal(delegate(keyOf(1, 'c'), 1, e))); err != nil || !slices.Contains(m.network.places(), e.ID()) {
			t.Errorf("%s, then a true one: %v", c.name, err)
		}
	}
	blocked := l.outsider('s', 91)
	m.network.Block(blocked.ID(), "the test")
	err := ask(blocked, codec.Marshal(delegate(keyOf(1, 'c'), 1, blocked)))
	if refused, ok := errors.AsType[*transport.CloseError](err); !ok || refused.Code != transport.CloseNotAdmitted {
		t.Errorf("one that is blocked: %v", err)
	}
	if got := len(m.network.places()); got != 4 {
		t.Errorf("%d sentries of one validator have places, limit 4", got)
	}
}

// TestASentryIsNoValidator: a consensus key in its home is an error of its operator.
func TestASentryIsNoValidator(t *testing.T) {
	l := newLoopback(t)
	m := &member{TB: t, index: 0, home: t.TempDir(), listen: "127.0.0.1:0"}
	_, err := New(Config{HTTP: "127.0.0.1:0", SentryFor: []string{keyOf(1, 't').Public().String()}}, l.deps(m))
	if err == nil || !strings.Contains(err.Error(), "a sentry has no consensus key") {
		t.Errorf("%v", err)
	}
}

// TestJoinersAskThroughSentries: a validator behind sentries joins by these alone, and
// others by the sentries that genesis' validators advertise, too.
func TestJoinersAskThroughSentries(t *testing.T) {
	l := newLoopback(t)
	id := func(n int) string { return keyOf(n, 't').Public().String() }
	l.genesis.Validators[1].Endpoint = id(2) + "@127.0.0.1:9" // another's key
	l.genesis.Validators[3].Endpoint = id(4) + "@127.0.0.1:4"
	d := &Deps{Genesis: l.genesis, Endpoint: l.outsider('t', 0)}
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{Sentries: []string{id(4) + "@127.0.0.1:4"}}, []string{id(4) + "@127.0.0.1:4"}},
		{Config{Peers: []string{id(5) + "@127.0.0.1:5"}}, []string{id(5) + "@127.0.0.1:5", id(1) + "@", id(2) + "@127.0.0.1:1", id(3) + "@", id(4) + "@127.0.0.1:4"}},
	} {
		peers, err := d.joinPeers(c.config)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range peers {
			got = append(got, a.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("asks %v, want %v", got, c.want)
		}
	}
}
