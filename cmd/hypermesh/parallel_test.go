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
// empty: each deposits what all of them need.
func TestJobsOfOneAccountAtOnce(t *testing.T) {
	endToEnd(t)
	_, fractal := programs(t)
	n := startDevnet(t, "--servers", "1", "--agents", "2", "--no-explorer")
	in := t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "params.txt"), []byte("width = 64\nheight = 64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const jobs = 4
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			out, err := hypermesh(t, "job", "run", fractal, "--in", in, "--verify", "replicate=2/2", "--config", n.path, "--json")
			var report api.JobReport
			if err != nil || json.Unmarshal(out, &report) != nil || report.Status.String() != "settled" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
}
