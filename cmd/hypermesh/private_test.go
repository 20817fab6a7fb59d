package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/sdk/audit"
)

// privateNet is a network whose one relay settles privately.
type privateNet struct {
	*network
	dir   string // scratch
	relay string // its URL
}

// startPrivate starts a network, gives its agent a metering key, and puts a private relay in the place of
// the network's own.
func startPrivate(t *testing.T) *privateNet {
	t.Helper()
	n := &privateNet{network: startDevnet(t, "--servers", "1", "--agents", "1", "--no-explorer", "--no-restart", "--kernel", "usage-batch-4"), dir: t.TempDir()}
	n.kill(t, "relay", 0)
	d := n.describe(t)
	for _, a := range d.Accounts {
		if err := os.WriteFile(filepath.Join(n.dir, a.Name+".key"), []byte(a.PrivateKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	home := filepath.Join(n.network.dir, "agent-0")
	if out, err := n.try(t, "agent", "meter", "--home", home, "--key-file", n.key("provider-0"), "--rpc", d.RPC[0], "--genesis", d.Genesis, "--yes"); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	at, err := os.ReadFile(filepath.Join(home, agent.AddressFile))
	if err != nil {
		t.Fatal(err)
	}
	program, _ := programs(t)
	addr := freeAddr(t)
	n.relay = "http://" + addr
	relay := exec.Command(program, "relay", "--private", "--home", filepath.Join(n.network.dir, "relay-0"), "--key-dir", devnet.DefaultKeysDir(), "--http", addr,
		"--nodes", n.idOf(t, "agent", 0).String()+"@http://"+strings.TrimSpace(string(at)))
	var stderr bytes.Buffer
	relay.Stderr = &stderr
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relay.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := relay.Wait(); err != nil || t.Failed() {
			t.Logf("the relay ended: %v\n%s", err, stderr.Bytes())
		}
	})
	return n
}

func (n *privateNet) key(account string) string { return filepath.Join(n.dir, account+".key") }

func (n *privateNet) try(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	return hypermesh(t, args...)
}

// TestPrivateSettlement runs a job whose agent signs its usage records itself: the chain gets totals and one proof
// and no receipt, the relay holds no metering key, and the consumer opens one record for an auditor, who sees whatever is changed.
func TestPrivateSettlement(t *testing.T) {
	endToEnd(t)
	n := startPrivate(t)
	d := n.describe(t)
	_, fractal := programs(t)
	input := filepath.Join(n.dir, "in")
	if err := writeFile(input, "params.txt", []byte(demoParams)); err != nil {
		t.Fatal(err)
	}
	printed, err := n.try(t, "job", "run", fractal, "--in", input, "--out", filepath.Join(n.dir, "out"), "--config", n.path, "--account", "alice", "--json")
	if err != nil {
		t.Fatalf("%s: %v", printed, err)
	}
	var report api.JobReport
	if err := json.Unmarshal(printed, &report); err != nil || report.Status.String() != "settled" {
		t.Fatalf("%v in %s", err, printed)
	}
	if _, err := os.Stat(filepath.Join(n.network.dir, "relay-0", agent.MeterKeyFile)); err == nil {
		t.Error("the relay has a metering key")
	}
	batch := n.batchOf(t, report.ID)
	n.secondNode(t, d)
	n.openRecord(t, report.ID, batch)
}

// batchOf returns the one batch that an order was settled by.
func (n *privateNet) batchOf(t *testing.T, order crypto.Digest) chain.BatchSettled {
	t.Helper()
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, err := target.client.Settlements(ctx, order)
	if err != nil {
		t.Fatal(err)
	}
	if len(said.Batches) != 1 || len(said.Settled) != 0 || len(said.Recorded) != 0 {
		t.Fatalf("settled by %+v", said)
	}
	b := said.Batches[0].Batch
	if b.Node != n.idOf(t, "agent", 0) || b.Kernel != "usage-batch-4" || b.Count == 0 || int(b.Count) != len(b.Totals) || b.Cost.IsZero() {
		t.Errorf("the batch is %+v", b)
	}
	found, err := target.client.Tx(ctx, said.Batches[0].TxID)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := json.Marshal(found.Tx)
	if err != nil {
		t.Fatal(err)
	}
	if proofs := bytes.Count(tx, []byte(`"proof"`)); proofs != 1 || bytes.Contains(tx, []byte(`"receipt"`)) || !bytes.Contains(tx, []byte(`"settle_batch"`)) {
		t.Errorf("%d proofs in %s", proofs, tx)
	}
	return b
}

// secondNode has another node of the owner register the same metering key.
func (n *privateNet) secondNode(t *testing.T, d devnet.Description) {
	t.Helper()
	home := filepath.Join(n.dir, "second")
	first := filepath.Join(n.network.dir, "agent-0")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	other := crypto.GenerateKey()
	seed, err := os.ReadFile(filepath.Join(first, agent.MeterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(first, configFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{agent.NodeKeyFile: other.Hex() + "\n", agent.MeterKeyFile: string(seed), configFile: string(config)} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target, err := newTarget(d, "provider-0")
	if err != nil {
		t.Fatal(err)
	}
	owner := target.account.Address()
	possession := other.Sign(crypto.DomainPossession, chain.PossessionPayload(d.ChainID, owner))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := target.client.NewBuilder(target.account, sdk.BuilderOptions{}).SendAndWait(ctx, chain.RegisterProvider{
		Node: other.Public(), Bond: chain.Hyper(100), Region: "eu", Millicores: 1_000, MemoryMiB: 1_024, Possession: possession,
	}); err != nil {
		t.Fatal(err)
	}
	out, err := n.tryAll(t, "agent", "meter", "--home", home, "--key-file", n.key("provider-0"), "--rpc", d.RPC[0], "--genesis", d.Genesis, "--yes")
	if err == nil || !strings.Contains(string(out), "is node "+n.idOf(t, "agent", 0).Short()+"'s") {
		t.Errorf("two nodes with one metering key: %v, %s", err, out)
	}
}

// tryAll is try with what the command says on standard error.
func (n *privateNet) tryAll(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	program, _ := programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return exec.CommandContext(ctx, program, args...).CombinedOutput()
}

// openRecord fetches the records as the consumer, and opens one.
func (n *privateNet) openRecord(t *testing.T, order crypto.Digest, batch chain.BatchSettled) {
	t.Helper()
	d := n.describe(t)
	kept, opening := filepath.Join(n.dir, "job.usage"), filepath.Join(n.dir, "record.opening")
	fetch := []string{"audit", "fetch", "--relay", n.relay, "--order", order.String(), "--node", batch.Node.String(), "--genesis", d.Genesis, "--out", kept}
	if out, err := n.tryAll(t, append(fetch, "--key-file", n.key("bob"))...); err == nil {
		t.Errorf("a stranger got the records: %s", out)
	}
	if out, err := n.tryAll(t, append(fetch, "--key-file", n.key("alice"))...); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	if out, err := n.tryAll(t, "audit", "open", kept, "--sequence", "1", "--out", opening, "--rpc", d.RPC[0], "--genesis", d.Genesis); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	printed, err := n.try(t, "audit", "verify", opening, "--genesis", d.Genesis, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var opened audit.Opened
	if err := json.Unmarshal(printed, &opened); err != nil {
		t.Fatalf("%v in %s", err, printed)
	}
	if opened.Order != order || opened.Node != batch.Node || opened.Root != batch.Root || opened.Sequence != 1 || opened.Records != batch.Count {
		t.Errorf("opened %s, settled %+v", printed, batch)
	}
	data, err := os.ReadFile(opening)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(opening, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := n.tryAll(t, "audit", "verify", opening, "--genesis", d.Genesis); err == nil {
		t.Errorf("a changed opening verifies: %s", out)
	}
}
