package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// An agent that changes its mind without end costs the log an entry a second, and
// the newest of what it said counts in the end.
func TestToggledAgentDoesNotFillTheLog(t *testing.T) {
	c := newCluster(t, 1)
	a := c.agent(1, nil)
	c.waitNodes(0, 1)
	before := c.servers[0].LogIndex()
	const toggles = 300
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for i := range toggles {
		<-pace.C
		a.broadcast(job.Load{Accepting: i%2 == 1})
	}
	a.broadcast(job.Load{Accepting: false})
	until(t, "the newest word counts", func() bool {
		nodes := get[api.NodeList](c, 0, "/v1/nodes").Nodes
		return len(nodes) == 1 && !nodes[0].Accepting
	})
	a.broadcast(job.Load{Accepting: true})
	until(t, "it accepts again", func() bool { return get[api.NodeList](c, 0, "/v1/nodes").Nodes[0].Accepting })
	if entries := c.servers[0].LogIndex() - before; entries > 60 {
		t.Errorf("%d toggles are %d entries of the log", toggles, entries)
	}
}

// A node that refuses what it bid for is shown as held back, and why.
func TestNodeThatRefusesIsShown(t *testing.T) {
	c := newCluster(t, 1)
	c.agent(1, func(a *fakeAgent) { a.refuse = "no disk" })
	c.waitNodes(0, 1)
	for range 4 {
		c.submit(0, chain.PolicyNone{})
	}
	until(t, "the node is held back", func() bool {
		n := get[api.NodeList](c, 0, "/v1/nodes").Nodes[0]
		return n.HeldUntil > 0 && n.Strikes >= 4 && strings.Contains(n.HeldFor, "refused what it had bid for")
	})
}
