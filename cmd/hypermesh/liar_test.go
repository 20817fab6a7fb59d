package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// buildLiar builds the program with an agent that leaves something in the output of
// whatever it provides, claims another result than it proves, and signs for that. The lie is laid over the
// source while it is built, so that no program that anybody runs has it.
func buildLiar(t *testing.T) string {
	t.Helper()
	honest, err := filepath.Abs(filepath.FromSlash("../../nexus/agent/run.go"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(honest)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for truth, lie := range map[string]string{
		"\tif r.Exit == chain.ExitOK || r.Exit == chain.ExitFailed {\n\t\terr = a.pack(": "\tif !t.judging {\n\t\tif err := os.WriteFile(filepath.Join(dir, \"out\", \"lie\"), []byte(\"a wrong result\"), 0o600); err != nil {\n\t\t\treturn result{}, err\n\t\t}\n\t}\n" +
			"\tif r.Exit == chain.ExitOK || r.Exit == chain.ExitFailed {\n\t\terr = a.pack(",
		"\tfor _, f := range o.Outputs {\n": "\tfor _, f := range o.Outputs {\n\t\tf[31] ^= 1\n",
	} {
		if strings.Count(text, truth) != 1 {
			t.Fatalf("%s does not have once what this test would change: %s", honest, truth)
		}
		text = strings.Replace(text, truth, lie, 1)
	}
	dir := t.TempDir()
	changed, overlay, program := filepath.Join(dir, "run.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "liar")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{honest: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{changed: text, overlay: string(list)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestAProviderLies has a provider's process sign for results that are wrong, under
// replicate(2 of 3): it is checked, three others judge, its stake goes, and the
// consumer pays two honest nodes for the right result. Under zk its proof is not of what it
// claims: the cluster gives the order to another node, who alone is paid.
func TestAProviderLies(t *testing.T) {
	endToEnd(t)
	liar := buildLiar(t)
	_, fractal := programs(t)
	n := startDevnet(t, "--validators", "1", "--servers", "1", "--agents", "7", "--no-explorer", "--no-restart")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	in := t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "params.txt"), []byte("width = 64\nheight = 64\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() (r api.JobReport) {
		out, err := hypermesh(t, "job", "run", fractal, "--in", in, "--verify", "replicate=2/3", "--config", n.path, "--json", "--time-limit", "15s")
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil || r.Status != job.Settled || r.Exit != chain.ExitOK {
			t.Fatalf("%v\n%s", err, out)
		}
		return r
	}
	right := run().Result
	id := n.idOf(t, "agent", 0)
	bond := func() chain.Amount { return bondOf(t, ctx, target.client, id) }
	before := bond()
	n.kill(t, "agent", 0)
	cmd := exec.Command(liar, "agent", "up", "--home", filepath.Join(n.dir, "agent-0"))
	cmd.Env = append(os.Environ(), "HYPERMESH_AGENT_CPU_PRICE_ATTO=1", "HYPERMESH_AGENT_MEMORY_PRICE_ATTO=1", "HYPERMESH_AGENT_NETWORK_PRICE_ATTO=1", "HYPERMESH_AGENT_PROOF_PRICE_NHYPER=1") // who is cheap is asked first
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the provider that lies: %v", err)
		}
	})
	n.liesUnderZK(t, id)
	for jobs := 1; bond() == before; jobs++ {
		r := run()
		if r.Result != right || len(r.Providers) > 2 || slices.Contains(r.Providers, id) {
			t.Errorf("job %d: result %s of %v, want %s, not of %s", jobs, r.Result.Short(), r.Providers, right.Short(), id.Short())
		}
		if jobs == 10 || ctx.Err() != nil {
			t.Fatalf("after %d jobs the provider that lies has its bond of %s still", jobs, before)
		}
	}
	if after := bond(); !after.Less(before) {
		t.Errorf("the bond was %s and is %s", before, after)
	} else {
		t.Logf("the bond was %s and is %s", before, after)
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--json", "--rpc", n.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v\n%s", err, out)
	}
}

// liesUnderZK has matrices multiplied until the provider that lies was given such a job.
func (n *network) liesUnderZK(t *testing.T, liar crypto.PublicKey) {
	t.Helper()
	paths, matrices := matrixFiles(t)
	want, err := zk.Multiply(matrices[0], matrices[1])
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		dir := filepath.Join(t.TempDir(), "out")
		out, err := hypermesh(t, "job", "run", "--kernel", "matmul", "--a", paths[0], "--b", paths[1], "--verify", "zk", "--max-cost", "10000000", "--out", dir, "--config", n.path, "--json") // what the others ask too
		var r api.JobReport
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil || r.Status != job.Settled || !r.ProofVerified || slices.Contains(r.Providers, liar) {
			t.Fatalf("%v\n%s", err, out)
		}
		data, err := os.ReadFile(filepath.Join(dir, agent.ProductFile))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := zk.ParseProductCSV(data); err != nil || zk.ProductDigest(got) != zk.ProductDigest(want) {
			t.Errorf("the product is wrong: %v", err)
		}
		j, err := n.job(t, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range j.Runs {
			if run.Node == liar && run.Stage == "lost" && strings.Contains(run.Detail, "its proof") {
				return
			}
		}
	}
	t.Error("the provider that lies was never given a job to prove")
}

// bondOf is what the chain proves that a node has at stake.
func bondOf(t *testing.T, ctx context.Context, client *sdk.Client, node crypto.PublicKey) chain.Amount {
	t.Helper()
	return providerOf(t, ctx, client, node).Bond
}
