package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// ticking is a network and a program that writes the time.
type ticking struct {
	*testing.T
	*network
	target  *target
	program string
}

func newTicking(t *testing.T, agents int) *ticking {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tick.wasm")
	build := exec.Command("go", "build", "-o", program, "./testdata/tick")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := startDevnet(t, "--servers", "1", "--agents", strconv.Itoa(agents), "--no-explorer")
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	return &ticking{T: t, network: n, target: target, program: program}
}

// request has a lease made, and returns its name.
func (k *ticking) request(args ...string) (id chain.LeaseID) {
	k.Helper()
	out, err := hypermesh(k.T, append(append([]string{"lease", "request", "--config", k.path, "--memory-mib", "128", "--json"}, args...), k.program)...)
	if err != nil || json.Unmarshal(out, &id) != nil {
		k.Fatalf("lease request: %v: %s", err, out)
	}
	return id
}

// ticks are the times that the program wrote, as far as servers have them.
func (k *ticking) ticks(id chain.LeaseID) (list []int64) {
	out, err := exec.Command(k.hypermesh(), "job", "logs", id.Order.String(), "--config", k.path).Output()
	if err != nil {
		return nil // the server is on its way
	}
	for line := range strings.Lines(string(out)) {
		if ms, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			list = append(list, ms)
		}
	}
	return list
}

func (k *ticking) hypermesh() string {
	program, _ := programs(k.T)
	return program
}

// awaitTick waits until the program wrote a time after another.
func (k *ticking) awaitTick(id chain.LeaseID, after time.Time) {
	k.Helper()
	until(k.T, "the service runs", 2*time.Minute, func() bool {
		list := k.ticks(id)
		return len(list) > 0 && list[len(list)-1] > after.UnixMilli()
	})
}

func (k *ticking) lease(id chain.LeaseID, what string, args ...string) []byte {
	k.Helper()
	args = append([]string{"lease", what, "--config", k.path, "--json", "--node", id.Node.String(), "--order", id.Order.String()}, args...)
	if what != "show" {
		args = append(args, "--yes")
	}
	out, err := hypermesh(k.T, args...)
	if err != nil {
		k.Fatalf("%q: %v: %s", args, err, out)
	}
	return out
}

func (k *ticking) awaitStatus(id chain.LeaseID, want job.Status) {
	k.Helper()
	until(k.T, "the order is "+want.String(), 2*time.Minute, func() bool {
		j, err := k.target.client.Job(k.Context(), id.Order)
		return err == nil && j.Status == want
	})
}

// TestLeaseThroughNexus has a cluster make the deal, opens it, and kills in turn the agent,
// the server and the relay while the service runs: what the chain's state says is what
// happens, to its end. A deal that nobody opens comes to nothing.
func TestLeaseThroughNexus(t *testing.T) {
	endToEnd(t)
	k := newTicking(t, 1)
	asked := time.Now()
	id := k.request("--hold", "50", "--notice", "2s")
	k.awaitTick(id, asked)
	for _, role := range []string{"agent", "nexus", "relay"} {
		k.kill(t, role, 0)
		k.awaitTick(id, time.Now().Add(time.Second)) // it runs, or does again, and the servers hear of it
	}
	until(t, "the cluster sees the lease", time.Minute, func() bool {
		j, err := k.target.client.Job(t.Context(), id.Order)
		return err == nil && j.Leased
	})
	program, _ := programs(t)
	said, err := exec.Command(program, "job", "cancel", "--config", k.path, id.Order.String()).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "hypermesh lease close --node "+id.Node.String()+" --order "+id.Order.String()) {
		t.Errorf("a lease that is open was cancelled, or not how it ends was said: %v\n%s", err, said)
	}
	if err := k.target.client.EnsureEscrow(t.Context(), k.target.account, k.describe(t).Cluster, chain.Hyper(5)); err != nil {
		t.Fatal(err)
	}
	k.lease(id, "extend", "--amount", "5")
	k.resize(id)
	k.lease(id, "close")
	var closed leaseLine
	if err := json.Unmarshal(k.lease(id, "show"), &closed); err != nil {
		t.Fatal(err)
	}
	k.awaitStatus(id, job.Settled)
	last := k.ticks(id)
	if len(last) == 0 || closed.Live && last[len(last)-1] > int64(closed.Expires)+500 {
		t.Errorf("the service wrote at %d, its lease ended at %d", last[len(last)-1], closed.Expires)
	}
	until(t, "the node is free again", time.Minute, func() bool {
		list, err := k.target.client.Nodes(t.Context())
		return err == nil && len(list) == 1 && list[0].Used.Millicores == 0
	})
	k.leaveUnopened()
}

// resize has a lease keep more, and then less: the node and the cluster follow the chain, and
// the service runs.
func (k *ticking) resize(id chain.LeaseID) {
	t := k.T
	for _, size := range [][2]uint64{{1_500, 192}, {500, 128}} {
		k.lease(id, "resize", "--hold", "5", "--millicores", strconv.FormatUint(size[0], 10), "--memory-mib", strconv.FormatUint(size[1], 10))
		until(t, "the cluster counts what the lease keeps", time.Minute, func() bool {
			list, err := k.target.client.Nodes(t.Context())
			return err == nil && len(list) == 1 && list[0].Used.Millicores == size[0] && list[0].Used.MemoryMiB == size[1]
		})
		k.awaitTick(id, time.Now().Add(3*time.Second))
	}
	args := []string{"lease", "resize", "--config", k.path, "--yes", "--node", id.Node.String(), "--order", id.Order.String(), "--hold", "5", "--millicores", "1000000"}
	if out, err := hypermesh(t, args...); err == nil {
		t.Errorf("it was resized to a thousand cores: %s", out)
	}
}

// leaveUnopened has a deal made that nobody opens: the cluster and the node forget it, and it is
// worth nothing afterwards.
func (k *ticking) leaveUnopened() {
	t := k.T
	deal := filepath.Join(t.TempDir(), "deal.json")
	id := k.request("--hold", "50", "--patience", "20s", "--deal", deal)
	k.awaitStatus(id, job.Failed)
	if out, err := hypermesh(t, "lease", "open", "--config", k.path, "--deal", deal, "--yes"); err == nil {
		t.Errorf("it was opened after its deadline: %s", out)
	}
	if list := k.ticks(id); len(list) > 0 {
		t.Errorf("a lease that nobody opened was served: %v", list)
	}
}
