package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fakeBatches is a cluster that attests, and a chain that takes each batch once.
type fakeBatches struct {
	*fakeChain
	unwilling bool    // the cluster does not attest
	lost      []error // of the next SettleBatches: the transaction is final, its end unknown
	posted    []chain.UsageBatch
	batches   []api.SettledBatch
	attested  int
	proofs    int
	meter     *zk.MeterSecret                    // of the agent; nil: it cannot be asked
	work      map[crypto.Digest][]zk.UsageRecord // that the agent did
}

func (f *fakeBatches) AttestBatch(_ context.Context, _ crypto.PublicKey, s chain.BatchSummary) (crypto.Signature, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unwilling {
		return crypto.Signature{}, &api.Problem{Status: 422, Title: "no"}
	}
	f.attested++
	return cluster.Sign(crypto.DomainBatch, s.Payload()), nil
}

func (f *fakeBatches) SettleBatch(_ context.Context, b chain.UsageBatch) (*chain.Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posted = append(f.posted, b)
	for _, known := range f.batches {
		if known.Batch.Order == b.Summary.Order {
			return nil, &sdk.RejectedError{Included: true, Reason: "batch begins after sequence 0, the last is 3"}
		}
	}
	event := chain.BatchSettled{Order: b.Summary.Order, Node: b.Summary.Node, Root: b.Summary.Root, Count: b.Summary.Count}
	tx := crypto.Digest{byte(len(f.posted))}
	f.batches = append(f.batches, api.SettledBatch{TxID: tx, Batch: event})
	if len(f.lost) > 0 {
		err := f.lost[0]
		f.lost = f.lost[1:]
		return nil, err
	}
	return &chain.Receipt{TxID: tx, Events: chain.Events{event}}, nil
}

func (f *fakeBatches) Settlements(ctx context.Context, order crypto.Digest) (api.Settlements, error) {
	out, err := f.fakeChain.Settlements(ctx, order)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.batches {
		if b.Batch.Order == order {
			out.Batches = append(out.Batches, b)
		}
	}
	return out, err
}

func (f *fakeBatches) prove(_ zk.Kernel, work *zk.UsageWork, bind zk.Field) (zk.Proof, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proofs++
	return zk.Proof(fmt.Sprint(work.Outputs(), bind)), nil
}

var meter = zk.NewMeterSecret([32]byte{7})

// did has the agent know of a claim's work.
func (f *fakeBatches) did(c chain.Claim) chain.Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.work == nil {
		f.work = map[crypto.Digest][]zk.UsageRecord{}
	}
	var records []zk.UsageRecord
	for i, u := range c.Receipt.Usage {
		records = append(records, zk.UsageRecord{Sequence: uint64(i) + 1, Resource: uint8(u.Resource - chain.CPU), Amount: u.Amount, DurationMs: u.DurationMs})
	}
	f.work[c.Order.ID()] = records
	return c
}

// records is the agent that has the metering key.
func (f *fakeBatches) records(_ context.Context, _ crypto.PublicKey, order crypto.Digest) (zk.UsageFile, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.meter == nil || f.work[order] == nil {
		return zk.UsageFile{}, errBroken
	}
	return f.meter.SignUsage(order, f.work[order])
}

// metered is a claim for some usage of four resources.
func metered(nonce uint64) chain.Claim {
	c := parts(nonce)
	c.Receipt.Usage = []chain.Usage{
		{Resource: chain.CPU, Amount: 1_000, DurationMs: 70 + nonce}, {Resource: chain.Memory, Amount: 64, DurationMs: 80}, {Resource: chain.Network, Amount: 3, DurationMs: 80},
	}
	return signed(c)
}

func carryPrivately(t *testing.T, home string, o relay.Outbox, f *fakeBatches, change ...func(*relay.Config)) (r *relay.Relay, stop func()) {
	t.Helper()
	c := config()
	c.Home, c.Private, c.Nodes = home, true, []string{node.Public().String() + "@http://127.0.0.1:1"}
	for _, edit := range change {
		edit(&c)
	}
	g := &chain.Genesis{ChainID: testChain, Params: chain.DefaultParams(), Kernels: []chain.GenesisKernel{{Name: "usage-batch-112"}, {Name: "matmul-4"}, {Name: "usage-batch-32"}}}
	r, err := relay.New(c, relay.Deps{
		Genesis: g, Verifier: verifier{}, Signer: signer{key("payer")}, Outbox: o, Chain: f, Log: slog.New(slog.DiscardHandler),
		Private: &relay.PrivateDeps{Batches: f, Records: f.records, Prove: f.prove},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Carry(ctx) })
	return r, func() {
		cancel()
		wg.Wait()
	}
}

