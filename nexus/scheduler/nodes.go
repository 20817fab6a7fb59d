package scheduler

import (
	"slices"

	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

func (s *State) nodeUp(c NodeUp) ([]Effect, error) {
	h := &c.Hello
	n := s.nodes[c.Node]
	if err := checkOffer(n, h); err != nil {
		return nil, err
	}
	if n == nil && len(s.nodes) >= s.config.MaxNodes && !s.forgetNode() {
		return nil, reject("full", "the cluster has %d nodes, its limit", s.config.MaxNodes)
	}
	if n == nil {
		n = s.addNode(c.Node)
	}
	same := n.open() && h.Accepting && n.offers(h) && n.Record.same(c.Record)
	broken := s.clearPlaces(n)
	if h.Total.GPUs != uint64(len(n.devices)) {
		n.devices = slices.Repeat([]uint16{job.GPUWhole}, int(h.Total.GPUs))
	}
	n.Owner, n.Region, n.Total, n.Kernels, n.GPUKind = h.Owner, h.Region, h.Total, h.Kernels, h.GPUKind
	n.Premium, n.Record = min(c.Premium, match.Premium(0)), c.Record
	if !n.Connected {
		s.connected++
	}
	n.Connected, n.Accepting = true, h.Accepting
	s.reindex(n)
	effects := append(s.takeOn(broken), s.reconcile(n, h)...)
	if same {
		return effects, nil // nothing came that was not there
	}
	return append(effects, s.comeBack(n)...), nil
}

// offers reports whether a node offers what it says now.
func (n *Node) offers(h *job.Hello) bool {
	return n.Owner == h.Owner && n.Region == h.Region && n.Total == h.Total && n.GPUKind == h.GPUKind && slices.Equal(n.Kernels, h.Kernels)
}

// checkOffer says why a node cannot offer what it says: what it runs for the
// cluster stays.
func checkOffer(n *Node, h *job.Hello) error {
	if h.Total.GPUs > job.MaxGPUs {
		return reject("capacity", "node offers %d gpus, limit %d", h.Total.GPUs, job.MaxGPUs)
	}
	if n == nil {
		return nil
	}
	var running job.Resources
	runs := 0
	for _, j := range n.jobs {
		if j.liveOn(n.ID) != nil {
			runs++
			r := j.holds()
			running.Millicores += r.Millicores
			running.MemoryMiB += r.MemoryMiB
			running.GPUs += r.GPUs
		}
	}
	if h.Total.Millicores < running.Millicores || h.Total.MemoryMiB < running.MemoryMiB || running.GPUs > 0 && h.Total.GPUs != n.Total.GPUs {
		return reject("capacity", "node offers less than its running work holds")
	}
	if runs > 0 && h.Owner != n.Owner {
		return reject("owner", "node runs work of its owner %s, and comes back as one of %s", n.Owner, h.Owner)
	}
	return nil
}

// clearPlaces gives up the places that auctions keep on a node, and returns
// members of gangs that had won theirs.
func (s *State) clearPlaces(n *Node) []*Job {
	var broken []*Job
	for _, j := range slices.Clone(n.jobs) {
		i := slices.IndexFunc(j.Places, func(p Place) bool { return p.Node == n.ID })
		if i < 0 {
			continue
		}
		if j.Places[i].Picked != nil {
			broken = append(broken, j)
		}
		s.dropPlace(j, i)
		s.gain(n)
	}
	return broken
}

// takeOn has gangs begin again of which a member lost the place that it had won.
func (s *State) takeOn(broken []*Job) []Effect {
	var effects []Effect
	for _, j := range broken {
		if j.Status == job.Bidding && j.ganged() {
			s.disband(j)
			effects = append(effects, s.again(j, "a node on which a place was kept for its gang went away")...)
		}
	}
	return effects
}

// reconcile compares what a node says it holds with its live runs. An assignment
// that it does not hold was sent and not received, or the node lost its memory
// of it: it is sent again, unless its bid has expired and no such work would be
// paid. What it runs without an assignment is ended.
func (s *State) reconcile(n *Node, h *job.Hello) []Effect {
	var effects []Effect
	for _, j := range slices.Clone(n.jobs) {
		run := j.liveOn(n.ID)
		switch {
		case run == nil || slices.Contains(h.Running, j.id) || slices.Contains(h.Finished, j.id):
		case run.Bid.Expiry < s.now && !j.Leased:
			s.lose(j, n.ID, "the bid expired before the node had the assignment")
			effects = append(effects, s.advance(j)...)
		default:
			effects = append(effects, j.sendAssign(run)...)
		}
	}
	for _, id := range h.Running {
		if j := s.jobs[id]; j == nil || j.liveOn(n.ID) == nil {
			effects = append(effects, SendCancel{Node: n.ID, Order: id, Reason: "the assignment was given to others"})
		}
	}
	return effects
}

func (s *State) nodeDown(c NodeDown) ([]Effect, error) {
	n := s.nodes[c.Node]
	if n == nil || !n.Connected {
		return nil, nil
	}
	n.Connected = false
	s.connected--
	s.reindex(n)
	effects := s.takeOn(s.clearPlaces(n))
	lost := false
	for _, j := range slices.Clone(n.jobs) {
		if s.lose(j, c.Node, "its node went away") {
			lost = true
			effects = append(effects, s.advance(j)...)
		}
	}
	if lost { // once, however much it ran
		effects = append(effects, s.strike(n, "it went away")...)
	}
	return effects, nil
}

// Known reports whether a node is what the command says already.
func (c NodeLoad) Known(n *Node) bool { return n.Accepting == c.Accepting && n.Record.same(c.Record) }

func (s *State) nodeLoad(c NodeLoad) ([]Effect, error) {
	n := s.nodes[c.Node]
	if n == nil {
		return nil, reject("node", "node %s is not known", c.Node.Short())
	}
	if c.Known(n) {
		return nil, nil
	}
	broken := s.clearPlaces(n)
	n.Accepting, n.Record = c.Accepting, c.Record
	s.reindex(n)
	return append(s.takeOn(broken), s.comeBack(n)...), nil
}
