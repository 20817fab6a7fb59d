package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// change signs a change of the servers as they are now, and asks a server for it.
// A leader that has just lost the lead, as on a busy machine, changes nothing and
// says so: it is asked again.
func (c *cluster) change(i int, change api.ServerChange, spoil func(*api.ServerChange)) (status int, body []byte) {
	c.t.Helper()
	until(c.t, "a leader to ask for a change of servers", func() bool {
		now := get[api.ServerList](c, i, "/v1/servers?leader=true")
		asked := change
		asked.Index, asked.Term = now.Index, now.Term
		asked.Signature = key(clusterKey).Sign(crypto.DomainServers, api.ServerChangePayload(testChain, key(clusterKey).Public(), &asked))
		if spoil != nil {
			spoil(&asked)
		}
		status, body = c.post(i, "/v1/servers", asked)
		return status != http.StatusServiceUnavailable // busy: it did not come about, or not yet
	})
	return status, body
}

// steady is a cluster whose leader a loaded machine does not change while servers come and go.
func steady(t testing.TB, n int) *cluster {
	return newClusterWith(t, n, func(cfg *server.Config) { cfg.Heartbeat = 2 * time.Second })
}

// join starts one more server, which waits to be added.
func (c *cluster) join() (i int, change api.ServerChange) {
	c.t.Helper()
	return c.joinAs(nil)
}

// joinAs is join of a server whose home is changed first.
func (c *cluster) joinAs(changeHome func(i int)) (i int, change api.ServerChange) {
	c.t.Helper()
	i = len(c.configs)
	address := freePort(c.t)
	cfg := c.configs[0]
	cfg.Join, cfg.Listen, cfg.HTTP = true, address, "127.0.0.1:0"
	cfg.Servers = append(append([]string{}, cfg.Servers...), key(serverKeys+i).Public().String()+"@"+address)
	cfg.Home = c.home(i)
	c.configs, c.servers, c.stops = append(c.configs, cfg), append(c.servers, nil), append(c.stops, nil)
	if changeHome != nil {
		changeHome(i)
	}
	c.start(i)
	c.t.Cleanup(func() { c.stop(i) })
	return i, api.ServerChange{Action: api.AddServer, Server: key(serverKeys + i).Public(), Address: address}
}

func (c *cluster) voters(i int) (n int) {
	for _, s := range get[api.ServerList](c, i, "/v1/servers").Servers {
		if s.Voter {
			n++
		}
	}
	return n
}

// TestServersComeAndGo makes three servers of one, while jobs are accepted, and
// one of three, and sees what was accepted on the one that is left.
func TestServersComeAndGo(t *testing.T) {
	c := steady(t, 1)
	ids := []crypto.Digest{c.submit(0, chain.PolicyNone{})}
	for range 2 {
		i, change := c.join()
		if status, body := c.change(0, change, nil); status != http.StatusOK {
			t.Fatalf("adding server %d: %d %s", i, status, body)
		}
		ids = append(ids, c.submit(0, chain.PolicyNone{}))
		until(t, "the job at the new server", func() bool {
			status, _ := c.do(i, http.MethodGet, "/v1/jobs/"+ids[len(ids)-1].String()+"?consistency=linearizable", nil, nil)
			return status == http.StatusOK
		})
	}
	if status, body := c.change(1, api.ServerChange{Action: api.TransferLeadership, Server: key(serverKeys + 2).Public()}, nil); status != http.StatusOK {
		t.Fatalf("handing over: %d %s", status, body)
	}
	until(t, "the new leader", func() bool { return c.servers[2].Leads() })
	// What the file of the third server does not say, its raft does.
	c.stop(1)
	c.start(1)
	ids = append(ids, c.submit(1, chain.PolicyNone{}))
	for _, i := range []int{0, 1} {
		if status, body := c.change(2, api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys + i).Public()}, nil); status != http.StatusOK {
			t.Fatalf("removing server %d: %d %s", i, status, body)
		}
		c.stop(i)
	}
	ids = append(ids, c.submit(2, chain.PolicyNone{})) // a majority of one
	for _, id := range ids {
		if j := get[api.Job](c, 2, "/v1/jobs/"+id.String()+"?consistency=linearizable"); j.Status != job.Queued {
			t.Errorf("job %s is %s", id.Short(), j.Status)
		}
	}
	if n := c.voters(2); n != 1 {
		t.Errorf("%d servers are left", n)
	}
	c.stop(2)
	c.start(2)
	until(t, "a leader after a restart", func() bool { return c.servers[2].Leads() })
}

// TestChangesOfServersAreRefused tries what nobody may do, and what cannot be.
func TestChangesOfServersAreRefused(t *testing.T) {
	c := steady(t, 3)
	leader := c.waitLeader()
	other := (leader + 1) % 3
	stranger := api.ServerChange{Action: api.AddServer, Server: key(77).Public(), Address: "127.0.0.1:1"}
	for name, x := range map[string]struct {
		change api.ServerChange
		spoil  func(*api.ServerChange)
		want   int
	}{
		"not signed":           {stranger, func(x *api.ServerChange) { x.Signature[3] ^= 1 }, http.StatusForbidden},
		"another address":      {stranger, func(x *api.ServerChange) { x.Address = "127.0.0.1:2" }, http.StatusForbidden},
		"another term":         {stranger, func(x *api.ServerChange) { x.Term++ }, http.StatusForbidden},
		"an old configuration": {stranger, resign(func(x *api.ServerChange) { x.Index-- }), http.StatusConflict},
		"an old term":          {stranger, resign(func(x *api.ServerChange) { x.Term-- }), http.StatusConflict},
		"an unknown action":    {api.ServerChange{Action: "shut-down"}, nil, http.StatusUnprocessableEntity},
		"no address":           {api.ServerChange{Action: api.AddServer, Server: key(77).Public(), Address: "nowhere"}, nil, http.StatusUnprocessableEntity},
		"a member again":       {api.ServerChange{Action: api.AddServer, Server: key(serverKeys + other).Public(), Address: "127.0.0.1:1"}, nil, http.StatusConflict},
		"no member":            {api.ServerChange{Action: api.RemoveServer, Server: key(77).Public()}, nil, http.StatusConflict},
		"the leader":           {api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys + leader).Public()}, nil, http.StatusConflict},
		"to no member":         {api.ServerChange{Action: api.TransferLeadership, Server: key(77).Public()}, nil, http.StatusConflict},
	} {
		if status, body := c.change(other, x.change, x.spoil); status != x.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, x.want)
		}
	}
	if n := c.voters(leader); n != 3 {
		t.Errorf("%d servers, want 3", n)
	}
}

