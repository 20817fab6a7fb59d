package sdk

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Reputation returns what settlements say of a node (its id) or an account (its address), as
// a node of the chain says. The scores are made here, of the facts that it says, by the formula that all share.
func (c *Client) Reputation(ctx context.Context, of string) (api.Reputation, error) {
	said, err := ask[api.Reputation](ctx, c, get(c.nodes, "/v1/reputation/"+of, nil))
	if err != nil {
		return api.Reputation{}, err
	}
	for _, side := range []*api.Facts{said.Provider, said.Consumer} {
		if side != nil {
			*side = side.Scored()
		}
	}
	for i := range said.Nodes {
		said.Nodes[i].Facts = said.Nodes[i].Facts.Scored()
	}
	for i := range said.Clusters {
		said.Clusters[i].Facts = said.Clusters[i].Facts.Scored()
	}
	return said, nil
}

// VerifiedFacts is what settlements say of one side, as a finalized state has it.
type VerifiedFacts struct {
	facts  match.Facts
	height chain.Height
}

// Facts returns what is left of the facts at the time of the header that they were proven
// against.
func (v VerifiedFacts) Facts() match.Facts { return v.facts }

// Score returns the score that follows from the facts.
func (v VerifiedFacts) Score() uint64 { return v.facts.Score() }

// Height returns the height after which the facts were these.
func (v VerifiedFacts) Height() chain.Height { return v.height }

// VerifiedNodeFacts returns what settlements say of a node. Of one that was never registered
// there are none, which is proven as well.
func (c *Client) VerifiedNodeFacts(ctx context.Context, node crypto.PublicKey) (VerifiedFacts, error) {
	return c.verifiedFacts(ctx, settlement.ProviderKey(node), func(raw []byte) (match.Record, error) {
		provider, err := settlement.DecodeProvider(raw)
		return provider.Record, err
	})
}

// VerifiedConsumerFacts returns what settlements say of a consumer at a home cluster.
func (c *Client) VerifiedConsumerFacts(ctx context.Context, consumer chain.Address, cluster crypto.PublicKey) (VerifiedFacts, error) {
	return c.verifiedFacts(ctx, settlement.EscrowKey(consumer, cluster), func(raw []byte) (match.Record, error) {
		escrow, err := settlement.DecodeEscrow(raw)
		return escrow.Record, err
	})
}

func (c *Client) verifiedFacts(ctx context.Context, key []byte, decode func([]byte) (match.Record, error)) (VerifiedFacts, error) {
	value, err := c.VerifiedState(ctx, key)
	if err != nil {
		return VerifiedFacts{}, err
	}
	out := VerifiedFacts{height: value.Height()}
	raw, ok := value.Get()
	if !ok {
		return out, nil
	}
	record, err := decode(raw)
	if err != nil {
		return VerifiedFacts{}, fmt.Errorf("sdk: reputation: %w: %w", light.ErrRefused, err)
	}
	out.facts = record.At(value.Header().TimeMs())
	return out, nil
}

// VerifiedReputation is Reputation with facts that finalized states have, and the scores that follow from them. Which
// nodes and home clusters an account has the node that is asked says: it cannot list another's, and may leave some out.
func (c *Client) VerifiedReputation(ctx context.Context, of string) (api.Reputation, error) {
	said, err := c.Reputation(ctx, of)
	if err != nil {
		return api.Reputation{}, err
	}
	account, notAccount := chain.ParseAddress(of)
	node, notNode := crypto.ParsePublicKey(of)
	if notAccount != nil && notNode != nil {
		return api.Reputation{}, fmt.Errorf("sdk: %.100q is neither an address nor a node id", of)
	}
	out := api.Reputation{Nodes: []api.NodeFacts{}, Clusters: []api.ClusterFacts{}, More: said.More}
	var provider, consumer match.Facts
	for i := range said.Nodes {
		id := said.Nodes[i].Node
		v, err := c.verifiedFacts(ctx, settlement.ProviderKey(id), func(raw []byte) (match.Record, error) {
			p, err := settlement.DecodeProvider(raw)
			if err == nil && notNode == nil && id != node || err == nil && notAccount == nil && p.Owner != account {
				err = fmt.Errorf("node %s is not of %.100q", id.Short(), of)
			}
			return p.Record, err
		})
		if err != nil {
			return api.Reputation{}, err
		}
		provider, out.Height = provider.Plus(v.facts), max(out.Height, v.height)
		out.Nodes = append(out.Nodes, api.NodeFacts{Node: id, Facts: api.FactsOf(v.facts)})
	}
	for i := range said.Clusters {
		id := said.Clusters[i].Cluster
		v, err := c.VerifiedConsumerFacts(ctx, account, id)
		if err != nil {
			return api.Reputation{}, err
		}
		consumer, out.Height = consumer.Plus(v.facts), max(out.Height, v.height)
		out.Clusters = append(out.Clusters, api.ClusterFacts{Cluster: id, Facts: api.FactsOf(v.facts)})
	}
	if len(out.Nodes) > 0 {
		facts := api.FactsOf(provider)
		out.Provider = &facts
	}
	if len(out.Clusters) > 0 {
		facts := api.FactsOf(consumer)
		out.Consumer = &facts
	}
	return out, nil
}
