package node

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// Protocol is the name under which nodes talk to each other.
const Protocol = "hypermesh/chain/1"

const (
	channelGossip = 16 // above the engine's
	maxGossip     = 1 << 20
	gossipQueue   = 8 << 20
	blockFor      = time.Minute // a peer that forged something
	maxObservers  = 64
)

// network is the engine's and the pool's way to the peers.
type network struct {
	mesh   *transport.Mesh
	engine atomic.Pointer[engine.Engine]
	pool   *pool
	log    *slog.Logger
}

// newNetwork makes the mesh; receive finds the engine once it is set.
func newNetwork(endpoint *transport.Endpoint, peers []transport.NodeAddr, pool *pool, log *slog.Logger) (*network, error) {
	n := &network{pool: pool, log: log}
	channels := []transport.Channel{{
		ID: channelGossip, Name: "transactions", MaxMessageBytes: maxGossip, QueueBytes: gossipQueue, WhenFull: transport.DropNewest,
		Urgency: 5, ToObservers: false, Handle: pool.receive,
	}}
	for _, c := range []struct {
		channel consensus.Channel
		name    string
		queue   int
		urgency int8
	}{
		{consensus.ChannelVotes, "votes", 1 << 20, 0},
		{consensus.ChannelCertificates, "certificates", 4 << 20, 1},
		{consensus.ChannelProposals, "proposals", 3 * consensus.MaxPayloadBytes, 2},
		{consensus.ChannelFetch, "fetch", 3 * consensus.MaxMessageBytes / 2, 3},
	} {
		channels = append(channels, transport.Channel{
			ID: uint8(c.channel), Name: c.name, MaxMessageBytes: c.channel.Limit(), QueueBytes: c.queue, WhenFull: transport.DropOldest,
			Urgency: c.urgency, ToObservers: true, Handle: n.receive(c.channel),
		})
	}
	mesh, err := transport.NewMesh(endpoint, transport.MeshConfig{Protocol: Protocol, Peers: peers, Channels: channels, MaxObservers: maxObservers})
	if err != nil {
		return nil, fmt.Errorf("making the mesh: %w", err)
	}
	n.mesh = mesh
	pool.gossip = func(message []byte) { n.Broadcast(channelGossip, message) }
	pool.block = n.Block
	return n, nil
}

func (n *network) receive(channel consensus.Channel) func(crypto.PublicKey, []byte) {
	return func(peer crypto.PublicKey, message []byte) {
		e := n.engine.Load()
		if e == nil {
			return
		}
		if err := e.Receive(peer, channel, message); err != nil {
			n.log.Warn("peer broke the protocol", "peer", peer.Short(), "error", err)
		}
	}
}

// Broadcast sends to every connected peer. A full queue drops.
func (n *network) Broadcast(channel consensus.Channel, data []byte) {
	if err := n.mesh.Broadcast(uint8(channel), data); err != nil {
		n.log.Error("broadcast", "channel", channel, "error", err)
	}
}

// Send sends to one peer, and reports whether it is connected.
func (n *network) Send(peer crypto.PublicKey, channel consensus.Channel, data []byte) bool {
	if err := n.mesh.Send(peer, uint8(channel), data); err != nil {
		n.log.Debug("send", "peer", peer.Short(), "channel", channel, "error", err)
		return false
	}
	return true
}

// Peers returns the node keys of the connected peers.
func (n *network) Peers() []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, p := range n.mesh.Stats() {
		if p.Connected {
			out = append(out, p.ID)
		}
	}
	return out
}

// Block ends the connection with a peer that forged something.
func (n *network) Block(peer crypto.PublicKey, reason string) {
	n.mesh.Block(peer, blockFor, reason)
}
