package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// kernelRun is a job of a kernel: its files as a person writes them, and as the kernel takes them.
type kernelRun struct {
	kernel zk.Kernel
	files  []string
	inputs [][]byte
	out    string // the name of its output
}

// kernelRuns are jobs of every family but matmul, and usage-batch, which is none.
func kernelRuns(t *testing.T) []kernelRun {
	t.Helper()
	value := func(digit string) string { return strings.Repeat("0", 63) + digit }
	tree, updates := "3,"+value("5")+"\n70000,"+value("6")+"\n", "3,"+value("9")+"\n"
	leaves, err := zk.ParseTreeCSV([]byte(tree))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := zk.ParseTreeUpdatesCSV([]byte(updates))
	if err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile("../../sdk/examples/iris/model.csv")
	if err != nil {
		t.Fatal(err)
	}
	start, sample := value("7")+"\n", "12,-3,40,5\n"
	return []kernelRun{
		{"hashchain-16", []string{start}, [][]byte{[]byte(start)}, "end.txt"},
		{"mlp-8", []string{string(model), sample}, [][]byte{model, []byte(sample)}, "result.csv"},
		{"merkle-update-1", []string{tree, updates}, [][]byte{leaves.Encode(), zk.EncodeTreeUpdates(changes)}, "tree.cbor"},
	}
}

// TestEveryKernelFromTheCommandLine has each family's kernel ordered, proven by an agent, verified by the
// chain and paid, and compares the output with the plain computation. What is no input of a kernel is refused before.
func TestEveryKernelFromTheCommandLine(t *testing.T) {
	endToEnd(t)
	runs := kernelRuns(t)
	args := []string{"--servers", "1", "--agents", "1", "--no-explorer"}
	for _, r := range runs {
		args = append(args, "--kernel", string(r.kernel))
	}
	n := startDevnet(t, args...)
	for _, r := range runs {
		t.Run(string(r.kernel), func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			args := []string{"job", "run", "--kernel", string(r.kernel), "--verify", "zk", "--out", out, "--config", n.path, "--json"}
			for i, text := range r.files {
				path := filepath.Join(dir, "in"+string(rune('0'+i)))
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--input", path)
			}
			printed, err := hypermesh(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			var report api.JobReport
			if err := json.Unmarshal(printed, &report); err != nil {
				t.Fatalf("%v in %s", err, printed)
			}
			if report.Policy != "zk("+string(r.kernel)+")" || report.Status.String() != "settled" || !report.ProofVerified {
				t.Errorf("the report is %s", printed)
			}
			work, err := zk.Read(r.kernel, r.inputs)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(out, r.out))
			if err != nil || !bytes.Equal(got, work.Output()) {
				t.Errorf("the output is %q, want %q: %v", got, work.Output(), err)
			}
			if shown, err := hypermesh(t, "job", "status", report.ID.String(), "--config", n.path, "--json"); err != nil || !bytes.Contains(shown, []byte("settled")) {
				t.Errorf("job status: %s, %v", shown, err)
			}
			if err := os.WriteFile(args[len(args)-1], []byte("no input of any kernel\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if printed, err := hypermesh(t, args...); err == nil {
				t.Errorf("a file that is no input was taken: %s", printed)
			}
		})
	}
}
