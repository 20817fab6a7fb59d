package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestAQuoteTellsWhatPriorityCosts asks for the same with fees and without: what nodes ask is the same, and the quote has the fee upon it, and
// the head start that it gives.
func TestAQuoteTellsWhatPriorityCosts(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	c.agent(0, func(*fakeAgent) {})
	c.waitNodes(0, 1)
	ask := func(fee chain.PriorityFee) (quote api.Quote, status int, raw string) {
		t.Helper()
		status, body := c.post(0, "/v1/quotes", api.QuoteRequest{Spec: api.SpecToJSON(testSpec(program)), Policy: api.Policy{Policy: chain.PolicyNone{}}, PriorityBps: fee})
		if err := json.Unmarshal(body, &quote); status == http.StatusOK && err != nil {
			t.Fatal(err)
		}
		return quote, status, string(body)
	}
	plain, status, raw := ask(0)
	if status != http.StatusOK || plain.MaxCost.IsZero() || !plain.Priority.IsZero() || plain.HeadStartMs != 0 {
		t.Fatalf("without a fee: %d %s", status, raw)
	}
	for _, fee := range []chain.PriorityFee{2_500, chain.MaxPriorityFee} {
		got, status, raw := ask(fee)
		if status != http.StatusOK || len(got.Bids) != 1 || got.Bids[0].Prices[0] != plain.Bids[0].Prices[0] {
			t.Fatalf("%d bps: %d %s", fee, status, raw)
		}
		extra := plain.MaxCost.Nano() * uint64(fee) / 10_000
		if got.MaxCost.Nano() != plain.MaxCost.Nano()+extra || got.Priority.Nano() != extra || got.Bids[0].Cost != got.MaxCost || uint64(got.HeadStartMs) != 60_000*uint64(fee)/10_000 {
			t.Errorf("%d bps: %s; without %+v", fee, raw, plain)
		}
	}
	if _, status, raw := ask(chain.MaxPriorityFee + 1); status != http.StatusUnprocessableEntity || !strings.Contains(raw, "body.priority_bps") {
		t.Errorf("beyond the limit: %d %s", status, raw)
	}
}
