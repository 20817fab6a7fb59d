package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/sim"
)

// Placement is who places the tasks of a trace.
type Placement string

// The placements.
const (
	Ours    Placement = "ours"
	BestFit Placement = "best-fit"
	Random  Placement = "random"
)

// Placements lists all of them.
var Placements = []Placement{Ours, BestFit, Random}

// ReplayOptions say how a trace is replayed.
type ReplayOptions struct {
	Trace     *Trace
	Placement Placement
	Seed      uint64
	Speed     uint64      // tasks come so many times as fast as recorded, and work as long; 0: they come in their order and none leaves
	Sample    int         // nodes that ours looks at for a task; 0: as the scheduler's default
	Stop      func() bool // asked now and then: true ends the run, which is then violated; nil: never
}

// ReplayReport is what came of a replay.
type ReplayReport struct {
	Placement   Placement `json:"placement"`
	Seed        uint64    `json:"seed"`
	Speed       uint64    `json:"speed"`
	Machines    int       `json:"machines"`
	Tasks       int       `json:"tasks"`
	Placed      int       `json:"placed"`
	Unplaced    int       `json:"unplaced"`     // at the end, for want of room
	Violations  []string  `json:"violations"`   // of the package's invariants, the first of them
	GPU         float64   `json:"gpu_used"`     // share of all, at the end, or on average while tasks come
	CPU         float64   `json:"cpu_used"`     //
	Memory      float64   `json:"memory_used"`  //
	Fragmented  float64   `json:"fragmented"`   // GPUs that are free and that the tasks of the trace could not use, the same way, as a share of all
	Waited      int       `json:"waited_tasks"` // that were not placed when they came
	WaitMean    float64   `json:"wait_mean_s"`  // of all placed tasks
	WaitP99     float64   `json:"wait_p99_s"`   //
	WaitMax     float64   `json:"wait_max_s"`   //
	GPUWaitMean float64   `json:"gpu_wait_mean_s"`
	Makespan    float64   `json:"makespan_s"` // until the last task that was placed ended; 0: none leaves
}

// placer is a scheduler under replay. It calls replay.put for what it places.
type placer interface {
	arrive(task int)
	leave(task, machine int)
	end() // everything has happened
}

// replay is a trace on its way.
type replay struct {
	options    ReplayOptions
	clock      *sim.Clock
	rand       *sim.Rand
	model      *model
	shapes     []shape
	placer     placer
	waits      []float64
	report     ReplayReport
	weight     float64 // of the averages: seconds
	sampled    time.Duration
	last       usage
	lastBroken float64
	coming     int
}

// A second of the trace is a millisecond of the clock, and so of the scheduler:
// tasks of months are then within what a job may take.
const second = time.Millisecond

// sampleEvery is how often averages are taken, beside the arrivals.
const sampleEvery = 100

// Replay replays a trace.
func Replay(o ReplayOptions) ReplayReport {
	r := &replay{
		options: o, clock: sim.NewClock(), rand: sim.NewRand(o.Seed), model: newModel(o.Trace), shapes: shapes(o.Trace),
		report: ReplayReport{
			Placement: o.Placement, Seed: o.Seed, Speed: o.Speed, Machines: len(o.Trace.Machines), Tasks: len(o.Trace.Tasks), Violations: []string{},
		},
	}
	if o.Placement == Ours {
		r.placer = newMarket(r)
	} else {
		r.placer = &simple{replay: r}
	}
	for i := range o.Trace.Tasks {
		at := time.Duration(i) * second // none leaves: only the order matters
		if o.Speed > 0 {
			at = time.Duration(o.Trace.Tasks[i].Arrives) * second / time.Duration(o.Speed)
		}
		r.coming++
		r.clock.After(at, func() { r.arrive(i) })
	}
	for r.clock.Step() {
		if o.Stop != nil && o.Stop() {
			r.violated("interrupted")
			return r.report
		}
	}
	r.placer.end()
	r.close()
	return r.report
}

func (r *replay) violated(format string, args ...any) {
	if len(r.report.Violations) < 10 {
		r.report.Violations = append(r.report.Violations, fmt.Sprintf(format, args...))
	}
}

func (r *replay) arrive(task int) {
	if r.options.Speed > 0 && task%sampleEvery == 0 {
		r.sample()
	}
	r.coming--
	t := &r.options.Trace.Tasks[task]
	r.placer.arrive(task)
	if _, placed := r.model.placed[task]; !placed && r.model.somewhere(t) {
		r.violated("task %s waits, and a machine has room for it", t.Name)
	}
}

