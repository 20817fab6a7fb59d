package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// panelsBack is how many blocks a server that starts looks back for panels at least: while the
// chain stands, panels stand too.
const panelsBack = 2_000

// Panels implements Chain. What events say is a hint: Panel proves it.
func (c *sdkChain) Panels(ctx context.Context, tell PanelNews) error {
	before, err := c.beforePanels(ctx)
	if err != nil {
		return err
	}
	from := api.CursorAfter(before)
	filter := sdk.EventFilter{Cursor: &from, Types: []string{
		chain.EventName(chain.PanelDrawn{}), chain.EventName(chain.PanelRevealing{}), chain.EventName(chain.ClaimPending{}), chain.EventName(chain.HardwareChallenged{}), chain.EventName(chain.ClusterRegistered{}), chain.EventName(chain.PeersDrawn{}),
	}}
	for event, err := range c.client.Events(ctx, filter) {
		if err != nil {
			return err
		}
		if err := tell.take(&event); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// take tells what an event says.
func (n *PanelNews) take(event *api.StreamEvent) error {
	var drawn chain.PanelDrawn
	var named struct {
		Cluster crypto.PublicKey `json:"cluster"`
	}
	if event.Type == chain.EventName(drawn) {
		if err := json.Unmarshal(event.Data, &drawn); err != nil {
			return err
		}
		n.Drawn(drawn.Panel, event.Height, drawn.Jurors)
		return nil
	}
	var revealing chain.PanelRevealing
	if event.Type == chain.EventName(revealing) {
		if err := json.Unmarshal(event.Data, &revealing); err != nil {
			return err
		}
		n.Revealing(revealing.Panel, event.Height)
		return nil
	}
	var peers chain.PeersDrawn
	if event.Type == chain.EventName(peers) {
		if err := json.Unmarshal(event.Data, &peers); err != nil {
			return err
		}
		n.Peers(peers.Lease, peers.Peers)
		return nil
	}
	if event.Type == chain.EventName(chain.HardwareChallenged{}) {
		var c chain.HardwareChallenged
		if err := json.Unmarshal(event.Data, &c); err != nil {
			return err
		}
		n.Challenged(c.Node, event.Height, c.Peers)
		return nil
	}
	if err := json.Unmarshal(event.Data, &named); err != nil {
		return err
	}
	n.Cluster(named.Cluster)
	return nil
}

// beforePanels returns a height after which every panel, and every hardware challenge, was drawn that
// may not be over: twice as long ago as they last, as the time in which the chain stands does not count for it. A node
// that has not kept as much is asked for what it has.
func (c *sdkChain) beforePanels(ctx context.Context) (chain.Height, error) {
	status, err := c.client.Status(ctx)
	if err != nil {
		return 0, err
	}
	since := status.BlockTimeMs - min(status.BlockTimeMs, chain.TimeMs(2*c.drawnMs))
	least := status.Height - min(status.Height, panelsBack)
	low, high := chain.Height(1), status.Height
	for low < high { // the first that is kept, and is not too old
		middle := low + (high-low)/2
		block, err := c.client.Block(ctx, middle, "header")
		problem, said := errors.AsType[*api.Problem](err)
		switch {
		case said && problem.Type == api.ProblemPruned:
			low = middle + 1
		case err != nil:
			return 0, err
		case block.Header.TimeMs < since && middle < least:
			low = middle + 1
		default:
			high = middle
		}
	}
	return low - 1, nil
}

// Panel implements Chain.
func (c *sdkChain) Panel(ctx context.Context, id crypto.Digest) (Sitting, bool, error) {
	value, err := c.client.VerifiedState(ctx, settlement.PanelKey(id))
	if err != nil {
		return Sitting{}, false, err
	}
	out := Sitting{Height: value.Height()}
	raw, there := value.Get()
	if !there {
		return out, false, nil
	}
	p, err := settlement.DecodePanel(raw)
	if err != nil {
		return Sitting{}, false, err
	}
	out.Order, out.Runs, out.Reveals, out.Decided = p.Subject, p.JudgesRuns(), p.Revealing, p.Due == 0 && p.DrawAt == 0
	for _, j := range p.Jurors {
		out.Seats = append(out.Seats, Seat{Node: j.Node, Commitment: j.Commitment, Shown: j.Vote != nil})
	}
	return out, true, nil
}

// Hardware implements Chain.
func (c *sdkChain) Hardware(ctx context.Context, node crypto.PublicKey) (Challenge, error) {
	value, err := c.client.VerifiedState(ctx, settlement.HardwareKey(node))
	if err != nil {
		return Challenge{}, err
	}
	out := Challenge{Height: value.Height()}
	raw, there := value.Get()
	if !there {
		return out, nil
	}
	out.Hardware, err = settlement.DecodeHardware(raw)
	out.Open = err == nil && out.Hardware.Open()
	return out, err
}

// Home implements Chain.
func (c *sdkChain) Home(ctx context.Context, node crypto.PublicKey) (settlement.Home, error) {
	raw, _, err := c.record(ctx, settlement.HomeKey(node))
	if err != nil || raw == nil {
		return settlement.Home{}, err
	}
	return settlement.DecodeHome(raw)
}

// Matter implements Chain.
func (c *sdkChain) Matter(ctx context.Context, s *Sitting) (Matter, error) {
	spec, cluster, err := c.judged(ctx, s)
	if err != nil {
		return Matter{}, err
	}
	endpoints, err := c.Endpoints(ctx, cluster)
	if err != nil {
		return Matter{}, fmt.Errorf("server: the cluster %s of an order that is judged: %w", cluster.Short(), err)
	}
	return Matter{Spec: spec, Cluster: cluster, Endpoints: endpoints}, nil
}

// Endpoints implements Chain.
func (c *sdkChain) Endpoints(ctx context.Context, cluster crypto.PublicKey) ([]string, error) {
	raw, _, err := c.record(ctx, settlement.ClusterKey(cluster))
	if err != nil || raw == nil {
		return nil, orGone(err)
	}
	record, err := settlement.DecodeCluster(raw)
	return record.Endpoints, err
}

// judged returns the specification of an order that a panel judges, and its home cluster.
func (c *sdkChain) judged(ctx context.Context, s *Sitting) (spec crypto.Digest, cluster crypto.PublicKey, err error) {
	key := settlement.OpenClaimKey(s.Order)
	if s.Runs {
		key = settlement.RunsKey(s.Order)
	}
	raw, _, err := c.record(ctx, key)
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
	if raw, _, err = c.record(ctx, settlement.OrderKey(s.Order)); err != nil || raw == nil {
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
