package server_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// swapKey gives the i-th server, which is stopped, another cluster.key.
func (c *cluster) swapKey(i int) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.configs[i].Home, server.ClusterKeyFile), []byte(key(clusterKey+1_000).Hex()), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// TestAServerOfAnotherClusterKeyStops starts a server of three with another
// cluster.key: it stops by itself and says why, is never elected, and takes no entry.
func TestAServerOfAnotherClusterKeyStops(t *testing.T) {
	c := newCluster(t, 3)
	odd := (c.waitLeader() + 1) % 3
	c.stop(odd)
	c.swapKey(odd)
	c.waitLeader()
	s, err := server.Open(c.configs[odd], c.chain)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	held := s.LogIndex()
	c.submit(c.waitLeader(), chain.PolicyNone{})
	if err := s.Run(ctx); err == nil || !strings.Contains(err.Error(), "another cluster.key than this server") {
		t.Errorf("it ended: %v", err)
	}
	if at := s.LogIndex(); at != held {
		t.Errorf("it carried out entries %d to %d", held, at)
	}
}

// TestAServerOfAnotherClusterKeyIsNotAdded adds one: it is refused by name, and the
// cluster is as it was.
func TestAServerOfAnotherClusterKeyIsNotAdded(t *testing.T) {
	c := steady(t, 1)
	i, change := c.joinAs(c.swapKey)
	status, body := c.change(0, change, nil)
	if status != http.StatusConflict || !strings.Contains(string(body), change.Server.String()+" has another cluster.key") {
		t.Errorf("%d %s", status, body)
	}
	if n := c.voters(0); n != 1 {
		t.Errorf("%d servers, want 1", n)
	}
	if c.servers[i].Leads() {
		t.Error("it leads")
	}
}
