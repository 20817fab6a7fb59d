package server_test

import (
	"net/http"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestClientsLearnOfServers has a client that is configured with one of three servers
// learn of the others, and that one removed: it refuses, and the client goes on.
func TestClientsLearnOfServers(t *testing.T) {
	c := steady(t, 3)
	leader := c.waitLeader()
	gone := (leader + 1) % 3
	learned := make(chan api.ServerAddresses, 100)
	client, err := sdk.New(sdk.Config{
		Nexus: []string{c.url(gone)}, Cluster: key(clusterKey).Public(), Backoff: 1, Genesis: testGenesis(t),
		Learned: func(l api.ServerAddresses) { learned <- l },
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the client to know three servers", func() bool {
		if _, err := client.NexusStatus(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case l := <-learned:
			return len(l.Servers) == 3
		default:
			return false
		}
	})
	until(t, "the server to be removed", func() bool {
		status, body := c.change(leader, api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys + gone).Public()}, nil)
		if status != http.StatusOK { // a loaded machine changes its leader meanwhile, even to that one
			t.Logf("removing the server: %d %s", status, body)
			c.change(leader, api.ServerChange{Action: api.TransferLeadership, Server: key(serverKeys + leader).Public()}, nil)
		}
		return status == http.StatusOK || c.voters(leader) == 2
	})
	until(t, "the server to know that it was removed", func() bool {
		status, _ := c.do(gone, http.MethodGet, "/v1/status", nil, nil)
		return status == http.StatusServiceUnavailable
	})
	for _, path := range []string{"/v1/addresses", "/v1/jobs"} {
		if status, body := c.do(gone, http.MethodGet, path, nil, nil); status != http.StatusServiceUnavailable {
			t.Errorf("%s at a server that was removed: %d %s", path, status, body)
		}
	}
	if status, err := client.NexusStatus(t.Context()); err != nil || status.Server == key(serverKeys+gone).Public() {
		t.Errorf("after the server was removed: %v by %s", err, status.Server.Short())
	}
	until(t, "the client to know two servers", func() bool {
		if _, err := client.NexusStatus(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case l := <-learned:
			return len(l.Servers) == 2
		default:
			return false
		}
	})
}

// TestURLsOfServers says which URLs a server tells clients.
func TestURLsOfServers(t *testing.T) {
	for _, x := range []struct{ configured, listens, cert, want string }{
		{"", "127.0.0.1:7280", "", "http://127.0.0.1:7280"},
		{"", "[::1]:7280", "x.pem", "https://[::1]:7280"},
		{"", "0.0.0.0:7280", "", ""},
		{"", "[::]:7280", "", ""},
		{"https://nexus.example", "0.0.0.0:7280", "", "https://nexus.example"},
	} {
		if got := server.URLOf(&server.Config{HTTPURL: x.configured, TLSCert: x.cert}, x.listens); got != x.want {
			t.Errorf("%+v: %q", x, got)
		}
	}
	for _, bad := range []string{"nexus.example", "ftp://nexus.example", "http://", "https://a:b@nexus.example", "https://nexus.example?x=1"} {
		config := server.DefaultConfig()
		config.HTTPURL = bad
		if err := config.Check(); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
