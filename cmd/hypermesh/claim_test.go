package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func TestOptimisticFromTheCommandLine(t *testing.T) {
	for text, want := range map[string]string{
		"optimistic=1h,10": "optimistic(1h0m0s,10)", "optimistic(90s,2.5)": "optimistic(1m30s,2.5)", "optimistic(1h0m0s,10)": "optimistic(1h0m0s,10)",
	} {
		if p, err := parseVerify(text); err != nil || p.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, p, err, want)
		}
	}
	for _, text := range []string{"optimistic", "optimistic=", "optimistic=1h", "optimistic=10,1h", "optimistic(1h,10", "optimistic=-1h,10", "optimistic=1h,-1"} {
		if p, err := parseVerify(text); err == nil || !strings.Contains(err.Error(), "want optimistic=WINDOW,BOND") {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

// claimWorld is a network whose relay can be held, so that a wrong claim comes first.
type claimWorld struct {
	*testing.T
	net     *network
	target  *target
	cluster crypto.PrivateKey
	nodes   map[crypto.PublicKey]crypto.PrivateKey
	right   crypto.Digest // what the job of the forged claim gives
}

func newClaimWorld(t *testing.T) *claimWorld {
	const agents = 5 // one provides, and three of the others judge
	w := &claimWorld{T: t, net: startDevnet(t, "--servers", "1", "--agents", "5", "--no-explorer"), nodes: map[crypto.PublicKey]crypto.PrivateKey{}}
	var err error
	if w.target, err = newTarget(w.net.describe(t), "alice"); err != nil {
		t.Fatal(err)
	}
	read := func(path string) crypto.PrivateKey {
		key, err := node.ReadKey(filepath.Join(w.net.dir, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	w.cluster = read("nexus-0/cluster.key")
	for i := range agents {
		key := read("agent-" + string(rune('0'+i)) + "/" + node.NodeKeyFile)
		w.nodes[key.Public()] = key
	}
	return w
}

// signalRelay stops the relay's process or has it go on.
func (w *claimWorld) signalRelay(signal syscall.Signal) {
	w.Helper()
	for _, p := range w.net.describe(w.T).Processes {
		if p.Role == "relay" {
			if err := syscall.Kill(p.PID, signal); err != nil {
				w.Fatal(err)
			}
			return
		}
	}
	w.Fatal("there is no relay")
}

const claimPolicy = "optimistic=4s,20"

func (w *claimWorld) bondOf(id crypto.PublicKey) chain.Amount {
	w.Helper()
	value, err := w.target.client.VerifiedState(w.Context(), settlement.ProviderKey(id))
	if err != nil {
		w.Fatal(err)
	}
	raw, _ := value.Get()
	p, err := settlement.DecodeProvider(raw)
	if err != nil {
		w.Fatal(err)
	}
	return p.Bond
}

func (w *claimWorld) send(m chain.Msg) (*chain.Receipt, error) {
	found, err := w.target.client.NewBuilder(w.target.account, sdk.BuilderOptions{}).SendAndWait(w.Context(), m)
	if err != nil {
		return nil, err
	}
	return found.Outcome()
}

// forged returns the claim that the cluster wants to post, with another result, and signed by
// all of its parties: node and cluster collude.
func (w *claimWorld) forged() chain.Claim {
	w.Helper()
	var c chain.Claim
	for len(c.Receipt.Usage) == 0 {
		box, err := w.target.client.Outbox(w.Context(), 0, 1, time.Second)
		if err != nil {
			w.Fatal(err)
		}
		for _, item := range box.Items {
			if err := codec.Unmarshal(item.Claims[0], &c, chain.MaxTxBytes); err != nil {
				w.Fatal(err)
			}
		}
	}
	w.right = c.Receipt.Result
	c.Receipt.Result = crypto.DomainResult.Hash([]byte("made up"))
	c.ReceiptSig = w.nodes[c.Receipt.Node].Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = w.cluster.Sign(crypto.DomainAttestation, chain.AttestationPayload(c.Order.ChainID, c.Receipt.Digest()))
	return c
}

// TestOptimisticClaims has an honest claim paid after its window, and a wrong one challenged
// by a watcher, judged by a panel and slashed.
func TestOptimisticClaims(t *testing.T) {
	endToEnd(t)
	w := newClaimWorld(t)
	program, fractal := programs(t)
	begun := time.Now()
	printed, err := hypermesh(t, "job", "run", "--verify", claimPolicy, "--out", t.TempDir()+"/out", "--config", w.net.path, "--json", fractal)
	if err != nil {
		t.Fatal(err)
	}
	var report api.JobReport
	if err := json.Unmarshal(printed, &report); err != nil || report.Policy != "optimistic(4s,20)" || report.Status.String() != "settled" {
		t.Fatalf("%v in %s", err, printed)
	}
	if took := time.Since(begun); took < 4*time.Second {
		t.Errorf("the claim was paid after %v, before its window was over", took)
	}
	if got := w.bondOf(report.Providers[0]); got != chain.Hyper(100) {
		t.Errorf("the honest provider's bond is %v", got)
	}

	w.signalRelay(syscall.SIGSTOP)
	t.Cleanup(func() { w.signalRelay(syscall.SIGCONT) }) // so that the network can end
	job := exec.CommandContext(t.Context(), program, "job", "run", "--verify", "optimistic=20s,20", "--out", t.TempDir()+"/out", "--config", w.net.path, "--json", fractal)
	ended := make(chan error, 1)
	go func() { ended <- job.Run() }()
	c := w.forged()
	order, cheat := c.Order.ID(), c.Receipt.Node
	if receipt, err := w.send(chain.Settle{Claims: []chain.Claim{c}}); err != nil || len(receipt.Events) != 2 {
		t.Fatalf("the wrong claim was not taken: %v, %+v", err, receipt)
	}
	out, err := hypermesh(t, "claim", "watch", "--config", w.net.path, "--account", "bob", "--stake", "10", "--order", order.String())
	if err != nil || !strings.Contains(string(out), "challenged with 10 HYPER") {
		t.Fatalf("%v: %s", err, out)
	}
	out, err = hypermesh(t, "claim", "show", "--order", order.String(), "--config", w.net.path)
	if err != nil || !strings.Contains(string(out), "before a panel") {
		t.Fatalf("%v: %s", err, out)
	}
	w.judge(order, w.right)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the consumer was told that the wrong claim was settled")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the job does not end")
	}
	if got := w.bondOf(cheat); got != chain.Hyper(80) {
		t.Errorf("the cheater's bond is %v, want 80", got)
	}
	value, err := w.target.client.VerifiedState(t.Context(), settlement.ClaimKey(c.Key()))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := value.Get()
	if record, err := settlement.DecodeClaim(raw); err != nil || !record.Refuted {
		t.Errorf("the claim's record is %+v, %v", record, err)
	}
}

// judge waits until the panel has decided. The jurors whose agents do not vote by themselves
// vote by their keys, with what the job gives.
func (w *claimWorld) judge(order, right crypto.Digest) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	id := settlement.PanelOf(order, false)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.Fatal("the panel does not decide")
		}
		value, err := w.target.client.VerifiedState(ctx, settlement.PanelKey(id))
		if err != nil {
			w.Fatal(err)
		}
		raw, drawn := value.Get()
		if !drawn {
			continue
		}
		p, err := settlement.DecodePanel(raw)
		if err != nil {
			w.Fatal(err)
		}
		if p.Due == 0 {
			if len(p.Jurors) < 2 || p.Verdict == nil || p.Verdict.Result != right {
				w.Fatalf("the panel of %d found %+v", len(p.Jurors), p.Verdict)
			}
			return
		}
		w.voteFor(id, &p, chain.Vote{Finding: chain.FoundResult, Result: right})
	}
}

// voteFor commits for the jurors who have not, and shows the votes of those for whom it did.
func (w *claimWorld) voteFor(id crypto.Digest, p *settlement.Panel, vote chain.Vote) {
	salt := [32]byte{1}
	for _, j := range p.Jurors {
		var m chain.Msg
		commitment := vote.Commitment(id, j.Node, salt)
		switch {
		case j.Commitment.IsZero() && !p.Revealing:
			signature := w.nodes[j.Node].Sign(crypto.DomainVote, chain.VotePayload(w.target.genesis.ChainID, id, commitment))
			m = chain.CommitVote{Panel: id, Node: j.Node, Commitment: commitment, Signature: signature}
		case p.Revealing && j.Vote == nil && j.Commitment == commitment:
			m = chain.RevealVote{Panel: id, Node: j.Node, Vote: vote, Salt: salt}
		default:
			continue
		}
		if _, err := w.send(m); err != nil {
			w.Logf("%s of a juror: %v", chain.KindOf(m), err) // its agent was quicker
		}
	}
}
