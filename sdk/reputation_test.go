package sdk_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/sdk"
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
