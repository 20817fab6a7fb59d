package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
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
	agents  []crypto.PublicKey
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
		w.agents = append(w.agents, key.Public())
	}
	return w
}

// signal stops a process or has it go on.
func (w *claimWorld) signal(role string, index int, signal syscall.Signal) {
	w.Helper()
	for _, p := range w.net.describe(w.T).Processes {
		if p.Role == role && p.Index == index {
			if err := syscall.Kill(p.PID, signal); err != nil {
				w.Fatal(err)
			}
			return
		}
	}
	w.Fatalf("there is no %s %d", role, index)
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
	c.Receipt.Result = crypto.DomainResult.Hash([]byte("made up"))
	c.ReceiptSig = w.nodes[c.Receipt.Node].Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = w.cluster.Sign(crypto.DomainAttestation, chain.AttestationPayload(c.Order.ChainID, c.Receipt.Digest()))
	return c
}

// TestOptimisticClaims has an honest claim paid after its window, and a wrong one, of which
// its cluster and its relay know, challenged by a watcher and judged by agents that nobody
// but the chain asked, one of them hung: its node is slashed, and the job runs again on another
// owner's, who is paid for the right result. An honest claim that is challenged is paid, and its
// challenger loses the stake.
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

	w.signal("relay", 0, syscall.SIGSTOP)
	job := exec.CommandContext(t.Context(), program, "job", "run", "--verify", "optimistic=40s,20", "--out", t.TempDir()+"/out", "--config", w.net.path, "--json", fractal)
	type end struct {
		printed []byte
		err     error
	}
	ended := make(chan end, 1)
	go func() {
		out, err := job.Output()
		ended <- end{out, err}
	}()
	c := w.forged()
	order, cheat := c.Order.ID(), c.Receipt.Node
	receipt, err := w.send(chain.Settle{Claims: []chain.Claim{c}})
	w.signal("relay", 0, syscall.SIGCONT) // it carries votes, too
	if err != nil || len(receipt.Events) != 2 {
		t.Fatalf("the wrong claim was not taken: %v, %+v", err, receipt)
	}
	hung := 0
	if w.agents[hung] == cheat {
		hung = 1
	}
	w.signal("agent", hung, syscall.SIGSTOP)
	t.Cleanup(func() { w.signal("agent", hung, syscall.SIGCONT) }) // so that the network can end
	out, err := hypermesh(t, "claim", "watch", "--config", w.net.path, "--account", "bob", "--stake", "10", "--order", order.String())
	if err != nil || !strings.Contains(string(out), "challenged with 10 HYPER") {
		t.Fatalf("%v: %s", err, out)
	}
	w.awaitShown(order, "before a panel")
	select {
	case e := <-ended:
		w.checkRerun(e.printed, e.err, &c, report.Result)
	case <-time.After(6 * time.Minute):
		t.Fatal("the job does not end")
	}
	if got := w.bondOf(cheat); got != chain.Hyper(80) {
		t.Errorf("the cheater's bond is %v, want 80", got)
	}
	if record := w.claimAt(c.Key()); record.Refuted != settlement.RefutedResult {
		t.Errorf("the claim's record is %+v", record)
	}
	w.challengeInVain(program, fractal)
}

// checkRerun demands that a job whose first claim was refuted ran again on another node, which
// alone was paid, once and for the right result.
func (w *claimWorld) checkRerun(printed []byte, err error, first *chain.Claim, right crypto.Digest) {
	w.Helper()
	var report api.JobReport
	if err == nil {
		err = json.Unmarshal(printed, &report)
	}
	cheat, order := first.Receipt.Node, first.Order.ID()
	if err != nil || report.ID != order || report.Status.String() != "settled" || report.Result != right ||
		!slices.Equal(report.Refuted, []crypto.PublicKey{cheat}) || len(report.Providers) != 1 || report.Providers[0] == cheat {
		w.Fatalf("the job whose first claim was refuted: %v in %s, want result %s, not of %s", err, printed, right, cheat)
	}
	record := w.claimAt(chain.ClaimKey{Order: order, Node: report.Providers[0], Sequence: 1})
	value, err := w.target.client.VerifiedState(w.Context(), settlement.OrderKey(order))
	if err != nil {
		w.Fatal(err)
	}
	raw, _ := value.Get()
	book, err := settlement.DecodeOrder(raw)
	if err != nil || !record.Settled() || record.Result != right || book.Spent != record.Cost || book.Spent != report.Cost || record.Paid.IsZero() {
		w.Errorf("%v: the second claim's record is %+v, the order's %+v, the consumer was told %s", err, record, book, report.Cost)
	}
	out, err := hypermesh(w.T, "job", "status", "--config", w.net.path, order.String())
	if err != nil || !strings.Contains(string(out), "refuted    the claim of "+cheat.String()) {
		w.Errorf("%v: the consumer is not shown that the first claim was refuted: %s", err, out)
	}
}

