package sim

import (
	"bytes"
	"slices"
	"time"
)

// Weather is how a network treats packets. Every packet draws for itself.
type Weather struct {
	DelayMin, DelayMax time.Duration // of every packet, one way
	Loss               int           // packets of 1,000 that are lost
	Duplicate          int           // packets of 1,000 that arrive twice
	Late               int           // packets of 1,000 that are late
	LateMax            time.Duration // how much later a late one is, at most
	InOrder            bool          // packets of a link do not overtake each other
}

// Traffic counts packets.
type Traffic struct {
	Sent       int
	Lost       int // by the weather
	Cut        int // by a partition
	Duplicated int
	Delivered  int
}

// Network carries packets between nodes 0 … n−1.
type Network struct {
	clock   *Clock
	rand    *Rand
	weather Weather
	ends    []func(from int, packet []byte)
	sides   []int           // by node; nil: everybody is on one side
	busy    []time.Duration // by link from·n+to: its latest arrival
	traffic Traffic
}

// NewNetwork returns a network of n nodes, none of which listens yet.
func NewNetwork(clock *Clock, rand *Rand, n int) *Network {
	return &Network{
		clock: clock, rand: rand,
		ends: make([]func(int, []byte), n), busy: make([]time.Duration, n*n),
	}
}

// Listen has the node's packets delivered to receive, which owns them; nil
// drops them.
func (n *Network) Listen(node int, receive func(from int, packet []byte)) { n.ends[node] = receive }

// SetWeather changes the weather for packets sent from now on.
func (n *Network) SetWeather(w Weather) { n.weather = w }

// Partition puts every node on a side; between sides nothing arrives, not even
// what is under way. Nil heals.
func (n *Network) Partition(sides []int) {
	if sides != nil && len(sides) != len(n.ends) {
		panic("sim: a partition with a side for some nodes only")
	}
	n.sides = slices.Clone(sides)
}

// Traffic returns the counts so far.
func (n *Network) Traffic() Traffic { return n.traffic }

// Send carries a copy of the packet. Whether and when it arrives is drawn now.
func (n *Network) Send(from, to int, packet []byte) {
	n.traffic.Sent++
	if n.cut(from, to) {
		n.traffic.Cut++
		return
	}
	if n.rand.Chance(n.weather.Loss) {
		n.traffic.Lost++
		return
	}
	n.carry(from, to, bytes.Clone(packet))
	if n.rand.Chance(n.weather.Duplicate) {
		n.traffic.Duplicated++
		n.carry(from, to, bytes.Clone(packet))
	}
}

func (n *Network) carry(from, to int, packet []byte) {
	w := n.weather
	delay := n.rand.Between(w.DelayMin, w.DelayMax)
	if n.rand.Chance(w.Late) {
		delay += n.rand.Between(0, w.LateMax)
	}
	arrival := n.clock.Now() + delay
	link := &n.busy[from*len(n.ends)+to]
	if w.InOrder {
		arrival = max(arrival, *link)
	}
	*link = max(arrival, *link)
	n.clock.After(arrival-n.clock.Now(), func() {
		switch receive := n.ends[to]; {
		case n.cut(from, to):
			n.traffic.Cut++
		case receive != nil:
			n.traffic.Delivered++
			receive(from, packet)
		}
	})
}

func (n *Network) cut(a, b int) bool { return n.sides != nil && n.sides[a] != n.sides[b] }
