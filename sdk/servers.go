package sdk

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Servers returns the servers of a cluster, as the leader knows them.
func (c *Client) Servers(ctx context.Context) (api.ServerList, error) {
	return ask[api.ServerList](ctx, c, get(c.nexus, "/v1/servers", map[string][]string{"leader": {"true"}}))
}

// ChangeServers signs a change with the cluster's key, for the configuration and
// the term that the cluster has now, and has it made. A change that was
// overtaken by another is a problem with status 409: look again.
func (c *Client) ChangeServers(ctx context.Context, id chain.ChainID, cluster crypto.PrivateKey, change api.ServerChange) (api.ServerList, error) {
	now, err := c.Servers(ctx)
	if err != nil {
		return now, fmt.Errorf("sdk: asking for the servers: %w", err)
	}
	change.Index, change.Term = now.Index, now.Term
	change.Signature = cluster.Sign(crypto.DomainServers, api.ServerChangePayload(id, cluster.Public(), &change))
	r, err := post(c.nexus, "/v1/servers", change)
	if err != nil {
		return now, err
	}
	return ask[api.ServerList](ctx, c, r)
}
