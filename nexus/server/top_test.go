package server_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestTop looks at a cluster of three servers, at each of them, while one job
// runs, one waits for room, and one has been done: every server tells the same
// story, and the leader what it alone knows.
func TestTop(t *testing.T) {
	c := newClusterWith(t, 3, func(cfg *server.Config) { cfg.Heartbeat *= 15 }) // 3 s: the one who holds the auctions leads on
	leader := c.waitLeader()
	release := make(chan struct{})
	cheap := c.agent(0, func(a *fakeAgent) {
		a.run = func(ctx context.Context, as job.Assignment) string {
			if as.Spec.Label == "slow" {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return "done"
		}
	})
	c.agent(1, nil)
	c.agent(2, func(a *fakeAgent) { a.declined = "it is Sunday" })
	c.waitNodes(leader, 3)
	done := c.submit(leader, chain.PolicyNone{})
	c.waitJob(leader, done, job.Settling)
	spec := testSpec(program)
	spec.Label, spec.Resources.Millicores = "slow", 4_000
	request, slow := signedJob(t, testOrder(chain.PolicyNone{}), spec)
	if status, answer := c.post(leader, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	c.waitJob(leader, slow, job.Running)
	spec.Label, spec.Resources.Millicores, spec.Scheduling.Class = "no room", 5_000, job.Spare
	request, waits := signedJob(t, testOrder(chain.PolicyNone{}), spec)
	if status, answer := c.post(leader, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	for i := range c.servers {
		var top api.NexusTop
		until(t, "a server to have heard of it all", func() bool {
			top = get[api.NexusTop](c, i, "/v1/top?rows=7")
			return len(top.Next) == 1 && len(top.Closed) == 2 && top.Servers[0].Reached && top.Servers[1].Reached && top.Servers[2].Reached
		})
		if top.OpenJobs != 3 || top.Totals.Connected != 3 || top.Totals.Accepting != 3 || top.Totals.Running != 1 || len(top.Nodes) != 3 || len(top.Rates.History) != 60 {
			t.Errorf("server %d: %+v", i, top)
		}
		checkTopOf(t, i, &top)
		if n := top.Nodes[0]; n.ID != cheap.key.Public() || n.Running != 1 || n.Bids != 2 || n.Won != 2 || n.Used.Millicores != 4_000 {
			t.Errorf("server %d: the busiest node is %+v", i, n)
		}
		if w := top.Next[0]; w.ID != waits || w.Class != job.Spare || w.Reason == "" {
			t.Errorf("server %d: next is %+v", i, w)
		}
		closed := top.Closed[0]
		if closed.ID != slow || closed.Bids != 2 || len(closed.Winners) != 1 || closed.Reason != "the cheapest" || closed.Price.IsZero() || closed.Price != closed.Lowest || !closed.Lowest.Less(closed.Highest) {
			t.Errorf("server %d: the newest auction is %+v", i, closed)
		}
		if wantDeclined := map[bool]int{true: 1, false: 0}[i == leader]; closed.Declined != wantDeclined {
			t.Errorf("server %d: %d declined", i, closed.Declined)
		}
	}
	for _, query := range []string{"rows=0", "rows=201", "rows=x"} {
		if status, _ := c.do(0, http.MethodGet, "/v1/top?"+query, nil, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", query, status)
		}
	}
	close(release)
}

// checkTopOf checks what every server tells alike.
func checkTopOf(t *testing.T, i int, top *api.NexusTop) {
	t.Helper()
	if u := top.Consumers; len(u) != 1 || u[0].ShareBps != 10_000 || u[0].Running != 1 || u[0].Settling != 1 || u[0].Queued != 1 {
		t.Errorf("server %d: consumers are %+v", i, u)
	}
	leads := 0
	for _, s := range top.Servers {
		if s.Leader {
			leads++
		}
	}
	if leads != 1 || top.Term == 0 || top.Rates.Placed != 2 {
		t.Errorf("server %d: %d lead, term %d, %d placed", i, leads, top.Term, top.Rates.Placed)
	}
}

// TestTopSaysWhyNobodyWon has an auction end without a winner.
func TestTopSaysWhyNobodyWon(t *testing.T) {
	c := newCluster(t, 1)
	c.agent(0, func(a *fakeAgent) { a.declined = "it is Sunday" })
	c.waitNodes(0, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	c.submit(0, chain.PolicyNone{})
	var closed api.TopClosed
	until(t, "an auction that is over", func() bool {
		top := get[api.NexusTop](c, 0, "/v1/top")
		if len(top.Closed) == 0 {
			return false
		}
		closed = top.Closed[0]
		return true
	})
	if len(closed.Winners) != 0 || closed.Bids != 0 || closed.Declined != 1 || closed.Reason != "no bid counted; most declined: it is Sunday" {
		t.Errorf("%+v", closed)
	}
}
