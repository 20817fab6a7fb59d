package agent

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
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
	Accepting  bool             `json:"accepting"` // false: paused
	Total      job.Resources    `json:"total"`
	Free       job.Resources    `json:"free"`
	Servers    []ServerStatus   `json:"servers"`
	Kernels    []KernelStatus   `json:"kernels"`
	Running    []RunningJob     `json:"running"`
	Unacked    []crypto.Digest  `json:"unacknowledged"` // orders whose result no server has taken yet
	Blobs      int              `json:"blobs"`
	BlobBytes  int64            `json:"blob_bytes"`
	TimeMs     chain.TimeMs     `json:"time_ms"`
	NotReadyAs string           `json:"not_ready,omitempty"` // why /healthz says 503
}

// ServerStatus is a configured server.
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
		Node: a.id, Owner: a.owner, ChainID: a.genesis.ChainID, Region: a.config.Region, Accepting: !a.paused.Load(),
		Total: job.Resources{Millicores: a.config.Millicores, MemoryMiB: a.config.MemoryMiB}, Free: a.capacity.free(),
		Servers: []ServerStatus{}, Kernels: []KernelStatus{}, Running: []RunningJob{}, Unacked: []crypto.Digest{},
		TimeMs: timeMs(time.Now()), NotReadyAs: a.notReady(),
	}
	for _, l := range a.links {
		s.Servers = append(s.Servers, ServerStatus{
			Server: l.addr.String(), Connected: l.connected.Load(), SinceMs: chain.TimeMs(l.since.Load()),
		})
	}
	for _, name := range a.loading.names {
		s.Kernels = append(s.Kernels, KernelStatus{Kernel: name, State: a.loading.get(name)})
	}
	a.mu.Lock()
	for _, t := range a.tasks {
		s.Running = append(s.Running, RunningJob{
			Order: t.order, Label: t.assignment.Spec.Label, Policy: t.assignment.Order.Policy.String(), TakenMs: timeMs(t.taken),
		})
	}
	a.mu.Unlock()
	slices.SortFunc(s.Running, func(x, y RunningJob) int {
		return cmp.Or(cmp.Compare(x.TakenMs, y.TakenMs), x.Order.Compare(y.Order))
	})
	for _, e := range a.spool.list() {
		s.Unacked = append(s.Unacked, e.Done.Receipt.Order)
	}
	s.Blobs, s.BlobBytes = a.blobs.Usage()
	return s
}

// notReady says why the agent cannot take every work that it is configured for:
// it needs a majority of the servers, and its kernels' keys. A kernel whose
// keys cannot be had does not keep the rest from working.
func (a *Agent) notReady() string {
	connected := 0
	for _, l := range a.links {
		if l.connected.Load() {
			connected++
		}
	}
	if connected <= len(a.links)/2 {
		return fmt.Sprintf("connected to %d of %d servers", connected, len(a.links))
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
	mux.HandleFunc("POST /v1/pause", func(w http.ResponseWriter, r *http.Request) { a.pause(w, r, true) })
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) { a.pause(w, r, false) })
	return mux
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

// pause is POST /v1/pause and /v1/resume, for whoever can read the token file:
// a page in the owner's browser cannot.
func (a *Agent) pause(w http.ResponseWriter, r *http.Request, paused bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(a.token)) != 1 {
		a.writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "want Authorization: Bearer and the token in the home's " + TokenFile})
		return
	}
	if err := a.setPaused(paused); err != nil {
		a.writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	a.writeJSON(w, http.StatusOK, map[string]bool{"accepting": !paused})
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>HyperMesh agent {{.Node.Short}}</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
h1{font-size:1.3rem}h2{font-size:1rem;margin:1.6rem 0 .4rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #e3e8ee;overflow-wrap:anywhere}
code{font-size:.85em}.no{color:#b3261e}.ok{color:#1a7f4b}</style></head><body>
<h1>Agent {{.Node.Short}} <small>{{if .NotReadyAs}}<span class="no">{{.NotReadyAs}}</span>{{else if .Accepting}}<span class="ok">takes work</span>{{else}}<span class="no">paused</span>{{end}}</small></h1>
<table><tr><th>node</th><td><code>{{.Node}}</code></td></tr><tr><th>owner</th><td><code>{{.Owner}}</code></td></tr>
<tr><th>chain</th><td>{{.ChainID}}</td></tr><tr><th>region</th><td>{{or .Region "not said"}}</td></tr>
<tr><th>free</th><td>{{.Free.Millicores}} of {{.Total.Millicores}} millicores, {{.Free.MemoryMiB}} of {{.Total.MemoryMiB}} MiB</td></tr>
<tr><th>store</th><td>{{.Blobs}} blobs, {{.BlobBytes}} bytes</td></tr></table>
<h2>Servers</h2><table>{{range .Servers}}<tr><td><code>{{.Server}}</code></td><td>{{if .Connected}}<span class="ok">connected</span>{{else}}<span class="no">not connected</span>{{end}}</td></tr>{{end}}</table>
{{if .Kernels}}<h2>Kernels</h2><table>{{range .Kernels}}<tr><td>{{.Kernel}}</td><td>{{.State}}</td></tr>{{end}}</table>{{end}}
<h2>Running</h2><table>{{range .Running}}<tr><td><code>{{.Order.Short}}</code></td><td>{{.Label}}</td><td>{{.Policy}}</td></tr>{{else}}<tr><td>nothing</td></tr>{{end}}</table>
{{if .Unacked}}<h2>Finished, not taken by a server yet</h2><table>{{range .Unacked}}<tr><td><code>{{.}}</code></td></tr>{{end}}</table>{{end}}
</body></html>
`))

// page is GET /.
func (a *Agent) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if err := pageTemplate.Execute(w, a.status()); err != nil {
		a.log.Debug("agent: the page was not sent", "error", err)
	}
}

// metrics are what /metrics shows beside the gauges of newMetrics.
type metrics struct {
	registry    *prometheus.Registry
	offers      *prometheus.CounterVec
	jobs        *prometheus.CounterVec
	refused     prometheus.Counter
	logsDropped prometheus.Counter
}

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		offers:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypermesh_agent_offers_total", Help: "Offers answered, by answer."}, []string{"answer"}),
		jobs:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hypermesh_agent_jobs_total", Help: "Jobs ended with a receipt, by exit status."}, []string{"exit"}),
		refused:     prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_agent_refused_total", Help: "Assignments refused, at once or later."}),
		logsDropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_agent_logs_dropped_total", Help: "Pieces of logs that a slow server did not get."}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m.registry.MustRegister(m.offers, m.jobs, m.refused, m.logsDropped,
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
