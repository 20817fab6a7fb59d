package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestANetworkOnACeremonysKeys holds a ceremony of two phases with two contributors each, starts a network on the keys
// that came out, and has a proof made with them paid by the chain. No key of it is insecure. A ceremony
// that is not sealed, or whose files were changed, starts none.
func TestANetworkOnACeremonysKeys(t *testing.T) {
	endToEnd(t)
	const kernel, beacon = "hashchain-1", "00112233445566778899aabbccddeeff"
	dir := filepath.Join(t.TempDir(), "ceremony")
	step := func(args ...string) []byte {
		t.Helper()
		out, err := hypermesh(t, append([]string{"zk", "ceremony"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	refused := func(when, want string) {
		t.Helper()
		program, _ := programs(t)
		cmd := exec.CommandContext(t.Context(), program, "devnet", "up", "--dir", filepath.Join(t.TempDir(), "net"), "--servers", "1", "--agents", "1", "--no-explorer", "--ceremony", dir)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s, want it to name %q", when, err, out, want)
		}
	}
	step("init", "--dir", dir, "--kernel", kernel)
	for range 2 { // phases
		step("contribute", "--dir", dir)
		step("contribute", "--dir", dir)
		refused("before the end", "is not sealed")
		step("seal", "--dir", dir, "--beacon", beacon)
	}
	var transcript struct {
		VerifyingKey string `json:"verifying_key"`
	}
	if err := json.Unmarshal(step("verify", "--dir", dir, "--json"), &transcript); err != nil {
		t.Fatal(err)
	}
	n := startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer", "--ceremony", dir)
	var g chain.Genesis
	if raw, err := os.ReadFile(filepath.Join(n.dir, node.GenesisFile)); err != nil || json.Unmarshal(raw, &g) != nil {
		t.Fatalf("genesis: %v", err)
	}
	if g.InsecureKeys || len(g.Kernels) != 1 || g.Kernels[0].Name != kernel || g.Kernels[0].VerifyingKey.String() != transcript.VerifyingKey {
		t.Errorf("genesis has %+v, insecure %t; the ceremony ended with %s", g.Kernels, g.InsecureKeys, transcript.VerifyingKey)
	}
	start := filepath.Join(t.TempDir(), "start")
	if err := os.WriteFile(start, []byte(strings.Repeat("0", 63)+"7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	printed, err := hypermesh(t, "job", "run", "--kernel", kernel, "--verify", "zk", "--input", start, "--out", filepath.Join(t.TempDir(), "out"), "--config", n.path, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var report api.JobReport
	if err := json.Unmarshal(printed, &report); err != nil {
		t.Fatal(err)
	}
	if report.Policy != "zk("+kernel+")" || report.Status.String() != "settled" || !report.ProofVerified {
		t.Errorf("the report is %s", printed)
	}
	contribution := filepath.Join(dir, "phase2-002.ceremony")
	data, err := os.ReadFile(contribution)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-40] ^= 1
	if err := os.WriteFile(contribution, data, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a changed contribution", "phase2-002")
}
