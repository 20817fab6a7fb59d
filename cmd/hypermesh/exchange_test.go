package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fairWorld is a network whose relay can be held.
type fairWorld struct {
	*testing.T
	net    *network
	target *target
	ctx    context.Context
}

// job starts a job under fair exchange, and returns it once its claim waits for the relay, with its
// sealed output, and what tells how the command ended.
func (w *fairWorld) job(out string) (api.Job, []byte, *exec.Cmd) {
	w.Helper()
	program, fractal := programs(w)
	known := map[crypto.Digest]bool{}
	for j, err := range w.target.client.Jobs(w.ctx, chain.Address{}) {
		if err != nil {
			w.Fatal(err)
		}
		known[j.ID] = true
	}
	input := w.TempDir()
	if err := writeFile(input, "params.txt", []byte(demoParams)); err != nil {
		w.Fatal(err)
	}
	run := exec.CommandContext(w.ctx, program, "job", "run", "--fair-exchange", "--in", input, "--out", out, "--config", w.net.path, "--json", fractal)
	run.Stdout, run.Stderr = &bytes.Buffer{}, &bytes.Buffer{}
	if err := run.Start(); err != nil {
		w.Fatal(err)
	}
	var id crypto.Digest
	for id.IsZero() { // each question takes its own time
		for j, err := range w.target.client.Jobs(w.ctx, chain.Address{}) {
			if err != nil {
				w.Fatalf("%v; job run says %s", err, run.Stderr)
			}
			if !known[j.ID] {
				id = j.ID
			}
		}
	}
	for j, err := range w.target.client.WatchJob(w.ctx, id) {
		if err != nil {
			w.Fatal(err)
		}
		if j.Status == job.Settling {
			break
		}
	}
	for shown := false; !shown; { // the node shows its key to the cluster
		box, err := w.target.client.Outbox(w.ctx, 0, 100, sdk.MaxOutboxWait)
		if err != nil {
			w.Fatal(err)
		}
		for _, item := range box.Items {
			shown = shown || item.Order == id
		}
	}
	j, err := w.target.client.Job(w.ctx, id)
	if err != nil {
		w.Fatal(err)
	}
	if j.Status != job.Settling || len(j.Runs) != 1 || j.Runs[0].Receipt == nil || j.Runs[0].Receipt.Sealed == nil {
		w.Fatalf("the job is %+v", j)
	}
	return j, w.read(j.Runs[0].Receipt.Sealed.Output), run
}

func (w *fairWorld) read(id crypto.Digest) []byte {
	w.Helper()
	r, err := w.target.client.GetBlob(w.ctx, id, 1<<30)
	if err != nil {
		w.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		w.Fatal(err)
	}
	return data
}

// unreadable demands that nothing that the consumer can ask for reads the output.
func (w *fairWorld) unreadable(j *api.Job, sealed []byte) {
	w.Helper()
	if j.Runs[0].OutputKey != nil {
		w.Error("the server tells the key of an output that is not paid")
	}
	if _, err := w.target.client.JobOutput(w.ctx, j, 1<<30); !errors.Is(err, sdk.ErrSealed) {
		w.Errorf("the output of a job that is not settled: %v", err)
	}
	receipt := api.ReceiptFromJSON(*j.Runs[0].Receipt)
	if _, err := w.target.client.VerifiedKey(w.ctx, &receipt); !errors.Is(err, sdk.ErrSealed) {
		w.Errorf("the state's key of an output that is not paid: %v", err)
	}
	if r, err := w.target.client.GetBlob(w.ctx, j.Output, 1<<30); err == nil {
		if _, err := io.ReadAll(r); err == nil {
			w.Error("the output itself is at the servers")
		}
		if err := r.Close(); err != nil {
			w.Error(err)
		}
	}
	if blob.Sum(sealed) == j.Output {
		w.Error("what is sealed is the output")
	}
	if out, err := hypermesh(w.T, "job", "output", j.ID.String(), "--out", filepath.Join(w.TempDir(), "early"), "--config", w.net.path); err == nil {
		w.Errorf("job output before the payment: %s", out)
	}
}

func (w *fairWorld) signal(role string, signal syscall.Signal) {
	w.Helper()
	for _, p := range w.net.describe(w.T).Processes {
		if p.Role == role && p.Index == 0 {
			if err := syscall.Kill(p.PID, signal); err != nil {
				w.Fatal(err)
			}
			return
		}
	}
	w.Fatalf("there is no %s", role)
}

// TestFairExchangeWithProcesses: while the relay is held the consumer cannot read its output, and
// once the claim is final it can. Then the relay and the servers are gone after the node has shown
// its key to the cluster: the node's owner posts the claim alone, and the chain tells the key.
func TestFairExchangeWithProcesses(t *testing.T) {
	endToEnd(t)
	w := &fairWorld{T: t, net: startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer", "--no-restart")}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	d := w.net.describe(t)
	var err error
	if w.target, err = newTarget(d, "alice"); err != nil {
		t.Fatal(err)
	}
	w.signal("relay", syscall.SIGSTOP)
	out := filepath.Join(t.TempDir(), "out")
	j, sealed, run := w.job(out)
	w.unreadable(&j, sealed)
	w.signal("relay", syscall.SIGCONT)
	if err := run.Wait(); err != nil {
		t.Fatalf("%v: %s", err, run.Stderr)
	}
	again := filepath.Join(t.TempDir(), "again")
	if printed, err := hypermesh(t, "job", "output", j.ID.String(), "--out", again, "--config", w.net.path); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	for _, dir := range []string{out, again} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
			t.Errorf("%s has %d files: %v", dir, len(entries), err)
		}
	}
	w.alone(d.RPC[0], d.Genesis)
}

