package scheduler

import (
	"math"

	"github.com/hypermesh/hypermesh/nexus/job"
)

// census is what the nodes have and do together, kept as it changes, so that a look
// costs the same however many there are.
type census struct {
	accepting   int           // of those that are connected
	live        int           // runs
	total, used job.Resources // of those that are connected
	busiest     ordered[*Node]
}

// counted is one node's part.
type counted struct {
	place       place // in census.busiest
	connected   bool
	accepting   bool
	total, used job.Resources
}

// count returns a node's part: those that are connected come first, and of them the
// one that has given away the most of its processors, in thousandths.
func (n *Node) count() counted {
	c := counted{place: place{at: math.MaxUint64, arrival: n.Slot}, connected: n.Connected, accepting: n.Connected && n.Accepting}
	if n.Connected {
		c.place.at = 1_000 - n.Used.Millicores*1_000/max(1, n.Total.Millicores)
		c.total, c.used = n.Total, n.Used
	}
	return c
}

// add adds a part, or takes it away for a sign of −1.
func (s *census) add(c counted, sign int64) {
	if c.accepting {
		s.accepting += int(sign)
	}
	for _, x := range []struct{ to, part *job.Resources }{{&s.total, &c.total}, {&s.used, &c.used}} {
		x.to.Millicores += uint64(sign) * x.part.Millicores
		x.to.MemoryMiB += uint64(sign) * x.part.MemoryMiB
		x.to.GPUs += uint64(sign) * x.part.GPUs
		x.to.GPUMilli += uint64(sign) * x.part.GPUMilli
	}
}

func (s *State) countNode(n *Node) {
	n.counted = n.count()
	s.census.add(n.counted, 1)
	s.census.busiest.put(n.counted.place, n)
}

func (s *State) uncountNode(n *Node) {
	s.census.add(n.counted, -1)
	s.census.busiest.drop(n.counted.place)
}

// recountNode is called after every change of what a node has, gives or says.
func (s *State) recountNode(n *Node) {
	c := n.count()
	if c == n.counted {
		return
	}
	if c.place == n.counted.place {
		s.census.add(n.counted, -1)
		s.census.add(c, 1)
		n.counted = c
		return
	}
	s.uncountNode(n)
	s.countNode(n)
}
