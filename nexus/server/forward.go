package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/web"
)

// Servers ask each other over HTTP, each request on a stream of the transport:
// for copies of blobs, and for whatever only the leader can do.
const (
	peerProtocol    = "hypermesh/nexus-peer/1"
	copyPath        = "/copy/"
	commandsPath    = "/commands"
	indexPath       = "/index"
	appliedPath     = "/applied"
	peerIdle        = 30 * time.Second
	peerHeaderWait  = 10 * time.Second
	leaderWait      = 3 * time.Second // for a leader, while one is elected
	leaderWaitRetry = 20 * time.Millisecond
)

func peerURL(id crypto.PublicKey) string { return "http://" + id.String() }

type peerKey struct{}

// peerOf returns the server that sent a request, or zero if it came from
// outside.
func peerOf(ctx context.Context) crypto.PublicKey {
	id, _ := ctx.Value(peerKey{}).(crypto.PublicKey)
	return id
}

// newPeerTransport returns the way to the other servers' peer handlers.
func newPeerTransport(p *pool) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			id, err := crypto.ParsePublicKey(host)
			if err != nil {
				return nil, err
			}
			return p.openStream(ctx, id)
		},
		DisableCompression: true, IdleConnTimeout: peerIdle, MaxIdleConnsPerHost: 8,
	}
}

// newPeerServer serves the other servers: api answers what they forward, as a
// server that does not forward again.
func (s *Server) newPeerServer(api http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+copyPath+"{digest}", s.copyBlob)
	mux.HandleFunc("POST "+commandsPath, s.takeCommands)
	mux.HandleFunc("GET "+indexPath, s.tellIndex)
	mux.HandleFunc("GET "+appliedPath, s.tellApplied)
	mux.HandleFunc("GET "+asidePath, s.tellAsides)
	mux.HandleFunc("GET "+clusterPath, s.tellCluster)
	mux.HandleFunc("GET "+httpPath, s.tellURL)
	mux.HandleFunc("POST "+holdPath, s.holdBlobs)
	mux.HandleFunc("GET "+pinnedPath, s.tellPinned)
	mux.Handle("/", api)
	return &http.Server{
		Handler: mux, MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: peerHeaderWait, IdleTimeout: 2 * peerIdle,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			stream, ok := c.(*transport.Stream)
			if !ok {
				panic(fmt.Sprintf("server: a peer's request on a %T", c))
			}
			return context.WithValue(ctx, peerKey{}, stream.Conn().Remote())
		},
	}
}

// leading wraps what only the leader does: elsewhere the request is sent on to
// the leader. While there is none it waits a little for one.
func (s *Server) leading(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		leader, changed := s.awaitLeader(r.Context())
		switch {
		case leader == s.self:
			next(w, r)
		case leader.IsZero():
			web.WriteBusy(w, r, s.log, "the cluster has no leader now")
		case !peerOf(r.Context()).IsZero():
			web.WriteBusy(w, r, s.log, "the leader has changed")
		default:
			s.forward(w, r, leader, changed)
		}
	}
}

// awaitLeader returns the leader, this server only once it acts as such, and a
// channel that is closed when another may lead. The leader is zero if none was
// found in time.
func (s *Server) awaitLeader(ctx context.Context) (crypto.PublicKey, <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		changed := s.elections.watch()
		leader := s.consensus.leader()
		if leader == s.self && s.current.Load() != nil || leader != s.self && !leader.IsZero() {
			return leader, changed
		}
		timer := time.NewTimer(leaderWaitRetry) // a reign that begins is no election
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return crypto.PublicKey{}, changed
		}
		timer.Stop()
	}
}

// forward sends a request to the leader. It is broken off if another comes to
// lead, because the first may be gone without a word.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, leader crypto.PublicKey, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if r.URL.Path == serversPath {
		changed = nil // whoever hands the leadership over lives to tell
	}
	go func() { // ends with the request
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	target, err := url.Parse(peerURL(leader))
	if err != nil {
		panic(fmt.Sprintf("server: URL of %s: %v", leader, err))
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(target) },
		Transport:     s.peers,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			s.log.Info("leader not reached", "leader", leader.Short(), "error", err)
			web.WriteBusy(w, r, s.log, "the leader cannot be reached: "+leader.Short())
		},
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
}
