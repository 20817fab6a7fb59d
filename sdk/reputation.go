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
// a node of the chain says.
func (c *Client) Reputation(ctx context.Context, of string) (api.Reputation, error) {
	return ask[api.Reputation](ctx, c, get(c.nodes, "/v1/reputation/"+of, nil))
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
