package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// hostileJob is a job that misbehaves, and how it must be reported.
type hostileJob struct {
	name   string
	args   []string // of job run, without the program; the last is the program's
	exit   chain.ExitStatus
	code   uint32
	detail string
	module string // empty: the program in testdata/hostile
}

func hostileJobs(garbage string) []hostileJob {
	const fuel = "3000000000"
	return []hostileJob{
		{name: "endless loop", args: []string{"--fuel", fuel, "--", "loop"}, exit: chain.ExitFuel, detail: "fuel"},
		{name: "memory without end", args: []string{"--", "memory"}, exit: chain.ExitMemory, code: 2, detail: "memory_bytes"},
		{name: "recursion without end", args: []string{"--", "stack"}, exit: chain.ExitTrapped, detail: "call stack"},
		{name: "output without end", args: []string{"--", "output"}, exit: chain.ExitOutput, detail: "output_bytes"},
		{name: "files without end", args: []string{"--", "files"}, exit: chain.ExitOutput, detail: "output_files"},
		{name: "log without end", args: []string{"--", "log"}, exit: chain.ExitOutput, detail: "log_bytes"},
		{name: "exit code 3", args: []string{"--", "exit"}, exit: chain.ExitFailed, code: 3},
		{name: "input that is not there", args: []string{"--", "input"}, exit: chain.ExitFailed, code: 1},
		{name: "gigabytes in single instructions", args: []string{"--", "fill"}, exit: chain.ExitOK},
		{name: "ways out of the sandbox", args: []string{"--", "escape"}, exit: chain.ExitOK},
		{name: "no module", args: []string{"--", "x"}, exit: chain.ExitInvalid, detail: "magic", module: garbage},
	}
}

// TestHostileJobs runs programs that loop, allocate and write without end, fail,
// or are none, under policies none and replicate: each ends at its limit, is
// reported as such, is paid for within its cap, and the agents that ran them
// run on.
func TestHostileJobs(t *testing.T) {
	endToEnd(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "hostile.wasm")
	build := exec.Command("go", "build", "-o", program, "./testdata/hostile")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	garbage, empty := filepath.Join(dir, "garbage.wasm"), filepath.Join(dir, "empty.wasm")
	for path, content := range map[string]string{garbage: strings.Repeat("no module ", 500), empty: ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := startDevnet(t, "--no-restart")
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	// One deposit, so that jobs at the same time need none.
	if err := target.client.EnsureEscrow(t.Context(), target.account, n.describe(t).Cluster, chain.Hyper(1_000)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 3)
	for _, policy := range []string{"none", "replicate=2/3"} {
		costs := map[string]chain.Amount{}
		var mu sync.Mutex
		for _, h := range hostileJobs(garbage) {
			if h.module == "" {
				h.module = program
			}
			wg.Go(func() {
				atOnce <- struct{}{}
				defer func() { <-atOnce }()
				cost := n.runHostile(t, policy, h)
				mu.Lock()
				defer mu.Unlock()
				costs[h.name] = cost
			})
		}
		wg.Wait()
		// What moved four gigabytes is not as cheap as what moved nothing.
		if policy != "none" && !costs["exit code 3"].Less(costs["gigabytes in single instructions"]) {
			t.Errorf("%s: moving gigabytes cost %s, ending at once %s", policy, costs["gigabytes in single instructions"], costs["exit code 3"])
		}
	}
	if out, err := hypermesh(t, "job", "run", empty, "--config", n.path); err == nil {
		t.Errorf("a module of 0 bytes was taken: %s", out)
	}
	n.checkUnharmed(t, target)
}

// runHostile runs one job with the program's own command and checks its report.
func (n *network) runHostile(t *testing.T, policy string, h hostileJob) chain.Amount {
	limit := "60s"
	if policy != "none" {
		limit = "15s" // what jurors of a devnet can judge
	}
	args := append([]string{"job", "run", h.module, "--config", n.path, "--json", "--verify", policy, "--memory-mib", "128", "--time-limit", limit}, h.args...)
	out, err := hypermesh(t, args...)
	if err != nil {
		t.Errorf("%s, %s: %v", h.name, policy, err)
		return chain.Amount{}
	}
	var r api.JobReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Errorf("%s, %s: %v in %s", h.name, policy, err, out)
		return chain.Amount{}
	}
	providers := 1
	if policy != "none" {
		providers = 2
	}
	if r.Status != job.Settled || r.Exit != h.exit || r.ExitCode != h.code || !strings.Contains(r.Detail, h.detail) ||
		len(r.Providers) != providers || r.Cost.IsZero() || r.Burned.IsZero() {
		t.Errorf("%s, %s: want %s %d %q of %d providers, got\n%s", h.name, policy, h.exit, h.code, h.detail, providers, out)
	}
	j, err := n.job(t, r)
	if err != nil {
		t.Errorf("%s, %s: %v", h.name, policy, err)
		return r.Cost
	}
	if j.Order.MaxCost.Less(r.Cost) {
		t.Errorf("%s, %s: it cost %s, at most %s was ordered", h.name, policy, r.Cost, j.Order.MaxCost)
	}
	return r.Cost
}

func (n *network) job(t *testing.T, r api.JobReport) (api.Job, error) {
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		return api.Job{}, err
	}
	return target.client.Job(t.Context(), r.ID)
}

// checkUnharmed demands that no process has died, that agents keep nothing of
// what they ran but within bounds, that an honest job still runs, and that the
// supply is conserved.
func (n *network) checkUnharmed(t *testing.T, target *target) {
	t.Helper()
	for _, p := range n.describe(t).Processes {
		if err := syscall.Kill(p.PID, 0); p.PID != 0 && err != nil {
			t.Errorf("%s %d (%d) has ended: %v", p.Role, p.Index, p.PID, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	runs := killRuns(t, target)
	runs[0].Consumer = target.account
	if done, err := target.client.RunJob(ctx, runs[0]); err != nil {
		t.Errorf("an honest job: %v, %s", err, done.Status)
	}
	runDir := filepath.Join(n.dir, "agent-*", "work", "runs", "*") // kept for the next work if nothing was left in it
	inside, errInside := filepath.Glob(filepath.Join(runDir, "*"))
	left, err := filepath.Glob(filepath.Join(runDir, "out", "*"))
	for _, path := range inside {
		if filepath.Base(path) != "out" {
			left = append(left, path)
		}
	}
	if err := errors.Join(err, errInside); err != nil || len(left) > 0 {
		t.Errorf("files of work that has ended are left: %v, %v", left, err)
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--json", "--rpc", n.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v\n%s", err, out)
	}
}