// alone has the owner of the node post a claim whose relay and servers are gone.
func (w *fairWorld) alone(rpc, genesis string) {
	w.Helper()
	w.net.kill(w.T, "relay", 0)
	j, sealed, run := w.job(filepath.Join(w.TempDir(), "never"))
	w.unreadable(&j, sealed)
	w.net.kill(w.T, "nexus", 0)
	if err := run.Process.Kill(); err != nil {
		w.Error(err)
	}
	if err := run.Wait(); err == nil {
		w.Error("the job settled without relay and servers")
	}
	key := filepath.Join(w.TempDir(), "owner.key")
	for _, a := range w.net.describe(w.T).Accounts {
		if a.Name == "provider-0" {
			if err := os.WriteFile(key, []byte(a.PrivateKey+"\n"), 0o600); err != nil {
				w.Fatal(err)
			}
		}
	}
	if _, err := node.ReadKey(key); err != nil {
		w.Fatal(err)
	}
	post := func() ([]byte, error) {
		return hypermesh(w.T, "claim", "post", "--home", filepath.Join(w.net.dir, "agent-0"), "--order", j.ID.String(), "--key-file", key, "--rpc", rpc, "--genesis", genesis, "--yes", "--json")
	}
	printed, err := post()
	if err != nil {
		w.Fatalf("%v: %s", err, printed)
	}
	var sent sentResult
	if err := json.Unmarshal(printed, &sent); err != nil {
		w.Fatalf("%v in %s", err, printed)
	}
	receipt := api.ReceiptFromJSON(*j.Runs[0].Receipt)
	opening, err := w.target.client.VerifiedKey(w.ctx, &receipt)
	if err != nil {
		w.Fatal(err)
	}
	opened := sdk.OpenOutput(io.NopCloser(bytes.NewReader(sealed)), j.Output, opening)
	if data, err := io.ReadAll(opened); err != nil || len(data) == 0 || blob.Sum(data) != j.Output {
		w.Errorf("with the key that was paid for it opens to %d bytes: %v", len(data), err)
	}
	for i := range sealed {
		sealed[i] ^= 1
		break
	}
	if _, err := io.ReadAll(sdk.OpenOutput(io.NopCloser(bytes.NewReader(sealed)), j.Output, opening)); !errors.Is(err, sdk.ErrGarbled) {
		w.Errorf("garbage is opened: %v", err)
	}
	if printed, err := post(); err == nil {
		w.Errorf("posted again: %s", printed)
	}
}

// TestCountersignFromTheCommandLine: the consumer signs a claim of a file, and nothing but its own.
func TestCountersignFromTheCommandLine(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer", "--no-restart")
	d := n.describe(t)
	n.kill(t, "relay", 0)
	_, fractal := programs(t)
	program, _ := programs(t)
	w := &fairWorld{T: t, net: n, ctx: t.Context()}
	var err error
	if w.target, err = newTarget(d, "alice"); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), program, "job", "run", "--countersignable", "--config", n.path, fractal)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	var id crypto.Digest
	for id.IsZero() {
		box, err := w.target.client.Outbox(w.ctx, 0, 1, sdk.MaxOutboxWait)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range box.Items {
			id = item.Order
		}
	}
	if err := run.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := run.Wait(); err == nil {
		t.Error("the job settled without a relay")
	}
	home, dir := filepath.Join(n.dir, "agent-0"), t.TempDir()
	claim, signed := filepath.Join(dir, "claim.json"), filepath.Join(dir, "signed.json")
	must := func(args ...string) {
		t.Helper()
		if out, err := hypermesh(t, args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	must("claim", "export", "--home", home, "--order", id.String(), "--out", claim)
	if out, err := hypermesh(t, "job", "countersign", "--claim", claim, "--out", signed, "--config", n.path, "--account", "bob", "--yes"); err == nil {
		t.Fatalf("another consumer signs: %s", out)
	}
	must("job", "countersign", "--claim", claim, "--out", signed, "--config", n.path, "--account", "alice", "--yes")
	c, err := readClaim(signed)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := c.Order.Consumer.Ed25519(); err != nil || !c.Countersigned ||
		!key.Verify(crypto.DomainCountersign, chain.CountersignPayload(d.ChainID, c.Receipt.Digest()), c.Attestation) {
		t.Errorf("the claim is not countersigned: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), program, "claim", "post", "--claim", signed, "--config", n.path, "--account", "alice", "--yes")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "it is countersigned, and taken from") {
		t.Errorf("posted before its time: %v: %s", err, out)
	}
}
