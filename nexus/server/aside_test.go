package server_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// breaksAt picks the submission of one order.
func breaksAt(id crypto.Digest) func(scheduler.Command) bool {
	return func(c scheduler.Command) bool {
		submit, ok := c.(scheduler.Submit)
		return ok && submit.Order.ID() == id
	}
}

// sameState waits until the servers that run have carried out the same entries,
// and holds their states against each other.
func (c *cluster) sameState(servers ...int) {
	c.t.Helper()
	var states [][]byte
	until(c.t, "all servers at one entry", func() bool {
		states = nil
		var at []uint64
		for _, i := range servers {
			raw, index := c.servers[i].State()
			states, at = append(states, raw), append(at, index)
		}
		for i := range at {
			if at[i] != at[0] {
				return false
			}
		}
		return true
	})
	for i := range states {
		if !bytes.Equal(states[i], states[0]) {
			c.t.Errorf("server %d is in another state than server %d", servers[i], servers[0])
		}
	}
}

// TestACommandThatBreaksTheStateIsPutAside has every server's state machine panic
// at one order: it is refused by name, all else goes on, and the servers agree,
// also one that begins again with a program that is mended, from its log or from
// a snapshot.
func TestACommandThatBreaksTheStateIsPutAside(t *testing.T) {
	c := newClusterWith(t, 3, func(cfg *server.Config) { cfg.Heartbeat *= 15 }) // 3 s: who leads leads on, and remembers what it refused
	leader := c.waitLeader()
	good := []crypto.Digest{c.submit(leader, chain.PolicyNone{})}
	if err := c.servers[leader].SnapshotNow(); err != nil {
		t.Fatal(err)
	}
	good = append(good, c.submit((leader+1)%3, chain.PolicyNone{}))
	request, bad := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	for _, s := range c.servers {
		s.Break(breaksAt(bad))
	}
	for i, from := range []int{leader, leader, (leader + 1) % 3} {
		at := c.servers[leader].LogIndex()
		status, body := c.post(from, "/v1/jobs", request)
		if status != http.StatusInternalServerError || !strings.Contains(string(body), "could not carry the command out") {
			t.Fatalf("an order that breaks the state, time %d: %d %s", i, status, body)
		}
		if now := c.servers[leader].LogIndex(); i > 0 && now != at {
			t.Errorf("it went to the log again: %d to %d", at, now)
		}
	}
	good = append(good, c.submit(leader, chain.PolicyNone{}))
	c.sameState(0, 1, 2)
	for i, s := range c.servers {
		if n := s.PutAside(); n != 1 {
			t.Errorf("server %d put %d commands aside, want 1", i, n)
		}
	}
	mended := (leader + 2) % 3
	for _, snapshot := range []bool{false, true} { // from the log alone, and from a snapshot
		if snapshot {
			if err := c.servers[mended].SnapshotNow(); err != nil {
				t.Fatal(err)
			}
		}
		c.stop(mended)
		c.start(mended)
		c.waitLeader()
		c.sameState(0, 1, 2)
	}
	for _, id := range good {
		c.job(mended, id)
	}
	if status, _ := c.do(mended, http.MethodGet, "/v1/jobs/"+bad.String(), nil, nil); status != http.StatusNotFound {
		t.Errorf("the order that was put aside: %d", status)
	}
}

// job sees that a server knows a job.
func (c *cluster) job(i int, id crypto.Digest) {
	c.t.Helper()
	if status, body := c.do(i, http.MethodGet, "/v1/jobs/"+id.String()+"?consistency=linearizable", nil, nil); status != http.StatusOK {
		c.t.Errorf("job %s: %d %s", id.Short(), status, body)
	}
}

// TestAPanicThatDoesNotComeBackChangesNothing has one server panic once at an
// order, as a machine with bad memory may.
func TestAPanicThatDoesNotComeBackChangesNothing(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	c.submit(leader, chain.PolicyNone{})
	request, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	var times atomic.Int32
	c.servers[leader].Break(func(command scheduler.Command) bool { return breaksAt(id)(command) && times.Add(1) == 1 })
	if status, body := c.post(leader, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("an order that broke the state once: %d %s", status, body)
	}
	c.sameState(0, 1, 2)
	for i, s := range c.servers {
		if n := s.PutAside(); n != 0 {
			t.Errorf("server %d put %d commands aside, want none", i, n)
		}
	}
}

// TestAServerThatAloneBreaksStops has one server's state machine panic at an order
// every time, and the others carry it out: it stops, and says why.
func TestAServerThatAloneBreaksStops(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	odd := (leader + 1) % 3
	c.submit(leader, chain.PolicyNone{})
	request, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	c.servers[odd].Break(breaksAt(id))
	if status, body := c.post(leader, "/v1/jobs", request); status != http.StatusOK {
		t.Fatalf("an order: %d %s", status, body)
	}
	until(t, "the end of the server whose state is another", func() bool {
		status, _ := c.do(odd, http.MethodGet, "/metrics", nil, nil)
		return status == 0
	})
	err := c.stops[odd]()
	if c.stops[odd] = nil; err == nil || !strings.Contains(err.Error(), "their states may differ") {
		t.Errorf("the server ended with %v", err)
	}
	c.submit(leader, chain.PolicyNone{})
}
