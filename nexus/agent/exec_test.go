package agent_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// tunnels lets the agent dial the server for tunnels.
func (s *server) tunnels() *transport.Listener {
	s.t.Helper()
	listener, err := s.endpoint.Listen(transport.Protocol{Name: job.TunnelProtocol, Admit: func(key crypto.PublicKey) bool { return key == nodeKey.Public() }})
	if err != nil {
		s.t.Fatal(err)
	}
	return listener
}

// tunnel has the agent open one.
func (p *peer) tunnel(l *transport.Listener, order crypto.Digest) *transport.Stream {
	t := p.server.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id := crypto.Digest{9, byte(time.Now().UnixNano())}
	p.send(job.Tunnel{Order: order, ID: id})
	conn, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := transport.ReadMessage(stream, crypto.DigestSize)
	if err != nil || crypto.Digest(raw) != id {
		t.Fatalf("the tunnel is %x, %v", raw, err)
	}
	t.Cleanup(func() { conn.Close(transport.CloseDone, "") })
	return stream
}

// secure speaks TLS in a tunnel, as a consumer does.
func secure(t *testing.T, stream *transport.Stream) (conn *tls.Conn, binding [32]byte) {
	t.Helper()
	conn = tls.Client(stream, &tls.Config{NextProtos: []string{job.ExecProtocol}, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	material, err := state.ExportKeyingMaterial(job.ExecBinding, nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	return conn, [32]byte(material)
}

// answer returns what the node says to a first frame, and ends the tunnel.
func answer(t *testing.T, conn *tls.Conn, kind job.ExecKind, data []byte) string {
	t.Helper()
	defer conn.NetConn().(*transport.Stream).Conn().Close(transport.CloseDone, "the test has its answer")
	if err := job.WriteExecFrame(conn, kind, data); err != nil {
		t.Fatal(err)
	}
	var buf []byte
	got, text, err := job.ReadExecFrame(conn, &buf)
	if err != nil {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%d: %s", got, text)
}

// A node takes commands of a job's consumer alone, of this node and for now, in
// the connection that they were signed for, whatever its server lets through.
func TestStrangersCommandsAreRefused(t *testing.T) {
	s := newServer(t, genesis())
	listener := s.tunnels()
	start(t, home(t, genesis(), s))
	p := s.session()
	running := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel, spec.Limits.WallMs = job.MaxFuel, 600_000 })
	id := running.Order.ID()
	request := func() job.ExecRequest {
		return job.ExecRequest{
			ChainID: "hypermesh-test", Order: id, Node: nodeKey.Public(), Command: []string{"/bin/sh"},
			Expires: chain.TimeMs(time.Now().Add(20 * time.Second).UnixMilli()),
		}
	}
	var seen []byte // a request that was good in another connection
	for _, c := range []struct {
		want  string
		by    crypto.PrivateKey
		spoil func(r *job.ExecRequest, binding *[32]byte)
	}{
		{"7: only containers have processes", consumerKey, nil}, // the signature is good
		{"is not the consumer's, of this command", clusterKey, nil},
		{"is not the consumer's, of this command", nodeKey, nil},
		{"is not the consumer's, of this command", consumerKey, func(_ *job.ExecRequest, b *[32]byte) { b[0]++ }},
		{"the request is for node", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.Node = clusterKey.Public() }},
		{"the request is of chain", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.ChainID = "another" }},
		{"does not run here", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.Order = crypto.Digest{1} }},
		{"the request expired", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.Expires = 1 }},
		{"limit 60000", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.Expires += 60_000 }},
		{"the command is empty", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.Command = nil }},
		{"the command has 16385 bytes", consumerKey, func(r *job.ExecRequest, _ *[32]byte) { r.Command[0] = strings.Repeat("x", 16_385) }},
	} {
		conn, binding := secure(t, p.tunnel(listener, id))
		r := request()
		if c.spoil != nil {
			c.spoil(&r, &binding)
		}
		signed := job.SignedExec{Request: r, Signature: c.by.Sign(crypto.DomainExec, r.Payload(binding))}
		if seen == nil {
			seen = signed.Encode()
		}
		if got := answer(t, conn, job.ExecBegin, signed.Encode()); !strings.Contains(got, c.want) || !strings.HasPrefix(got, "7: ") {
			t.Errorf("got %q, want a refusal with %q", got, c.want)
		}
	}
	conn, _ := secure(t, p.tunnel(listener, id))
	if got := answer(t, conn, job.ExecBegin, seen); !strings.Contains(got, "is not the consumer's, of this command in this connection") {
		t.Errorf("a request that is sent again: %q", got)
	}
	conn, _ = secure(t, p.tunnel(listener, id))
	if got := answer(t, conn, job.ExecStdin, []byte("x")); got != "EOF" && !strings.Contains(got, "error") && !strings.Contains(got, "reset") {
		t.Errorf("input before a request: %q", got)
	}
	// Words that are no TLS, and nothing at all, end the tunnel.
	stream := p.tunnel(listener, id)
	if _, err := io.WriteString(stream, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stream); err == nil {
		<-stream.Conn().Done()
	}
	p.send(job.Cancel{Order: id, Reason: "the test has ended"})
	s.cancels.Store(true)
}

// So many tunnels of a job are open at a time, and no more.
func TestTunnelsAreBounded(t *testing.T) {
	s := newServer(t, genesis())
	listener := s.tunnels()
	start(t, home(t, genesis(), s))
	p := s.session()
	var last *transport.Stream
	for range 8 {
		last = p.tunnel(listener, crypto.Digest{3})
	}
	p.send(job.Tunnel{Order: crypto.Digest{3}, ID: crypto.Digest{1}})
	p.tunnel(listener, crypto.Digest{4}) // the one before was asked for earlier, and is not here
	last.Conn().Close(transport.CloseDone, "")
	deadline := time.After(patience)
	for opened := false; !opened; {
		p.send(job.Tunnel{Order: crypto.Digest{3}, ID: crypto.Digest{2}})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		conn, err := listener.Accept(ctx)
		cancel()
		if opened = err == nil; opened {
			conn.Close(transport.CloseDone, "")
		}
		select {
		case <-deadline:
			t.Fatal("a place that was given back is not used")
		default:
		}
	}
}

// What running work wrote while a server was away it is told when it comes back,
// with the same offsets.
func TestLogsAreToldAgain(t *testing.T) {
	s := newServer(t, genesis())
	start(t, home(t, genesis(), s))
	p := s.session()
	talker := program([]importFn{fdWrite}, "heard\n", writeTo(constant(1), 0, 6), []byte{0x03, 0x40, 0x0c, 0, 0x0b}) // and then loops
	running := p.assign(talker, 1, func(spec *job.Spec) { spec.Limits.Fuel, spec.Limits.WallMs = job.MaxFuel, 600_000 })
	first := await[job.Log](p, nil)
	p.conn.Close(transport.CloseShutdown, "the server restarts")
	again := await[job.Log](s.session(), nil)
	if first.Begun == 0 || again.Begun != first.Begun || again.Offset != first.Offset || string(again.Data) != "heard\n" || again.Order != running.Order.ID() {
		t.Errorf("first %+v, again %+v", first, again)
	}
	s.cancels.Store(true)
}
