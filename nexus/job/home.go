package job

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The chain has at which cluster each node is, so that servers of others find it. A server whose agent is not
// there by the chain asks it to say so (AskHome); the node signs (AtHome), the cluster too, and a relay posts it.

// AskHome asks a node to sign that it is at home at a cluster, of which the sender is a server.
type AskHome struct {
	_       struct{} `cbor:",toarray"`
	Cluster crypto.PublicKey
}

// AtHome is the node's word.
type AtHome struct {
	_         struct{} `cbor:",toarray"`
	Home      chain.NodeHome
	Signature crypto.Signature // by the node, over chain.HomePayload under DomainHome
}

func (AskHome) sealedMessage() {}
func (AtHome) sealedMessage()  {}

// Kinds of messages about homes, after those about hardware.
const (
	kindAskHome uint8 = iota + 61
	kindAtHome
)
