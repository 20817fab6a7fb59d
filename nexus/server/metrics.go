package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// metrics are what /metrics shows of a server.
type metrics struct{ registry *prometheus.Registry }

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("hypermesh_nexus_leader", "1 while this server leads.", nil, func() float64 {
		if s.Leads() {
			return 1
		}
		return 0
	})
	m.gauge("hypermesh_nexus_term", "Raft term.", nil, func() float64 { return float64(s.consensus.raft.CurrentTerm()) })
	m.gauge("hypermesh_nexus_log_index", "Newest raft entry carried out.", nil, func() float64 { return float64(s.consensus.raft.AppliedIndex()) })
	m.gauge("hypermesh_nexus_commands_aside", "Commands that the state machine could not carry out, of those remembered: above 0 the program is wrong.", nil, func() float64 {
		list, _ := s.replica.asides()
		return float64(len(list.List))
	})
	m.gauge("hypermesh_nexus_sessions", "Agents connected to this server.", nil, func() float64 { return float64(s.sessions.count()) })
	m.gauge("hypermesh_nexus_hardware_challenges", "Hardware challenges that are open in which an agent of this server has a part.", nil, func() float64 { return float64(s.challenges.count()) })
	m.gauge("hypermesh_nexus_blobs", "Blobs stored.", nil, func() float64 {
		n, _ := s.blobs.Usage()
		return float64(n)
	})
	m.gauge("hypermesh_nexus_blob_bytes", "Bytes of the store of blobs.", nil, func() float64 {
		_, bytes := s.blobs.Usage()
		return float64(bytes)
	})
	for what, of := range map[string]func(tally) uint64{
		"accepted": func(t tally) uint64 { return t.accepted }, "placed": func(t tally) uint64 { return t.placed }, "completed": func(t tally) uint64 { return t.completed },
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hypermesh_nexus_work_total", Help: "What the log has carried out since this server started: jobs accepted, assignments placed, jobs completed.", ConstLabels: prometheus.Labels{"what": what},
		}, func() float64 { return float64(of(s.replica.board.totals())) }))
	}
	for _, status := range []job.Status{job.Queued, job.Bidding, job.Running, job.Settling} {
		m.gauge("hypermesh_nexus_jobs", "Jobs that are not final, by status.", prometheus.Labels{"status": status.String()}, func() float64 {
			n := 0
			s.replica.view(func(state *scheduler.State) { n = state.Count(status) })
			return float64(n)
		})
	}
	return m
}

// gauge shows the value of a function.
func (m *metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
