package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/hypermesh/hypermesh/internal/web"
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
	s, handler, err := newService(config, node, metrics, log)
	if err != nil {
		return nil, err
	}
	return s.bind(handler)
}

// ListenWaiting is Listen for as long as there is no node to ask: it answers
// every request, health included, with 503 and why, which must not block.
func ListenWaiting(config Config, why func() string, log *slog.Logger) (*Server, error) {
	s := &service{config: config.withDefaults(), log: log, closing: make(chan struct{})}
	if err := s.config.check(); err != nil {
		return nil, err
	}
	return s.bind(web.Recovered(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.WriteBusy(w, r, log, why())
	})))
}

// bind makes the server.
func (s *service) bind(handler http.Handler) (*Server, error) {
	listener, err := s.config.address().Open("http", s.config.MaxConnections)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
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
	if err := web.Serve(ctx, s.http, s.listener, s.service.config.ShutdownTimeout, func() { close(s.service.closing) }); err != nil {
		return fmt.Errorf("rpc: %w", err)
	}
	return nil
}
