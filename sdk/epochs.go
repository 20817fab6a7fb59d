package sdk

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// EpochEnd returns how an epoch ended, as a node says; 0 is the last one that
// did.
func (c *Client) EpochEnd(ctx context.Context, epoch uint64) (api.EpochEnd, error) {
	end, err := ask[api.EpochEnd](ctx, c, c.endOf(epoch))
	if err == nil {
		err = checkEnd(epoch, &end)
	}
	if err != nil {
		return api.EpochEnd{}, err
	}
	return end, nil
}

func (c *Client) endOf(epoch uint64) call {
	which := "latest"
	if epoch > 0 {
		which = strconv.FormatUint(epoch, 10)
	}
	return get(c.nodes, "/v1/epochs/"+which, nil)
}

func checkEnd(epoch uint64, end *api.EpochEnd) error {
	switch {
	case epoch > 0 && end.Epoch != epoch:
		return refusef("the end of epoch %d was asked for, the server shows epoch %d", epoch, end.Epoch)
	case uint64(end.Header.Epoch) != end.Epoch || !end.Header.Closing:
		// An earlier end, which holds as well, would lead nowhere for ever.
		return refusef("as the end of epoch %d the server shows block %d, which is of epoch %d or closes none", end.Epoch, end.Header.Height, end.Header.Epoch)
	}
	return nil
}

// stepFrom asks each node for the end of an epoch until a verifier takes it. Others wait meanwhile, and the epoch may be
// none, of which one node speaks that never answers: so it takes no longer than two attempts may.
func (c *Client) stepFrom(ctx context.Context, epoch uint64, step func(light.Transition) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*c.config.Timeout)
	defer cancel()
	return believed(ctx, c, c.endOf(epoch), func(end api.EpochEnd) error {
		if err := checkEnd(epoch, &end); err != nil {
			return err
		}
		return step(TransitionOf(end))
	})
}

// TransitionOf returns what a server shows, for a verifier.
func TransitionOf(end api.EpochEnd) light.Transition {
	header := api.HeaderFromJSON(end.Header)
	t := light.Transition{Header: header.Encode(), Certificate: end.Certificate}
	for _, m := range end.Members {
		t.Members = append(t.Members, consensus.Validator{Key: m.ConsensusKey, Weight: uint64(m.Weight), LeaderWeight: uint64(m.LeaderWeight)})
	}
	return t
}

// follow returns a verifier that knows the committee of an epoch: it follows the
// ends of epochs from what is trusted, as far as it takes. Every step is verified.
func (c *Client) follow(ctx context.Context, epoch consensus.Epoch) (*light.Verifier, error) {
	if c.config.Genesis == nil {
		return nil, ErrNoTrust
	}
	select {
	case v := <-c.verifier:
		next, err := c.advance(ctx, v, epoch)
		c.verifier <- next
		return next, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func now() chain.TimeMs { return chain.TimeMs(time.Now().UnixMilli()) }

// advance returns how far it came, also with an error.
func (c *Client) advance(ctx context.Context, v *light.Verifier, epoch consensus.Epoch) (*light.Verifier, error) {
	if v == nil {
		err := c.stepFrom(ctx, uint64(c.config.Checkpoint.Epoch), func(t light.Transition) (err error) {
			v, _, err = light.At(c.config.Genesis, *c.config.Checkpoint, t, now())
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("sdk: confirming the checkpoint: %w", err)
		}
	}
	if err := v.Check(now()); err != nil {
		return v, fmt.Errorf("sdk: %w", err)
	}
	for v.Newest() < epoch {
		var next *light.Verifier
		err := c.stepFrom(ctx, uint64(v.Newest()), func(t light.Transition) (err error) {
			next, _, err = v.Step(t, now())
			return err
		})
		if err != nil {
			return v, fmt.Errorf("sdk: following to epoch %d: the end of epoch %d: %w", epoch, v.Newest(), err)
		}
		v = next
	}
	return v, nil
}

// VerifiedCheckpoint returns the checkpoint of the block that closed an epoch, 0
// being the last one that ended, verified from what this client trusts.
func (c *Client) VerifiedCheckpoint(ctx context.Context, epoch uint64) (light.Checkpoint, error) {
	end, err := c.EpochEnd(ctx, epoch)
	if err != nil {
		return light.Checkpoint{}, err
	}
	v, err := c.follow(ctx, consensus.Epoch(end.Epoch))
	if err != nil {
		return light.Checkpoint{}, err
	}
	_, closing, err := v.Step(TransitionOf(end), now())
	if err != nil {
		return light.Checkpoint{}, fmt.Errorf("sdk: the end of epoch %d: %w", end.Epoch, err)
	}
	return closing.Checkpoint()
}
