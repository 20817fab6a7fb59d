package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// The bounds of the HTTP API.
const (
	maxHeaderBytes  = 16 << 10
	maxConnections  = 1_024
	maxRequests     = 256 // at a time, transfers and streams not counted
	maxStreams      = 128 // logs, commands and waiting readers of the outbox, at a time
	maxTransfers    = 32  // of blobs, at a time
	maxSubmissions  = 32  // of many orders, at a time
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
	ordersPath = "/v1/orders"
	quotesPath = "/v1/quotes"
	eventsPath = "/v1/events"
	blobsPath  = "/v1/blobs/"
	outboxPath = "/v1/outbox"
	votesPath  = "/v1/votes"
	logsSuffix = "/logs"
)

const description = `
The public API of a server of a HyperMesh Nexus cluster. Every server of a cluster answers the same; what only the leader can do is sent on to it.
Reads show what the server that is asked has heard of: a little less than the leader knows. The header Hypermesh-State-Age-Ms of
every answer to a GET says how old what is shown may be, 0 if the server leads: all that was carried out before is in it. With max_age_ms=N an older
state is refused with 503. consistency=linearizable shows whatever had been answered to anybody before the question was asked, at any server and without asking the
leader for more than an index. leader=true has the leader itself answer, as it knows it, which no other leader has confirmed.
Amounts are nHYPER (10^-9 HYPER) and times milliseconds since the Unix epoch. Integers above 2^53 are decimal strings.
Digests, keys and signatures are lower-case hexadecimal, addresses bech32m, other bytes base64. Errors are RFC 9457 problems.
`

