package sdk_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Facts of both sides are those of the proven records, scored by the shared formula; of a
// stranger there are none, and a record that does not decode is refused.
func TestVerifiedFacts(t *testing.T) {
	f := newFakeChain(t)
	node, broken, cluster := testKey(7).Public(), testKey(8).Public(), testKey(3).Public()
	provider, escrow := settlement.Provider{Owner: address(4)}, settlement.Escrow{}
	provider.Record.Add(1_000, match.FactCompleted, chain.Hyper(3))
	escrow.Record.Add(1_000, match.FactLate, chain.Hyper(1))
	f.records = map[string][]byte{
		string(settlement.ProviderKey(node)):              codec.Marshal(provider),
		string(settlement.ProviderKey(broken)):            {0xff},
		string(settlement.EscrowKey(address(1), cluster)): codec.Marshal(escrow),
	}
	f.seal()
	f.seal() // proves the state after the first
	client := newClient(t, sdk.Config{Nodes: []string{server(t, f)}, Genesis: f.genesis, Timeout: time.Second})
	if v, err := client.VerifiedNodeFacts(t.Context(), node); err != nil || v.Score() != match.Neutral+3*match.Neutral/4 || v.Facts().Completed != match.One {
		t.Errorf("node: %+v, score %d, %v", v.Facts(), v.Score(), err)
	}
	if v, err := client.VerifiedConsumerFacts(t.Context(), address(1), cluster); err != nil || v.Score() != match.Neutral/2 || v.Facts().Late != match.One {
		t.Errorf("consumer: %+v, score %d, %v", v.Facts(), v.Score(), err)
	}
	if v, err := client.VerifiedConsumerFacts(t.Context(), address(2), cluster); err != nil || v.Score() != match.Neutral || v.Facts() != (match.Facts{}) {
		t.Errorf("stranger: %+v %v", v.Facts(), err)
	}
	if _, err := client.VerifiedNodeFacts(t.Context(), broken); !errors.Is(err, light.ErrRefused) {
		t.Errorf("a broken record: %v", err)
	}
}

// TestVerifiedReputation: what a node says of an account counts as far as it is proven: neither a false score nor another's
// node.
func TestVerifiedReputation(t *testing.T) {
	f := newFakeChain(t)
	own, others, cluster := testKey(7).Public(), testKey(8).Public(), testKey(3).Public()
	provider, foreign, escrow := settlement.Provider{Owner: address(4)}, settlement.Provider{Owner: address(5)}, settlement.Escrow{}
	provider.Record.Add(1_000, match.FactCompleted, chain.Hyper(3))
	escrow.Record.Add(1_000, match.FactLate, chain.Hyper(1))
	f.records = map[string][]byte{
		string(settlement.ProviderKey(own)): codec.Marshal(provider), string(settlement.ProviderKey(others)): codec.Marshal(foreign),
		string(settlement.EscrowKey(address(4), cluster)): codec.Marshal(escrow),
	}
	f.seal()
	f.seal()
	said := api.Reputation{Nodes: []api.NodeFacts{{Node: own, Facts: api.Facts{Score: 1}}}, Clusters: []api.ClusterFacts{{Cluster: cluster}}, Provider: &api.Facts{Score: 7}}
	lists := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/reputation/") {
			f.ServeHTTP(w, r)
		} else if err := json.NewEncoder(w).Encode(said); err != nil {
			t.Error(err)
		}
	})
	client := newClient(t, sdk.Config{Nodes: []string{server(t, lists)}, Genesis: f.genesis})
	said.Provider.Credit, said.Nodes[0].Facts.Debt, said.Clusters[0].Facts.Score = chain.Hyper(1), chain.Hyper(3), 9
	if r, err := client.Reputation(t.Context(), address(4).String()); err != nil || r.Provider.Score != match.Neutral+match.Neutral/2 ||
		r.Nodes[0].Facts.Score != match.Neutral/4 || r.Clusters[0].Facts.Score != match.Neutral || r.Consumer != nil {
		t.Errorf("scores that do not follow from the facts: %+v, %v", r, err)
	}
	r, err := client.VerifiedReputation(t.Context(), address(4).String())
	const score = match.Neutral + 3*match.Neutral/4
	if err != nil || r.Provider == nil || r.Consumer == nil || r.Provider.Score != score || r.Nodes[0].Facts.Score != score || r.Consumer.Score != match.Neutral/2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := client.VerifiedReputation(t.Context(), others.String()); !errors.Is(err, light.ErrRefused) {
		t.Errorf("another node was asked for: %+v, %v", r, err)
	}
	said.Nodes = append(said.Nodes, api.NodeFacts{Node: others})
	if r, err := client.VerifiedReputation(t.Context(), address(4).String()); !errors.Is(err, light.ErrRefused) {
		t.Errorf("another's node: %+v, %v", r, err)
	}
	if r, err := client.VerifiedReputation(t.Context(), "nobody"); err == nil {
		t.Errorf("of nobody: %+v", r)
	}
}
