package node

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// NodeReputation returns what settlements say of a node.
func (n *Node) NodeReputation(_ context.Context, node crypto.PublicKey) (api.Reputation, error) {
	return n.reputation(func(r state.Reader, now chain.TimeMs) (api.Reputation, error) { return nodeReputation(r, now, node) })
}

// AccountReputation returns what settlements say of an account's nodes, and of it as a
// consumer.
func (n *Node) AccountReputation(_ context.Context, account chain.Address) (api.Reputation, error) {
	return n.reputation(func(r state.Reader, now chain.TimeMs) (api.Reputation, error) {
		return accountReputation(r, now, account), nil
	})
}

func nodeReputation(r state.Reader, now chain.TimeMs, node crypto.PublicKey) (api.Reputation, error) {
	provider, ok := settlement.ProviderOf(r, node)
	if !ok {
		return api.Reputation{}, fmt.Errorf("node %s was never registered: %w", node.Short(), rpc.ErrNotFound)
	}
	facts := api.FactsOf(provider.Record.At(now))
	return api.Reputation{Provider: &facts, Nodes: []api.NodeFacts{{Node: node, Facts: facts}}, Clusters: []api.ClusterFacts{}}, nil
}

func accountReputation(r state.Reader, now chain.TimeMs, account chain.Address) api.Reputation {
	out := api.Reputation{Nodes: []api.NodeFacts{}, Clusters: []api.ClusterFacts{}}
	sum := func(all match.Facts, known int) *api.Facts {
		if known == 0 {
			return nil
		}
		facts := api.FactsOf(all)
		return &facts
	}
	nodes, moreNodes := settlement.NodesOf(r, account)
	var all match.Facts
	for _, id := range nodes {
		provider, _ := settlement.ProviderOf(r, id) // it is listed: it is there
		facts := provider.Record.At(now)
		all = all.Plus(facts)
		out.Nodes = append(out.Nodes, api.NodeFacts{Node: id, Facts: api.FactsOf(facts)})
	}
	out.Provider = sum(all, len(nodes))
	clusters, moreClusters := settlement.EscrowsOf(r, account)
	all = match.Facts{}
	for _, id := range clusters {
		facts := settlement.EscrowOf(r, account, id).Record.At(now)
		all = all.Plus(facts)
		out.Clusters = append(out.Clusters, api.ClusterFacts{Cluster: id, Facts: api.FactsOf(facts)})
	}
	out.Consumer = sum(all, len(clusters))
	out.More = moreNodes || moreClusters
	return out
}

// reputation asks the latest state; a fault of the store becomes an error.
func (n *Node) reputation(ask func(r state.Reader, now chain.TimeMs) (api.Reputation, error)) (out api.Reputation, err error) {
	snapshot, err := n.store.Snapshot()
	if err != nil {
		return out, err
	}
	defer n.closeSnapshot(snapshot)
	defer func() {
		if p := recover(); p != nil {
			fault, isFault := p.(*state.Fault)
			if !isFault {
				panic(p)
			}
			err = fault
		}
	}()
	head, err := execution.HeadOf(snapshot)
	if err != nil {
		return out, err
	}
	if out, err = ask(snapshot, head.TimeMs); err == nil {
		out.Height, out.TimeMs = snapshot.Tip().Height, head.TimeMs
	}
	return out, err
}
