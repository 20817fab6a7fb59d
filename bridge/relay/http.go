package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hypermesh/hypermesh/internal/web"
)

// The parts that must work for the relay to carry.
const (
	partOutbox  = iota // reading
	partAccount        // asking the chain, and a balance
	partChain          // posting
	partCount
)

// health is how the last try of each part ended.
type health struct {
	mu    sync.Mutex
	tried [partCount]bool
	errs  [partCount]error
}

func (h *health) set(part int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tried[part], h.errs[part] = true, err
}

// missing returns why the relay does not carry, or nothing. It need not have
// posted anything yet.
func (h *health) missing() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.tried[partOutbox]:
		return "the outbox has not been read yet"
	case !h.tried[partAccount]:
		return "the chain has not been asked yet"
	}
	if err := errors.Join(h.errs[:]...); err != nil {
		return err.Error()
	}
	return ""
}

// Missing returns why the relay does not carry now, or nothing.
func (r *Relay) Missing() string { return r.health.missing() }

// stopTimeout is how long answers under way may still take at the end.
const stopTimeout = time.Second

// serveHTTP serves /healthz and /metrics, and what a private relay keeps, until ctx ends.
func (r *Relay) serveHTTP(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", r.answerHealth)
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	if r.private != nil {
		mux.HandleFunc("GET /v1/usage/{order}/{node}", r.answerUsage)
	}
	server := &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	if err := web.Serve(ctx, server, listener, stopTimeout, nil); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	return nil
}

func (r *Relay) answerHealth(w http.ResponseWriter, _ *http.Request) {
	code, answer := http.StatusOK, map[string]string{"status": "ok"}
	if reason := r.Missing(); reason != "" {
		code, answer = http.StatusServiceUnavailable, map[string]string{"status": "waiting", "reason": reason}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		r.Log.Debug("relay: an answer was not sent", "error", err)
	}
}

// metrics are what /metrics shows.
type metrics struct {
	registry *prometheus.Registry
	carried  prometheus.Counter
	rejected prometheus.Counter
	refused  prometheus.Counter
	balance  prometheus.Gauge
}

func newMetrics(b *book) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		carried:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_relay_carried_total", Help: "Claims that the chain took from this relay."}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_relay_rejected_total", Help: "Claims of this relay that the chain refused, each time."}),
		refused:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_relay_refused_total", Help: "Claims that were not worth posting."}),
		balance:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "hypermesh_relay_balance_nhyper", Help: "What the account has for fees."}),
	}
	count := func(name, help string, pick func(waiting, resolved int) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(pick(b.counts())) })
	}
	m.registry.MustRegister(m.carried, m.rejected, m.refused, m.balance,
		count("hypermesh_relay_waiting", "Claims that wait for the chain.", func(waiting, _ int) int { return waiting }),
		count("hypermesh_relay_resolved", "Claims that the chain has and the outbox still lists.", func(_, resolved int) int { return resolved }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