// kept reads every file of a home's vault.
func kept(t *testing.T, home string) []relay.Kept {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, relay.UsageDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []relay.Kept
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		k, err := relay.DecodeKept(data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

// TestPrivateRelayPostsTotals: no receipt goes to the chain; the totals are those of the
// receipt, the records are on the disk and open under the root.
func TestPrivateRelayPostsTotals(t *testing.T) {
	home := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), &fakeBatches{fakeChain: newChain(), meter: meter}
		_, stop := carryPrivately(t, home, o, f)
		foreign := metered(9)
		foreign.Bid.Node, foreign.Receipt.Node = key("other").Public(), key("other").Public()
		foreign = signed(foreign)
		foreign.BidSig = key("other").Sign(crypto.DomainBid, foreign.Bid.Payload())
		foreign.ReceiptSig = key("other").Sign(crypto.DomainUsage, foreign.Receipt.Payload())
		c := f.did(metered(1))
		o.put(foreign)
		o.put(c)
		pass(time.Hour)
		stop()
		if _, n := f.counts(); n != 0 || len(f.posted) != 1 || f.proofs != 1 {
			t.Fatalf("%d transactions with claims, %d batches, %d proofs", n, len(f.posted), f.proofs)
		}
		b := f.posted[0]
		want := []chain.BatchTotal{{Resource: chain.CPU, Low: 71_000}, {Resource: chain.Memory, Low: 64 * 80}, {Resource: chain.Network, Low: 3}}
		if b.Kernel != "usage-batch-32" || b.Summary.Count != 3 || b.Summary.Last != 3 || fmt.Sprint(b.Summary.Totals) != fmt.Sprint(want) || b.Summary.Ended != c.Receipt.Ended {
			t.Errorf("posted %+v", b.Summary)
		}
		if cost, err := chain.BatchCost(b.Summary.Totals, []chain.UnitPrice{{Resource: chain.CPU, Price: 5e9}, {Resource: chain.Memory, Price: 5e9}, {Resource: chain.Network, Price: 5e9}}); err != nil {
			t.Error(err)
		} else if same, err := chain.Cost(c.Receipt.Usage, []chain.UnitPrice{{Resource: chain.CPU, Price: 5e9}, {Resource: chain.Memory, Price: 5e9}, {Resource: chain.Network, Price: 5e9}}); err != nil || same != cost {
			t.Errorf("the batch costs %v, the receipt %v, %v", cost, same, err)
		}
		files := kept(t, home)
		if len(files) != 1 || files[0].Tx.IsZero() || len(files[0].File.Records) != 3 {
			t.Fatalf("kept %+v", files)
		}
		work, err := zk.NewUsageWork(32, files[0].File)
		if err != nil {
			t.Fatal(err)
		}
		opening, err := work.Open(1)
		if err != nil || opening.Check(c.Order.ID(), meter.Public(), zk.Field(b.Summary.Root)) != nil {
			t.Errorf("the second record does not open: %v", err)
		}
		if totals := settlement.BatchTotals(&b.Summary); totals.Digest() != work.Outputs()[0] {
			t.Error("the posted totals are not those of the records")
		}
	})
}

// TestPrivateRelayReportsABrokenWord: with what the outbox shows of it, once; no receipt is in it.
func TestPrivateRelayReportsABrokenWord(t *testing.T) {
	home := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), &fakeBatches{fakeChain: newChain(), meter: meter}
		foreign := numbered(9, 7) // of a node that is not the relay's
		foreign.Bid.Node, foreign.Receipt.Node = key("other").Public(), key("other").Public()
		foreign = signed(foreign)
		foreign.BidSig = key("other").Sign(crypto.DomainBid, foreign.Bid.Payload())
		foreign.ReceiptSig = key("other").Sign(crypto.DomainUsage, foreign.Receipt.Payload())
		own := metered(1)
		own.Acceptance.Sequence = 7
		own = f.did(signed(own))
		_, stop := carryPrivately(t, home, o, f)
		o.put(foreign)
		pass(time.Second)
		o.put(own)
		pass(time.Hour)
		stop()
		if settled, _ := f.counts(); settled != 0 || len(f.posted) != 1 || len(f.reports) != 1 {
			t.Fatalf("%d claims, %d batches, %d reports", settled, len(f.posted), len(f.reports))
		}
		r := f.reports[0]
		if r.First.Acceptance != foreign.Acceptance || r.Second == nil || r.Second.Acceptance != own.Acceptance {
			t.Errorf("reported %+v", r)
		}
	})
}

