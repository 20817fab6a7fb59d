package scheduler

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// maxAhead bounds the queued jobs that a forecast lets go first.
const maxAhead = 4_096

// Forecast says when work could begin.
type Forecast struct {
	At    chain.TimeMs // when enough nodes have room; zero: never, as the cluster is
	Ahead int          // queued jobs that would go first, up to maxAhead
}

// Forecast says when work of a specification that comes now with a priority fee could begin on nodes
// of so many owners, if whatever runs takes all of its time limit, the queued jobs
// before it are as large and as long as it is, nothing comes that goes first, and
// nobody comes or goes. It looks at QuoteNodes at most, for all.
func (s *State) Forecast(spec *job.Spec, fee chain.PriorityFee, owners int) Forecast {
	request := Request(spec)
	rank := s.config.rankAt(s.now, spec.Scheduling.Class, fee)
	var out Forecast
	s.queue.each(func(g *group) bool {
		g.jobs.each(func(j *Job) bool {
			before := s.rankOf(j).at <= rank
			if before {
				out.Ahead++
			}
			return before && out.Ahead < maxAhead
		})
		return out.Ahead < maxAhead
	})
	var rooms roomHeap
	looked, step := 0, max(1, (len(s.slots)+QuoteNodes-1)/QuoteNodes)
	for slot := 0; slot < len(s.slots); slot += step {
		if n := s.slots[slot]; n != nil {
			looked++
			rooms = append(rooms, s.roomsOf(n, &request, out.Ahead+1)...)
		}
	}
	heap.Init(&rooms)
	ahead := out.Ahead
	if looked < len(s.nodes) {
		ahead = ahead * looked / len(s.nodes)
	}
	for _, r := range rooms { // what is free now nobody waits for
		if r.at <= s.now {
			ahead = 0
		}
	}
	for ; ahead > 0 && len(rooms) > 0; ahead-- {
		rooms[0].at += chain.TimeMs(spec.Limits.WallMs)
		heap.Fix(&rooms, 0)
	}
	seen := map[chain.Address]bool{}
	for len(rooms) > 0 {
		r := heap.Pop(&rooms).(room)
		if seen[r.owner] = true; len(seen) == owners {
			out.At = r.at
			break
		}
	}
	return out
}

// room is a place for a piece of work, from a time on.
type room struct {
	at    chain.TimeMs
	slot  uint64
	owner chain.Address
}

// roomsOf returns the first rooms for a request on a node, as what runs there ends: at most
// so many, since a node may say that it has any number.
func (s *State) roomsOf(n *Node, r *match.Request, most int) []room {
	free, devices := n.free(), slices.Clone(n.devices)
	all := n.viewWith(n.beyond(0, 0))
	all.Free.GPUs, all.Free.GPUMilli = uint16(n.Total.GPUs), free.GPUMilli
	if n.Total.GPUs > 0 {
		all.Free.GPUMilli = job.GPUWhole
	}
	if match.Check(r, &all) != match.Fits {
		return nil
	}
	type end struct {
		at      chain.TimeMs
		holds   job.Resources
		devices []byte
	}
	var ends []end
	for _, j := range n.jobs {
		if run := j.liveOn(n.ID); run != nil {
			ends = append(ends, end{max(s.now+1, run.Since+chain.TimeMs(j.Spec.Limits.WallMs)), j.holds(), run.Devices})
		}
		for i := range j.Places {
			if p := &j.Places[i]; p.Node == n.ID && !p.Evict {
				ends = append(ends, end{s.now + 1 + chain.TimeMs(j.Spec.Limits.WallMs), j.holds(), p.Devices})
			}
		}
	}
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.at, b.at) })
	var out []room
	at, used := s.now, n.Used
	for i := 0; ; i++ {
		for free.Short(r) == match.Fits {
			if out = append(out, room{at: at, slot: n.Slot, owner: n.Owner}); len(out) == most {
				return out
			}
			chosen, _ := match.Choose(r, &free, devices, nil)
			for _, d := range chosen {
				devices[d] -= uint16(r.GPUMilli)
			}
			used.Millicores += r.Millicores
			used.MemoryMiB += r.MemoryMiB
			free = n.beyond(used.Millicores, used.MemoryMiB)
			free.GPUs, free.GPUMilli = devices.Summary()
		}
		if i == len(ends) {
			return out
		}
		at = ends[i].at
		used.Millicores -= ends[i].holds.Millicores
		used.MemoryMiB -= ends[i].holds.MemoryMiB
		free = n.beyond(used.Millicores, used.MemoryMiB)
		for _, d := range ends[i].devices {
			devices[d] += uint16(ends[i].holds.GPUMilli)
		}
		free.GPUs, free.GPUMilli = devices.Summary()
	}
}

// roomHeap has the earliest room first.
type roomHeap []room

func (h roomHeap) Len() int { return len(h) }
func (h roomHeap) Less(a, b int) bool {
	return cmp.Or(cmp.Compare(h[a].at, h[b].at), cmp.Compare(h[a].slot, h[b].slot)) < 0
}
func (h roomHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }

// Push implements heap.Interface.
func (h *roomHeap) Push(x any) { *h = append(*h, x.(room)) }

// Pop implements heap.Interface.
func (h *roomHeap) Pop() any {
	last := len(*h) - 1
	out := (*h)[last]
	*h = (*h)[:last]
	return out
}
