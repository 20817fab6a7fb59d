package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// What nodes have free, and who holds the rest. take and give are the only ones
// that change it: they assert the first invariant where it could break.

// most is what jobs may hold of a node: the lesser of what it offers and of what the chain has of it.
func (n *Node) most() (millicores, memoryMiB uint64) {
	if n.Record == nil {
		return n.Total.Millicores, n.Total.MemoryMiB
	}
	return min(n.Total.Millicores, n.Record.Millicores), min(n.Total.MemoryMiB, n.Record.MemoryMiB)
}

// beyond returns what is left of most when jobs hold so much: nothing, if that is more.
func (n *Node) beyond(usedMillicores, usedMiB uint64) match.Free {
	millicores, memory := n.most()
	return match.Free{Millicores: millicores - min(millicores, usedMillicores), MemoryMiB: memory - min(memory, usedMiB)}
}

// free returns what of a node nobody holds.
func (n *Node) free() match.Free {
	f := n.beyond(n.Used.Millicores, n.Used.MemoryMiB)
	f.GPUs, f.GPUMilli = n.devices.Summary()
	return f
}

// evicted returns what would be free were the runs that may be preempted ended.
func (n *Node) evicted() match.Free {
	if n.evictable == 0 {
		return n.free()
	}
	used, devices := n.Used, slices.Clone(n.devices)
	for _, j := range n.jobs {
		run := j.liveOn(n.ID)
		if run == nil || !j.Spec.Scheduling.Preemptible {
			continue
		}
		used.Millicores -= j.Spec.Resources.Millicores
		used.MemoryMiB -= j.Spec.Resources.MemoryMiB
		for _, d := range run.Devices {
			devices[d] += uint16(j.Spec.Resources.GPUMilli)
		}
	}
	f := n.beyond(used.Millicores, used.MemoryMiB)
	f.GPUs, f.GPUMilli = devices.Summary()
	return f
}

// view returns a node as matching sees it.
func (n *Node) view() match.Node { return n.viewWith(n.free()) }

func (n *Node) viewWith(free match.Free) match.Node {
	return match.Node{
		ID: n.ID, Owner: n.Owner, Connected: n.Connected, Accepting: n.Accepting, Held: n.HeldUntil != 0, Region: n.Region, Kernels: n.Kernels,
		GPUKind: n.GPUKind, Free: free, Offered: match.Free{Millicores: n.Total.Millicores - n.Used.Millicores, MemoryMiB: n.Total.MemoryMiB - n.Used.MemoryMiB},
	}
}

// usedGPU is what a job holds of all devices together, in thousandths.
func usedGPU(r *job.Resources) uint64 { return r.GPUs * r.GPUMilli }

// take has a job hold resources of a node.
func (s *State) take(n *Node, j *Job, devices []byte) {
	r := j.holds()
	n.Used.Millicores += r.Millicores
	n.Used.MemoryMiB += r.MemoryMiB
	n.Used.GPUMilli += usedGPU(&r)
	for _, d := range devices {
		if uint64(n.devices[d]) < r.GPUMilli {
			panic(fmt.Sprintf("scheduler: device %d of node %s has %d free, job %s takes %d", d, n.ID.Short(), n.devices[d], j.id.Short(), r.GPUMilli))
		}
		n.devices[d] -= uint16(r.GPUMilli)
	}
	if n.Used.Millicores > n.Total.Millicores || n.Used.MemoryMiB > n.Total.MemoryMiB || uint64(len(devices)) != r.GPUs {
		panic(fmt.Sprintf("scheduler: node %s uses %+v of %+v after job %s", n.ID.Short(), n.Used, n.Total, j.id.Short()))
	}
	n.join(j)
	s.reindex(n)
}

// give ends what take began. Whoever calls it says with gain whether the room is
// there for others.
func (s *State) give(n *Node, j *Job, devices []byte) {
	r := j.holds()
	if n.Used.Millicores < r.Millicores || n.Used.MemoryMiB < r.MemoryMiB || n.Used.GPUMilli < usedGPU(&r) {
		panic(fmt.Sprintf("scheduler: node %s uses %+v, job %s holds more", n.ID.Short(), n.Used, j.id.Short()))
	}
	n.Used.Millicores -= r.Millicores
	n.Used.MemoryMiB -= r.MemoryMiB
	n.Used.GPUMilli -= usedGPU(&r)
	for _, d := range devices {
		n.devices[d] += uint16(r.GPUMilli)
		if n.devices[d] > job.GPUWhole {
			panic(fmt.Sprintf("scheduler: device %d of node %s is given back twice", d, n.ID.Short()))
		}
	}
	n.leave(j)
	s.reindex(n)
}

