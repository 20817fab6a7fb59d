package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/sdk"
)

// BenchmarkLeaderKilled kills the server that leads three, again and again, while a hundred jobs are
// submitted a second, and measures how long after each kill the first job is accepted that was
// submitted after it. In the end every job that was accepted is paid, each once.
func BenchmarkLeaderKilled(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	n, l, finish := loadedCluster(b, ctx, 10*time.Millisecond, "--servers", "3")
	var again []float64
	for b.Loop() {
		n.awaitCluster(b, ctx)
		l.awaitMore(b, ctx, 200)
		leader := n.leaderOf(b, ctx, l)
		killed := time.Now()
		n.kill(b, "nexus", leader)
		again = append(again, float64(l.again(b, ctx, killed).Milliseconds()))
	}
	finish()
	l.checkPaidOnce(b, ctx)
	b.ReportMetric(median(again), "again-ms")
	b.ReportMetric(slices.Max(again), "worst-ms")
	b.ReportMetric(float64(l.count()), "jobs")
	b.ReportMetric(0, "ns/op")
}

// awaitCluster waits until every server answers and knows of one leader.
func (n *network) awaitCluster(t testing.TB, ctx context.Context) {
	t.Helper()
	for _, url := range n.describe(t).Nexus {
		client, err := sdk.New(sdk.Config{Nexus: []string{url}, Attempts: 1, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for {
			status, err := client.NexusStatus(ctx)
			if err == nil && !status.Leader.IsZero() {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s does not answer: %v", url, err)
			}
			shortly(ctx)
		}
	}
}
