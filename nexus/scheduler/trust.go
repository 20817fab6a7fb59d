package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// What a node says is believed as to what it offers, and nothing else: what is
// free there the state counts for itself. A node that fails the work it bid for,
// and one that comes and goes, is held back: it keeps what it runs, and is given
// nothing else for a while. Why and until when is shown with the node.

// open reports whether a node may be given work.
func (n *Node) open() bool { return n.Connected && n.Accepting && n.HeldUntil == 0 }

// maxHolds bounds the doublings of HoldMs.
const maxHolds = 8

// strike notes that a node failed work that it had bid for. Each assignment that
// it ends takes a strike back; at Config.Strikes it is held back, and twice as
// long with each one more. What it fails while it is held back does not count: it
// was given to it before.
func (s *State) strike(n *Node, what string) []Effect {
	if n.HeldUntil != 0 {
		return nil
	}
	limit := uint64(s.config.Strikes)
	if n.Strikes = min(n.Strikes+1, limit+maxHolds); n.Strikes < limit {
		return nil
	}
	reason := fmt.Sprintf("it failed %d assignments more than it ended, the last: %s", n.Strikes, what)
	return s.hold(n, s.config.HoldMs<<(n.Strikes-limit), reason)
}

// hold gives a node nothing for a while.
func (s *State) hold(n *Node, ms uint64, reason string) []Effect {
	n.HeldUntil, n.HeldFor = s.now+chain.TimeMs(ms), reason
	s.holds.put(n.holdPlace(), n)
	broken := s.clearPlaces(n)
	s.reindex(n)
	return s.takeOn(broken)
}

func (n *Node) holdPlace() place { return place{at: uint64(n.HeldUntil), arrival: n.Slot} }

// unhold ends what hold began.
func (s *State) unhold(n *Node) {
	if n.HeldUntil == 0 {
		return
	}
	s.holds.drop(n.holdPlace())
	n.HeldUntil, n.HeldFor = 0, ""
	s.reindex(n)
}

// letNodesGo ends the times for which nodes are held back that are over.
func (s *State) letNodesGo() []Effect {
	var effects []Effect
	for s.holds.n > 0 {
		at, n := s.holds.first()
		if at.at > uint64(s.now) {
			break
		}
		s.unhold(n)
		effects = append(effects, s.offered(n)...)
	}
	return effects
}

// comeBack has a node serve those who wait that was away or paused, or offers
// something else now. It may so a few times in a row, and then once every
// ReturnMs: what makes everybody look again is held back until then (a leaky
// bucket; ITU-T I.371, the generic cell rate algorithm).
func (s *State) comeBack(n *Node) []Effect {
	if !n.open() {
		return nil
	}
	every := chain.TimeMs(s.config.ReturnMs)
	burst := every * chain.TimeMs(s.config.Returns)
	n.Returns = max(n.Returns, s.now) + every
	if n.Returns > s.now+burst {
		return s.hold(n, uint64(n.Returns-s.now-burst), "it came and went, or paused and resumed, too often")
	}
	return s.offered(n)
}

// offered has everybody who waits look at a node that is open.
func (s *State) offered(n *Node) []Effect {
	if !n.open() {
		return nil
	}
	s.gain(n)
	return s.wake(n)
}
