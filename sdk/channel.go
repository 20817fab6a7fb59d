package sdk

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
)

// VerifiedChannel is a payment channel that a finalized state has, or has not.
type VerifiedChannel struct {
	channel settlement.Channel
	open    bool
	height  chain.Height
}

// Get returns the channel, and false if there is none, or no longer.
func (v VerifiedChannel) Get() (settlement.Channel, bool) { return v.channel, v.open }

// Height returns the height of the block after which the state was this.
func (v VerifiedChannel) Height() chain.Height { return v.height }

// VerifiedChannel returns what a finalized state knows of a payment channel. A payee looks
// before it takes a voucher: at the signer, at what is left, and that no notice was given.
func (c *Client) VerifiedChannel(ctx context.Context, id chain.ChannelID) (VerifiedChannel, error) {
	value, err := c.VerifiedState(ctx, settlement.ChannelKey(id))
	if err != nil {
		return VerifiedChannel{}, err
	}
	out := VerifiedChannel{height: value.Height()}
	raw, open := value.Get()
	if !open {
		return out, nil
	}
	if out.channel, err = settlement.DecodeChannel(raw); err != nil {
		return VerifiedChannel{}, fmt.Errorf("sdk: channel %s: %w: %w", id.Short(), light.ErrRefused, err)
	}
	out.open = true
	return out, nil
}