// TestPrivateRelayCrashes: what was made before a crash is posted after it, not made again,
// and what was settled without the relay's knowledge is not posted again.
func TestPrivateRelayCrashes(t *testing.T) {
	home := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), &fakeBatches{fakeChain: newChain(), meter: meter}
		f.lost = []error{errBroken}
		o.put(f.did(metered(1)))
		_, crash := carryPrivately(t, home, o, f)
		synctest.Wait()
		crash() // the batch is settled, the relay has not heard of it
		if files := kept(t, home); len(files) != 1 || !files[0].Tx.IsZero() || len(f.posted) != 1 {
			t.Fatalf("kept %+v of %d posted", files, len(f.posted))
		}
		if err := os.WriteFile(filepath.Join(home, relay.UsageDir, "part-1"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stop := carryPrivately(t, home, o, f)
		pass(time.Hour)
		stop()
		if files := kept(t, home); len(files) != 1 || files[0].Tx.IsZero() || len(f.posted) != 1 || f.proofs != 1 || f.attested != 1 {
			t.Errorf("kept %+v, %d posted, %d proofs", files, len(f.posted), f.proofs)
		}
	})
}

// TestPrivateRelayGoesOn: a claim that the cluster does not attest to holds up no other, and
// of what is settled no more is kept than asked for.
func TestPrivateRelayGoesOn(t *testing.T) {
	home := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), &fakeBatches{fakeChain: newChain(), meter: meter, unwilling: true}
		empty := signed(parts(50)) // nothing was used: there is no record
		o.put(empty)
		o.put(f.did(metered(1)))
		_, stop := carryPrivately(t, home, o, f, func(c *relay.Config) { c.Keep = 2 })
		synctest.Wait()
		f.change(func() { f.unwilling = false })
		for n := range uint64(4) {
			o.put(f.did(metered(n + 2)))
			pass(time.Second)
		}
		pass(time.Hour)
		stop()
		if len(f.batches) != 5 {
			t.Errorf("%d batches settled, want 5", len(f.batches))
		}
		if files := kept(t, home); len(files) != 2 {
			t.Errorf("%d files are kept, want 2", len(files))
		}
	})
}

// TestPrivateRelayAsksForRecords: work whose agent cannot be asked waits and holds up no other, records that are not
// what the receipt says are not proven, and those of a new metering key replace the old.
func TestPrivateRelayAsksForRecords(t *testing.T) {
	home := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), &fakeBatches{fakeChain: newChain()}
		dear := f.did(metered(2))
		dear.Receipt.Usage[0].Amount++
		c := f.did(metered(1))
		o.put(c)
		o.put(signed(dear))
		_, stop := carryPrivately(t, home, o, f)
		pass(time.Second)
		if len(f.posted) != 0 || f.attested != 0 || f.proofs != 0 {
			t.Errorf("without records: %d posted, %d attested, %d proofs", len(f.posted), f.attested, f.proofs)
		}
		f.change(func() { f.meter = meter })
		pass(time.Hour)
		stop()
		if len(f.batches) != 1 || f.batches[0].Batch.Order != c.Order.ID() || f.proofs != 1 {
			t.Fatalf("%d batches, %d proofs", len(f.batches), f.proofs)
		}
		f.change(func() { f.batches, f.posted, f.meter = nil, nil, zk.NewMeterSecret([32]byte{8}) }) // nothing was taken, and the key is another
		_, stop = carryPrivately(t, home, o, f)
		pass(time.Hour)
		stop()
		if len(f.posted) != 1 || zk.MeterKey(f.posted[0].Summary.Meter) != f.meter.Public() || f.proofs != 2 {
			t.Errorf("posted %d batches with %d proofs, want one more, of the new key", len(f.posted), f.proofs)
		}
	})
}

func TestPrivateConfig(t *testing.T) {
	for part, change := range map[string]func(c *relay.Config){
		"nodes names no node":  func(c *relay.Config) { c.Nodes = nil },
		"nodes: ":              func(c *relay.Config) { c.Nodes = []string{"x"} },
		"address of its agent": func(c *relay.Config) { c.Nodes = []string{node.Public().String()} },
		"such as KEY@http":     func(c *relay.Config) { c.Nodes = []string{node.Public().String() + "@127.0.0.1:7380"} },
		"keep is 0":            func(c *relay.Config) { c.Keep = 0 },
	} {
		c := config()
		c.Private, c.Nodes = true, []string{node.Public().String() + "@http://127.0.0.1:1"}
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q", err, part)
		}
	}
	if _, err := relay.DecodeKept([]byte("x")); err == nil {
		t.Error("an x was taken for usage records")
	}
	k := relay.Kept{Tx: crypto.Digest{1}}
	k.File.Key, k.Batch.Order.Policy.Policy = meter.Public(), chain.PolicyNone{}
	back, err := relay.DecodeKept(k.Encode())
	if err != nil || !bytes.Equal(back.Encode(), k.Encode()) {
		t.Errorf("came back as %+v, %v", back, err)
	}
}
