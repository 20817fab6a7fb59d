package transport_test

import (
	"bytes"
	"context"
	stdcrypto "crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

func TestParseNodeAddr(t *testing.T) {
	id := key(1).Public().String()
	for _, good := range []string{id + "@127.0.0.1:7000", id + "@node.example:1", id + "@[::1]:65535"} {
		a, err := transport.ParseNodeAddr(good)
		if err != nil {
			t.Errorf("%s: %v", good, err)
		}
		if a.String() != good || a.ID != key(1).Public() {
			t.Errorf("%s reads as %s", good, a)
		}
		text, err := a.MarshalText()
		var again transport.NodeAddr
		if err != nil || again.UnmarshalText(text) != nil || again != a {
			t.Errorf("%s does not survive its text form", good)
		}
	}
	bad := map[string]string{
		"127.0.0.1:7000":                            "want NODEID@HOST:PORT",
		id[1:] + "@127.0.0.1:7000":                  "64 characters|want 64",
		strings.ToUpper(id) + "@127.0.0.1:7000":     "upper-case",
		strings.Repeat("0", 64) + "@127.0.0.1:7000": "large order",
		id + "@127.0.0.1":                           "missing port",
		id + "@:7000":                               "host of 0 bytes",
		id + "@127.0.0.1:0":                         "want 1 to 65535",
		id + "@127.0.0.1:65536":                     "want 1 to 65535",
		id + "@127.0.0.1:07000":                     "want 1 to 65535",
		id + "@" + strings.Repeat("a", 300) + ":1":  "host of 300 bytes",
	}
	for in, want := range bad {
		_, err := transport.ParseNodeAddr(in)
		if err == nil {
			t.Errorf("%s is accepted", in)
			continue
		}
		if !containsAny(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func containsAny(s, alternatives string) bool {
	for want := range strings.SplitSeq(alternatives, "|") {
		if strings.Contains(s, want) {
			return true
		}
	}
	return false
}

func TestBothEndsKnowEachOther(t *testing.T) {
	dialed, accepted := pair(t)
	if dialed.Remote() != key(1).Public() || accepted.Remote() != key(2).Public() {
		t.Fatal("an end has the wrong identity")
	}
	if !dialed.Dialed() || accepted.Dialed() || accepted.Protocol() != protocol {
		t.Fatal("an end has the wrong role")
	}
}

func TestAnotherIdentityIsRefused(t *testing.T) {
	server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
	serve(t, server)
	addr := server.NodeAddr()
	addr.ID = key(3).Public()
	_, err := client.Dial(deadline(t), addr, protocol)
	wrong, ok := errors.AsType[*transport.IdentityError](err)
	if !ok || wrong.Got != key(1).Public() || wrong.Want != key(3).Public() {
		t.Fatalf("error %v", err)
	}
}

func TestAnotherProtocolOrNetworkIsRefused(t *testing.T) {
	server := listening(t, 1)
	client := open(t, transport.Config{Key: key(2)})
	stranger := open(t, transport.Config{Key: key(2), Network: crypto.Digest{9}})
	if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); err == nil {
		t.Fatal("an endpoint without protocols was dialed")
	}
	serve(t, server)
	if _, err := client.Dial(deadline(t), server.NodeAddr(), "hypermesh/test/2"); !errors.Is(err, transport.ErrProtocol) {
		t.Fatalf("another protocol: %v", err)
	}
	if _, err := stranger.Dial(deadline(t), server.NodeAddr(), protocol); !errors.Is(err, transport.ErrProtocol) {
		t.Fatalf("another network: %v", err)
	}
	if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); err != nil {
		t.Fatalf("the right protocol: %v", err)
	}
}

func wantClose(t *testing.T, err error, code transport.CloseCode) {
	t.Helper()
	closed, ok := errors.AsType[*transport.CloseError](err)
	if !ok || closed.Code != code {
		t.Fatalf("error %v, want close code %d", err, code)
	}
}

func TestWhoIsNotAdmittedIsTold(t *testing.T) {
	server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
	l, err := server.Listen(transport.Protocol{Name: protocol, Admit: func(id crypto.PublicKey) bool { return id == key(3).Public() }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Dial(deadline(t), server.NodeAddr(), protocol)
	wantClose(t, err, transport.CloseNotAdmitted)
	admitted := open(t, transport.Config{Key: key(3)})
	if _, err := admitted.Dial(deadline(t), server.NodeAddr(), protocol); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(deadline(t)); err != nil || c.Remote() != key(3).Public() {
		t.Fatalf("accepted the wrong one: %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	server := open(t, transport.Config{Key: key(1), ListenAddr: "127.0.0.1:0", MaxConns: 2})
	client := open(t, transport.Config{Key: key(2)})
	serve(t, server)
	var conns []*transport.Conn
	for range 2 {
		c, err := client.Dial(deadline(t), server.NodeAddr(), protocol)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	_, err := client.Dial(deadline(t), server.NodeAddr(), protocol)
	wantClose(t, err, transport.CloseBusy)
	conns[0].Close(transport.CloseDone, "make room")
	eventually(t, "room for another connection", func() bool { return server.Conns() == 1 })
	if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); err != nil {
		t.Fatal(err)
	}
}

func TestBacklogIsBounded(t *testing.T) {
	server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
	if _, err := server.Listen(transport.Protocol{Name: protocol, Admit: everybody, Backlog: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(deadline(t), server.NodeAddr(), protocol)
	if err == nil { // the welcome was faster than the refusal
		<-c.Done()
		err = c.Err()
	}
	wantClose(t, err, transport.CloseBusy)
}

// selfSigned makes a certificate that is as ours but for what the caller did to
// the template.
func selfSigned(t *testing.T, public, private any, serial *big.Int) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: serial, NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestForeignCertificatesAreRefused(t *testing.T) {
	server := listening(t, 1)
	serve(t, server)
	good, other := key(2).Standard(), key(3).Standard()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	ours := selfSigned(t, good.Public(), good, one)
	broken := bytes.Clone(ours)
	broken[len(broken)-1] ^= 1
	cases := map[string]tls.Certificate{
		"none":              {},
		"two":               {Certificate: [][]byte{ours, ours}, PrivateKey: good},
		"ECDSA":             {Certificate: [][]byte{selfSigned(t, ec.Public(), ec, one)}, PrivateKey: ec},
		"signed by another": {Certificate: [][]byte{selfSigned(t, good.Public(), other, one)}, PrivateKey: good},
		"broken signature":  {Certificate: [][]byte{broken}, PrivateKey: good},
		"long serial":       {Certificate: [][]byte{selfSigned(t, good.Public(), good, new(big.Int).Lsh(one, 80))}, PrivateKey: good},
	}
	for name, cert := range cases {
		if err := rawDial(t, server, cert, nil); err == nil {
			t.Errorf("certificate %s is accepted", name)
		}
	}
	var state tls.ConnectionState
	if err := rawDial(t, server, tls.Certificate{Certificate: [][]byte{ours}, PrivateKey: good}, &state); err != nil {
		t.Fatalf("a proper certificate: %v", err)
	}
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Fatalf("TLS %x with %v", state.Version, state.CurveID)
	}
}

// rawDial dials with quic-go alone and waits for the welcome.
func rawDial(t *testing.T, server *transport.Endpoint, cert tls.Certificate, state *tls.ConnectionState) error {
	t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol + "@" + network.String()}}
	if len(cert.Certificate) > 0 {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	q, err := quic.DialAddr(deadline(t), server.Addr().String(), conf, nil)
	if err != nil {
		return err
	}
	defer func() { _ = q.CloseWithError(0, "") }() // always nil
	if state != nil {
		*state = q.ConnectionState().TLS
	}
	s, err := q.AcceptUniStream(deadline(t))
	if err != nil {
		return err
	}
	_, err = io.ReadAll(s)
	return err
}

func TestWeakKeyIsRefused(t *testing.T) {
	// A certificate for the point of order 1, whose signatures anybody makes.
	weak := make(ed25519.PublicKey, ed25519.PublicKeySize)
	weak[0] = 1
	if err := crypto.PublicKey(weak).Check(); err == nil {
		t.Fatal("the key is not weak")
	}
	server := listening(t, 1)
	serve(t, server)
	der := selfSigned(t, weak, weakSigner{weak}, big.NewInt(1))
	if err := rawDial(t, server, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: weakSigner{weak}}, nil); err == nil {
		t.Fatal("a weak key is admitted")
	}
}

func TestStreamsAreNetConns(t *testing.T) {
	dialed, accepted := pair(t)
	ctx := deadline(t)
	a, err := dialed.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	b, err := accepted.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(b, buf); err != nil || string(buf) != "ping" {
		t.Fatalf("read %q, %v", buf, err)
	}
	if err := b.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read past the deadline: %v", err)
	}
	if err := b.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(buf); !errors.Is(err, io.EOF) {
		t.Fatalf("read after CloseWrite: %v", err)
	}
	if _, err := b.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(a); err != nil || string(got) != "pong" {
		t.Fatalf("read %q, %v", got, err)
	}
	var _ net.Conn = a
}

func TestCloseUnblocksAWriter(t *testing.T) {
	dialed, _ := pair(t)
	s, err := dialed.OpenStream(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		_, err := s.Write(make([]byte, 64<<20)) // nobody reads
		failed <- err
	}()
	<-started
	eventually(t, "a first megabyte sent", func() bool { return dialed.Stats().BytesSent > 256<<10 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Fatal("the write succeeded")
	}
}

func TestCloseReachesThePeerWithItsReason(t *testing.T) {
	dialed, accepted := pair(t)
	accepted.Close(transport.CloseOfProtocol+7, strings.Repeat("x", 1000))
	<-dialed.Done()
	closed, ok := errors.AsType[*transport.CloseError](dialed.Err())
	if !ok || closed.Code != transport.CloseOfProtocol+7 || !closed.Remote || len(closed.Reason) != 256 {
		t.Fatalf("error %v", dialed.Err())
	}
	if _, err := dialed.OpenStream(deadline(t)); err == nil {
		t.Fatal("a stream of a closed connection")
	}
}

func TestCloseEndsEveryGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
	l := serve(t, server)
	waiting := make(chan error, 1)
	for range 5 {
		if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		_, err := l.Accept(context.Background())
		waiting <- err
	}()
	if err := errors.Join(client.Rebind(deadline(t)), server.Close(), client.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, transport.ErrClosed) {
		t.Fatalf("a waiting Accept: %v", err)
	}
	eventually(t, "every goroutine ends", func() bool { return runtime.NumGoroutine() <= before })
	if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); !errors.Is(err, transport.ErrClosed) {
		t.Fatalf("dialing from a closed endpoint: %v", err)
	}
}

// TestMigration has a client change its socket, and a NAT its outer address,
// in the middle of a stream.
func TestMigration(t *testing.T) {
	const size = 24 << 20
	for name, move := range map[string]func(*transport.Endpoint, *relay) error{
		"the client's socket": func(e *transport.Endpoint, _ *relay) error { return e.Rebind(deadline(t)) },
		"the NAT's address":   func(_ *transport.Endpoint, r *relay) error { r.rebind(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
			l := serve(t, server)
			nat := newRelay(t, server.Addr())
			ctx := deadline(t)
			addr := transport.NodeAddr{ID: server.ID(), Addr: nat.inner.LocalAddr().String()}
			dialed, err := client.Dial(ctx, addr, protocol)
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := l.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i >> 8 * (i & 3))
			}
			sent := make(chan error, 1)
			go func() { sent <- send(ctx, dialed, data) }()
			s, err := accepted.AcceptStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			if _, err := io.ReadFull(s, got[:size/4]); err != nil {
				t.Fatal(err)
			}
			if err := move(client, nat); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, got[size/4:]); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Fatal("the stream's bytes changed")
			}
			if err := send(ctx, accepted, []byte("back")); err != nil {
				t.Fatal(err)
			}
			if name == "the client's socket" {
				atLeast(t, nat.packets(), 2, size/4/1500/2)
			}
		})
	}
}

