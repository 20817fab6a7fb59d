package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestJobsOfOneAccountAtOnce runs jobs side by side on an account whose escrow is
// empty: each deposits what all of them need. Half of them are a Go program, the others a C
// program that asks for time and chance: on both nodes they give the same.
func TestJobsOfOneAccountAtOnce(t *testing.T) {
	endToEnd(t)
	_, fractal := programs(t)
	n := startDevnet(t, "--servers", "1", "--agents", "2", "--no-explorer")
	in := t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "params.txt"), []byte("width = 64\nheight = 64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	orbits, err := filepath.Abs(filepath.Join("..", "..", "nexus", "executor", "testdata", "orbits", "orbits.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	agreed := map[string]bool{} // of both nodes; nodes without a record are checked always
	for _, program := range []string{fractal, orbits, fractal, orbits} {
		wg.Go(func() {
			out, err := hypermesh(t, "job", "run", program, "--in", in, "--verify", "replicate=2/2", "--config", n.path, "--json")
			var report api.JobReport
			if err != nil || json.Unmarshal(out, &report) != nil || report.Status.String() != "settled" {
				t.Errorf("%v: %s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			agreed[program] = agreed[program] || len(report.Providers) == 2
		})
	}
	wg.Wait()
	if !agreed[fractal] || !agreed[orbits] {
		t.Errorf("both nodes ran: %v", agreed)
	}
}
