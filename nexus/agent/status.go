package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Status is GET /v1/status.
type Status struct {
	Node       crypto.PublicKey `json:"node"`
	Owner      chain.Address    `json:"owner"`
	ChainID    chain.ChainID    `json:"chain_id"`
	Region     string           `json:"region"`
	Accepting  bool             `json:"accepting"`
	Closed     string           `json:"closed,omitempty"` // why no work is accepted
	Mode       Mode             `json:"mode"`
	Drained    bool             `json:"drained"` // draining, and nothing is left to do or to hand over
	Hours      []string         `json:"hours"`
	Total      job.Resources    `json:"total"`
	Free       job.Resources    `json:"free"`
	Servers    []ServerStatus   `json:"servers"`
	Kernels    []KernelStatus   `json:"kernels"`
	Running    []RunningJob     `json:"running"`
	Unacked    []crypto.Digest  `json:"unacknowledged"`     // orders whose result no server has taken yet
	Hardware   *HardwareStatus  `json:"hardware,omitempty"` // the newest challenge of it
	Measures   int              `json:"measures"`           // challenged nodes that this one measures
	Blobs      int              `json:"blobs"`
	BlobBytes  int64            `json:"blob_bytes"`
	Moved      []Moved          `json:"moved"`
	TimeMs     chain.TimeMs     `json:"time_ms"`
	NotReadyAs string           `json:"not_ready,omitempty"` // why /healthz says 503
}

// ServerStatus is a server that is configured, or that the agent was told of.
type ServerStatus struct {
	Server    string       `json:"server"` // NODEID@HOST:PORT
	Connected bool         `json:"connected"`
	SinceMs   chain.TimeMs `json:"since_ms"` // of the last change; 0: none yet
}

// KernelStatus is a configured kernel: loading, ready, or why it is not.
type KernelStatus struct {
	Kernel string `json:"kernel"`
	State  string `json:"state"`
}

// RunningJob is an assignment that was taken and has not ended.
type RunningJob struct {
	Order   crypto.Digest `json:"order"`
	Label   string        `json:"label"`
	Policy  string        `json:"policy"`
	TakenMs chain.TimeMs  `json:"taken_ms"`
}

// status returns what the page shows.
func (a *Agent) status() Status {
	s := Status{
		Node: a.id, Owner: a.owner, ChainID: a.genesis.ChainID, Region: a.config.Region, Mode: *a.mode.Load(), Drained: a.drained(),
		Hours: append([]string{}, a.config.Hours...), Total: a.total(), Free: a.capacity.free(),
		Servers: []ServerStatus{}, Kernels: []KernelStatus{}, Running: []RunningJob{}, Unacked: []crypto.Digest{},
		TimeMs: timeMs(time.Now()), NotReadyAs: a.notReady(),
	}
	s.Closed = a.closed()
	s.Accepting = s.Closed == ""
	for _, l := range a.links.all() {
		s.Servers = append(s.Servers, ServerStatus{
			Server: l.addr.String(), Connected: l.connected.Load(), SinceMs: chain.TimeMs(l.since.Load()),
		})
	}
	for _, name := range a.loading.names {
		s.Kernels = append(s.Kernels, KernelStatus{Kernel: name, State: a.loading.get(name)})
	}
	a.mu.Lock()
	for _, t := range a.tasks {
		if t.assignment.Spec.Work.Work == nil { // a juror's, of which there is nothing to run
			continue
		}
		s.Running = append(s.Running, RunningJob{
			Order: t.order, Label: t.assignment.Spec.Label, Policy: t.assignment.Order.Policy.String(), TakenMs: timeMs(t.taken),
		})
	}
	s.Hardware, s.Measures = a.trialStatus(), len(a.gauges)
	a.mu.Unlock()
	slices.SortFunc(s.Running, func(x, y RunningJob) int {
		return cmp.Or(cmp.Compare(x.TakenMs, y.TakenMs), x.Order.Compare(y.Order))
	})
	for _, e := range a.spool.list() {
		s.Unacked = append(s.Unacked, e.Done.Receipt.Order)
	}
	s.Blobs, s.BlobBytes = a.blobs.Usage()
	s.Moved = a.moved.list()
	return s
}

