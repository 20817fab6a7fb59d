package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/simulation"
)

// nexus runs hypersim nexus and returns what it printed.
func nexus(t *testing.T, wantCode int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, messages bytes.Buffer
	if code := run(context.Background(), append([]string{programName, "nexus"}, args...), &out, &messages); code != wantCode {
		t.Fatalf("%v: exit code %d, want %d\n%s%s", args, code, wantCode, out.String(), messages.String())
	}
	return out.String(), messages.String()
}

func TestNexusRefusesByName(t *testing.T) {
	for want, args := range map[string][]string{
		"agents is 0":                          {"--agents", "0"},
		"jobs is 10000001":                     {"--jobs", "10000001"},
		"rate is -1":                           {"--rate", "-1"},
		"seed is 4294967296":                   {"--seed", "4294967296"},
		"agents and trace do not go together":  {"--trace", "x", "--agents", "3"},
		"speed is of a trace":                  {"--speed", "3"},
		"placement is \"worst\"":               {"--trace", "x", "--placement", "worst"},
		"sample is 0":                          {"--trace", "x", "--sample", "0"},
		"\"more\" is not expected":             {"more"},
		"Try: hypersim nexus --help":           {"--agents", "0"},
		"flag provided but not defined: -gpus": {"--gpus"},
	} {
		if _, messages := nexus(t, exitUsage, args...); !strings.Contains(messages, want) {
			t.Errorf("%v: %q lacks %q", args, messages, want)
		}
	}
	if _, messages := nexus(t, exitFailed, "--trace", t.TempDir()); !strings.Contains(messages, "openb_nodes.csv") {
		t.Errorf("a directory without a trace: %q", messages)
	}
}

func TestNexusReports(t *testing.T) {
	out, _ := nexus(t, 0, "--agents", "20", "--jobs", "100", "--json")
	var r clusterReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Settled != 100 || r.PlacementsPerS == 0 || r.MemoryMiB == 0 {
		t.Errorf("%v: %+v", err, r)
	}
	if out, _ := nexus(t, 0, "--agents", "20", "--jobs", "100", "--calm"); !strings.Contains(out, "100 settled, 0 failed") {
		t.Errorf("%s", out)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"openb_nodes.csv": "sn,cpu_milli,memory_mib,gpu,model\nm,8000,8000,2,T4\n",
		"openb_pods.csv":  "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\na,1000,10,1,500,,0,50000\nb,1000,10,2,1000,,0,100000\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _ = nexus(t, 0, "--trace", dir, "--json")
	var replays []simulation.ReplayReport
	if err := json.Unmarshal([]byte(out), &replays); err != nil || len(replays) != 6 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, r := range replays {
		if waits := i >= 3; r.Placed != map[bool]int{false: 1, true: 2}[waits] || waits != (r.Waited == 1) || waits && r.WaitMax != 50_000 {
			t.Errorf("%+v", r)
		}
	}
	if out, _ = nexus(t, 0, "--trace", dir, "--placement", "ours"); !strings.Contains(out, "no end     ours") {
		t.Errorf("%s", out)
	}
}
