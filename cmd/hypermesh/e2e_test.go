package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/devnet"
)

// The end-to-end tests run the real program in real processes. They are left out
// of go test -short.

// endToEnd skips a test that go test -short leaves out.
func endToEnd(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("an end-to-end test: make e2e runs it")
	}
}

// built is the program and the example program, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hypermesh-e2e-")
	if err != nil {
		return "", err
	}
	for _, b := range []struct {
		out, pkg string
		env      []string
	}{
		{out: "hypermesh", pkg: "github.com/hypermesh/hypermesh/cmd/hypermesh"},
		{out: "fractal.wasm", pkg: "github.com/hypermesh/hypermesh/sdk/examples/fractal", env: []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}},
	} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, b.out), b.pkg)
		cmd.Env = append(os.Environ(), b.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", b.out, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	helpWithSlack()
	code := m.Run()
	if !testing.Short() {
		if dir, err := built(); err == nil {
			if err := os.RemoveAll(dir); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	os.Exit(code)
}

func programs(t testing.TB) (hypermesh, fractal string) {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "hypermesh"), filepath.Join(dir, "fractal.wasm")
}

// hypermesh runs one command to its end and returns its standard output.
func hypermesh(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	program, _ := programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	t.Logf("hypermesh %v: %v\n%s", args, err, stderr.Bytes())
	return stdout.Bytes(), err
}

// network is a devnet of its own process, described by the file at path.
type network struct {
	path string
	dir  string
	cmd  *exec.Cmd
	done chan error
}

// startDevnet starts hypermesh devnet up and returns once its description is
// there. The test's end ends it.
func startDevnet(t testing.TB, args ...string) *network {
	t.Helper()
	dir := t.TempDir()
	n := &network{path: filepath.Join(dir, "net.json"), dir: filepath.Join(dir, "net")}
	n.start(t, args...)
	t.Cleanup(func() {
		if t.Failed() {
			n.dumpLogs(t)
		}
		n.stop(t)
	})
	return n
}

func (n *network) start(t testing.TB, args ...string) {
	t.Helper()
	program, _ := programs(t)
	n.cmd = exec.Command(program, append([]string{"devnet", "up", "--dir", n.dir, "--config-out", n.path}, args...)...)
	var stderr bytes.Buffer
	n.cmd.Stderr = &stderr
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.done = make(chan error, 1)
	go func() { n.done <- n.cmd.Wait() }()
	deadline := time.After(2 * time.Minute) // proving keys may have to be made
	for {
		if _, err := os.Stat(n.path); err == nil {
			return
		}
		select {
		case err := <-n.done:
			t.Fatalf("devnet up ended: %v\n%s", err, stderr.Bytes())
		case <-deadline:
			n.dumpLogs(t)
			n.stop(t)
			t.Fatalf("devnet up is not healthy\n%s", stderr.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the network as Ctrl-C does.
func (n *network) stop(t testing.TB) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case err := <-n.done:
		if err != nil {
			t.Errorf("devnet up: %v", err)
		}
		n.done <- nil // a second stop finds it ended
	case <-time.After(time.Minute):
		t.Error("devnet up does not end")
		if err := n.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
}

func (n *network) dumpLogs(t testing.TB) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(n.dir, "*", "process.log"))
	if err != nil {
		t.Error(err)
	}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		const tail = 4 << 10
		t.Logf("%s:\n%s", path, data[max(0, len(data)-tail):])
	}
}

func (n *network) describe(t testing.TB) devnet.Description {
	t.Helper()
	data, err := os.ReadFile(n.path)
	if err != nil {
		t.Fatal(err)
	}
	var d devnet.Description
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// kill kills a process of the network at once, and returns its id.
func (n *network) kill(t testing.TB, role string, index int) int {
	t.Helper()
	for _, p := range n.describe(t).Processes {
		if p.Role == role && p.Index == index && p.PID != 0 {
			t.Logf("killing %s %d (%d)", role, index, p.PID)
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return p.PID
		}
	}
	t.Fatalf("%s %d is not running", role, index)
	return 0
}

func TestDemoEndToEnd(t *testing.T) {
	endToEnd(t)
	_, fractal := programs(t)
	out, err := hypermesh(t, "demo", "--exit", "--json", "--program", fractal)
	if err != nil {
		t.Fatal(err)
	}
	var got demoResult
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	want := []string{"replicate(2 of 3)", "zk(matmul-32)"}
	if len(got.Jobs) != len(want) || len(got.RPC) != 4 || len(got.Nexus) != 3 || got.Explorer == "" {
		t.Fatalf("demo printed %s", out)
	}
	for i, j := range got.Jobs {
		if j.Policy != want[i] || j.Status.String() != "settled" || len(j.SettlementTx) == 0 || j.Cost.IsZero() || j.Burned.IsZero() {
			t.Errorf("job %d is %+v", i, j)
		}
		if j.ProofVerified != (i == 1) || len(j.Providers) != 2-i {
			t.Errorf("job %d: proof verified %v, %d providers", i, j.ProofVerified, len(j.Providers))
		}
	}
	if total, ok := got.Supply.Minted.Sub(got.Supply.Burned); !ok || total != got.Supply.Total || got.Supply.Burned.IsZero() {
		t.Errorf("supply is %+v", got.Supply)
	}
	t.Logf("%d ms from a healthy network to the end, %d ms of setup before", got.ElapsedMs, got.SetupMs)
}

func TestDevnetKeepsItsState(t *testing.T) {
	endToEnd(t)
	args := []string{"--validators", "2", "--servers", "0", "--agents", "0", "--no-explorer"}
	n := startDevnet(t, args...)
	before := n.describe(t)
	alice := before.Accounts[0].Address.String()
	height := func() (h int) {
		t.Helper()
		out, err := hypermesh(t, "query", "account", alice, "--rpc", before.RPC[0], "--json")
		if err != nil {
			t.Fatal(err)
		}
		var account struct {
			Height int `json:"height"`
		}
		if err := json.Unmarshal(out, &account); err != nil {
			t.Fatal(err)
		}
		return account.Height
	}
	for height() < 2 {
		// the query itself takes its time
	}
	last := height()
	n.stop(t)
	if err := os.Remove(n.path); err != nil {
		t.Fatal(err)
	}
	n.start(t, args...)
	after := n.describe(t)
	if after.ChainID != before.ChainID || after.RPC[0] != before.RPC[0] || height() < last {
		t.Errorf("after a restart: %s at %d, before: %s at %d", after.ChainID, height(), before.ChainID, last)
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--json", "--rpc", after.RPC[0]); err != nil {
		t.Errorf("supply: %v\n%s", err, out)
	}
	if _, err := hypermesh(t, "devnet", "up", "--dir", n.dir, "--validators", "3", "--servers", "0", "--agents", "0"); err == nil {
		t.Error("a second network started in a directory in use")
	}
}

// TestSupervisorRestarts kills a validator and waits for its successor.
func TestSupervisorRestarts(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "0", "--validators", "4", "--no-explorer")
	killed := n.kill(t, "validator", 2)
	rpc := n.describe(t).RPC[2]
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		pid := 0
		for _, p := range n.describe(t).Processes {
			if p.Role == "validator" && p.Index == 2 {
				pid = p.PID
			}
		}
		// Each query takes its own time to be refused or answered.
		if _, err := hypermesh(t, "query", "supply", "--rpc", rpc); err == nil && pid != 0 && pid != killed {
			return
		}
	}
	t.Error("the validator did not come back")
}