// HeldMiB is the memory that jobs, not leases, hold on a node or are kept there.
func (s *State) HeldMiB(id crypto.PublicKey) uint64 {
	n, known := s.Node(id)
	if !known {
		return 0
	}
	return n.Used.MemoryMiB - min(n.Used.MemoryMiB, s.leasedHere(id).MemoryMiB)
}

// leasedHere is what leases of this cluster hold of a node, or are to.
func (s *State) leasedHere(id crypto.PublicKey) Capacity {
	return s.heldBy(id, func(j *Job) bool {
		return j.IsLease() && (j.liveOn(id) != nil || slices.ContainsFunc(j.Places, func(p Place) bool { return p.Node == id }))
	})
}

// OpenHere is what leases of this cluster that the chain was seen to have hold of a node.
func (s *State) OpenHere(id crypto.PublicKey) Capacity {
	return s.heldBy(id, func(j *Job) bool { return j.Leased && j.liveOn(id) != nil })
}

// heldBy is what some of the jobs hold of a node.
func (s *State) heldBy(id crypto.PublicKey, some func(*Job) bool) (sum Capacity) {
	n, known := s.Node(id)
	if !known {
		return Capacity{}
	}
	for _, j := range n.jobs {
		if some(j) {
			sum.Millicores += j.holds().Millicores
			sum.MemoryMiB += j.holds().MemoryMiB
		}
	}
	return sum
}

// join and leave keep the list of jobs that hold something of the node, or may
// come to.
func (n *Node) join(j *Job) {
	at, found := slices.BinarySearchFunc(n.jobs, j, byArrival)
	if !found {
		n.jobs = slices.Insert(n.jobs, at, j)
	}
}

func (n *Node) leave(j *Job) {
	if at, found := slices.BinarySearchFunc(n.jobs, j, byArrival); found {
		n.jobs = slices.Delete(n.jobs, at, at+1)
	}
}

func byArrival(a, b *Job) int { return cmp.Compare(a.Arrival, b.Arrival) }

// gain notes that something came free on a node.
func (s *State) gain(n *Node) {
	if !n.gained {
		n.gained = true
		s.gained = append(s.gained, n)
	}
}

// reindex tells the index what the node has free.
func (s *State) reindex(n *Node) {
	s.recountNode(n)
	if !n.open() {
		s.index.set(int(n.Slot), summary{})
		return
	}
	entry := summary{free: n.free(), marks: marksOf(n)}
	entry.evict = entry.free
	if n.evictable > 0 && n.preemptor == nil {
		entry.evict = n.evicted()
	}
	s.index.set(int(n.Slot), entry)
}

// addNode gives a node the lowest slot that is free.
func (s *State) addNode(id crypto.PublicKey) *Node {
	slot := slices.Index(s.slots, nil)
	if slot < 0 {
		slot = len(s.slots)
		s.slots = append(s.slots, nil)
	}
	n := &Node{ID: id, Slot: uint64(slot)}
	s.slots[slot] = n
	s.nodes[id] = n
	s.countNode(n)
	return n
}

// forgetNode makes room for a node: of those that are not connected and hold nothing, as
// an open lease does wherever its node is, the one that ended the least work goes.
func (s *State) forgetNode() bool {
	var least *Node
	for _, n := range s.nodes { // order-free: the least of a total order
		if !n.Connected && len(n.jobs) == 0 && (least == nil || cmp.Or(cmp.Compare(n.Finished, least.Finished), n.ID.Compare(least.ID)) < 0) {
			least = n
		}
	}
	if least == nil {
		return false
	}
	s.unhold(least)
	s.uncountNode(least)
	s.index.set(int(least.Slot), summary{})
	s.slots[least.Slot] = nil
	for len(s.slots) > 0 && s.slots[len(s.slots)-1] == nil {
		s.slots = s.slots[:len(s.slots)-1]
	}
	delete(s.nodes, least.ID)
	return true
}

// Sampling.

