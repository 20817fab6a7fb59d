package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestProgramsAreLookedAt: what is plainly not what the flags say is refused by name, before
// any network is asked for.
func TestProgramsAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	var image bytes.Buffer
	var other bytes.Buffer
	w := tar.NewWriter(&other)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 2}), writeAll(w, "[]"), w.Close()); err != nil {
		t.Fatal(err)
	}
	w = tar.NewWriter(&image)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Size: 2}), writeAll(w, "[]"), w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"p.wasm": "\x00asm\x01\x00\x00\x00", "image.tar": image.String(), "image.tgz": "\x1f\x8b\x08\x00", "elf": "\x7fELF\x02", "empty": "",
		"other.tar": other.String(), "part.tar": image.String()[:513],
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(dir, "none.json")
	for _, c := range []struct{ flags, file, want string }{
		{"job run --container", "p.wasm", "is a WebAssembly program, no image: leave --container out"},
		{"job quote --container", "p.wasm", "is a WebAssembly program, no image"},
		{"lease request --hold 1 --container", "p.wasm", "is a WebAssembly program, no image"},
		{"job run --container", "image.tgz", "gunzip it first"},
		{"job run --container", "elf", "wants the image that it is in"},
		{"job run --container", "empty", "is empty"},
		{"job run --container", "other.tar", "has neither manifest.json nor index.json"},
		{"job run --container", "part.tar", "is no whole tar archive: unexpected EOF"},
		{"job run --container --memory-mib 1", "image.tar", "--memory-mib is 1, a container needs 16"},
		{"job run --container --restarts 3", "image.tar", "--restarts changes nothing without --service"},
		{"job run --container --health-interval 1s", "image.tar", "--health-interval changes nothing without --health-port or --health-cmd"},
		{"job run --container --health-path /x", "image.tar", "--health-path changes nothing without --health-port"},
		{"job run --container --kernel matmul", "image.tar", "--container and --kernel: want one"},
		{"job run --service always", "p.wasm", "--service is for containers: give --container too"},
		{"lease request --hold 1 --env A=B", "p.wasm", "--env is for containers"},
		{"job run --container", "", "is a directory"},
		{"job run", "image.tar", "--container runs an image"},
		{"job run", "image.tgz", "--container runs an image"},
		{"job run", "empty", "is empty"},
		{"job run", "", "is a directory"},
	} {
		code, _, stderr := invoke(t, append(strings.Fields(c.flags), "--config", none, filepath.Join(dir, c.file))...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%s %s: exit code %d, %q, want %q", c.flags, c.file, code, stderr, c.want)
		}
	}
	for flags, file := range map[string]string{
		"job run --container": "image.tar", "job run": "p.wasm", "job run --container --service always --restarts 3 --health-cmd /x --health-interval 1s": "image.tar",
	} {
		if code, _, stderr := invoke(t, append(strings.Fields(flags), "--config", none, filepath.Join(dir, file))...); code != exitFailed || !strings.Contains(stderr, "none.json") {
			t.Errorf("%s %s: exit code %d, %q", flags, file, code, stderr)
		}
	}
}

func writeAll(w *tar.Writer, text string) error {
	_, err := w.Write([]byte(text))
	return err
}

// TestTooLateToCancel: why a job is not cancelled is said in words alone.
func TestTooLateToCancel(t *testing.T) {
	id := crypto.Digest{7}
	late := fmt.Errorf("sdk: DELETE http://x: %w", &api.Problem{Status: http.StatusConflict, Title: "Conflict", Detail: "it has run, and is settled on the chain"})
	if got, want := notCancelled(id, late).Error(), "job "+id.String()+" is not cancelled: it has run, and is settled on the chain"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	busy := fmt.Errorf("sdk: DELETE http://x: %w", &api.Problem{Status: http.StatusServiceUnavailable, Title: "Busy"})
	if got := notCancelled(id, busy); !errors.Is(got, busy) {
		t.Errorf("%v", got)
	}
}