// put places a task.
func (r *replay) put(task int, at spot) {
	t := &r.options.Trace.Tasks[task]
	if !r.model.put(task, t, at) {
		r.violated("task %s is given what machine %s has not", t.Name, r.options.Trace.Machines[at.machine].Name)
		return
	}
	r.report.Placed++
	came := time.Duration(t.Arrives) * second / time.Duration(max(1, r.options.Speed))
	if r.options.Speed == 0 {
		came = r.clock.Now()
	}
	waited := float64(r.clock.Now()-came) / float64(second)
	r.waits = append(r.waits, waited)
	if waited > 0 {
		r.report.Waited++
	}
	if t.Devices > 0 {
		r.report.GPUWaitMean += waited
	}
	if r.options.Speed > 0 {
		r.clock.After(time.Duration(t.Works)*second, func() {
			r.report.Makespan = float64(r.clock.Now()) / float64(second)
			machine := r.model.remove(task, t)
			r.placer.leave(task, machine)
		})
	}
}

// sample adds what was in use since the last sample to the averages.
func (r *replay) sample() {
	span := float64(r.clock.Now() - r.sampled)
	r.weight += span
	_, total := r.model.usage()
	r.add(r.last, total, r.lastBroken, span)
	r.sampled = r.clock.Now()
	r.last, _ = r.model.usage()
	r.lastBroken = r.model.fragmented(r.shapes)
}

func (r *replay) add(used, total usage, broken, weight float64) {
	r.report.GPU += weight * share(used.gpuMilli, total.gpuMilli)
	r.report.CPU += weight * share(used.millicores, total.millicores)
	r.report.Memory += weight * share(used.memoryMiB, total.memoryMiB)
	r.report.Fragmented += weight * broken / float64(max(1, total.gpuMilli))
}

func share(part, all uint64) float64 { return float64(part) / float64(max(1, all)) }

// close finishes the report.
func (r *replay) close() {
	if r.options.Speed == 0 {
		used, total := r.model.usage()
		r.weight = 1
		r.add(used, total, r.model.fragmented(r.shapes), 1)
	}
	for _, v := range []*float64{&r.report.GPU, &r.report.CPU, &r.report.Memory, &r.report.Fragmented} {
		*v /= max(1, r.weight)
	}
	r.report.Unplaced = r.report.Tasks - r.report.Placed
	slices.Sort(r.waits)
	sum, gpuTasks := 0.0, 0
	for _, w := range r.waits {
		sum += w
	}
	for i := range r.options.Trace.Tasks {
		if r.options.Trace.Tasks[i].Devices > 0 {
			gpuTasks++
		}
	}
	if n := len(r.waits); n > 0 {
		r.report.WaitMean, r.report.WaitMax = sum/float64(n), r.waits[n-1]
		r.report.WaitP99 = r.waits[(n*99+99)/100-1]
	}
	r.report.GPUWaitMean /= float64(max(1, gpuTasks))
}

// simple places by best fit or at random, looking at every machine; who finds
// no room waits, and what comes free goes to those who wait by arrival.
type simple struct {
	*replay
	queue []int
}

func (s *simple) arrive(task int) {
	t := &s.options.Trace.Tasks[task]
	var machine int
	if s.options.Placement == Random {
		machine = s.model.atRandom(t, s.rand)
	} else {
		machine = s.model.bestFit(t)
	}
	if machine < 0 {
		s.queue = append(s.queue, task)
		return
	}
	s.put(task, spot{machine: machine, devices: s.model.machines[machine].devicesFor(t)})
}

func (s *simple) leave(_, machine int) {
	kept := s.queue[:0]
	room := &s.model.machines[machine]
	for _, task := range s.queue {
		t := &s.options.Trace.Tasks[task]
		if room.fits(t) {
			s.put(task, spot{machine: machine, devices: room.devicesFor(t)})
		} else {
			kept = append(kept, task)
		}
	}
	s.queue = kept
}

func (s *simple) end() {
	for _, task := range s.queue {
		if t := &s.options.Trace.Tasks[task]; s.model.somewhere(t) {
			s.violated("task %s waits, and a machine has room for it", t.Name)
		}
	}
}
