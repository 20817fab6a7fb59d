package chain

import (
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What nodes of different clusters have to say to each other goes through their clusters' servers: the
// chain says at which cluster a node is.

// HomeMs is how far from a block's time a node may have said where it is at home, and how much later
// it has to say so again to move.
const HomeMs = 600_000

// NodeHome says that a node is connected to a cluster: both sign it.
type NodeHome struct {
	_       struct{}         `cbor:",toarray"`
	ChainID ChainID          `json:"chain_id"`
	Node    crypto.PublicKey `json:"node"`
	Cluster crypto.PublicKey `json:"cluster"`
	At      TimeMs           `json:"at_ms"` // when it was said, by the node's clock: the newest counts
}

// HomePayload is what node and cluster sign under DomainHome.
func HomePayload(h NodeHome) []byte { return codec.Marshal(h) }

// AnnounceHome brings a node's word, and its cluster's, that the node is at home there. Anyone may
// send it.
type AnnounceHome struct {
	_                struct{} `cbor:",toarray"`
	Home             NodeHome
	NodeSignature    crypto.Signature // by Home.Node, over HomePayload under DomainHome
	ClusterSignature crypto.Signature // by Home.Cluster, over the same
}

// HomeAnnounced says that a node is at home at a cluster from then on.
type HomeAnnounced struct {
	_       struct{}         `cbor:",toarray"`
	Node    crypto.PublicKey `json:"node"`
	Cluster crypto.PublicKey `json:"cluster"`
	At      TimeMs           `json:"at_ms"` // NodeHome.At
}

// Kinds of what is said of homes.
const (
	kindAnnounceHome  uint8 = 54
	kindHomeAnnounced uint8 = 73
)

func (AnnounceHome) sealedMsg()    {}
func (HomeAnnounced) sealedEvent() {}

func (m *AnnounceHome) signatures() ([]crypto.Signed, error) {
	payload := HomePayload(m.Home)
	return []crypto.Signed{
		crypto.SignedBy(m.Home.Node, crypto.DomainHome, payload, m.NodeSignature),
		crypto.SignedBy(m.Home.Cluster, crypto.DomainHome, payload, m.ClusterSignature),
	}, nil
}
