package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"
)

// Address is where a server listens, and how it is protected.
type Address struct {
	Listen   string // host:port; port 0 picks one
	TLSCert  string // PEM file; with TLSKey
	TLSKey   string // PEM file; with TLSCert
	Insecure bool   // plain HTTP on an address that is not loopback
}

// Check refuses plain HTTP on an address that others can reach, and half a pair
// of certificate and key. The setting is the name of Listen in messages.
func (a Address) Check(setting string) error {
	host, _, err := net.SplitHostPort(a.Listen)
	switch {
	case err != nil:
		return fmt.Errorf("%s %.80q: %w", setting, a.Listen, err)
	case (a.TLSCert == "") != (a.TLSKey == ""):
		return errors.New("tls_cert and tls_key go together: one of them is empty")
	case a.TLSCert == "" && !a.Insecure && !isLoopback(host):
		return fmt.Errorf("%s %.80q is not loopback: set tls_cert and tls_key, or insecure_http if something in front protects it", setting, a.Listen)
	}
	return nil
}

// CheckLoopback refuses an address that others can reach: what listens there has
// no protection of its own.
func CheckLoopback(setting, listen string) error {
	host, _, err := net.SplitHostPort(listen)
	switch {
	case err != nil:
		return fmt.Errorf("%s %.80q: %w", setting, listen, err)
	case !isLoopback(host):
		return fmt.Errorf("%s is %.80q, want a loopback address", setting, listen)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// Open checks the address and binds it, for at most connections at a time. With
// a certificate what comes in is TLS 1.3.
func (a Address) Open(setting string, connections int) (net.Listener, error) {
	if err := a.Check(setting); err != nil {
		return nil, err
	}
	var secure *tls.Config
	if a.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(a.TLSCert, a.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("TLS certificate: %w", err)
		}
		secure = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}
	}
	listener, err := net.Listen("tcp", a.Listen)
	if err != nil {
		return nil, err
	}
	listener = netutil.LimitListener(listener, connections)
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	return listener, nil
}

// Serve serves until ctx ends, calls ending (nil: nothing) so that streams end,
// lets other requests finish for grace, cuts the rest, and returns nil. An error
// is the listener's.
func Serve(ctx context.Context, server *http.Server, listener net.Listener, grace time.Duration, ending func()) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving HTTP: %w", errors.Join(err, server.Close()))
	case <-ctx.Done():
	}
	if ending != nil {
		ending()
	}
	err := Shutdown(context.WithoutCancel(ctx), server, grace)
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Shutdown lets requests under way finish for grace and cuts the rest.
func Shutdown(ctx context.Context, server *http.Server, grace time.Duration) error {
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := server.Shutdown(patient)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}
	return err
}
