package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/net/netutil"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxHeaderBytes bounds a request's line and headers.
const maxHeaderBytes = 16 << 10

// Server serves the API on a listener of its own.
type Server struct {
	service  *service
	http     *http.Server
	listener net.Listener
}

// Listen checks the configuration and binds the address; Run serves. Metrics
// may be nil.
func Listen(config Config, node Node, metrics http.Handler, log *slog.Logger) (*Server, error) {
	if err := config.checkListen(); err != nil {
		return nil, err
	}
	s, handler, err := newService(config, node, metrics, log)
	if err != nil {
		return nil, err
	}
	return s.bind(handler)
}

// ListenWaiting is Listen for as long as there is no node to ask: it answers
// every request, health included, with 503 and why, which must not block.
func ListenWaiting(config Config, why func() string, log *slog.Logger) (*Server, error) {
	if err := config.checkListen(); err != nil {
		return nil, err
	}
	s := &service{config: config.withDefaults(), log: log, closing: make(chan struct{})}
	if err := s.config.check(); err != nil {
		return nil, err
	}
	return s.bind(s.recovered(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "1")
		s.writeProblem(r.Context(), w, newProblem(http.StatusServiceUnavailable, api.ProblemBusy, why()))
	})))
}

// bind makes the server.
func (s *service) bind(handler http.Handler) (*Server, error) {
	tlsConfig, err := s.config.tlsConfig()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	listener = netutil.LimitListener(listener, s.config.MaxConnections)
	if tlsConfig != nil {
		tlsConfig.NextProtos = []string{"h2", "http/1.1"}
		listener = tls.NewListener(listener, tlsConfig)
	}
	return &Server{service: s, listener: listener, http: &http.Server{
		Handler:           handler,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: s.config.ReadHeaderTimeout,
		WriteTimeout:      s.config.WriteTimeout + s.config.ReadTimeout, // it begins with the request
		IdleTimeout:       s.config.IdleTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}}, nil
}

// Addr returns the bound address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then ends the event streams, lets other requests
// finish for ShutdownTimeout, and returns nil. It is called once.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("rpc: serving: %w", err)
	case <-ctx.Done():
	}
	close(s.service.closing)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.service.config.ShutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close() // what did not finish in time is cut
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
