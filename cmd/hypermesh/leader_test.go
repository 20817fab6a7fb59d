package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	loadEvery   = 50 * time.Millisecond // from one submission to the next
	loadDeposit = 20_000                // HYPER
	// loadSettles is within what all that was accepted has to be paid.
	loadSettles = 4 * time.Minute
)

// countingProgram is a WASI program that counts down for about a millisecond.
var countingProgram = []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" +
	"\x0a\x19\x01\x17\x01\x01\x7f\x41\x80\x80\xc0\x00\x21\x00\x03\x40\x20\x00\x41\x01\x6b\x22\x00\x0d\x00\x0b\x0b")

// jobLoad submits one job after another through the sdk, each with an order of
// its own, and notes which were accepted, and when.
type jobLoad struct {
	target *target
	spec   job.Spec
	order  chain.Order

	mu       sync.Mutex
	accepted []acceptedJob
	failed   []error
}

type acceptedJob struct {
	id       crypto.Digest
	from, at time.Time
}

// newLoad uploads the program and funds the escrow.
func newLoad(t testing.TB, ctx context.Context, n *network) *jobLoad {
	t.Helper()
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	l := &jobLoad{target: target}
	module, size, err := target.client.PutBlob(ctx, bytes.NewReader(countingProgram))
	if err != nil {
		t.Fatal(err)
	}
	l.spec = job.Spec{
		Label: "counting", Work: job.WorkField{Work: job.Wasm{Module: module}}, InputBytes: uint64(size),
		Resources: job.Resources{Millicores: 100, MemoryMiB: 1},
		Limits:    job.Limits{Fuel: 100_000_000, MemoryBytes: 1 << 20, WallMs: 10_000, OutputBytes: 4 << 10, OutputFiles: 1, LogBytes: 4 << 10},
	}
	quote, err := target.client.Quote(ctx, l.spec, chain.PolicyNone{}, 0)
	if err != nil || quote.MaxCost.IsZero() {
		t.Fatal(quote.Reason, err)
	}
	l.order = chain.Order{
		ChainID: target.genesis.ChainID, Cluster: quote.Cluster, Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, MaxCost: quote.MaxCost,
		Deadline: chain.TimeMs(time.Now().Add(20 * time.Minute).UnixMilli()),
	}
	for _, p := range quote.Bids[0].Prices {
		l.order.Caps = append(l.order.Caps, chain.UnitPrice{Resource: p.Resource, Price: 2 * uint64(p.Price)})
	}
	if err := target.client.EnsureEscrow(ctx, target.account, quote.Cluster, chain.Hyper(loadDeposit)); err != nil {
		t.Fatal(err)
	}
	return l
}

// run submits at every tick until ctx ends, and waits for what is under way.
func (l *jobLoad) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			wg.Go(func() { l.submit(context.WithoutCancel(ctx)) })
		}
	}
}

func (l *jobLoad) submit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	order := l.order
	order.Nonce = rand.Uint64()
	from := time.Now()
	request, err := sdk.SignOrder(order, l.spec, l.target.account)
	var j api.Job
	for err == nil && j.ID.IsZero() { // an order names itself: whoever is not answered asks again
		if j, err = l.target.client.SubmitJob(ctx, request); err != nil && ctx.Err() == nil {
			err = nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, err)
		return
	}
	l.accepted = append(l.accepted, acceptedJob{id: j.ID, from: from, at: time.Now()})
}

// count returns how many jobs have been accepted.
func (l *jobLoad) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// awaitMore waits until so many more jobs are accepted.
func (l *jobLoad) awaitMore(t testing.TB, ctx context.Context, more int) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for want := l.count() + more; l.count() < want; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%d jobs are accepted, not %d: %v", l.count(), want, errors.Join(l.failed...))
		}
	}
}

