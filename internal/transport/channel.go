package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds of a mesh's configuration.
const (
	maxChannels       = 32
	maxServiceConcurr = 64
	maxQueueBytes     = 256 << 20
	maxObservers      = 1024
	maxMeshPeers      = 4096
	maxBlocked        = maxObservers + maxMeshPeers
)

// Channel is one kind of messages, sent to each peer on a stream of its own.
type Channel struct {
	ID   uint8
	Name string // for errors and metrics
	// MaxMessageBytes bounds a message, 1 to MaxMessageBytes. A peer that sends
	// a longer one loses its connection.
	MaxMessageBytes int
	// QueueBytes bounds what waits for one peer, each message counting 64
	// bytes beside its own. It must hold the longest message.
	QueueBytes int
	// WhenFull says what happens to a message that finds the queue full.
	WhenFull DropPolicy
	// Urgency is the channel's rank when the path is the bottleneck: 0 (first)
	// to 7 (RFC 9218 §4.1).
	Urgency int8
	// Ingress bounds what one peer sends on the channel. A peer above it is
	// read more slowly; one that stays above it for MeshConfig.Patience loses its
	// connection.
	Ingress Rate
	// ToObservers has Broadcast send to peers that are not configured, too.
	ToObservers bool
	// Handle is called for each message, for one peer one at a time and in the
	// order sent. While it runs, this channel of this peer waits, and nothing
	// else. It may keep message. It must return when the program is stopping.
	Handle func(peer crypto.PublicKey, message []byte)
}

// Service is one kind of request, each on a stream of its own.
type Service struct {
	ID               uint8
	Name             string // for errors
	MaxRequestBytes  int    // 1 to MaxMessageBytes
	MaxResponseBytes int    // 1 to MaxMessageBytes
	// MaxConcurrent bounds the requests of one peer being answered, 1 to 64.
	// One more is refused.
	MaxConcurrent int
	// Timeout bounds reading, answering and writing one request.
	Timeout time.Duration
	// Respond answers a request of a peer. The text of its error reaches the
	// peer in a *RefusedError, cut to 256 bytes. ctx ends with the timeout, the
	// connection, or the asker's loss of interest.
	Respond func(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error)
}

// MeshConfig says which peers a mesh keeps and what it carries.
type MeshConfig struct {
	// Protocol is the name under which the mesh listens and dials.
	Protocol string
	// Peers are the pinned peers, without the endpoint itself; SetPeers changes
	// them. One with an empty Addr is never dialed: it dials us.
	Peers    []NodeAddr
	Channels []Channel
	Services []Service
	// MaxObservers bounds the peers that are connected without being
	// configured; 0 admits none.
	MaxObservers int
	// MaxObserversOfSource bounds those of one IPv4 address or IPv6 /64; 0 is a
	// quarter of MaxObservers, at least 1.
	MaxObserversOfSource int
	// ObserverEgress bounds the bytes a second that one observer is sent, and
	// ObserversEgress those of all together; messages and answers wait for their
	// turn, and for what waits for members. 0 is 16 MiB and 64 MiB.
	ObserverEgress, ObserversEgress int
	// MemberQueueBytes and ObserverQueueBytes bound what waits for all
	// configured peers, and for all observers, together. Above it, the messages
	// that have waited longest are dropped, whatever their channel's policy. 0 is
	// 256 MiB and 128 MiB; they must hold the longest message.
	MemberQueueBytes, ObserverQueueBytes int
	// Patience is how long a message may trickle in or be taken out beyond what
	// 64 KiB a second need, and how long a peer may be above a rate, before its
	// connection is closed; 0 is 30 s.
	Patience time.Duration
	// RedialMin and RedialMax bound the pause before dialing a peer again; it
	// doubles from one to the other, give or take a quarter. 0 is 50 ms and 1 s.
	// Who is there and has no place for this node is dialed less often, down to once
	// in eight times RedialMax.
	RedialMin, RedialMax time.Duration
	// Grace is how long the connection of a peer that SetPeers removed lives
	// on, so that what was queued for it still reaches it; 0 is 5 s.
	Grace time.Duration
	// Changed, if set, is told when a peer's connection comes and goes. For one
	// peer it is called from one goroutine at a time, and it must not block.
	Changed func(peer crypto.PublicKey, connected bool)
}

