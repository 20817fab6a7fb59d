package node

import (
	"errors"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// An account's reputation is the sum of its nodes' and, as a consumer, that of its escrows;
// a stranger has neither, and an unknown node is not found.
func TestReputationIsSummedOverNodesAndClusters(t *testing.T) {
	const now = chain.TimeMs(2_000_000_000_000)
	kv := state.NewOverlay(state.NewMemoryBackend())
	owner, nodes := user(1).address(), []crypto.PrivateKey{keyOf(1, 'n'), keyOf(2, 'n')}
	if err := tokens.Genesis(kv, []chain.Allocation{{Address: owner, Amount: chain.Hyper(1_000)}}, chain.Amount{}); err != nil {
		t.Fatal(err)
	}
	env := settlement.Env{ChainID: "reputation-1", Height: 1, Now: now, Params: chain.DefaultParams()}
	for i, node := range nodes {
		_, why := settlement.RegisterProvider(kv, &env, owner, chain.RegisterProvider{
			Node: node.Public(), Bond: chain.Hyper(100), Region: "eu", Millicores: 1_000, MemoryMiB: 1_024,
			Possession: node.Sign(crypto.DomainPossession, chain.PossessionPayload(env.ChainID, owner)),
		})
		if why != nil {
			t.Fatal(why.Reason())
		}
		p, _ := settlement.ProviderOf(kv, node.Public()) // as registered
		p.Record.Add(now, match.FactCompleted, chain.Nano(uint64(1_000_000_000*(i+1))))
		state.Save(kv, settlement.ProviderKey(node.Public()), p)
	}
	escrow := settlement.Escrow{Balance: chain.Hyper(1)}
	escrow.Record.Add(now, match.FactFailed, chain.Hyper(1))
	state.Save(kv, settlement.EscrowKey(owner, keyOf(3, 'c').Public()), escrow)

	r := accountReputation(kv, now, owner)
	if r.Provider == nil || r.Consumer == nil || len(r.Nodes) != 2 || len(r.Clusters) != 1 || r.More {
		t.Fatalf("%+v", r)
	}
	if c := r.Provider.Credit.Nano(); c > 3_000_000_000 || c < 2_999_999_990 || r.Provider.Score < r.Nodes[0].Facts.Score || r.Provider.Score < r.Nodes[1].Facts.Score {
		t.Errorf("its nodes: %+v", r)
	}
	if r.Consumer.Score >= match.Neutral || *r.Consumer != r.Clusters[0].Facts {
		t.Errorf("as a consumer: %+v", r.Consumer)
	}
	if r := accountReputation(kv, now, user(2).address()); r.Provider != nil || r.Consumer != nil {
		t.Errorf("a stranger: %+v", r)
	}
	if one, err := nodeReputation(kv, now, r.Nodes[0].Node); err != nil || *one.Provider != r.Nodes[0].Facts {
		t.Errorf("one node: %+v %v", one, err)
	}
	if _, err := nodeReputation(kv, now, keyOf(9, 'n').Public()); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("an unknown node: %v", err)
	}
}