// again returns how long after a moment the first job was accepted that was
// submitted after it.
func (l *jobLoad) again(t testing.TB, ctx context.Context, since time.Time) time.Duration {
	t.Helper()
	for {
		l.mu.Lock()
		first := time.Duration(0)
		for _, a := range l.accepted {
			if took := a.at.Sub(since); a.from.After(since) && (first == 0 || took < first) {
				first = took
			}
		}
		l.mu.Unlock()
		if first > 0 {
			return first
		}
		l.awaitMore(t, ctx, 1)
	}
}

// checkPaidOnce waits until every accepted job is settled, and holds the jobs'
// receipts, the chain's settlements of each, and the escrow against each other.
func (l *jobLoad) checkPaidOnce(t testing.TB, ctx context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, loadSettles)
	defer cancel()
	if len(l.failed) > 0 {
		t.Errorf("%d submissions failed, the first: %v", len(l.failed), l.failed[0])
	}
	spent, lost, twice := chain.Amount{}, 0, 0
	for _, a := range l.accepted {
		j, err := l.target.client.Job(ctx, a.id)
		for err == nil && !j.Status.Final() {
			select {
			case <-time.After(50 * time.Millisecond):
				j, err = l.target.client.Job(ctx, a.id)
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		receipts := 0
		for i := range j.Runs {
			if j.Runs[i].Receipt != nil {
				receipts++
			}
		}
		if err != nil || j.Status != job.Settled || receipts != 1 {
			t.Errorf("job %s is %s (%s), with %d receipts: %v", a.id.Short(), j.Status, j.Reason, receipts, err)
			lost++
			continue
		}
		paid, err := l.target.client.Settlements(ctx, a.id)
		if err != nil || len(paid.Settled) != 1 || paid.Cost.IsZero() {
			t.Errorf("job %s: %d settlements for %s: %v", a.id.Short(), len(paid.Settled), paid.Cost, err)
			twice++
		}
		var ok bool
		if spent, ok = spent.Add(paid.Cost); !ok {
			t.Fatal("the costs do not fit an amount")
		}
	}
	t.Logf("%d jobs accepted, %d lost, %d not paid once, %s in all", len(l.accepted), lost, twice, spent)
	state, err := l.target.client.State(ctx, settlement.EscrowKey(l.target.account.Address(), l.order.Cluster))
	if err != nil {
		t.Fatal(err)
	}
	escrow, err := settlement.DecodeEscrow(state.Value)
	if err != nil {
		t.Fatal(err)
	}
	if held, ok := chain.Hyper(loadDeposit).Sub(spent); !ok || escrow.Balance != held {
		t.Errorf("the escrow holds %s after %s were spent of %d HYPER", escrow.Balance, spent, loadDeposit)
	}
}

// loadedCluster starts a network of so many servers whose agents take many jobs,
// and puts it under load: a job at every tick.
func loadedCluster(t testing.TB, ctx context.Context, every time.Duration, args ...string) (n *network, l *jobLoad, finish func()) {
	t.Helper()
	for name, value := range map[string]string{
		"NEXUS_AUCTION_WINDOW": "5ms", "NEXUS_LOG_LEVEL": "warn", "AGENT_LOG_LEVEL": "warn",
		"AGENT_MILLICORES": "64000", "AGENT_MEMORY_MIB": "16384", "AGENT_MAX_JOBS": "128",
	} {
		t.Setenv("HYPERMESH_"+name, value)
	}
	n = startDevnet(t, append([]string{"--validators", "1", "--agents", "2", "--no-explorer"}, args...)...)
	l = newLoad(t, ctx, n)
	under, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(under, every)
	}()
	finish = func() {
		stop()
		<-done
	}
	t.Cleanup(finish)
	return n, l, finish
}

// leaderOf returns the index of the server that leads.
func (n *network) leaderOf(t testing.TB, ctx context.Context, l *jobLoad) int {
	t.Helper()
	for {
		status, err := l.target.client.NexusStatus(ctx)
		if err == nil && !status.Leader.IsZero() {
			return n.indexOf(t, "nexus", status.Leader)
		}
		if ctx.Err() != nil {
			t.Fatal("no server leads", err)
		}
	}
}

