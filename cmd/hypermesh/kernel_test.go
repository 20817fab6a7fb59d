package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// matrixFiles are two matrices, and files that have them.
func matrixFiles(t *testing.T) (paths [2]string, matrices [2]zk.Matrix) {
	t.Helper()
	dir := t.TempDir()
	for k := range matrices {
		cells := make([]int16, demoSize*demoSize)
		for i := range cells {
			cells[i] = int16(i*(7919+k)) - 3
		}
		m, err := zk.NewMatrix(demoSize, cells)
		if err != nil {
			t.Fatal(err)
		}
		paths[k], matrices[k] = filepath.Join(dir, string(rune('a'+k))+".csv"), m
		if err := os.WriteFile(paths[k], m.CSV(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return paths, matrices
}

// TestKernelFromTheCommandLine has two matrices of CSV files multiplied and
// proven, and refuses a file that is no matrix before anything is paid.
func TestKernelFromTheCommandLine(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer")
	dir := t.TempDir()
	paths, matrices := matrixFiles(t)
	out := filepath.Join(dir, "out")
	run := func(a string) ([]byte, error) {
		t.Helper()
		return hypermesh(t, "job", "run", "--kernel", "matmul", "--a", a, "--b", paths[1], "--verify", "zk", "--out", out, "--config", n.path, "--json")
	}
	printed, err := run(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	var report api.JobReport
	if err := json.Unmarshal(printed, &report); err != nil {
		t.Fatalf("%v in %s", err, printed)
	}
	if report.Policy != "zk(matmul-32)" || report.Status.String() != "settled" || !report.ProofVerified || report.Output != out {
		t.Errorf("the report is %s", printed)
	}
	data, err := os.ReadFile(filepath.Join(out, agent.ProductFile))
	if err != nil {
		t.Fatal(err)
	}
	got, err := zk.ParseProductCSV(data)
	if err != nil {
		t.Fatal(err)
	}
	want, err := zk.Multiply(matrices[0], matrices[1])
	if err != nil {
		t.Fatal(err)
	}
	if zk.ProductDigest(got) != zk.ProductDigest(want) {
		t.Error("the product is wrong")
	}
	wantCompleted(t, n, &report)
	broken := filepath.Join(dir, "broken.csv")
	if err := os.WriteFile(broken, []byte("1,2\n3,40000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out = filepath.Join(dir, "none")
	if printed, err := run(broken); err == nil {
		t.Errorf("a file that is no matrix was taken: %s", printed)
	}
}

// wantCompleted has the reputation of who did a job's work proven: it completed it.
func wantCompleted(t *testing.T, n *network, report *api.JobReport) {
	t.Helper()
	if len(report.Providers) != 1 {
		t.Fatalf("providers are %v", report.Providers)
	}
	printed, err := hypermesh(t, "query", "reputation", report.Providers[0].String(), "--config", n.path, "--genesis", filepath.Join(n.dir, node.GenesisFile), "--json")
	if err != nil {
		t.Fatal(err)
	}
	var r api.Reputation
	if err := json.Unmarshal(printed, &r); err != nil || r.Provider == nil || r.Provider.Completed == 0 || r.Provider.Score <= match.Neutral {
		t.Errorf("the node's reputation is %s, %v", printed, err)
	}
}
