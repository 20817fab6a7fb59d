package sdk

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// VerifiedClaim is a claim in its window that a finalized state has, or has not.
type VerifiedClaim struct {
	claim  settlement.OpenClaim
	open   bool
	height chain.Height
}

// Get returns the claim, and false if the order has none in its window, or no longer.
func (v VerifiedClaim) Get() (settlement.OpenClaim, bool) { return v.claim, v.open }

// Height returns the height of the block after which the state was this.
func (v VerifiedClaim) Height() chain.Height { return v.height }

// VerifiedClaim returns what a finalized state knows of an order's claim in its window.
func (c *Client) VerifiedClaim(ctx context.Context, order crypto.Digest) (VerifiedClaim, error) {
	value, err := c.VerifiedState(ctx, settlement.OpenClaimKey(order))
	if err != nil {
		return VerifiedClaim{}, err
	}
	out := VerifiedClaim{height: value.Height()}
	raw, open := value.Get()
	if !open {
		return out, nil
	}
	if out.claim, err = settlement.DecodeOpenClaim(raw); err != nil {
		return VerifiedClaim{}, fmt.Errorf("sdk: claim of order %s: %w: %w", order.Short(), light.ErrRefused, err)
	}
	out.open = true
	return out, nil
}
