package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/net/netutil"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// The bounds of the HTTP API.
const (
	maxHeaderBytes  = 16 << 10
	maxConnections  = 1_024
	maxRequests     = 256 // at a time, transfers and streams not counted
	maxStreams      = 128 // logs and waiting readers of the outbox, at a time
	maxTransfers    = 32  // of blobs, at a time
	headerTimeout   = 5 * time.Second
	bodyTimeout     = 30 * time.Second
	answerTimeout   = 60 * time.Second
	streamTimeout   = 20 * time.Second // of one step of a stream
	keepTimeout     = 60 * time.Second
	heartbeatPeriod = 15 * time.Second
)

const (
	healthPath = "/healthz"
	jobsPath   = "/v1/jobs"
	quotesPath = "/v1/quotes"
	blobsPath  = "/v1/blobs/"
	outboxPath = "/v1/outbox"
	logsSuffix = "/logs"
)

// openHTTP binds the HTTP address and makes both servers: for the world, and
// for the other servers of the cluster.
func (s *Server) openHTTP() error {
	mux, err := s.newMux()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("server: HTTP: %w", err)
	}
	s.listener = netutil.LimitListener(listener, maxConnections)
	if s.cfg.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("server: TLS certificate: %w", err)
		}
		s.listener = tls.NewListener(s.listener, &tls.Config{
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		})
	}
	routed := s.recovered(s.routed(mux))
	s.peerHTTP = s.newPeerServer(routed)
	s.http = &http.Server{
		Handler: s.limited(routed), MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: headerTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: keepTimeout, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// stopHTTP ends streams, lets requests finish for a while, and cuts the rest.
func (s *Server) stopHTTP() {
	close(s.closing)
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	for _, server := range []*http.Server{s.http, s.peerHTTP} {
		err := server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		if err != nil {
			s.log.Info("ending an HTTP server", "error", err)
		}
	}
}

func (s *Server) newMux() (*http.ServeMux, error) {
	mux := http.NewServeMux()
	hapi := newHumaAPI(humago.NewAdapter(mux, ""))
	s.register(hapi)
	s.registerJobs(hapi)
	s.registerLogs(hapi)
	s.registerOutbox(hapi)
	s.registerBlobs(hapi, mux)
	document, err := json.Marshal(hapi.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("server: the OpenAPI document: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		s.write(r.Context(), w, document)
	})
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.writeProblem(r.Context(), w, newProblem(http.StatusNotFound, api.ProblemNotFound, "no such path and method: see /openapi.json"))
	})
	return mux, nil
}

// routed sends on to the leader what only the leader does or knows.
func (s *Server) routed(next http.Handler) http.Handler {
	atLeader := s.leading(next.ServeHTTP)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.isForLeader(r) {
			atLeader(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isForLeader reports whether a request changes something, asks agents, asks
// for the leader's word, or is about a job of which this server has not heard.
func (s *Server) isForLeader(r *http.Request) bool {
	rest, aboutJob := strings.CutPrefix(r.URL.Path, jobsPath+"/")
	switch {
	case r.Method == http.MethodPost && (r.URL.Path == jobsPath || r.URL.Path == quotesPath):
		return true
	case aboutJob && r.Method == http.MethodDelete, r.URL.Query().Get("leader") == "true":
		return true
	case !aboutJob || r.Method != http.MethodGet:
		return false
	}
	id, err := crypto.ParseDigest(strings.TrimSuffix(rest, logsSuffix))
	if err != nil {
		return false // refused by its handler
	}
	known := false
	s.replica.view(func(state *scheduler.State) { _, known = state.Job(id) })
	return !known
}

// limited bounds what is served at a time and how large bodies are. Health is
// always answered.
func (s *Server) limited(next http.Handler) http.Handler {
	requests, streams := make(chan struct{}, maxRequests), make(chan struct{}, maxStreams)
	transfers := make(chan struct{}, maxTransfers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slots, what := requests, "requests"
		switch {
		case r.URL.Path == healthPath:
			next.ServeHTTP(w, r)
			return
		case strings.HasPrefix(r.URL.Path, blobsPath):
			slots, what = transfers, "transfers of blobs"
		case strings.HasSuffix(r.URL.Path, logsSuffix), r.URL.Path == outboxPath:
			slots, what = streams, "streams"
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			s.busy(w, r, fmt.Sprintf("%s served now: limit %d", what, cap(slots)))
			return
		}
		if slots != transfers && r.ContentLength > api.MaxJobRequestBytes {
			s.tooLarge(w, r, r.ContentLength, api.MaxJobRequestBytes)
			return
		}
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		// A copy: the server looks at its own body to decide whether to read on.
		bounded := r.WithContext(r.Context())
		if slots != transfers {
			bounded.Body = http.MaxBytesReader(w, r.Body, api.MaxJobRequestBytes+1) // its reader counts up to there
		}
		bounded.Body = &pacedBody{ReadCloser: bounded.Body, control: http.NewResponseController(w)}
		next.ServeHTTP(w, bounded)
	})
}

func (s *Server) tooLarge(w http.ResponseWriter, r *http.Request, got, limit int64) {
	p := newProblem(http.StatusRequestEntityTooLarge, api.ProblemLimit, "the body is too large")
	p.Errors = []api.ProblemDetail{{Location: "body", Message: fmt.Sprintf("has %d bytes or more, limit %d", got, limit)}}
	w.Header().Set("Connection", "close") // rather than read the rest
	s.writeProblem(r.Context(), w, p)
}

// answered notes whether an answer has begun. Through Unwrap it leaves flushing
// and deadlines to the server's own writer.
type answered struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answered) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answered) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// recovered turns a panic into a 500 and a log line. If the answer has begun,
// the connection is cut, so that the client does not take a part for the whole.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		noting := &answered{ResponseWriter: w}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); r.Context().Err() != nil || ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler) // the client has gone
			}
			s.log.ErrorContext(r.Context(), "request panicked", "method", r.Method, "path", r.URL.Path, "panic", cause, "stack", string(debug.Stack()))
			if noting.begun {
				panic(http.ErrAbortHandler)
			}
			s.writeProblem(r.Context(), w, newProblem(http.StatusInternalServerError, api.ProblemInternal, "internal error"))
		}()
		next.ServeHTTP(noting, r)
	})
}

