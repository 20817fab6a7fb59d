package sim

import (
	"slices"
	"time"
)

// Weather is how a network treats packets. Every packet draws for itself.
type Weather struct {
	DelayMin, DelayMax time.Duration // of every packet, one way, beside the distance
	Jitter             int           // thousandths of the distance that a packet takes longer, at most
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
	Late       int
	Overtook   int // arrived before one that was sent earlier on its link
	Delivered  int
}

// Network carries packets between nodes 0 … n−1. A packet is shared between
// the sender and all receivers: nobody changes it.
type Network[P any] struct {
	clock    *Clock
	rand     *Rand
	weather  Weather
	distance func(from, to int) time.Duration // nil: none
	ends     []func(from int, packet P)
	sides    []int           // by node; nil: everybody is on one side
	busy     []time.Duration // by link from·n+to: its latest arrival
	traffic  Traffic
}

// NewNetwork returns a network of n nodes, none of which listens yet.
func NewNetwork[P any](clock *Clock, rand *Rand, n int) *Network[P] {
	return &Network[P]{
		clock: clock, rand: rand,
		ends: make([]func(int, P), n), busy: make([]time.Duration, n*n),
	}
}

// Listen has the node's packets delivered to receive; nil drops them.
func (n *Network[P]) Listen(node int, receive func(from int, packet P)) { n.ends[node] = receive }

// SetWeather changes the weather for packets sent from now on.
func (n *Network[P]) SetWeather(w Weather) { n.weather = w }

// SetDistance gives every link a delay of its own, from now on.
func (n *Network[P]) SetDistance(distance func(from, to int) time.Duration) { n.distance = distance }

// Partition puts every node on a side; between sides nothing arrives, not even
// what is under way. Nil heals.
func (n *Network[P]) Partition(sides []int) {
	if sides != nil && len(sides) != len(n.ends) {
		panic("sim: a partition with a side for some nodes only")
	}
	n.sides = slices.Clone(sides)
}

// Connected reports whether nothing but the weather is between two nodes.
func (n *Network[P]) Connected(a, b int) bool { return n.sides == nil || n.sides[a] == n.sides[b] }

// Traffic returns the counts so far.
func (n *Network[P]) Traffic() Traffic { return n.traffic }

// Send carries the packet. Whether and when it arrives is drawn now.
func (n *Network[P]) Send(from, to int, packet P) {
	n.traffic.Sent++
	if !n.Connected(from, to) {
		n.traffic.Cut++
		return
	}
	if n.weather.Loss > 0 && n.rand.Chance(n.weather.Loss) {
		n.traffic.Lost++
		return
	}
	n.carry(from, to, packet)
	if n.weather.Duplicate > 0 && n.rand.Chance(n.weather.Duplicate) {
		n.traffic.Duplicated++
		n.carry(from, to, packet)
	}
}

func (n *Network[P]) carry(from, to int, packet P) {
	w := n.weather
	delay := n.rand.Between(w.DelayMin, w.DelayMax)
	if n.distance != nil {
		d := n.distance(from, to)
		delay += d
		if w.Jitter > 0 {
			delay += n.rand.Between(0, d*time.Duration(w.Jitter)/1000)
		}
	}
	if w.Late > 0 && n.rand.Chance(w.Late) {
		n.traffic.Late++
		delay += n.rand.Between(0, w.LateMax)
	}
	arrival := n.clock.Now() + delay
	link := &n.busy[from*len(n.ends)+to]
	if arrival < *link {
		if w.InOrder {
			arrival = *link
		} else {
			n.traffic.Overtook++
		}
	}
	*link = max(arrival, *link)
	n.clock.After(arrival-n.clock.Now(), func() {
		switch receive := n.ends[to]; {
		case !n.Connected(from, to):
			n.traffic.Cut++
		case receive != nil:
			n.traffic.Delivered++
			receive(from, packet)
		}
	})
}
