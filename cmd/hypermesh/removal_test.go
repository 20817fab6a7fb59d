package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// TestTheOnlyServerOfAnAgentIsRemoved has an agent that is configured with one of
// three servers. That server is removed from the cluster and killed, and then the
// agent is killed and started again: it works for the others.
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
	home := []string{"--home", filepath.Join(n.dir, "nexus-1"), "--nexus", n.describe(t).Nexus[1], "--json"}
	if n.leaderOf(t, ctx, l) == 0 {
		n.nexus(t, "transfer", home, n.idOf(t, "nexus", 1).String())
	}
	n.nexus(t, "remove-server", home, n.idOf(t, "nexus", 0).String())
	n.kill(t, "nexus", 0)
	l.submit(ctx)
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