func send(ctx context.Context, c *transport.Conn, data []byte) error {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Write(data); err != nil {
		return err
	}
	return s.CloseWrite()
}

// atLeast checks that packets came from so many addresses, each a good part.
func atLeast(t *testing.T, callers map[netip.AddrPort]int, addresses, packets int) {
	t.Helper()
	n := 0
	for _, count := range callers {
		if count >= packets/16 {
			n++
		}
	}
	if n < addresses {
		t.Fatalf("packets by address: %v", callers)
	}
}

func TestRebindIsBounded(t *testing.T) {
	server, client := listening(t, 1), open(t, transport.Config{Key: key(2)})
	serve(t, server)
	if _, err := client.Dial(deadline(t), server.NodeAddr(), protocol); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; err == nil && n < 20; n++ {
		err = client.Rebind(deadline(t))
	}
	if !errors.Is(err, transport.ErrTooManyRebinds) || n != 8 {
		t.Fatalf("after %d rebinds: %v", n, err)
	}
	idle := open(t, transport.Config{Key: key(3)})
	for range 20 {
		if err := idle.Rebind(deadline(t)); err != nil {
			t.Fatalf("without connections: %v", err)
		}
	}
}

// weakSigner signs with R = A = the identity and S = 0, which verifies for
// every message where the check is [8][S]B = [8]R + [8][k]A.
type weakSigner struct{ public ed25519.PublicKey }

func (s weakSigner) Public() stdcrypto.PublicKey { return s.public }

func (s weakSigner) Sign(io.Reader, []byte, stdcrypto.SignerOpts) ([]byte, error) {
	sig := make([]byte, ed25519.SignatureSize)
	sig[0] = 1
	return sig, nil
}