// find returns up to limit nodes that fit the request, drawn by the seed from
// all of them: every one if there are no more.
func (s *State) find(r *match.Request, seed uint64, limit int, evict bool) []*Node {
	s.samples++
	w := want(r, evict)
	var out []*Node
	accept := func(slot int) bool {
		n := s.slots[slot]
		if n.seen == s.samples || evict && (n.preemptor != nil || n.evictable == 0) {
			return false
		}
		view := n.view()
		if evict {
			view.Free = n.evicted()
		}
		return match.Check(r, &view) == match.Fits
	}
	for i := range limit {
		from := int(mix(seed+uint64(i)*0x9e3779b97f4a7c15) % uint64(max(1, len(s.slots))))
		slot := s.index.next(from, &w, accept)
		if slot < 0 {
			break // the sample has them all
		}
		n := s.slots[slot]
		n.seen = s.samples
		out = append(out, n)
	}
	return out
}

// ranked is a node of a sample with what is known of it before any bid.
type ranked struct {
	node    *Node
	devices []byte
	factor  uint64
}

// rank sorts a sample, the best first. Equals stay in the order in which they
// were drawn.
func (s *State) rank(j *Job, r *match.Request, sample []*Node) []ranked {
	out := make([]ranked, len(sample))
	for i, n := range sample {
		devices, factor := s.standing(j, r, n)
		out[i] = ranked{node: n, devices: devices, factor: factor}
	}
	slices.SortStableFunc(out, func(a, b ranked) int { return cmp.Compare(a.factor, b.factor) })
	return out
}

// standing returns the devices that a job would take of a node on which it fits,
// and the factor of that node's bids.
func (s *State) standing(j *Job, r *match.Request, n *Node) ([]byte, uint64) {
	free := n.free()
	devices, breaks := match.Choose(r, &free, n.devices, s.popular)
	standing := match.Standing{Finished: n.Finished, Lost: n.Lost, Premium: n.Premium, Breaks: breaks, Devices: len(n.devices)}
	if !j.Input.IsZero() && n.ID != j.InputNode {
		standing.Distant = true
		from := s.nodes[j.InputNode]
		standing.Abroad = from == nil || from.Region != n.Region
	}
	return devices, standing.Factor()
}

// maxShapes bounds the shapes of work that are counted.
const (
	maxShapes   = 64
	shapesTotal = 1 << 16 // accepted jobs, after which all counts are halved
)

// count notes that work of a shape came: the most frequent shapes stay (Metwally,
// Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements
// in data streams", ICDT 2005).
func (s *State) count(r *job.Resources) {
	if r.GPUs == 0 {
		return // it can use no GPU, wherever it goes
	}
	at := slices.IndexFunc(s.shapes, func(c shapeCount) bool { return c.Resources == *r })
	if at < 0 && len(s.shapes) < maxShapes {
		at = len(s.shapes)
		s.shapes = append(s.shapes, shapeCount{Resources: *r})
	}
	if at < 0 {
		at = 0
		for i := range s.shapes {
			if s.shapes[i].Count < s.shapes[at].Count {
				at = i
			}
		}
		s.shapes[at].Resources = *r
	}
	s.shapes[at].Count++
	var total uint64
	for i := range s.shapes {
		total += s.shapes[i].Count
	}
	if total > shapesTotal {
		for i := range s.shapes {
			s.shapes[i].Count = max(1, s.shapes[i].Count/2)
		}
	}
	s.learn()
}

// learn derives what matching wants to know from the counts.
func (s *State) learn() {
	s.popular = s.popular[:0]
	for i := range s.shapes {
		c := &s.shapes[i]
		s.popular = append(s.popular, match.Shape{
			Request: match.Request{Millicores: c.Resources.Millicores, MemoryMiB: c.Resources.MemoryMiB, GPUs: c.Resources.GPUs, GPUMilli: c.Resources.GPUMilli},
			Weight:  c.Count,
		})
	}
}

// fits reports whether a node's view fits a request, as the owner of a run, an
// auction or a queue asks.
func (n *Node) fits(r *match.Request) bool {
	view := n.view()
	return match.Check(r, &view) == match.Fits
}

func ownerOf(list []ranked, owner chain.Address) bool {
	return slices.ContainsFunc(list, func(r ranked) bool { return r.node.Owner == owner })
}
