package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// panelsBack is how many blocks a server that starts looks back for panels which were drawn.
const panelsBack = 2_000

// Panels implements Chain. What events say is a hint: Panel proves it.
func (c *sdkChain) Panels(ctx context.Context, drawn func(crypto.Digest, []crypto.PublicKey)) error {
	status, err := c.client.Status(ctx)
	if err != nil {
		return err
	}
	from := api.CursorAfter(status.Height - min(status.Height, panelsBack))
	filter := sdk.EventFilter{Cursor: &from, Types: []string{chain.EventName(chain.PanelDrawn{})}}
	for event, err := range c.client.Events(ctx, filter) {
		if err != nil {
			return err
		}
		var e chain.PanelDrawn
		if err := json.Unmarshal(event.Data, &e); err != nil {
			return err
		}
		drawn(e.Panel, e.Jurors)
	}
	return ctx.Err()
}

// Panel implements Chain.
func (c *sdkChain) Panel(ctx context.Context, id crypto.Digest) (Sitting, bool, error) {
	raw, err := c.record(ctx, settlement.PanelKey(id))
	if err != nil || raw == nil {
		return Sitting{}, false, err
	}
	p, err := settlement.DecodePanel(raw)
	if err != nil {
		return Sitting{}, false, err
	}
	out := Sitting{Order: p.Subject, Runs: p.JudgesRuns(), Reveals: p.Revealing, Decided: p.Due == 0 && p.DrawAt == 0}
	for _, j := range p.Jurors {
		out.Seats = append(out.Seats, Seat{Node: j.Node, Commitment: j.Commitment, Shown: j.Vote != nil})
	}
	return out, true, nil
}

// Matter implements Chain.
func (c *sdkChain) Matter(ctx context.Context, s *Sitting) (Matter, error) {
	spec, cluster, err := c.judged(ctx, s)
	if err != nil {
		return Matter{}, err
	}
	raw, err := c.record(ctx, settlement.ClusterKey(cluster))
	if err != nil || raw == nil {
		return Matter{}, fmt.Errorf("server: the cluster %s of an order that is judged: %w", cluster.Short(), orGone(err))
	}
	record, err := settlement.DecodeCluster(raw)
	return Matter{Spec: spec, Cluster: cluster, Endpoints: record.Endpoints}, err
}

// judged returns the specification of an order that a panel judges, and its home cluster.
func (c *sdkChain) judged(ctx context.Context, s *Sitting) (spec crypto.Digest, cluster crypto.PublicKey, err error) {
	key := settlement.OpenClaimKey(s.Order)
	if s.Runs {
		key = settlement.RunsKey(s.Order)
	}
	raw, err := c.record(ctx, key)
	if err != nil || raw == nil {
		return spec, cluster, fmt.Errorf("server: order %s, which is judged: %w", s.Order.Short(), orGone(err))
	}
	if !s.Runs {
		o, err := settlement.DecodeOpenClaim(raw)
		return o.Spec, o.Cluster, err
	}
	runs, err := settlement.DecodeRuns(raw)
	if err != nil {
		return spec, cluster, err
	}
	if raw, err = c.record(ctx, settlement.OrderKey(s.Order)); err != nil || raw == nil {
		return spec, cluster, fmt.Errorf("server: order %s, which is judged: %w", s.Order.Short(), orGone(err))
	}
	book, err := settlement.DecodeOrder(raw)
	return runs.Spec, book.Cluster, err
}

// orGone is an error, or says that there is no record.
func orGone(err error) error {
	if err == nil {
		return ErrNotRegistered
	}
	return err
}
