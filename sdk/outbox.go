package sdk

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// MaxOutboxWait bounds how long Outbox lets a server wait for the next item:
// well below the time of an attempt.
const MaxOutboxWait = 8 * time.Second

// Outbox returns up to limit (at most 100) jobs of a cluster whose claims are to
// be posted to the chain, with a cursor above after. If there are none the
// server waits for one, for at most wait, cut to MaxOutboxWait.
func (c *Client) Outbox(ctx context.Context, after uint64, limit int, wait time.Duration) (api.Outbox, error) {
	return ask[api.Outbox](ctx, c, get(c.nexus, "/v1/outbox", url.Values{
		"after":   {strconv.FormatUint(after, 10)},
		"limit":   {strconv.Itoa(limit)},
		"wait_ms": {strconv.FormatInt(min(wait, MaxOutboxWait).Milliseconds(), 10)},
	}))
}

// Votes returns the votes of jurors that a server of the cluster has, and that wait to be
// posted to the chain. Each server has those of the agents that are connected to it.
func (c *Client) Votes(ctx context.Context) (api.Votes, error) {
	return ask[api.Votes](ctx, c, get(c.nexus, "/v1/votes", nil))
}