// TestServersKilledUnderLoad kills, while jobs are submitted all the time, the
// server that leads, one that follows, and all three at once. What was accepted
// is paid, each once, and work is accepted again after each kill: how soon, BenchmarkLeaderKilled measures.
func TestServersKilledUnderLoad(t *testing.T) {
	endToEnd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	n, l, finish := loadedCluster(t, ctx, loadEvery, "--servers", "3")
	l.awaitMore(t, ctx, 40)
	killed := time.Now()
	leader := n.leaderOf(t, ctx, l)
	n.kill(t, "nexus", leader)
	t.Logf("the leader was killed: accepting again after %v", l.again(t, ctx, killed))
	l.awaitMore(t, ctx, 40)
	killed = time.Now()
	n.kill(t, "nexus", (n.leaderOf(t, ctx, l)+1)%3)
	t.Logf("a follower was killed: a job was accepted after %v", l.again(t, ctx, killed))
	l.awaitMore(t, ctx, 40)
	killed = time.Now()
	for _, p := range n.describe(t).Processes {
		if p.Role == "nexus" && p.PID != 0 {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("all servers were killed: accepting again after %v", l.again(t, ctx, killed))
	l.awaitMore(t, ctx, 40)
	finish()
	l.checkPaidOnce(t, ctx)
}

// TestTwoServersOfFiveKilled kills the leader of five servers and one more, for
// good, while jobs are submitted: three go on, one of the dead is removed, and the
// leadership handed over, with the program's own commands.
func TestTwoServersOfFiveKilled(t *testing.T) {
	endToEnd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	n, l, finish := loadedCluster(t, ctx, loadEvery, "--servers", "5", "--no-restart")
	l.awaitMore(t, ctx, 20)
	killed := time.Now()
	leader := n.leaderOf(t, ctx, l)
	other := (leader + 1) % 5
	n.kill(t, "nexus", other)
	n.kill(t, "nexus", leader)
	t.Logf("two of five were killed: accepting again after %v", l.again(t, ctx, killed))
	l.awaitMore(t, ctx, 20)
	living := (leader + 2) % 5
	flags := []string{"--home", filepath.Join(n.dir, fmt.Sprintf("nexus-%d", living)), "--nexus", n.describe(t).Nexus[living], "--json"}
	if out, err := hypermesh(t, append(append([]string{"nexus", "remove-server"}, flags...), n.idOf(t, "nexus", other).String())...); err != nil {
		t.Fatalf("removing a server that is dead: %v\n%s", err, out)
	}
	next := n.leaderOf(t, ctx, l)
	to := living
	if next == living {
		to = (leader + 3) % 5
	}
	out, err := hypermesh(t, append(append([]string{"nexus", "transfer"}, flags...), n.idOf(t, "nexus", to).String())...)
	var list api.ServerList
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil || len(list.Servers) != 4 {
		t.Fatalf("handing over: %v\n%s", err, out)
	}
	l.awaitMore(t, ctx, 20)
	if now := n.leaderOf(t, ctx, l); now != to {
		t.Errorf("server %d leads, the leadership was handed to %d", now, to)
	}
	finish()
	l.checkPaidOnce(t, ctx)
}

// idOf returns the node id of a process.
func (n *network) idOf(t *testing.T, role string, index int) crypto.PublicKey {
	t.Helper()
	for _, p := range n.describe(t).Processes {
		if p.Role == role && p.Index == index {
			key, err := node.ReadKey(filepath.Join(p.Home, node.NodeKeyFile))
			if err != nil {
				t.Fatal(err)
			}
			return key.Public()
		}
	}
	t.Fatalf("there is no %s %d", role, index)
	return crypto.PublicKey{}
}
