package netem

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// bareProtocol is the ALPN name of Bare's connections.
const bareProtocol = "bare"

// Bare is quic-go with its own defaults between two sockets of the loopback: the
// measure beside which a transfer over our transport is put.
type Bare struct {
	listener *quic.Listener
	sockets  [2]*quic.Transport
	udp      [2]*net.UDPConn
	from, to *quic.Conn
}

// OpenBare connects the two ends.
func OpenBare(ctx context.Context) (b *Bare, err error) {
	b = &Bare{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("netem: bare connection: %w", err), b.Close())
		}
	}()
	for i := range b.udp {
		if b.udp[i], err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return b, err
		}
		b.sockets[i] = &quic.Transport{Conn: b.udp[i]}
	}
	certificate, err := selfSigned()
	if err != nil {
		return b, err
	}
	b.listener, err = b.sockets[0].Listen(&tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{bareProtocol}, MinVersion: tls.VersionTLS13}, nil)
	if err != nil {
		return b, err
	}
	// Who is at the other end does not matter here.
	client := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{bareProtocol}, MinVersion: tls.VersionTLS13} //nolint:gosec // see above
	if b.to, err = b.sockets[1].Dial(ctx, b.udp[0].LocalAddr(), client, nil); err != nil {
		return b, err
	}
	b.from, err = b.listener.Accept(ctx)
	return b, err
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Move sends data on a stream of its own, as often as told, and returns the time
// until the other end has read all of it.
func (b *Bare) Move(ctx context.Context, data []byte, times int) (time.Duration, error) {
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		stream, err := b.from.OpenUniStreamSync(ctx)
		for range times {
			if err == nil {
				_, err = stream.Write(data)
			}
		}
		if err == nil {
			err = stream.Close()
		}
		sent <- err
	}()
	stream, err := b.to.AcceptUniStream(ctx)
	if err != nil {
		return 0, errors.Join(err, <-sent)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{stream}, make([]byte, 256<<10))
	took := time.Since(began)
	if want := int64(len(data)) * int64(times); err == nil && n != want {
		err = fmt.Errorf("netem: %d bytes of %d came", n, want)
	}
	return took, errors.Join(err, <-sent)
}

// Close ends both ends.
func (b *Bare) Close() error {
	var failures []error
	if b.listener != nil {
		failures = append(failures, b.listener.Close())
	}
	for i := range b.sockets {
		if b.sockets[i] != nil {
			failures = append(failures, b.sockets[i].Close())
		}
		if b.udp[i] != nil {
			failures = append(failures, b.udp[i].Close())
		}
	}
	return errors.Join(failures...)
}
