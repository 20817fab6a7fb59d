package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// summaryOf is the batch of a receipt's usage, a record for each resource.
func summaryOf(t testing.TB, r *chain.UsageReceipt) chain.BatchSummary {
	t.Helper()
	secret := zk.NewMeterSecret([32]byte{5})
	file := zk.UsageFile{Order: r.Order, Key: secret.Public()}
	of, err := zk.UsageContext(file.Order, file.Key)
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range r.Usage {
		record := zk.UsageRecord{Sequence: uint64(i) + 1, Resource: uint8(u.Resource - chain.CPU), Amount: u.Amount, DurationMs: u.DurationMs, EndedMs: uint64(r.Ended)}
		file.Records = append(file.Records, zk.SignedUsage{Record: record, Signature: secret.Sign(of, record)})
	}
	work, err := zk.NewUsageWork(32, file)
	if err != nil {
		t.Fatal(err)
	}
	return settlement.SummaryOf(work, r.ChainID, r.Node, settlement.Span{Started: r.Started, Ended: r.Ended})
}

// TestClusterAttestsToWhatItMeasured: a batch whose totals are those of the receipt is
// attested, until the work is settled; any other is refused by name.
func TestClusterAttestsToWhatItMeasured(t *testing.T) {
	c := newCluster(t, 1)
	c.agent(0, nil)
	c.waitNodes(0, 1)
	id := c.submit(0, chain.PolicyNone{})
	items := c.outbox(0, 0)
	if len(items) != 1 {
		t.Fatalf("outbox: %+v", items)
	}
	var claim chain.Claim
	if err := codec.Unmarshal(items[0].Claims[0], &claim, 1<<20); err != nil {
		t.Fatal(err)
	}
	good := summaryOf(t, &claim.Receipt)
	if len(good.Totals) == 0 {
		t.Fatal("the test's work used nothing")
	}
	status, body := c.post(0, "/v1/batches", api.BatchRequest{Summary: good})
	var answer api.BatchAttestation
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if !key(clusterKey).Public().Verify(crypto.DomainBatch, good.Payload(), answer.Attestation) {
		t.Error("the attestation is not the cluster's")
	}
	for want, change := range map[string]func(s *chain.BatchSummary){
		"total of ":               func(s *chain.BatchSummary) { s.Totals[0].Low++ },
		"there is no total of":    func(s *chain.BatchSummary) { s.Totals = s.Totals[1:] },
		"begins after sequence 1": func(s *chain.BatchSummary) { s.After, s.Last = 1, 200 },
		"is of the time":          func(s *chain.BatchSummary) { s.Ended++ },
		"chain_id":                func(s *chain.BatchSummary) { s.ChainID = "another-1" },
		"batch of 0 records":      func(s *chain.BatchSummary) { s.Count = 0 },
		"no metered work":         func(s *chain.BatchSummary) { s.Order[0] ^= 1 },
		"of this node":            func(s *chain.BatchSummary) { s.Node = key(consumerKey).Public() },
	} {
		s := summaryOf(t, &claim.Receipt)
		change(&s)
		if status, body := c.post(0, "/v1/batches", api.BatchRequest{Summary: s}); status == http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("got %d %s, want %q", status, body, want)
		}
	}
	c.chain.settle(id)
	c.waitJob(0, id, job.Settled)
	if status, body := c.post(0, "/v1/batches", api.BatchRequest{Summary: good}); status != http.StatusNotFound {
		t.Errorf("of settled work: %d %s", status, body)
	}
}

// TestOutcomeOfABatch: a job whose work a batch paid for is settled, if a receipt shows it.
func TestOutcomeOfABatch(t *testing.T) {
	order := testOrder(chain.PolicyNone{})
	claim := claimOf(t, order, 0)
	id := claim.Receipt.Order
	paid, other := posted(t, 1, claim), posted(t, 2, claim) // what they post does not matter here
	event := chain.BatchSettled{Order: id, Node: claim.Receipt.Node, Cost: chain.Nano(100), Burned: chain.Nano(2)}
	n, c := newFakeNode(t, nil)
	n.seal(chain.BlockReceipts{Txs: []chain.Receipt{{TxID: paid.ID(), Events: chain.Events{event}}, {TxID: other.ID()}}}, paid, other)
	n.seal(chain.BlockReceipts{})
	for _, tx := range []struct {
		of      chain.DecodedTx
		settled bool
	}{{other, false}, {paid, true}} {
		n.mu.Lock()
		n.said = api.Settlements{Order: id, Batches: []api.SettledBatch{{Height: 2, TxID: tx.of.ID(), Batch: event}}}
		n.mu.Unlock()
		out, err := c.Outcome(context.Background(), id, []chain.Claim{claim})
		if err != nil || out.Settled != tx.settled || tx.settled && (out.Record.Cost != chain.Nano(100) || len(out.Record.Nodes) != 1) {
			t.Errorf("%+v, %v", out, err)
		}
	}
}