// TestCloseInstead: whoever cannot cancel a lease is told the command that ends it, also where another
// order resized it, and whoever has none is not.
func TestCloseInstead(t *testing.T) {
	first, node := crypto.Digest{7}, crypto.PrivateKeyFromSeed([32]byte{3}).Public()
	j := api.Job{ID: first, Status: job.Running, Leased: true, Order: api.Order{Term: &api.Term{}}, Deal: &api.LeaseDeal{Bid: api.Bid{Node: node}}}
	want := "give notice of it: hypermesh lease close --node " + node.String() + " --order " + first.String()
	if got := closeInstead(&j); got == nil || got.Error() != want {
		t.Errorf("%v, want %s", got, want)
	}
	j.ID, j.Order.Term.Resizes = crypto.Digest{8}, first
	if got := closeInstead(&j); got == nil || got.Error() != want {
		t.Errorf("resized: %v, want %s", got, want)
	}
	j.Leased = false
	if got := closeInstead(&j); got != nil {
		t.Errorf("a lease that is not open: %v", got)
	}
	if got := closeInstead(&api.Job{ID: first, Status: job.Settling}); got != nil {
		t.Errorf("no lease: %v", got)
	}
}

// TestLeaseText: a lease is shown in HYPER and dates, as elsewhere.
func TestLeaseText(t *testing.T) {
	line := leaseLine{
		Live: true, Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 2_000}, {Resource: chain.Memory, Amount: 512}},
		Prices: []chain.UnitPrice{{Resource: chain.CPU, Price: 1_500_000_000}, {Resource: chain.Memory, Price: 600_000_000}},
		Rate:   2_000*1_500_000_000 + 512*600_000_000, Held: chain.Hyper(3), PaidUntil: 1_700_000_000_123, Expires: 1_700_003_600_000, Closing: true, Height: 9,
	}
	var out bytes.Buffer
	line.print(&out)
	for _, want := range []string{
		"keeps       2000 millicores for 0.0108 HYPER an hour\n", "keeps       512 MiB of memory for 0.00110592 HYPER an hour\n", "costs       0.01190592 HYPER an hour\n",
		"holds       3 HYPER\npaid until  2023-11-14 22:13:20 UTC\nends        2023-11-14 23:13:20 UTC, upon notice\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}

// TestJobsUnderWay: a job that runs is no receipt, and says where it runs.
func TestJobsUnderWay(t *testing.T) {
	node := crypto.PrivateKeyFromSeed([32]byte{3}).Public()
	j := api.Job{Status: job.Running, Runs: []api.JobRun{{Node: crypto.PublicKey{9}, Stage: "lost"}, {Node: node, Stage: "live"}}}
	show := func() string {
		var out bytes.Buffer
		app := newApp(&out, &out)
		if err := printReport(cli.NewContext(app, nil, nil), j.Report(), &target{}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := show(); strings.Contains(got, "Receipt") || strings.Count(got, "runs on") != 1 || !strings.Contains(got, "  runs on    "+node.String()+"\n") {
		t.Errorf("a job that runs: %s", got)
	}
	j.Status = job.Settled
	if got := show(); !strings.Contains(got, "Receipt") || strings.Contains(got, "runs on") {
		t.Errorf("a job that settled: %s", got)
	}
}

// TestUnknownJobs: that nobody knows a job is said without the request; of other commands the
// request stays.
func TestUnknownJobs(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		if err := json.NewEncoder(w).Encode(api.Problem{Type: api.ProblemNotFound, Title: "Not Found", Detail: "it is not known"}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	if code, _, stderr := invoke(t, "query", "supply", "--rpc", server.URL); code != exitFailed || !strings.Contains(stderr, server.URL) {
		t.Errorf("query: %d, %q", code, stderr)
	}
	app := newApp(io.Discard, io.Discard)
	at := app.Commands[slices.IndexFunc(app.Commands, func(c *cli.Command) bool { return c.Name == "job" })]
	c := cli.NewContext(app, nil, nil)
	c.Command = at.Subcommands[0]
	c.Command.HelpName = "hypermesh job run"
	unknown := fmt.Errorf("sdk: GET http://x: %w", &api.Problem{Type: api.ProblemNotFound, Status: http.StatusNotFound, Detail: "it is not known"})
	if got := inWords(c, unknown).Error(); got != "it is not known" {
		t.Errorf("a job: %q", got)
	}
}
