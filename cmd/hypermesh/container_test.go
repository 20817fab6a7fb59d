package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// imageFile is an image of the executor's test program, as docker save has it.
func imageFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "inmate")
	cmd := exec.Command("go", "build", "-o", program, "../../nexus/executor/testdata/inmate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	layer := tarOf(t, map[string][]byte{"inmate": data})
	config := fmt.Sprintf(`{"os":"linux","architecture":%q,"config":{"Entrypoint":["/inmate","exit","0"]},"rootfs":{"diff_ids":["sha256:%x"]}}`, runtime.GOARCH, sha256.Sum256(layer))
	image := filepath.Join(dir, "image.tar")
	all := tarOf(t, map[string][]byte{"config": []byte(config), "layer": layer, "manifest.json": []byte(`[{"Config":"config","Layers":["layer"]}]`)})
	if err := os.WriteFile(image, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestContainersFromTheCommandLine has an agent run containers for a consumer:
// one that leaves an output, some that break a limit, which the report names,
// and a service that is well until its time ends: the node is unharmed.
func TestContainersFromTheCommandLine(t *testing.T) {
	endToEnd(t)
	if os.Geteuid() != 0 {
		t.Skip("containers are set up by root")
	}
	t.Setenv("HYPERMESH_AGENT_CONTAINERS", "true")
	image := imageFile(t)
	n := startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer")
	run := func(args ...string) (api.JobReport, error) {
		t.Helper()
		printed, err := hypermesh(t, append([]string{"job", "run", "--container", "--config", n.path, "--json", "--memory-mib", "64"}, args...)...)
		var report api.JobReport
		if jsonErr := json.Unmarshal(printed, &report); jsonErr != nil {
			t.Fatalf("%v in %s, %v", jsonErr, printed, err)
		}
		return report, err
	}
	out := filepath.Join(t.TempDir(), "out")
	report, err := run("--out", out, image, "--", "/inmate", "write", "/out/f")
	if err != nil || report.Exit != chain.ExitOK {
		t.Fatalf("%+v, %v", report, err)
	}
	if data, err := os.ReadFile(filepath.Join(out, "f")); err != nil || string(data) != "written" {
		t.Errorf("the output is %q, %v", data, err)
	}
	for _, h := range []struct {
		does   string
		time   string
		memory string // MiB; what is written to /out counts until it is on the disk
		exit   chain.ExitStatus
		detail string
	}{
		{"memory", "60s", "64", chain.ExitMemory, "limit memory_bytes of 67108864"},
		{"fork", "60s", "64", chain.ExitTrapped, "limit processes of"},
		{"loop", "2s", "64", chain.ExitTime, "limit wall_time of 2s"},
		{"fill", "60s", "256", chain.ExitOutput, "limit output_bytes"},
		{"files", "60s", "64", chain.ExitOutput, "limit output_files"},
		{"log", "60s", "64", chain.ExitOutput, "limit log_bytes"},
	} {
		report, err = run("--time-limit", h.time, "--memory-mib", h.memory, image, "--", "/inmate", h.does)
		if report.Exit != h.exit || !strings.Contains(report.Detail, h.detail) || report.Status != job.Settled {
			t.Errorf("%s: %+v, %v", h.does, report, err)
		}
	}
	report, err = run("--service", "always", "--time-limit", "2s", "--health-port", "8080", "--health-interval", "300ms", image, "--", "/inmate", "serve", "1000")
	if err != nil || report.Exit != chain.ExitOK || report.Detail != "the service's time ended" {
		t.Errorf("%+v, %v", report, err)
	}
}
