package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/rpc"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run serves until the returned function is called, which checks that the
// server ended well.
func run(t testing.TB, server *rpc.Server) (ended func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	ended = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(ended)
	return ended
}

func stop(t testing.TB, server *rpc.Server) {
	t.Helper()
	run(t, server)()
}

func mustRequest(t testing.TB, ctx context.Context, url string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// stalledBody is a body that tells when it is read, and gives nothing until it
// is released, and then one byte that is no submission.
type stalledBody struct {
	reading chan struct{}
	release chan struct{}
	begin   func()
	given   bool
}

func newStalledBody() *stalledBody {
	b := &stalledBody{reading: make(chan struct{}), release: make(chan struct{})}
	b.begin = sync.OnceFunc(func() { close(b.reading) })
	return b
}

func (b *stalledBody) Read(p []byte) (int, error) {
	b.begin()
	<-b.release
	if b.given {
		return 0, io.EOF
	}
	b.given = true
	p[0] = 0x61
	return 1, nil
}

// selfSigned writes a certificate for 127.0.0.1 and its key.
func selfSigned(t testing.TB) (certFile, keyFile string, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret), &tls.Config{RootCAs: roots}
}
