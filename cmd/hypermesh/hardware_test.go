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

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk"
)

// TestDeclaredHardwareIsCut has a node declare four times the cores that its agent gives: the chain
// challenges it, peers miss the rest, and its declaration is cut and its bond too, while the nodes
// that show theirs lose nothing. What is missing is not run at all, so that no pace decides it.
func TestDeclaredHardwareIsCut(t *testing.T) {
	endToEnd(t)
	program, _ := programs(t)
	n := startDevnet(t, "--validators", "1", "--servers", "1", "--agents", "4", "--no-explorer", "--no-restart", "--hardware-every", "3s")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	provider := func(node crypto.PublicKey) settlement.Provider { return providerOf(t, ctx, target.client, node) }
	liar := n.idOf(t, "agent", 0)
	before := provider(liar)
	if before.Millicores < 4*chain.LaneMillicores {
		t.Fatalf("a node of a devnet declares %d millicores", before.Millicores)
	}
	n.kill(t, "agent", 0)
	cmd := exec.Command(program, "agent", "up", "--home", filepath.Join(n.dir, "agent-0"))
	cmd.Env = append(os.Environ(), fmt.Sprintf("HYPERMESH_AGENT_MILLICORES=%d", before.Millicores/4))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node that lacks cores: %v", err)
		}
	})
	after := provider(liar)
	for after.Millicores == before.Millicores {
		if ctx.Err() != nil {
			t.Fatal("nobody misses what a node declared and does not have")
		}
		time.Sleep(time.Second) // of a chain that challenges, and judges after a while
		after = provider(liar)
	}
	t.Logf("declared %d millicores and %d MiB, bond %s; then %d, %d and %s", before.Millicores, before.MemoryMiB, before.Bond, after.Millicores, after.MemoryMiB, after.Bond)
	if after.Millicores != before.Millicores/4 || !after.Bond.Less(before.Bond) {
		t.Errorf("it was cut to %d millicores with a bond of %s", after.Millicores, after.Bond)
	}
	for shown := false; !shown; { // the chain goes on drawing
		if ctx.Err() != nil {
			t.Fatal("no node showed its hardware")
		}
		for i := 1; i < 4; i++ {
			shown = shown || n.showedHardware(t, i)
		}
	}
	for i := 1; i < 4; i++ {
		if p := provider(n.idOf(t, "agent", i)); p.Millicores != before.Millicores || p.Bond != before.Bond {
			t.Errorf("agent %d, which has what it declares, counts as %d millicores with a bond of %s", i, p.Millicores, p.Bond)
		}
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--json", "--rpc", n.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v\n%s", err, out)
	}
}

// showedHardware reports whether an agent has shown all that it was asked for, and was asked for more.
func (n *network) showedHardware(t *testing.T, i int) bool {
	t.Helper()
	out, err := hypermesh(t, "agent", "status", "--home", filepath.Join(n.dir, fmt.Sprintf("agent-%d", i)), "--json")
	var s agent.Status
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return s.Hardware != nil && s.Hardware.Asked > 0 && uint64(s.Hardware.Shown) == s.Hardware.Lanes
}

// providerOf is what the chain proves of a node.
func providerOf(t *testing.T, ctx context.Context, client *sdk.Client, node crypto.PublicKey) settlement.Provider {
	t.Helper()
	value, err := client.VerifiedState(ctx, settlement.ProviderKey(node))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := value.Get()
	p, err := settlement.DecodeProvider(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