// resign spoils a change and signs it again.
func resign(spoil func(*api.ServerChange)) func(*api.ServerChange) {
	return func(x *api.ServerChange) {
		spoil(x)
		x.Signature = key(clusterKey).Sign(crypto.DomainServers, api.ServerChangePayload(testChain, key(clusterKey).Public(), x))
	}
}

// TestAStoppedLeaderHandsOver ends a leader in order, and sees another lead at
// once, well within the time that a follower waits for a silent leader.
func TestAStoppedLeaderHandsOver(t *testing.T) {
	c := steady(t, 3)
	leader := c.waitLeader()
	list := get[api.ServerList](c, leader, "/v1/servers")
	c.stop(leader)
	next := c.waitLeader()
	after := get[api.ServerList](c, next, "/v1/servers")
	if after.Term != list.Term+1 {
		raw, err := json.Marshal(after)
		t.Errorf("term %d after %d: there was an election: %s %v", after.Term, list.Term, raw, err)
	}
}

// TestAgentsAreToldOfServers adds a server, and removes one: whoever is connected
// is told, and whoever comes later too.
func TestAgentsAreToldOfServers(t *testing.T) {
	c := steady(t, 1)
	told := func(a *fakeAgent, want ...int) func() bool {
		return func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			var list []string
			for _, i := range want {
				list = append(list, key(serverKeys+i).Public().String()+"@"+c.configs[i].Listen)
			}
			slices.Sort(list)
			return slices.Equal(slices.Sorted(slices.Values(a.roster.Servers)), list)
		}
	}
	first := c.agent(0, nil)
	until(t, "the agent knows the server", told(first, 0))
	i, change := c.join()
	if status, body := c.change(0, change, nil); status != http.StatusOK {
		t.Fatalf("adding: %d %s", status, body)
	}
	until(t, "the agent knows the new server", told(first, 0, i))
	until(t, "an agent that comes later knows both", told(c.agent(1, nil), 0, i))
	if status, body := c.change(0, api.ServerChange{Action: api.TransferLeadership, Server: key(serverKeys + i).Public()}, nil); status != http.StatusOK {
		t.Fatalf("handing over: %d %s", status, body)
	}
	until(t, "the new leader", func() bool { return c.servers[i].Leads() })
	if status, body := c.change(i, api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys).Public()}, nil); status != http.StatusOK {
		t.Fatalf("removing: %d %s", status, body)
	}
	until(t, "an agent of the new server knows it alone", told(c.agent(2, nil), i))
}

// TestFiveServers loses two of five servers, the leader among them, and accepts;
// with a third gone it refuses, and accepts again when one is back. A sixth server
// is refused until one is removed.
func TestFiveServers(t *testing.T) {
	c := steady(t, 5)
	leader := c.waitLeader()
	ids := []crypto.Digest{c.submit(leader, chain.PolicyNone{})}
	dead := []int{leader, (leader + 1) % 5}
	for _, i := range dead {
		c.kill(i)
	}
	next := c.waitLeader()
	ids = append(ids, c.submit(next, chain.PolicyNone{}))
	third := -1
	for i := range c.servers {
		if c.stops[i] != nil && i != next {
			third = i
		}
	}
	c.kill(third)
	request, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	if status, body := c.post(next, "/v1/jobs", request); status != http.StatusServiceUnavailable {
		t.Errorf("two of five servers answer %d %s", status, body)
	}
	c.start(third)
	c.start(dead[1])
	next = c.waitLeader()
	until(t, "the order to be accepted", func() bool {
		status, _ := c.post(next, "/v1/jobs", request)
		return status == http.StatusOK
	})
	ids = append(ids, id)
	sixth, add := c.join()
	if status, body := c.change(next, add, nil); status != http.StatusConflict {
		t.Errorf("a sixth server: %d %s", status, body)
	}
	remove := api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys + dead[0]).Public()}
	if status, body := c.change(next, remove, nil); status != http.StatusOK {
		t.Fatalf("removing one that is dead: %d %s", status, body)
	}
	if status, body := c.change(next, add, nil); status != http.StatusOK {
		t.Fatalf("adding another in its place: %d %s", status, body)
	}
	if status, body := c.change(next, api.ServerChange{Action: api.TransferLeadership, Server: add.Server}, nil); status != http.StatusOK {
		t.Fatalf("handing over: %d %s", status, body)
	}
	until(t, "the new leader", func() bool { return c.servers[sixth].Leads() })
	for _, id := range append(ids, c.submit(sixth, chain.PolicyNone{})) {
		c.job(sixth, id)
	}
	if n := c.voters(sixth); n != 5 {
		t.Errorf("%d servers are left", n)
	}
}