// awaitShown waits until a claim is shown as it is said to be: a node may not know yet what
// another one does.
func (w *claimWorld) awaitShown(order crypto.Digest, want string) {
	w.Helper()
	for limit := time.Now().Add(20 * time.Second); ; {
		out, err := hypermesh(w.T, "claim", "show", "--order", order.String(), "--config", w.net.path)
		switch {
		case err != nil:
			w.Fatalf("%v: %s", err, out)
		case strings.Contains(string(out), want):
			return
		case time.Now().After(limit):
			w.Fatalf("%s is not shown: %s", want, out)
		}
	}
}

// challengeInVain has somebody challenge what is right.
func (w *claimWorld) challengeInVain(program, fractal string) {
	w.Helper()
	before := w.balance("bob")
	status, err := w.target.client.Status(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	from := api.CursorAfter(status.Height)
	job := exec.CommandContext(w.Context(), program, "job", "run", "--verify", "optimistic=21s,20", "--out", w.TempDir()+"/out", "--config", w.net.path, "--json", fractal)
	printed := make(chan []byte, 1)
	go func() {
		out, err := job.Output()
		if err != nil {
			w.Errorf("the honest job: %v in %s", err, out)
		}
		printed <- out
	}()
	var pending chain.ClaimPending
	for event, err := range w.target.client.Events(w.Context(), sdk.EventFilter{Cursor: &from, Types: []string{chain.EventName(pending)}}) {
		if err != nil {
			w.Fatal(err)
		}
		if err := json.Unmarshal(event.Data, &pending); err != nil {
			w.Fatal(err)
		}
		break
	}
	if out, err := hypermesh(w.T, "claim", "challenge", "--order", pending.Order.String(), "--config", w.net.path, "--account", "bob", "--stake", "10", "--yes"); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	var report api.JobReport
	select {
	case out := <-printed:
		if err := json.Unmarshal(out, &report); err != nil || report.Status.String() != "settled" {
			w.Fatalf("%v in %s", err, out)
		}
	case <-time.After(4 * time.Minute):
		w.Fatal("the honest job does not end")
	}
	if record := w.claimAt(chain.ClaimKey{Order: pending.Order, Node: pending.Node, Sequence: uint64(pending.Sequence)}); !record.Settled() || record.Paid.IsZero() {
		w.Errorf("the claim's record is %+v", record)
	}
	if lost, ok := before.Sub(w.balance("bob")); !ok || lost.Less(chain.Hyper(10)) {
		w.Errorf("the challenger had %v and has %v, 10 HYPER were staked", before, w.balance("bob"))
	}
}

func (w *claimWorld) balance(name string) chain.Amount {
	w.Helper()
	of, err := newTarget(w.net.describe(w.T), name)
	if err != nil {
		w.Fatal(err)
	}
	a, err := w.target.client.Account(w.Context(), chain.AddressOf(of.account.AccountKey()))
	if err != nil {
		w.Fatal(err)
	}
	return a.Spendable
}

func (w *claimWorld) claimAt(key chain.ClaimKey) settlement.Claim {
	w.Helper()
	value, err := w.target.client.VerifiedState(w.Context(), settlement.ClaimKey(key))
	if err != nil {
		w.Fatal(err)
	}
	raw, _ := value.Get()
	record, err := settlement.DecodeClaim(raw)
	if err != nil {
		w.Fatal(err)
	}
	return record
}