// notReady says why the agent cannot take every work that it is configured for:
// it needs a majority of the servers, and its kernels' keys. A kernel whose
// keys cannot be had does not keep the rest from working.
func (a *Agent) notReady() string {
	if connected, all := a.links.members(); connected <= all/2 {
		return fmt.Sprintf("connected to %d of %d servers", connected, all)
	}
	for _, name := range a.loading.names {
		if a.loading.get(name) == kernelLoading {
			return "loading the keys of kernel " + name
		}
	}
	return ""
}

// stopTimeout is how long answers under way may still take at the end.
const stopTimeout = time.Second

// serveHTTP serves the page until ctx ends.
func (a *Agent) serveHTTP(ctx context.Context) error {
	server := &http.Server{
		Handler: a.handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	if err := web.Serve(ctx, server, a.listener, stopTimeout, nil); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { a.writeJSON(w, http.StatusOK, a.status()) })
	mux.HandleFunc("GET /healthz", a.health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/earnings", func(w http.ResponseWriter, _ *http.Request) { a.writeJSON(w, http.StatusOK, a.earnings()) })
	mux.HandleFunc("GET /v1/usage/{order}", a.usage)
	mux.HandleFunc("POST /v1/pause", a.control(func(*http.Request) (Mode, error) { return Mode{Name: ModePaused}, nil }))
	mux.HandleFunc("POST /v1/resume", a.control(func(*http.Request) (Mode, error) { return Mode{Name: ModeOpen}, nil }))
	mux.HandleFunc("POST /v1/drain", a.control(drainOf))
	return a.atHome(mux)
}

func (a *Agent) writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Debug("agent: an answer was not sent", "error", err)
	}
}

// health is GET /healthz.
func (a *Agent) health(w http.ResponseWriter, _ *http.Request) {
	if reason := a.notReady(); reason != "" {
		a.writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "waiting", "reason": reason})
		return
	}
	a.writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// metrics are what /metrics shows beside the gauges of newMetrics.
type metrics struct {
	registry    *prometheus.Registry
	offers      *prometheus.CounterVec
	jobs        *prometheus.CounterVec
	refused     prometheus.Counter
	logsDropped prometheus.Counter
	programs    *prometheus.CounterVec
	challenges  *prometheus.CounterVec
}

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		offers:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypermesh_agent_offers_total", Help: "Offers answered, by answer."}, []string{"answer"}),
		jobs:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypermesh_agent_jobs_total", Help: "Jobs ended with a receipt, by exit status."}, []string{"exit"}),
		refused:     prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_agent_refused_total", Help: "Assignments refused, at once or later."}),
		logsDropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_agent_logs_dropped_total", Help: "Pieces of logs that a slow server did not get."}),
	}
	m.programs = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypermesh_agent_price_program_total", Help: "Runs of the price program, by outcome."}, []string{"outcome"})
	m.challenges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hypermesh_agent_hardware_challenges_total", Help: "Hardware challenges: of this node that it met, of others that it measured, and of those in which it found something missing.",
	}, []string{"what"})
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(a.moved.collectors()...)
	m.registry.MustRegister(m.offers, m.jobs, m.refused, m.logsDropped, m.programs, m.challenges,
		gauge("hypermesh_agent_accepting", "1 while work is accepted.", func() float64 {
			if a.closed() != "" {
				return 0
			}
			return 1
		}),
		gauge("hypermesh_agent_settled_nhyper", "What the chain has paid for this node's work, as far as its book goes back.", func() float64 { return float64(a.earnings().Settled.Nano()) }),
		gauge("hypermesh_agent_pending_nhyper", "What signed receipts should still bring.", func() float64 { return float64(a.earnings().Pending.Nano()) }),
		gauge("hypermesh_agent_sessions", "Servers connected.", func() float64 { return float64(len(a.connected())) }),
		gauge("hypermesh_agent_running", "Assignments taken and not ended.", func() float64 {
			a.mu.Lock()
			defer a.mu.Unlock()
			return float64(len(a.tasks))
		}),
		gauge("hypermesh_agent_spooled", "Results that no server has taken yet.", func() float64 { return float64(a.spool.count()) }),
		gauge("hypermesh_agent_free_millicores", "CPU that no job takes.", func() float64 { return float64(a.capacity.free().Millicores) }),
		gauge("hypermesh_agent_free_memory_mib", "Memory that no job takes.", func() float64 { return float64(a.capacity.free().MemoryMiB) }),
		gauge("hypermesh_agent_blob_bytes", "Disk that the blob store takes.", func() float64 {
			_, bytes := a.blobs.Usage()
			return float64(bytes)
		}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
