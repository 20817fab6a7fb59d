package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ServersHeader names, in the answers of a Nexus server, the version of
// GET /v1/addresses.
const ServersHeader = "Hypermesh-Servers"

// MaxServerAddresses bounds ServerAddresses.Servers, and MaxServerURL the bytes of
// one's URL.
const (
	MaxServerAddresses = 16
	MaxServerURL       = 256
)

// ServerAddress is where one server of a cluster answers HTTP.
type ServerAddress struct {
	ID  crypto.PublicKey `json:"server_id"`
	URL string           `json:"url" maxLength:"256"`
}

// ServerAddresses is GET /v1/addresses: the servers that have a vote and whose URL
// is known, by ascending id. Of two lists of a cluster the newer has the higher
// Index, or the later SignedMs.
type ServerAddresses struct {
	ChainID   chain.ChainID    `json:"chain_id"`
	Index     Uint64           `json:"index" doc:"of the configuration in the log"`
	SignedMs  chain.TimeMs     `json:"signed_ms" doc:"when, by the clock of the server that signed"`
	Servers   []ServerAddress  `json:"servers" maxItems:"16"`
	Signature crypto.Signature `json:"signature" doc:"by the cluster's key"`
}

// ServerAddressesPayload is what the cluster's key signs, under DomainAddresses.
func ServerAddressesPayload(cluster crypto.PublicKey, a *ServerAddresses) []byte {
	type server struct {
		_   struct{} `cbor:",toarray"`
		ID  crypto.PublicKey
		URL string
	}
	list := make([]server, len(a.Servers))
	for i, s := range a.Servers {
		list[i] = server{ID: s.ID, URL: s.URL}
	}
	return codec.Marshal(struct {
		_        struct{} `cbor:",toarray"`
		ChainID  chain.ChainID
		Cluster  crypto.PublicKey
		Index    uint64
		SignedMs chain.TimeMs
		Servers  []server
	}{ChainID: a.ChainID, Cluster: cluster, Index: uint64(a.Index), SignedMs: a.SignedMs, Servers: list})
}
