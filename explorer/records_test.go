package explorer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

type foundRecord struct {
	Height uint64 `json:"height"`
	Index  int    `json:"tx_index"`
	Kind   string `json:"kind"`
	chain.ResourceTransaction
}

type recordsPage struct {
	Records []foundRecord `json:"records"`
	Next    string        `json:"next"`
}

func (r *running) records(values url.Values) (page recordsPage) {
	r.t.Helper()
	status, body, _ := r.get("/api/records?" + values.Encode())
	if status != http.StatusOK {
		r.t.Fatalf("%v: %d %s", values, status, body)
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		r.t.Fatal(err)
	}
	return page
}

// leasePaid pays of a lease of the n-th provider at a time.
func leasePaid(n int, at chain.TimeMs, resources ...chain.Resource) chain.LeasePaid {
	node := testKey(nodeKey + n).Public()
	out := chain.LeasePaid{Lease: chain.LeaseID{Node: node, Order: crypto.Digest{77}}, Consumer: address(consumerKey), Provider: address(ownerKey + n), Until: at}
	for _, resource := range resources {
		out.Records = append(out.Records, chain.ResourceTransaction{
			NodeID: node, ResourceType: resource, Amount: 5, DurationMs: 1_000, PricePerUnit: 7, Consumer: out.Consumer, Provider: out.Provider, Timestamp: at,
		})
	}
	return out
}

// leaseStory adds what leases pay to the story: two in one transaction with a settled
// claim, and two that end with a block.
func leaseStory(f *fakeChain) (last chain.Height) {
	f.story()
	tx := f.sign(40, "", chain.Settle{Claims: []chain.Claim{claim(order(9, chain.PolicyNone{}), 0)}})
	f.seal(entry{tx: tx, events: chain.Events{
		leasePaid(1, startMs+10_000, chain.GPU, chain.CPU), settled(order(9, chain.PolicyNone{}), 0), leasePaid(2, startMs+11_000, chain.Network),
	}})
	f.sealWith(chain.Events{leasePaid(0, startMs+12_000, chain.CPU), leasePaid(1, startMs+12_000, chain.CPU)})
	return 8
}

// TestRecordsAreFoundByEveryValue checks each question, whole and page by page,
// against all records of the index.
func TestRecordsAreFoundByEveryValue(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	last := leaseStory(node)
	r := start(t, configFor(t.TempDir(), node))
	r.reach(last)
	all := r.records(nil).Records
	leases := 0
	for _, record := range all {
		if record.Kind == "lease" {
			leases++
		}
	}
	if len(all) != 4*2+2+5 || leases != 5 {
		t.Fatalf("%d records, %d of leases", len(all), leases)
	}
	if !slices.IsSortedFunc(all, func(a, b foundRecord) int { return int(b.Timestamp) - int(a.Timestamp) }) {
		t.Error("they are not in the order of time")
	}
	if first := all[0]; first.Height != 8 || first.Index != -1 || first.ResourceType != chain.CPU {
		t.Errorf("the latest is %+v", first)
	}
	key := testKey(nodeKey).Public()
	cases := map[string]func(foundRecord) bool{
		"node=" + key.String():                      func(f foundRecord) bool { return f.NodeID == key },
		"consumer=" + address(consumerKey).String(): func(f foundRecord) bool { return f.Consumer == address(consumerKey) },
		"consumer=" + address(3).String():           func(foundRecord) bool { return false },
		"provider=" + address(ownerKey+1).String():  func(f foundRecord) bool { return f.Provider == address(ownerKey+1) },
		"resource=CPU":                              func(f foundRecord) bool { return f.ResourceType == chain.CPU },
		"resource=GPU":                              func(f foundRecord) bool { return f.ResourceType == chain.GPU },
		"resource=CPU&node=" + key.String():         func(f foundRecord) bool { return f.ResourceType == chain.CPU && f.NodeID == key },
		fmt.Sprintf("since=%d", startMs+10_000):     func(f foundRecord) bool { return f.Timestamp >= startMs+10_000 },
		fmt.Sprintf("until=%d", startMs+11_000):     func(f foundRecord) bool { return f.Timestamp < startMs+11_000 },
		fmt.Sprintf("since=%d&until=%d", startMs+10_000, startMs+12_000): func(f foundRecord) bool {
			return f.Timestamp >= startMs+10_000 && f.Timestamp < startMs+12_000
		},
	}
	for query, wanted := range cases {
		var want []foundRecord
		for _, record := range all {
			if wanted(record) {
				want = append(want, record)
			}
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []string{"1", "2", "100"} {
			values.Set("limit", limit)
			values.Del("cursor")
			var got []foundRecord
			for range len(want) + 2 {
				page := r.records(values)
				got = append(got, page.Records...)
				if page.Next == "" {
					break
				}
				values.Set("cursor", page.Next)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s by %s: %d records, want %d", query, limit, len(got), len(want))
			}
		}
	}
}

func TestRecordQueriesAreRefusedByName(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.seal()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(1)
	for query, name := range map[string]string{
		"node=12": "node", "consumer=hyper1x": "consumer", "provider=x": "provider", "resource=Gold": "resource", "since=yesterday": "since", "until=-1": "until",
		"limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "cursor=1-2-3": "cursor", "cursor=1-2-3--4": "cursor", "order=1": "order",
		"node=1&node=2": "node",
	} {
		status, body, _ := r.get("/api/records?" + query)
		var problem struct{ Detail string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != http.StatusBadRequest || len(problem.Detail) < len(name) {
			t.Errorf("%s: %d %s", query, status, body)
		}
		if got := problem.Detail; got[:min(len(got), len(name))] != name && got[:min(len(got), len(name)+1)] != `"`+name {
			t.Errorf("%s: %s", query, got)
		}
	}
}
