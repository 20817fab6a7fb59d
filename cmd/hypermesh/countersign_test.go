package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// countersignWorld is a network without a relay whose claim windows are short.
type countersignWorld struct {
	fairWorld
	home, dir string // the agent's, and the test's
	node      crypto.PrivateKey
}

// ordered has the agent run a job that may be countersigned, and returns the claim that it keeps. A
// job that was not done in its time, on a machine that has much to do, is ordered anew.
func (w *countersignWorld) ordered(name string) (string, chain.Claim) {
	w.Helper()
	_, fractal := programs(w)
	program, err := os.ReadFile(fractal)
	if err != nil {
		w.Fatal(err)
	}
	limits := job.DefaultLimits()
	limits.WallMs = 10_000
	for w.ctx.Err() == nil {
		ctx, cancel := context.WithCancel(w.ctx)
		var id crypto.Digest
		_, err := w.target.client.RunJob(ctx, sdk.JobRun{
			Spec:  job.Spec{Label: name, Resources: job.Resources{Millicores: 1_000, MemoryMiB: limits.MemoryBytes >> 20}, Limits: limits},
			Blobs: []io.ReadSeeker{bytes.NewReader(program)}, Policy: chain.PolicyNone{}, Consumer: w.target.account, Patience: 30 * time.Second, Countersignable: true,
			Bind: func(ids []crypto.Digest) job.Work { return job.Wasm{Module: ids[0], Deterministic: true} },
			Progress: func(_ string, j *api.Job) {
				if j != nil && j.Status == job.Settling {
					id = j.ID
					cancel()
				}
			},
		})
		cancel()
		if id.IsZero() {
			w.Logf("%s: %v", name, err)
			continue
		}
		path := filepath.Join(w.dir, name+".json")
		w.must("claim", "export", "--home", w.home, "--order", id.String(), "--out", path)
		claim, err := readClaim(path)
		if err != nil {
			w.Fatal(err)
		}
		return path, claim
	}
	w.Fatal("no job was done")
	return "", chain.Claim{}
}

func (w *countersignWorld) must(args ...string) {
	w.Helper()
	if out, err := hypermesh(w.T, args...); err != nil {
		w.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// metered writes a claim whose receipt has another use, which the node's owner signs if it agrees.
func (w *countersignWorld) metered(name string, claim chain.Claim, use func(uint64) uint64, agreed bool) string {
	w.Helper()
	claim.Receipt.Usage = append([]chain.Usage(nil), claim.Receipt.Usage...)
	for i := range claim.Receipt.Usage {
		claim.Receipt.Usage[i].Amount = use(claim.Receipt.Usage[i].Amount)
	}
	if agreed {
		claim.ReceiptSig = w.node.Sign(crypto.DomainUsage, claim.Receipt.Payload())
	}
	path := filepath.Join(w.dir, name+".json")
	if err := writeClaim(path, &claim); err != nil {
		w.Fatal(err)
	}
	return path
}

// countersign has the consumer sign a claim of a file, and returns it.
func (w *countersignWorld) countersign(path string) (string, chain.Claim) {
	w.Helper()
	signed := strings.TrimSuffix(path, ".json") + ".signed.json"
	w.must("job", "countersign", "--claim", path, "--out", signed, "--config", w.net.path, "--account", "alice", "--yes")
	claim, err := readClaim(signed)
	if err != nil {
		w.Fatal(err)
	}
	return signed, claim
}

// post posts a claim of a file once it is taken.
func (w *countersignWorld) post(path string, claim *chain.Claim) {
	w.Helper()
	g, err := node.ReadGenesisFile(w.net.describe(w.T).Genesis)
	if err != nil {
		w.Fatal(err)
	}
	from := g.Params.CountersignedFrom(claim.Order.Deadline)
	timer := time.NewTimer(time.Until(time.UnixMilli(int64(from))))
	defer timer.Stop()
	<-timer.C
	for last := claim.Order.Deadline + chain.TimeMs(g.Params.ClaimWindowMs); ; { // a block's time may be a little behind
		out, err := hypermesh(w.T, "claim", "post", "--claim", path, "--config", w.net.path, "--account", "bob", "--yes")
		if err == nil {
			return
		}
		if chain.TimeMs(time.Now().UnixMilli()) > last {
			w.Fatalf("claim post: %v: %s", err, out)
		}
	}
}

// paid returns what the chain paid for an order, as its state proves.
func (w *countersignWorld) paid(claim *chain.Claim) chain.Amount {
	w.Helper()
	value, err := w.target.client.VerifiedState(w.ctx, settlement.OrderKey(claim.Receipt.Order))
	if err != nil {
		w.Fatal(err)
	}
	raw, _ := value.Get()
	order, err := settlement.DecodeOrder(raw)
	if err != nil {
		w.Fatal(err)
	}
	record, ok := order.ClaimOf(claim.Receipt.Node, claim.Receipt.Sequence)
	if !ok || !record.Settled() {
		w.Fatalf("the chain has %+v", record)
	}
	return record.Cost
}

// TestTheCountersignedMeterIsPaid: what consumer and provider both sign is paid, be it less or more than what the
// provider's agent claimed, and then nothing else; what one of them alone says is not.
func TestTheCountersignedMeterIsPaid(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer", "--no-restart", "--claim-window", "80s")
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	w := &countersignWorld{fairWorld: fairWorld{T: t, net: n, ctx: ctx}, home: filepath.Join(n.dir, "agent-0"), dir: t.TempDir()}
	n.kill(t, "relay", 0)
	var err error
	if w.target, err = newTarget(n.describe(t), "alice"); err != nil {
		t.Fatal(err)
	}
	if w.node, err = node.ReadKey(filepath.Join(w.home, agent.NodeKeyFile)); err != nil {
		t.Fatal(err)
	}
	lowerFile, lower := w.ordered("lower")
	higherFile, higher := w.ordered("higher")
	half, double := func(n uint64) uint64 { return n / 2 }, func(n uint64) uint64 { return 2 * n }
	forged := w.metered("forged", lower, half, false)
	if out, err := hypermesh(t, "job", "countersign", "--claim", forged, "--out", forged+".signed", "--config", n.path, "--account", "alice", "--yes"); err == nil {
		t.Errorf("a meter is countersigned that the node has not signed: %s", out)
	}
	lowerSigned, less := w.countersign(w.metered("less", lower, half, true))
	higherSigned, more := w.countersign(w.metered("more", higher, double, true))
	cost := func(c *chain.Claim) chain.Amount {
		t.Helper()
		sum, err := c.Cost()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if !cost(&less).Less(cost(&lower)) || !cost(&higher).Less(cost(&more)) {
		t.Fatalf("the agent claims %s and %s, countersigned are %s and %s", cost(&lower), cost(&higher), cost(&less), cost(&more))
	}
	w.post(lowerSigned, &less)
	w.post(higherSigned, &more)
	if got := w.paid(&less); got != cost(&less) {
		t.Errorf("%s was paid, countersigned were %s, claimed %s", got, cost(&less), cost(&lower))
	}
	if got := w.paid(&more); got != cost(&more) {
		t.Errorf("%s was paid, countersigned were %s, claimed %s", got, cost(&more), cost(&higher))
	}
	for _, path := range []string{lowerFile, higherFile, lowerSigned} {
		if out, err := hypermesh(t, "claim", "post", "--claim", path, "--config", n.path, "--account", "bob", "--yes"); err == nil {
			t.Errorf("a second claim of an order is posted: %s", out)
		}
	}
}
