package sdk

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// VerifiedLease is a lease that a finalized state has, or has not.
type VerifiedLease struct {
	lease  settlement.Lease
	live   bool
	height chain.Height
	at     chain.TimeMs
}

// Get returns the lease, and false if there is none, or no longer. After its Expires a
// lease is over, whether or not a block has deleted it.
func (v VerifiedLease) Get() (settlement.Lease, bool) { return v.lease, v.live }

// Height returns the height of the block after which the state was this.
func (v VerifiedLease) Height() chain.Height { return v.height }

// TimeMs returns the time of that block.
func (v VerifiedLease) TimeMs() chain.TimeMs { return v.at }

// VerifiedLease returns what a finalized state knows of a lease: both of its sides
// reconcile by that, whichever events they missed.
func (c *Client) VerifiedLease(ctx context.Context, id chain.LeaseID) (VerifiedLease, error) {
	value, err := c.VerifiedState(ctx, settlement.LeaseKey(id))
	if err != nil {
		return VerifiedLease{}, err
	}
	out := VerifiedLease{height: value.Height(), at: value.Header().TimeMs()}
	raw, live := value.Get()
	if !live {
		return out, nil
	}
	if out.lease, err = settlement.DecodeLease(raw); err != nil {
		return VerifiedLease{}, fmt.Errorf("sdk: lease of node %s: %w: %w", id.Node.Short(), light.ErrRefused, err)
	}
	out.live = true
	return out, nil
}
