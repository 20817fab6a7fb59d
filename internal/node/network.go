package node

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// Protocol is the name under which nodes talk to each other.
const Protocol = "hypermesh/chain/1"

const (
	channelGossip = 16 // above the engine's
	channelPulls  = 17
	maxGossip     = 1 << 20
	gossipQueue   = 8 << 20
	blockFor      = time.Minute // a peer that forged something
	// A peer that is silent for so long is dialed anew. After an outage of any length
	// two nodes hear each other within 4 s (transport.Config.IdleTimeout).
	peerSilence = 6 * time.Second
	maxPeers    = 4096 // of a mesh
)

// network is the engine's and the pool's way to the peers.
type network struct {
	self     crypto.PublicKey
	named    neighbours
	endpoint *transport.Endpoint
	mesh     *transport.Mesh
	knocks   *transport.Listener // of sentries; nil: this node is hidden
	engine   atomic.Pointer[engine.Engine]
	gossip   *gossip
	log      *slog.Logger

	counting sync.Mutex
	present  atomic.Pointer[gossipPeers]

	mu       sync.Mutex
	members  []staking.Member
	favoured []crypto.PublicKey
	peering  []transport.NodeAddr // what follows from these
}

// newNetwork makes the mesh; receive finds the engine once it is set.
func newNetwork(endpoint *transport.Endpoint, config *Config, named neighbours, pool *pool, log *slog.Logger) (*network, error) {
	n := &network{self: endpoint.ID(), named: named, endpoint: endpoint, log: log}
	n.present.Store(&gossipPeers{})
	channels := []transport.Channel{{
		ID: channelGossip, Name: "transactions", MaxMessageBytes: maxGossip, QueueBytes: gossipQueue, WhenFull: transport.DropNewest,
		Urgency: 5, ToObservers: false, Handle: pool.gossip.receive,
	}, {
		ID: channelPulls, Name: "pulls", MaxMessageBytes: maxGossip, QueueBytes: gossipQueue, WhenFull: transport.DropNewest,
		Urgency: 4, ToObservers: false, Handle: pool.gossip.receive,
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
	n.peering = n.peers()
	mc := transport.MeshConfig{
		Protocol: Protocol, Peers: n.peering, Channels: channels, Changed: n.changed,
		MaxObservers: config.MaxObservers, ObserversEgress: config.ObserversMiB << 20, ObserverEgress: config.ObserversMiB << 18,
	}
	if named.hidden() {
		mc.MaxObservers = 0
	}
	mesh, err := transport.NewMesh(endpoint, mc)
	if err != nil {
		return nil, fmt.Errorf("making the mesh: %w", err)
	}
	n.mesh = mesh
	n.gossip = pool.gossip
	n.gossip.peers = func() gossipPeers { return *n.present.Load() }
	n.gossip.send = n.sendGossip
	n.gossip.block, n.gossip.onward = n.Block, n.onward
	if !named.hidden() {
		if err := n.listenForSentries(); err != nil {
			return nil, fmt.Errorf("listening for sentries: %w", err)
		}
	}
	return n, nil
}

// peers returns whom to be connected with: whom the configuration names, and unless
// this node is hidden the members, the sentries that they advertise in the place of an
// endpoint of their own, and those that they delegated to. The caller
// holds n.mu, or nobody else knows n.
func (n *network) peers() []transport.NodeAddr {
	known := map[crypto.PublicKey]bool{n.self: true}
	var peers []transport.NodeAddr
	add := func(a transport.NodeAddr) {
		if !known[a.ID] && len(peers) < maxPeers {
			known[a.ID] = true
			peers = append(peers, a)
		}
	}
	for _, a := range n.named.all() {
		add(a)
	}
	if n.named.hidden() {
		return peers
	}
	var sentries []transport.NodeAddr
	for _, m := range n.members {
		named := advertised(m.NodeKey, m.Endpoint)
		add(named[0])
		sentries = append(sentries, named[1:]...)
	}
	for _, a := range sentries { // after all members: nobody says where another one is to be dialed
		add(a)
	}
	for _, k := range n.favoured {
		add(transport.NodeAddr{ID: k}) // it dials us
	}
	return peers
}

// advertised returns the node of a validator, and then, if it names one in the place of an
// endpoint of its own, a sentry. Whatever else it has advertised, it may dial us.
func advertised(node crypto.PublicKey, endpoint string) []transport.NodeAddr {
	if sentry, err := transport.ParseNodeAddr(endpoint); err == nil {
		return []transport.NodeAddr{{ID: node}, sentry}
	}
	a := transport.NodeAddr{ID: node, Addr: endpoint}
	if _, err := transport.ParseNodeAddr(a.String()); err != nil {
		a.Addr = ""
	}
	return []transport.NodeAddr{a}
}

// follow has the members among the peers to be connected with.
func (n *network) follow(members []staking.Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members = members
	n.setPeers()
}

// Favour has the nodes, sentries of validators, among the peers.
func (n *network) Favour(nodes []crypto.PublicKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.favoured = nodes
	n.setPeers()
}

// setPeers is called with n.mu held.
func (n *network) setPeers() {
	n.peering = n.peers()
	if err := n.mesh.SetPeers(n.peering); err != nil {
		n.log.Error("following the committee", "error", err)
	}
	n.count()
}

// count notes who is there.
func (n *network) count() {
	n.counting.Lock()
	defer n.counting.Unlock()
	var peers gossipPeers
	for _, p := range n.mesh.Stats() {
		if !p.Configured || p.Addr == "" && !p.Connected { // a hidden one's sentries have it
			continue
		}
		peers.members++
		if p.Connected {
			peers.connected = append(peers.connected, p.ID)
		}
	}
	n.present.Store(&peers)
}

// changed tells the engine and the gossip that a connection came or went.
func (n *network) changed(peer crypto.PublicKey, connected bool) {
	n.count()
	if !connected {
		n.gossip.gone(peer)
	}
	if e := n.engine.Load(); e != nil {
		e.PeersChanged()
	}
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

func (n *network) sendGossip(peer crypto.PublicKey, message []byte) {
	channel := consensus.Channel(channelGossip)
	if pulls(message) {
		channel = channelPulls
	}
	n.Send(peer, channel, message)
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