// write sends a whole answer. A client that has gone is no failure of ours.
func (s *Server) write(ctx context.Context, w http.ResponseWriter, body []byte) {
	if _, err := w.Write(body); err != nil {
		s.log.DebugContext(ctx, "client went away", "error", err)
	}
}

func (s *Server) writeJSON(ctx context.Context, w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("server: an answer does not encode: %v", err))
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", api.ContentJSON)
	}
	w.WriteHeader(status)
	s.write(ctx, w, body)
}

func (s *Server) writeProblem(ctx context.Context, w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", api.ContentProblem)
	s.writeJSON(ctx, w, p.Status, p)
}

func newProblem(status int, kind, detail string) *api.Problem {
	return &api.Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail}
}

// invalid refuses one part of the request.
func invalid(location string, err error) *api.Problem {
	p := newProblem(http.StatusUnprocessableEntity, api.ProblemInvalid, "validation failed")
	p.Errors = []api.ProblemDetail{{Location: location, Message: err.Error()}}
	return p
}

// invalidBody refuses the part of the body that a decoder of package api names.
func invalidBody(err error) *api.Problem {
	field := &api.FieldError{Message: err.Error()}
	if found, ok := errors.AsType[*api.FieldError](err); ok {
		field = found
	}
	return invalid(field.Within("body").Location, errors.New(field.Message))
}

func busyProblem(detail string) error {
	return huma.ErrorWithHeaders(newProblem(http.StatusServiceUnavailable, api.ProblemBusy, detail), http.Header{"Retry-After": {"1"}})
}

func notFound(detail string) error {
	return newProblem(http.StatusNotFound, api.ProblemNotFound, detail)
}

// answer turns an error into a problem.
func (s *Server) answer(ctx context.Context, doing string, err error) error {
	if rejected, ok := errors.AsType[*scheduler.Rejection](err); ok {
		return rejectionProblem(rejected)
	}
	if wrong, ok := errors.AsType[*inputError](err); ok {
		return invalid("body.spec.work", wrong)
	}
	switch {
	case errors.Is(err, errNoLeader):
		return busyProblem("the cluster has no leader now")
	case ctx.Err() != nil:
		return busyProblem("the request ended before its answer")
	}
	s.log.WarnContext(ctx, "request failed", "doing", doing, "error", err)
	return busyProblem("failed while " + doing + "; it may succeed later")
}

// rejectionProblem says which part of an order or job the scheduler refused.
func rejectionProblem(r *scheduler.Rejection) error {
	places := map[string]string{
		"spec": "body.spec", "chain": "body.order.chain_id", "cluster": "body.order.cluster", "deadline": "body.order.deadline_ms",
		"kernel": "body.order.policy", "cost": "body.order.max_cost_nhyper", "escrow": "body.order.max_cost_nhyper", "unknown": "path.id", "late": "path.id", "size": "body",
	}
	switch r.Rule {
	case "full", "quota", "stale":
		return busyProblem(r.Text)
	case "unknown":
		return notFound(r.Text)
	case "late":
		return newProblem(http.StatusConflict, api.ProblemInvalid, r.Text)
	}
	return invalid(places[r.Rule], r)
}
