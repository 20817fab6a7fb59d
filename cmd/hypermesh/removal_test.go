package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestTheOnlyServerOfAnAgentIsRemoved has an agent that is configured with one of
// three servers, and commands whose description names the same one. That server is
// removed from the cluster and killed, and then the agent is killed and started
// again: it works for the others, and the commands ask them.
func TestTheOnlyServerOfAnAgentIsRemoved(t *testing.T) {
	endToEnd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := []string{"--validators", "1", "--servers", "3", "--agents", "1", "--no-explorer", "--no-restart"}
	n := startDevnet(t, args...)
	first := n.serverAddr(t, ctx, 0)
	n.stop(t)
	if err := os.Remove(n.path); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HYPERMESH_AGENT_SERVERS", first)
	n.start(t, args...)
	n.awaitServers(t, ctx, 3)
	l := newLoad(t, ctx, n)
	l.submit(ctx)
	only := n.describeFirst(t)
	lines := []byte("what a client of one server brought\n")
	id := n.putBlob(t, only, lines)
	n.awaitLearned(t, ctx, only, 3)
	home := []string{"--home", filepath.Join(n.dir, "nexus-1"), "--nexus", n.describe(t).Nexus[1], "--json"}
	if n.leaderOf(t, ctx, l) == 0 {
		n.nexus(t, "transfer", home, n.idOf(t, "nexus", 1).String())
	}
	n.nexus(t, "remove-server", home, n.idOf(t, "nexus", 0).String())
	n.kill(t, "nexus", 0)
	l.submit(ctx)
	back := filepath.Join(t.TempDir(), "back")
	out, err := hypermesh(t, "blob", "get", "--config", only, id, back)
	if err != nil {
		t.Errorf("after the only server that the client was told of is gone: %v\n%s", err, out)
	} else if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, lines) {
		t.Errorf("the blob is %q, %v", got, err)
	}
	n.awaitLearned(t, ctx, only, 2)
	n.kill(t, "agent", 0)
	program, _ := programs(t)
	again := exec.Command(program, "agent", "up", "--home", filepath.Join(n.dir, "agent-0"))
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := again.Wait(); err != nil {
			t.Errorf("the agent that was started again: %v", err)
		}
	})
	n.awaitServers(t, ctx, 2)
	l.submit(ctx)
	l.checkPaidOnce(t, ctx)
}

// describeFirst writes the network's description with the first server alone.
func (n *network) describeFirst(t *testing.T) string {
	t.Helper()
	d := n.describe(t)
	d.Nexus = d.Nexus[:1]
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "network.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// putBlob uploads a blob with a command, and returns its id.
func (n *network) putBlob(t *testing.T, config string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := hypermesh(t, "blob", "put", "--config", config, "--json", path)
	var put struct {
		ID string `json:"digest"`
	}
	if err == nil {
		err = json.Unmarshal(out, &put)
	}
	if err != nil || put.ID == "" {
		t.Fatalf("blob put: %v\n%s", err, out)
	}
	return put.ID
}

// awaitLearned runs commands until one has been told of so many servers.
func (n *network) awaitLearned(t *testing.T, ctx context.Context, config string, want int) {
	t.Helper()
	for {
		out, err := hypermesh(t, "nexus", "top", "--config", config, "--once", "--json")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var list api.ServerAddresses
		if data, err := os.ReadFile(config + serversSuffix); err == nil {
			if err := json.Unmarshal(data, &list); err != nil {
				t.Fatal(err)
			}
		}
		if len(list.Servers) == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the command knows %d servers, want %d", len(list.Servers), want)
		}
		shortly(ctx)
	}
}

// nexus runs a command about the cluster's servers.
func (n *network) nexus(t *testing.T, verb string, flags []string, id string) {
	t.Helper()
	if out, err := hypermesh(t, append(append([]string{"nexus", verb}, flags...), id)...); err != nil {
		t.Fatalf("%s %s: %v\n%s", verb, id, err, out)
	}
}

// serverAddr returns where agents reach a server.
func (n *network) serverAddr(t *testing.T, ctx context.Context, index int) string {
	t.Helper()
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	list, err := target.client.Servers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := n.idOf(t, "nexus", index)
	for _, s := range list.Servers {
		if s.ID == id {
			return fmt.Sprintf("%s@%s", s.ID, s.Address)
		}
	}
	t.Fatalf("server %s is no member", id)
	return ""
}

// awaitServers waits until the agent is connected to so many servers.
func (n *network) awaitServers(t *testing.T, ctx context.Context, want int) {
	t.Helper()
	for {
		out, err := hypermesh(t, "agent", "status", "--json", "--home", filepath.Join(n.dir, "agent-0"))
		var s agent.Status
		connected := 0
		if err == nil {
			err = json.Unmarshal(out, &s)
		}
		for _, server := range s.Servers {
			if server.Connected {
				connected++
			}
		}
		if err == nil && connected == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the agent is connected to %d servers, want %d: %v\n%s", connected, want, err, out)
		}
		shortly(ctx)
	}
}
