package simulation_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/sim"
	"github.com/hypermesh/hypermesh/nexus/simulation"
)

func sound(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}

// Agents crash, are cut off and come back: every job is paid, once.
func TestClusterWithChurn(t *testing.T) {
	o := simulation.ClusterOptions{Agents: 100, Jobs: 3_000, Seed: 7, Rate: 3, Churn: true}
	r := simulation.RunCluster(o)
	sound(t, r.Violations)
	if r.Settled != o.Jobs || r.Lost == 0 || r.Crashes == 0 || r.Cuts == 0 || r.PlaceP99 >= 1_000 {
		t.Errorf("%+v", r)
	}
	if r.Commands <= r.Entries {
		t.Errorf("%d commands took %d entries", r.Commands, r.Entries)
	}
	if again := simulation.RunCluster(o); !reflect.DeepEqual(again, r) {
		t.Errorf("the same seed gave\n%+v and\n%+v", r, again)
	}
}

// More comes than can be done at once: it waits, and is done.
func TestClusterThatIsFull(t *testing.T) {
	r := simulation.RunCluster(simulation.ClusterOptions{Agents: 10, Jobs: 160, Seed: 3, Rate: 20})
	sound(t, r.Violations)
	if r.Settled != 160 || r.PlaceMax < 10_000 || r.Declined > 0 || r.Commands > 160*6 {
		t.Errorf("%+v: a job that waits costs no commands", r)
	}
}

// synthetic is a cluster of 60 machines, of which half have GPUs, and tasks
// that ask for more than it has, in shapes that are hard to fit together.
func synthetic() *simulation.Trace {
	rand := sim.NewRand(11)
	t := &simulation.Trace{}
	for i := range 60 {
		m := simulation.Machine{Name: fmt.Sprintf("m%d", i), Millicores: 32_000, MemoryMiB: 128_000}
		if i%2 == 0 {
			m.Devices, m.Kind = []int{2, 4, 8}[rand.Below(3)], []string{"T4", "G2"}[rand.Below(2)]
			m.Millicores = 96_000
		}
		t.Machines = append(t.Machines, m)
	}
	for i := range 600 {
		task := simulation.Task{
			Name: fmt.Sprintf("t%d", i), Millicores: uint64(1_000 * (1 + rand.Below(16))), MemoryMiB: uint64(1_000 * (1 + rand.Below(30))),
			Arrives: uint64(i), Works: uint64(100 + rand.Below(300)),
		}
		switch rand.Below(8) {
		case 0:
			task.Millicores *= 2
		case 1:
			task.Devices, task.ShareMilli, task.Kind = uint64(2<<rand.Below(2)), 1_000, "G2"
		case 2, 3:
			task.Devices, task.ShareMilli = 1, 1_000
		default:
			task.Devices, task.ShareMilli = 1, []uint64{110, 230, 470, 590, 650, 810}[rand.Below(6)]
		}
		t.Tasks = append(t.Tasks, task)
	}
	return t
}

// No placement leaves a task waiting that a machine has room for; and all of them
// are told if they do.
func TestReplayPlacesWhateverFits(t *testing.T) {
	trace := synthetic()
	for _, speed := range []uint64{0, 1} {
		for _, p := range simulation.Placements {
			o := simulation.ReplayOptions{Trace: trace, Placement: p, Seed: 1, Speed: speed}
			r := simulation.Replay(o)
			sound(t, r.Violations)
			if speed == 0 && r.Unplaced == 0 || speed > 0 && (r.Unplaced > 0 || r.Waited == 0) {
				t.Errorf("%s at speed %d: %+v", p, speed, r)
			}
			if again := simulation.Replay(o); !reflect.DeepEqual(again, r) {
				t.Errorf("%s: the same seed gave %+v and %+v", p, r, again)
			}
		}
	}
}

// recorded opens the production trace, which is not part of this repository.
func recorded(t *testing.T) *simulation.Trace {
	dir := filepath.Join("..", "..", "..", "shared", "vectors", "trace")
	if from := os.Getenv("HYPERMESH_TRACE"); from != "" {
		dir = from
	}
	machines, err := os.Open(filepath.Join(dir, "openb_nodes.csv"))
	if err != nil {
		t.Skipf("the production trace is not on this machine (HYPERMESH_TRACE): %v", err)
	}
	tasks, err := os.Open(filepath.Join(dir, "openb_pods.csv"))
	if err != nil {
		t.Fatal(err)
	}
	trace, err := simulation.ReadTrace(machines, tasks)
	if err = errors.Join(err, machines.Close(), tasks.Close()); err != nil {
		t.Fatal(err)
	}
	return trace
}

// On the trace of a production cluster ours fills more GPUs, breaks fewer and
// has fewer tasks wait, for less long, than the best fit and a random one.
func TestProductionTrace(t *testing.T) {
	if testing.Short() {
		return // a minute
	}
	trace := recorded(t)
	var full, fast [3]simulation.ReplayReport
	for i, p := range simulation.Placements {
		full[i] = simulation.Replay(simulation.ReplayOptions{Trace: trace, Placement: p, Seed: 1})
		fast[i] = simulation.Replay(simulation.ReplayOptions{Trace: trace, Placement: p, Seed: 1, Speed: 50_000})
		sound(t, full[i].Violations)
		sound(t, fast[i].Violations)
		t.Logf("%s: %.2f %% of GPUs used, %.2f %% of no use, %d placed; %d waited, %.3f s on average", p, 100*full[i].GPU, 100*full[i].Fragmented,
			full[i].Placed, fast[i].Waited, fast[i].WaitMean)
	}
	for i := 1; i < 3; i++ {
		if full[0].GPU <= full[i].GPU || full[0].Placed <= full[i].Placed || full[0].Fragmented >= full[i].Fragmented {
			t.Errorf("ours fills the cluster with %+v, %s with %+v", full[0], full[i].Placement, full[i])
		}
		if fast[0].WaitMean >= fast[i].WaitMean || fast[0].Waited >= fast[i].Waited || fast[0].Unplaced > 0 {
			t.Errorf("ours: %+v, %s: %+v", fast[0], fast[i].Placement, fast[i])
		}
	}
}

func TestTraceRefusedByLine(t *testing.T) {
	const machines = "sn,cpu_milli,memory_mib,gpu,model\nm,1000,1000,2,T4\n"
	const tasks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\nt,10,10,1,500,,0,5\n"
	if _, err := simulation.ReadTrace(strings.NewReader(machines), strings.NewReader(tasks)); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string][2]string{
		"machines: line 1: no column \"gpu\"":  {"sn,cpu_milli,memory_mib,model\n", tasks},
		"machines: line 2: \"x\" is no number": {"sn,cpu_milli,memory_mib,gpu,model\nm,x,1,1,\n", tasks},
		"machines: line 2: 17 gpus":            {"sn,cpu_milli,memory_mib,gpu,model\nm,1,1,17,\n", tasks},
		"tasks: line 1: EOF":                   {machines, ""},
		"tasks: record on line 3":              {machines, tasks + "t,1\n"},
		"tasks: line 3: \"-1\" is no number":   {machines, tasks + "t,-1,1,1,1,,0,1\n"},
		"0 tasks":                              {machines, tasks[:strings.Index(tasks, "\n")+1]},
	} {
		if _, err := simulation.ReadTrace(strings.NewReader(c[0]), strings.NewReader(c[1])); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