func (c *MeshConfig) setDefaults() {
	if c.RedialMin == 0 {
		c.RedialMin = 50 * time.Millisecond
	}
	if c.RedialMax == 0 {
		c.RedialMax = time.Second
	}
	if c.Grace == 0 {
		c.Grace = 5 * time.Second
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.MaxObserversOfSource == 0 {
		c.MaxObserversOfSource = max(1, c.MaxObservers/4)
	}
	if c.ObserverEgress == 0 {
		c.ObserverEgress = 16 << 20
	}
	if c.ObserversEgress == 0 {
		c.ObserversEgress = 64 << 20
	}
	if c.MemberQueueBytes == 0 {
		c.MemberQueueBytes = 256 << 20
	}
	if c.ObserverQueueBytes == 0 {
		c.ObserverQueueBytes = 128 << 20
	}
	for i := range c.Channels {
		c.Channels[i].Ingress.setDefaults(c.Channels[i].MaxMessageBytes)
	}
}

func (c *MeshConfig) valid(self crypto.PublicKey) error {
	if c.MaxObservers < 0 || c.MaxObservers > maxObservers {
		return fmt.Errorf("MaxObservers %d, want 0 to %d", c.MaxObservers, maxObservers)
	}
	if c.RedialMin <= 0 || c.RedialMax < c.RedialMin {
		return fmt.Errorf("redial pause from %v to %v", c.RedialMin, c.RedialMax)
	}
	if c.Grace < 0 || c.Patience < 0 {
		return fmt.Errorf("grace of %v, patience of %v", c.Grace, c.Patience)
	}
	if c.MaxObserversOfSource < 0 {
		return fmt.Errorf("MaxObserversOfSource %d", c.MaxObserversOfSource)
	}
	if c.ObserverEgress < 0 || c.ObserversEgress < 0 {
		return fmt.Errorf("ObserverEgress %d, ObserversEgress %d", c.ObserverEgress, c.ObserversEgress)
	}
	return errors.Join(validPeers(c.Peers, self), c.validChannels(), c.validServices())
}

func validPeers(peers []NodeAddr, self crypto.PublicKey) error {
	if len(peers) > maxMeshPeers {
		return fmt.Errorf("%d peers, limit %d", len(peers), maxMeshPeers)
	}
	seen := map[crypto.PublicKey]bool{self: true}
	for _, p := range peers {
		if seen[p.ID] {
			return fmt.Errorf("peer %s is listed twice, or is this node", p.ID)
		}
		seen[p.ID] = true
		if p.Addr == "" {
			continue
		}
		if err := checkHostPort(p.Addr); err != nil {
			return fmt.Errorf("peer %s: address %.100q: %w", p.ID, p.Addr, err)
		}
	}
	return nil
}

func (c *MeshConfig) validChannels() error {
	if len(c.Channels) > maxChannels {
		return fmt.Errorf("%d channels, limit %d", len(c.Channels), maxChannels)
	}
	seen := map[uint8]bool{}
	for _, ch := range c.Channels {
		switch {
		case seen[ch.ID]:
			return fmt.Errorf("channel %d is listed twice", ch.ID)
		case ch.MaxMessageBytes < 1 || ch.MaxMessageBytes > MaxMessageBytes:
			return fmt.Errorf("channel %d: MaxMessageBytes %d, want 1 to %d", ch.ID, ch.MaxMessageBytes, MaxMessageBytes)
		case ch.QueueBytes < ch.MaxMessageBytes+messageOverhead || ch.QueueBytes > maxQueueBytes:
			return fmt.Errorf("channel %d: QueueBytes %d, want %d to %d", ch.ID, ch.QueueBytes, ch.MaxMessageBytes+messageOverhead, maxQueueBytes)
		case ch.WhenFull != DropOldest && ch.WhenFull != DropNewest:
			return fmt.Errorf("channel %d: WhenFull is missing", ch.ID)
		case ch.Urgency < 0 || ch.Urgency > 7:
			return fmt.Errorf("channel %d: Urgency %d, want 0 to 7", ch.ID, ch.Urgency)
		case ch.Handle == nil:
			return fmt.Errorf("channel %d: Handle is missing", ch.ID)
		}
		if least := ch.MaxMessageBytes + messageOverhead; c.MemberQueueBytes < least || c.ObserverQueueBytes < least {
			return fmt.Errorf("queues of %d bytes for members and %d for observers, want at least the longest message, %d", c.MemberQueueBytes, c.ObserverQueueBytes, least)
		}
		if err := ch.Ingress.valid(ch.MaxMessageBytes); err != nil {
			return fmt.Errorf("channel %d: %w", ch.ID, err)
		}
		seen[ch.ID] = true
	}
	return nil
}

func (c *MeshConfig) validServices() error {
	seen := map[uint8]bool{}
	for _, s := range c.Services {
		switch {
		case seen[s.ID]:
			return fmt.Errorf("service %d is listed twice", s.ID)
		case s.MaxRequestBytes < 1 || s.MaxRequestBytes > MaxMessageBytes:
			return fmt.Errorf("service %d: MaxRequestBytes %d, want 1 to %d", s.ID, s.MaxRequestBytes, MaxMessageBytes)
		case s.MaxResponseBytes < 1 || s.MaxResponseBytes > MaxMessageBytes:
			return fmt.Errorf("service %d: MaxResponseBytes %d, want 1 to %d", s.ID, s.MaxResponseBytes, MaxMessageBytes)
		case s.MaxConcurrent < 1 || s.MaxConcurrent > maxServiceConcurr:
			return fmt.Errorf("service %d: MaxConcurrent %d, want 1 to %d", s.ID, s.MaxConcurrent, maxServiceConcurr)
		case s.Timeout <= 0:
			return fmt.Errorf("service %d: Timeout %v", s.ID, s.Timeout)
		case s.Respond == nil:
			return fmt.Errorf("service %d: Respond is missing", s.ID)
		}
		seen[s.ID] = true
	}
	return nil
}
