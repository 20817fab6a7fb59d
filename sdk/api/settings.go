package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// ClusterSettings is GET /v1/settings: how a cluster schedules.
type ClusterSettings struct {
	Version  Uint64       `json:"version" doc:"one more with each change; 0: none was made"`
	Settings job.Settings `json:"settings"`
}

// SettingsChange is the body of POST /v1/settings: the operator changes how a
// cluster schedules.
type SettingsChange struct {
	Version   Uint64           `json:"version" doc:"of the settings that are changed, as GET says"`
	Settings  job.Settings     `json:"settings" doc:"all of them"`
	Signature crypto.Signature `json:"signature" doc:"by the cluster's key"`
}

// SettingsChangePayload is what the cluster's key signs, under DomainSettings, to
// change a cluster's settings.
func SettingsChangePayload(id chain.ChainID, cluster crypto.PublicKey, c *SettingsChange) []byte {
	return codec.Marshal(struct {
		_        struct{} `cbor:",toarray"`
		ChainID  chain.ChainID
		Cluster  crypto.PublicKey
		Version  uint64
		Settings job.Settings
	}{ChainID: id, Cluster: cluster, Version: uint64(c.Version), Settings: c.Settings})
}
