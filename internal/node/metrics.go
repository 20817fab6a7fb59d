package node

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// metrics are what /metrics shows of a node.
type metrics struct {
	registry  *prometheus.Registry
	height    prometheus.Gauge
	txs       prometheus.Counter
	rejected  prometheus.Counter
	missing   prometheus.Counter
	execution prometheus.Histogram
	commit    prometheus.Histogram
}

func newMetrics() *metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 2, 16)
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		height:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "hypermesh_finalized_height", Help: "Height of the last committed block."}),
		txs:       prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_transactions_total", Help: "Transactions in committed blocks since the start."}),
		rejected:  prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_transactions_rejected_total", Help: "Of these, included and rejected."}),
		missing:   prometheus.NewCounter(prometheus.CounterOpts{Name: "hypermesh_proposal_transactions_missing_total", Help: "Transactions that a proposal named by id and that were not here."}),
		execution: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hypermesh_block_execution_seconds", Help: "Time to execute one block.", Buckets: buckets}),
		commit:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hypermesh_block_commit_seconds", Help: "Time to make one block durable.", Buckets: buckets}),
	}
	m.registry.MustRegister(m.height, m.txs, m.rejected, m.missing, m.execution, m.commit, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge shows the value of a function.
func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// counter shows the value of a function that never falls.
func (m *metrics) counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

// dropped shows why transactions left the mempool.
func (m *metrics) dropped(count func(mempool.Reason) uint64) {
	for _, why := range mempool.Reasons() {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hypermesh_mempool_dropped_total", Help: "Transactions that left the mempool without being in a finalized block since the start, by reason.",
			ConstLabels: prometheus.Labels{"reason": why.String()},
		}, func() float64 { return float64(count(why)) }))
	}
}

// transport shows what an endpoint refused, dropped or slowed down.
func (m *metrics) transport(counters *transport.Metrics) {
	for which := range counters.All() {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hypermesh_transport_events_total", Help: "Handshakes, connections and messages refused, dropped or slowed down, by reason.",
			ConstLabels: prometheus.Labels{"reason": which.String()},
		}, func() float64 { return float64(counters.Count(which)) }))
	}
}

// finalized counts a committed block.
func (m *metrics) finalized(b *branch) {
	m.height.Set(float64(b.height))
	m.txs.Add(float64(len(b.outcome.Receipts.Txs)))
	for i := range b.outcome.Receipts.Txs {
		if !b.outcome.Receipts.Txs[i].Accepted() {
			m.rejected.Inc()
		}
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
