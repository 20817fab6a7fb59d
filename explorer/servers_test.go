package explorer_test

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestExplorerLearnsOfServers has an explorer that was told of one server of the cluster
// ask another that joined once the first is gone, also when it starts after that.
func TestExplorerLearnsOfServers(t *testing.T) {
	t.Parallel()
	node, first, joined := newFakeChain(t), newFakeChain(t), newFakeChain(t)
	node.seal()
	joined.set(func() { joined.jobs = []api.Job{nexusJob(runningOrder, job.Running)} })
	first.set(func() { first.servers = []string{first.server.URL, joined.server.URL} })
	config := configFor(t.TempDir(), node)
	config.Nexus, config.Cluster = []string{first.server.URL}, testKey(clusterKey).Public().String()
	config.AskTimeout = time.Minute // a loaded machine
	r := start(t, config)
	for until := time.Now().Add(2 * time.Minute); ; runtime.Gosched() { // a server that is slow to name the others is asked again
		if status, _, _ := r.get("/nodes"); status != http.StatusOK || time.Now().After(until) {
			t.Fatalf("the nodes: %d, and no servers were learned", status)
		}
		if _, err := os.Stat(filepath.Join(config.Home, "servers.json")); err == nil {
			break
		}
	}
	first.server.Close()
	page := "/jobs/" + runningOrder.ID().String()
	if status, body, _ := r.get(page); status != http.StatusOK {
		t.Errorf("a job of the server that joined: %d %s", status, body)
	}
	r.stop()
	if status, body, _ := start(t, config).get(page); status != http.StatusOK {
		t.Errorf("after a restart: %d %s", status, body)
	}
}
