package server_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkLinearizableReads asks three servers over loopback, in turn, for what
// is newest.
func BenchmarkLinearizableReads(b *testing.B) {
	for _, inflight := range []int{1, 64} {
		b.Run(fmt.Sprintf("inflight=%d", inflight), func(b *testing.B) {
			c := newClusterWith(b, 3, patient)
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: inflight}}
			defer client.CloseIdleConnections()
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			began, used := time.Now(), processorTime(b)
			for range inflight {
				wg.Go(func() {
					for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
						asked := time.Now()
						resp, err := client.Get(c.url(i%3) + "/v1/settings?consistency=linearizable")
						if err != nil {
							b.Error(err)
							return
						}
						if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
							b.Error(resp.Status, err)
						}
						if err := resp.Body.Close(); err != nil {
							b.Error(err)
						}
						took[i] = time.Since(asked)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "reads/s")
			b.ReportMetric(float64((processorTime(b)-used).Microseconds())/float64(b.N), "core-µs/read")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1_000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1_000, "p99-ms")
		})
	}
}
