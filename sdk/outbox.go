package sdk

import (
	"context"
	"fmt"
	"net/url"
	"slices"
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

// Nexus returns the URLs of the cluster's servers: those configured, and then what was
// learned.
func (c *Client) Nexus() []string { return slices.Clone(*c.nexus.urls.Load()) }

// Votes returns the votes of jurors that a server of the cluster has, and that wait to be
// posted to the chain: each has those of the agents that are connected to it. It is asked
// once.
func (c *Client) Votes(ctx context.Context, server string) (api.Votes, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	var out api.Votes
	one, err := newServers(c.nexus.kind, []string{server}) // what it says of the others is not heard
	if err != nil {
		return out, err
	}
	r := get(one, "/v1/votes", nil)
	response, err := c.send(ctx, server, r)
	if err == nil {
		err = readJSON(response, r.limit, &out)
	}
	if err != nil {
		return out, fmt.Errorf("sdk: %s %s%s: %w", r.method, server, r.path, err)
	}
	return out, nil
}
