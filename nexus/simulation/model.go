package simulation

import (
	"cmp"
	"slices"

	"github.com/hypermesh/hypermesh/internal/sim"
)

// model is a cluster as an accountant sees it: what each machine has left.
type model struct {
	machines []room
	placed   map[int]spot // by task
}

// room is what is left of a machine.
type room struct {
	machine    *Machine
	millicores uint64
	memoryMiB  uint64
	devices    []uint64 // thousandths
}

// spot is where a task works.
type spot struct {
	machine int
	devices []byte
}

func newModel(t *Trace) *model {
	m := &model{placed: map[int]spot{}}
	for i := range t.Machines {
		machine := &t.Machines[i]
		m.machines = append(m.machines, room{
			machine: machine, millicores: machine.Millicores, memoryMiB: machine.MemoryMiB,
			devices: slices.Repeat([]uint64{whole}, machine.Devices),
		})
	}
	return m
}

func (r *room) fits(t *Task) bool {
	if r.millicores < t.Millicores || r.memoryMiB < t.MemoryMiB || t.Kind != "" && t.Devices > 0 && t.Kind != r.machine.Kind {
		return false
	}
	free := uint64(0)
	for _, share := range r.devices {
		if share >= t.ShareMilli {
			free++
		}
	}
	return free >= t.Devices
}

// somewhere reports whether any machine has room for a task.
func (m *model) somewhere(t *Task) bool {
	return slices.ContainsFunc(m.machines, func(r room) bool { return r.fits(t) })
}

// put places a task, and reports whether there was room.
func (m *model) put(id int, t *Task, at spot) bool {
	r := &m.machines[at.machine]
	if uint64(len(at.devices)) != t.Devices || r.millicores < t.Millicores || r.memoryMiB < t.MemoryMiB {
		return false
	}
	for i, d := range at.devices {
		if int(d) >= len(r.devices) || r.devices[d] < t.ShareMilli || slices.Contains(at.devices[:i], d) {
			return false
		}
	}
	r.millicores -= t.Millicores
	r.memoryMiB -= t.MemoryMiB
	for _, d := range at.devices {
		r.devices[d] -= t.ShareMilli
	}
	m.placed[id] = at
	return true
}

// remove takes a task away that was put, and returns the machine.
func (m *model) remove(id int, t *Task) int {
	at := m.placed[id]
	delete(m.placed, id)
	r := &m.machines[at.machine]
	r.millicores += t.Millicores
	r.memoryMiB += t.MemoryMiB
	for _, d := range at.devices {
		r.devices[d] += t.ShareMilli
	}
	return at.machine
}

// devicesFor are the devices that a simple scheduler takes: those of which least
// is left.
func (r *room) devicesFor(t *Task) []byte {
	var fitting []byte
	for i, share := range r.devices {
		if share >= t.ShareMilli {
			fitting = append(fitting, byte(i))
		}
	}
	slices.SortStableFunc(fitting, func(a, b byte) int { return cmp.Compare(r.devices[a], r.devices[b]) })
	return fitting[:t.Devices]
}

// bestFit is the machine that has least left after the task: the sum of what is
// left of each resource, each as a share of the most that any machine has.
func (m *model) bestFit(t *Task) int {
	var most [3]float64
	for i := range m.machines {
		machine := m.machines[i].machine
		most[0] = max(most[0], float64(machine.Millicores))
		most[1] = max(most[1], float64(machine.MemoryMiB))
		most[2] = max(most[2], float64(machine.Devices)*whole)
	}
	best, least := -1, 0.0
	for i := range m.machines {
		r := &m.machines[i]
		if !r.fits(t) {
			continue
		}
		left := float64(r.millicores-t.Millicores)/most[0] + float64(r.memoryMiB-t.MemoryMiB)/most[1]
		if most[2] > 0 {
			gpu := uint64(0)
			for _, share := range r.devices {
				gpu += share
			}
			left += float64(gpu-t.Devices*t.ShareMilli) / most[2]
		}
		if best < 0 || left < least {
			best, least = i, left
		}
	}
	return best
}

// atRandom is any machine that has room.
func (m *model) atRandom(t *Task, rand *sim.Rand) int {
	var fitting []int
	for i := range m.machines {
		if m.machines[i].fits(t) {
			fitting = append(fitting, i)
		}
	}
	if len(fitting) == 0 {
		return -1
	}
	return fitting[rand.Below(len(fitting))]
}

// usage is what is in use of a cluster's machines.
type usage struct{ millicores, memoryMiB, gpuMilli uint64 }

func (m *model) usage() (used, total usage) {
	for i := range m.machines {
		r := &m.machines[i]
		total.millicores += r.machine.Millicores
		total.memoryMiB += r.machine.MemoryMiB
		total.gpuMilli += uint64(r.machine.Devices) * whole
		used.millicores += r.machine.Millicores - r.millicores
		used.memoryMiB += r.machine.MemoryMiB - r.memoryMiB
		for _, share := range r.devices {
			used.gpuMilli += whole - share
		}
	}
	return used, total
}

// shape is what some of a trace's tasks ask for.
type shape struct {
	task  Task
	count int
}

// shapes counts the tasks of a trace by what they ask for.
func shapes(t *Trace) []shape {
	at := map[Task]int{}
	var out []shape
	for i := range t.Tasks {
		task := t.Tasks[i]
		task.Name, task.Arrives, task.Works = "", 0, 0
		k, ok := at[task]
		if !ok {
			k = len(out)
			at[task] = k
			out = append(out, shape{task: task})
		}
		out[k].count++
	}
	return out
}

// fragmented returns how much of the free GPUs the trace's tasks could not use,
// weighed by how many ask for the same, in thousandths of a GPU: the fragment
// size of Weng et al., "Beware of Fragmentation", USENIX ATC '23, section 4.2.
func (m *model) fragmented(all []shape) float64 {
	sum, tasks := 0.0, 0
	for _, s := range all {
		tasks += s.count
		for i := range m.machines {
			sum += float64(s.count) * float64(m.machines[i].useless(&s.task))
		}
	}
	return sum / float64(tasks)
}

func (r *room) useless(t *Task) uint64 {
	total, broken := uint64(0), uint64(0)
	for _, share := range r.devices {
		total += share
		if share < t.ShareMilli {
			broken += share
		}
	}
	if t.Devices == 0 || !r.fits(t) {
		return total
	}
	return broken
}
