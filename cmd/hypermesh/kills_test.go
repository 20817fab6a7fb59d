package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestSpineSurvivesKills kills one validator, the raft leader, one agent that
// runs a job, and the relay, while jobs of every policy run: all settle, each
// once, and the supply is conserved.
func TestSpineSurvivesKills(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t)
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := target.client.EnsureEscrow(ctx, target.account, n.describe(t).Cluster, chain.Hyper(5_000)); err != nil {
		t.Fatal(err)
	}
	runs := killRuns(t, target)
	jobs, errs := make([]api.Job, len(runs)), make([]error, len(runs))
	live := make(chan crypto.PublicKey, 1024)
	var wg sync.WaitGroup
	for i := range runs {
		runs[i].Consumer = target.account
		runs[i].Progress = func(_ string, j *api.Job) { announceLive(live, j) }
		wg.Go(func() { jobs[i], errs[i] = runPatiently(ctx, target.client, runs[i]) })
	}
	n.killAll(t, ctx, target, live)
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("job %d (%s): %v", i, runs[i].Policy, err)
		}
	}
	if !t.Failed() {
		checkSettledOnce(t, ctx, n, target, jobs)
	}
}

// announceLive reports the nodes that run a job now.
func announceLive(live chan<- crypto.PublicKey, j *api.Job) {
	if j == nil {
		return
	}
	for _, r := range j.Runs {
		if r.Stage == "live" {
			select {
			case live <- r.Node:
			default: // enough are known
			}
		}
	}
}

// runPatiently runs a job; where a request fails because of a kill, the same job
// is followed further.
func runPatiently(ctx context.Context, client *sdk.Client, r sdk.JobRun) (api.Job, error) {
	j, err := client.RunJob(ctx, r)
	for tries := 0; tries < 20 && err != nil && ctx.Err() == nil && !errors.Is(err, sdk.ErrNotSettled); tries++ {
		if j.ID.IsZero() {
			j, err = client.RunJob(ctx, r)
			continue
		}
		next, again := client.Job(ctx, j.ID)
		if again != nil {
			continue
		}
		j, err = client.Follow(ctx, next, func(stage string, j *api.Job) { r.Progress(stage, j) })
	}
	return j, err
}

// killRuns are the jobs that run while things die.
func killRuns(t *testing.T, target *target) []sdk.JobRun {
	t.Helper()
	_, fractal := programs(t)
	var runs []sdk.JobRun
	for i := range 4 {
		dir := t.TempDir()
		if err := writeFile(dir, "params.txt", []byte(fmt.Sprintf("width = %d\nheight = 900\n", 900+i))); err != nil {
			t.Fatal(err)
		}
		packed, err := packDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		program, err := os.Open(fractal)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := program.Close(); err != nil {
				t.Error(err)
			}
		})
		var policy chain.Policy = chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}
		if i%2 == 1 {
			policy = chain.PolicyNone{}
		}
		limits := job.LimitsUnder(policy, &target.genesis.Params)
		runs = append(runs, sdk.JobRun{
			Spec:  job.Spec{Label: "fractal", Resources: job.Resources{Millicores: 1_000, MemoryMiB: limits.MemoryBytes >> 20}, Limits: limits},
			Blobs: []io.ReadSeeker{program, packed}, Policy: policy,
			Bind: func(ids []crypto.Digest) job.Work {
				return job.Wasm{Module: ids[0], Input: ids[1], Deterministic: !isNone(policy)}
			},
		})
	}
	return append(runs, matmulRun(t, target))
}

func matmulRun(t *testing.T, target *target) sdk.JobRun {
	t.Helper()
	d := &demoRun{dir: t.TempDir(), target: target}
	r, err := d.matmulJob()
	if err != nil {
		t.Fatal(err)
	}
	if d.left.Size() != demoSize || zk.LeftDigest(d.left) == zk.LeftDigest(d.right) {
		t.Fatal("the matrices are not two of the demo's size")
	}
	return r
}

// killAll kills, one after another, a validator, an agent that runs a job, the
// raft leader and the relay.
func (n *network) killAll(t *testing.T, ctx context.Context, target *target, live <-chan crypto.PublicKey) {
	t.Helper()
	select {
	case id := <-live:
		n.kill(t, "agent", n.indexOf(t, "agent", id))
	case <-ctx.Done():
		t.Fatal("no job ever ran")
	}
	n.kill(t, "validator", 1)
	n.kill(t, "relay", 0)
	status, err := target.client.NexusStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n.kill(t, "nexus", n.indexOf(t, "nexus", status.Leader))
}

// indexOf returns which process of a role has a node id.
func (n *network) indexOf(t testing.TB, role string, id crypto.PublicKey) int {
	t.Helper()
	for _, p := range n.describe(t).Processes {
		if p.Role != role {
			continue
		}
		key, err := node.ReadKey(p.Home + "/" + node.NodeKeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if key.Public() == id {
			return p.Index
		}
	}
	t.Fatalf("no %s has the id %s", role, id)
	return 0
}

// checkSettledOnce holds the chain against what the jobs should have cost.
func checkSettledOnce(t *testing.T, ctx context.Context, n *network, target *target, jobs []api.Job) {
	t.Helper()
	var spent chain.Amount
	for i := range jobs {
		settled, err := target.client.Settlements(ctx, jobs[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		want, n := 1, len(settled.Settled)
		if p, ok := jobs[i].Order.Policy.Policy.(chain.PolicyReplicate); ok && n > 1 {
			want = int(p.K) // or one: a primary with a record is not always checked
		}
		if n != want || settled.Cost != jobs[i].Settlement.Cost {
			t.Errorf("job %s (%s): %d claims for %s on chain, want %d for %s", jobs[i].ID.Short(), jobs[i].Policy, len(settled.Settled), settled.Cost, want, jobs[i].Settlement.Cost)
		}
		var ok bool
		if spent, ok = spent.Add(settled.Cost); !ok {
			t.Fatal("the costs do not fit an amount")
		}
	}
	state, err := target.client.State(ctx, settlement.EscrowKey(target.account.Address(), n.describe(t).Cluster))
	if err != nil {
		t.Fatal(err)
	}
	escrow, err := settlement.DecodeEscrow(state.Value)
	if err != nil {
		t.Fatal(err)
	}
	if held, ok := chain.Hyper(5_000).Sub(spent); !ok || escrow.Balance != held {
		t.Errorf("the escrow holds %s after %s were spent of 5000 HYPER", escrow.Balance, spent)
	}
	if supply, err := target.client.Supply(ctx, true); err != nil || supply.Parts.Sum != supply.Total {
		t.Errorf("supply: %+v, %v", supply, err)
	}
}
