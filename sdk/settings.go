package sdk

import (
	"context"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Settings returns how a cluster schedules, as the leader knows it.
func (c *Client) Settings(ctx context.Context) (api.ClusterSettings, error) {
	return ask[api.ClusterSettings](ctx, c, get(c.nexus, "/v1/settings", map[string][]string{"leader": {"true"}}))
}

// ChangeSettings signs a change of the settings that the cluster has now with its
// key, and has it made. A change that was overtaken by another is a problem with
// status 409: look again.
func (c *Client) ChangeSettings(ctx context.Context, id chain.ChainID, cluster crypto.PrivateKey, change func(*job.Settings) error) (api.ClusterSettings, error) {
	now, err := c.Settings(ctx)
	if err != nil {
		return now, fmt.Errorf("sdk: asking for the settings: %w", err)
	}
	wanted := api.SettingsChange{Version: now.Version, Settings: now.Settings}
	if err := change(&wanted.Settings); err != nil {
		return now, err
	}
	wanted.Signature = cluster.Sign(crypto.DomainSettings, api.SettingsChangePayload(id, cluster.Public(), &wanted))
	r, err := post(c.nexus, "/v1/settings", wanted)
	if err != nil {
		return now, err
	}
	return ask[api.ClusterSettings](ctx, c, r)
}
