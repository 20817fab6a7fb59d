package agent

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// cargo is what bytes between the agent and the servers are for.
type cargo int

// The kinds of cargo. Requests, refusals and outlines count with what they are
// about.
const (
	cargoInputs  cargo = iota // programs, inputs and matrices of jobs
	cargoImages               // of containers
	cargoBlobs                // that servers fetch from the node: outputs
	cargoControl              // offers, bids, assignments, ends and logs
	cargoCount
)

func (c cargo) String() string {
	return [cargoCount]string{"inputs", "images", "blobs", "control"}[c]
}

// moved counts the bytes of streams between the agent and the servers since it
// started; what QUIC adds is not in it.
type moved [cargoCount]struct{ in, out atomic.Uint64 }

// Moved is the bytes of one kind of cargo since the agent started.
type Moved struct {
	Cargo string `json:"cargo"` // inputs, images, blobs or control
	In    uint64 `json:"in_bytes"`
	Out   uint64 `json:"out_bytes"`
}

// list returns the counts, every kind.
func (m *moved) list() []Moved {
	out := make([]Moved, cargoCount)
	for c := range cargoCount {
		out[c] = Moved{Cargo: c.String(), In: m[c].in.Load(), Out: m[c].out.Load()}
	}
	return out
}

// count has a stream counted as some cargo, and calls in and out, if they are
// not nil, for pieces of at most so many bytes. Call it before the first Read and
// Write.
func (m *moved) count(stream *transport.Stream, c cargo, piece int, in, out func(n int)) {
	counted := func(total *atomic.Uint64, then func(n int)) func(n int) {
		return func(n int) {
			total.Add(uint64(n))
			if then != nil {
				then(n)
			}
		}
	}
	stream.SetPace(piece, counted(&m[c].in, in), counted(&m[c].out, out))
}

// wholePiece is longer than any read or write: a stream that is only counted is
// not cut into pieces.
const wholePiece = 1 << 30

// collectors show the counts.
func (m *moved) collectors() []prometheus.Collector {
	var out []prometheus.Collector
	counter := func(c cargo, direction string, count *atomic.Uint64) {
		out = append(out, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hypermesh_agent_moved_bytes_total", Help: "Bytes between the agent and the servers, by what they are for and direction.",
			ConstLabels: prometheus.Labels{"cargo": c.String(), "direction": direction},
		}, func() float64 { return float64(count.Load()) }))
	}
	for c := range cargoCount {
		counter(c, "in", &m[c].in)
		counter(c, "out", &m[c].out)
	}
	return out
}

// cargoOf says what a blob of a job is.
func cargoOf(spec *job.Spec, id crypto.Digest) cargo {
	if w, ok := spec.Work.Work.(job.Container); ok && w.Image == id {
		return cargoImages
	}
	return cargoInputs
}