// openHTTP binds the HTTP address and makes both servers: for the world, and
// for the other servers of the cluster.
func (s *Server) openHTTP() error {
	mux, err := s.newMux()
	if err != nil {
		return err
	}
	if s.listener, err = s.cfg.address().Open("http", maxConnections); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	s.addresses.own = urlOf(&s.cfg, s.listener.Addr())
	routed := web.Recovered(s.log, s.routed(mux))
	s.peerHTTP = s.newPeerServer(routed)
	s.http = &http.Server{
		Handler: s.versioned(s.limited(routed)), MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: headerTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: keepTimeout, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// stopHTTP ends streams, lets requests finish for a while, and cuts the rest.
func (s *Server) stopHTTP() {
	close(s.closing)
	for _, server := range []*http.Server{s.http, s.peerHTTP} {
		if err := web.Shutdown(context.Background(), server, shutdownTimeout); err != nil {
			s.log.Info("ending an HTTP server", "error", err)
		}
	}
}

func (s *Server) newMux() (*http.ServeMux, error) {
	mux := http.NewServeMux()
	hapi := web.NewAPI(humago.NewAdapter(mux, ""), "HyperMesh Nexus server", description)
	s.register(hapi)
	s.registerJobs(hapi)
	s.registerOrders(hapi)
	s.registerLogs(hapi)
	s.registerExec(hapi, mux)
	s.registerEvents(hapi)
	s.registerOutbox(hapi)
	s.registerVotes(hapi)
	s.registerPeers(hapi)
	s.registerBatches(hapi)
	s.registerServers(hapi)
	s.registerAddresses(hapi)
	s.registerTop(hapi)
	s.registerSettings(hapi)
	s.registerBlobs(hapi, mux)
	s.registerUploads(hapi, mux)
	mux.Handle("GET /metrics", s.metrics.handler())
	if err := web.Publish(mux, hapi, s.log); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return mux, nil
}

// routed sends on to the leader what only the leader does or knows.
func (s *Server) routed(next http.Handler) http.Handler {
	atLeader := s.leading(next.ServeHTTP)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/") {
			if done := s.readAs(w, r); done {
				return
			}
		}
		if s.isForLeader(r) {
			atLeader(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isForLeader reports whether a request changes something, asks agents, brings
// what is said about a lease elsewhere, asks for the leader's word, waits for the
// outbox, or is about a job of which this server has not heard.
func (s *Server) isForLeader(r *http.Request) bool {
	rest, aboutJob := strings.CutPrefix(r.URL.Path, jobsPath+"/")
	switch {
	case r.Method == http.MethodPost && (r.URL.Path == quotesPath || r.URL.Path == serversPath || r.URL.Path == settingsPath):
		return true
	case r.Method == http.MethodPost && r.URL.Path == peersPath:
		return !bringsHardware(r)
	case isExec(r):
		node, err := crypto.ParsePublicKey(r.URL.Query().Get("node"))
		return err == nil && s.sessions.get(node) == nil // the leader may have it
	case aboutJob && r.Method == http.MethodDelete, r.URL.Query().Get("leader") == "true":
		return true
	case r.URL.Path == outboxPath && r.Method == http.MethodGet:
		// Who waits wants to know at once, and others hear of what was decided last by
		// up to a seventh of a heartbeat later. Without a leader nothing new comes.
		wait := r.URL.Query().Get("wait_ms")
		return wait != "" && wait != "0" && !s.consensus.leader().IsZero()
	case !aboutJob || r.Method != http.MethodGet:
		return false
	}
	if r.URL.Query().Get(consistencyQuery) == linearizable {
		return false // it has waited for all that there is to hear
	}
	id, err := crypto.ParseDigest(strings.TrimSuffix(rest, logsSuffix))
	if err != nil {
		return false // refused by its handler
	}
	known := false
	s.replica.view(func(state *scheduler.State) { _, known = state.Job(id) })
	return !known
}

func isExec(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, jobsPath+"/") && strings.HasSuffix(r.URL.Path, execSuffix)
}

// shares counts what each client has of something.
type shares struct {
	most int // of one client

	mu sync.Mutex
	of map[string]int
}

func newShares(most int) *shares { return &shares{most: most, of: map[string]int{}} }

// take counts one more of a client's until done is called, and is false if it has the most.
func (s *shares) take(client string) (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[client] >= s.most {
		return nil, false
	}
	s.of[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.of[client]--; s.of[client] == 0 {
			delete(s.of, client)
		}
	}, true
}

// limited bounds what is served at a time and how large bodies are. Health is
// always answered.
func (s *Server) limited(next http.Handler) http.Handler {
	requests, streams := make(chan struct{}, maxRequests), make(chan struct{}, maxStreams)
	transfers, submissions := make(chan struct{}, maxTransfers), make(chan struct{}, maxSubmissions)
	// These are slow, and cost a client nothing: one address has half of them.
	shares := map[chan struct{}]*shares{streams: newShares(maxStreams / 2), transfers: newShares(maxTransfers / 2)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slots, what, most := requests, "requests", int64(api.MaxJobRequestBytes)
		switch {
		case r.URL.Path == healthPath:
			next.ServeHTTP(w, r)
			return
		case strings.HasPrefix(r.URL.Path, blobsPath), strings.HasPrefix(r.URL.Path, uploadsPath):
			slots, what = transfers, "transfers of blobs"
		case r.URL.Path == ordersPath:
			slots, what, most = submissions, "submissions of orders", api.MaxOrdersBytes
		case strings.HasSuffix(r.URL.Path, logsSuffix), isExec(r), r.URL.Path == outboxPath, r.URL.Path == eventsPath:
			slots, what = streams, "streams"
		}
		if of := shares[slots]; of != nil {
			done, ok := of.take(uploaderOf(r))
			if !ok {
				web.WriteBusy(w, r, s.log, fmt.Sprintf("%s of this address served now: limit %d", what, of.most))
				return
			}
			defer done()
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			web.WriteBusy(w, r, s.log, fmt.Sprintf("%s served now: limit %d", what, cap(slots)))
			return
		}
		if slots != transfers && r.ContentLength > most {
			s.tooLarge(w, r, r.ContentLength, most)
			return
		}
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		// A copy: the server looks at its own body to decide whether to read on.
		bounded := r.WithContext(r.Context())
		if slots != transfers {
			bounded.Body = http.MaxBytesReader(w, r.Body, most+1) // its reader counts up to there
		}
		bounded.Body = &pacedBody{ReadCloser: bounded.Body, control: http.NewResponseController(w)}
		next.ServeHTTP(w, bounded)
	})
}

func (s *Server) tooLarge(w http.ResponseWriter, r *http.Request, got, limit int64) {
	p := web.NewProblem(http.StatusRequestEntityTooLarge, api.ProblemLimit, "the body is too large")
	p.Errors = []api.ProblemDetail{{Location: "body", Message: fmt.Sprintf("has %d bytes or more, limit %d", got, limit)}}
	w.Header().Set("Connection", "close") // rather than read the rest
	web.WriteProblem(w, r, s.log, p)
}

// answer turns an error into a problem.
func (s *Server) answer(ctx context.Context, doing string, err error) error {
	if rejected, ok := errors.AsType[*scheduler.Rejection](err); ok {
		return rejectionProblem(rejected)
	}
	if wrong, ok := errors.AsType[*inputError](err); ok {
		return web.Invalid("body.spec.work", wrong)
	}
	switch {
	case errors.Is(err, errNoLeader):
		return web.Busy("the cluster has no leader now")
	case ctx.Err() != nil:
		return web.Busy("the request ended before its answer")
	}
	s.log.WarnContext(ctx, "request failed", "doing", doing, "error", err)
	return web.Busy("failed while " + doing + "; it may succeed later")
}

// rejectionProblem says which part of an order or job the scheduler refused.
func rejectionProblem(r *scheduler.Rejection) error {
	places := map[string]string{
		"spec": "body.spec", "chain": "body.order.chain_id", "cluster": "body.order.cluster", "deadline": "body.order.deadline_ms",
		"kernel": "body.order.policy", "cost": "body.order.max_cost_nhyper", "escrow": "body.order.max_cost_nhyper", "unknown": "path.id", "late": "path.id", "size": "body",
	}
	switch r.Rule {
	case "full", "quota", "stale":
		return web.Busy(r.Text)
	case "aside":
		return web.NewProblem(http.StatusInternalServerError, api.ProblemInternal, r.Text)
	case "unknown":
		return web.NotFound(r.Text)
	case "late":
		return web.NewProblem(http.StatusConflict, api.ProblemInvalid, r.Text)
	}
	return web.Invalid(places[r.Rule], r)
}
