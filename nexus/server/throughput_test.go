package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
)

// orders returns the bodies of n submissions of small jobs, of so many
// consumers.
func orders(t testing.TB, n, consumers int) [][]byte {
	t.Helper()
	spec := testSpec(program)
	spec.Resources.Millicores, spec.Resources.MemoryMiB, spec.Limits.MemoryBytes = 1, 1, 1<<20
	out := make([][]byte, n)
	for i := range out {
		order := testOrder(chain.PolicyNone{})
		order.MaxCost = chain.Hyper(1)
		request, err := sdk.SignOrder(order, spec, signer{key(consumerKey + 500 + i%consumers)})
		if err != nil {
			t.Fatal(err)
		}
		if out[i], err = json.Marshal(request); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// postAll submits the bodies with so many requests at a time, in turn to each of
// the servers, again while a server is busy, and returns how long each took.
func (c *cluster) postAll(bodies [][]byte, inflight int, to []int) []time.Duration {
	c.t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: inflight}}
	defer client.CloseIdleConnections()
	took := make([]time.Duration, len(bodies))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range inflight {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(bodies) {
					return
				}
				began := time.Now()
				url := c.url(to[i%len(to)]) + "/v1/jobs"
				status, answer := send(client, url, bodies[i])
				for status == http.StatusServiceUnavailable && time.Since(began) < 10*time.Second {
					status, answer = send(client, url, bodies[i])
				}
				if status != http.StatusOK {
					c.t.Errorf("%d %s", status, answer)
					return
				}
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took
}

// send posts a body and returns status and answer, or 0 and what went wrong.
func send(client *http.Client, url string, body []byte) (int, []byte) {
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, []byte(err.Error())
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, answer
}

// processorTime is what this process has used of processors.
func processorTime(t testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// patient is how servers run on a busy machine.
func patient(cfg *server.Config) {
	cfg.Heartbeat, cfg.NodeGrace = server.DefaultConfig().Heartbeat, server.DefaultConfig().NodeGrace
}

// BenchmarkSubmissions measures what three servers over loopback accept: every
// order signed, in raft and on the disks of a majority before it is answered.
// Clients and servers are one process.
func BenchmarkSubmissions(b *testing.B) {
	for _, inflight := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("inflight=%d", inflight), func(b *testing.B) {
			c := newClusterWith(b, 3, patient)
			c.chain.set(func() { c.chain.escrow = chain.Hyper(1_000_000) })
			c.upload(0, blob.Sum([]byte(program)), program)
			bodies := orders(b, b.N, 16)
			b.ResetTimer()
			began, used := time.Now(), processorTime(b)
			took := c.postAll(bodies, inflight, []int{0, 1, 2})
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "accepted/s")
			b.ReportMetric(float64((processorTime(b)-used).Microseconds())/float64(b.N), "core-µs/job")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1_000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1_000, "p99-ms")
		})
	}
}

// BenchmarkJobs takes jobs to their claims: four agents bid for each, and run
// it in no time.
func BenchmarkJobs(b *testing.B) {
	c := newClusterWith(b, 3, patient)
	c.chain.set(func() { c.chain.escrow = chain.Hyper(1_000_000) })
	c.upload(0, blob.Sum([]byte(program)), program)
	for n := range 4 {
		c.agent(n, func(a *fakeAgent) { a.silent = true })
	}
	c.waitNodes(0, 4)
	bodies := orders(b, b.N, 16)
	b.ResetTimer()
	began, used := time.Now(), processorTime(b)
	c.postAll(bodies, 64, []int{0, 1, 2})
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "accepted/s")
	until(b, "all jobs at their claims", func() bool {
		n := c.settling(0)
		return n >= b.N
	})
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "done/s")
	b.ReportMetric(float64((processorTime(b)-used).Microseconds())/float64(b.N), "core-µs/job")
}

// settling returns how many jobs wait for the chain, by a server's metrics.
func (c *cluster) settling(i int) (n int) {
	c.t.Helper()
	_, text := c.do(i, http.MethodGet, "/metrics", nil, nil)
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(`hypermesh_nexus_jobs{status="settling"} `)); ok {
			var v float64
			if _, err := fmt.Sscan(string(rest), &v); err != nil {
				c.t.Fatal(err)
			}
			n = int(v)
		}
	}
	return n
}
