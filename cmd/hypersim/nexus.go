package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/nexus/simulation"
)

const (
	maxAgents   = 100_000
	maxJobs     = 10_000_000
	maxRate     = 100_000
	maxSpeed    = 1_000_000_000
	maxSample   = 100_000
	replaySpeed = 50_000
	jobsAnAgent = 100 // jobs an hour that come for each agent, if no rate is given: they are half busy then
	gcPercent   = 200
)

func nexusCommand() *cli.Command {
	return &cli.Command{
		Name:  "nexus",
		Usage: "the scheduler with simulated agents, or on a recorded load",
		Description: "Without --trace: the scheduler that servers run, with simulated agents that bid, work, crash, are cut off and come\n" +
			"back, a simulated log, network and chain. No agent may be given more than it has, every accepted job must come to\n" +
			"its end, and none may be paid twice. Placements a second are those of one processor, all of the simulation included.\n" +
			"With --trace: machines and tasks of a production cluster (DIR holds openb_nodes.csv and openb_pods.csv of Alibaba's\n" +
			"cluster-trace-gpu-v2023), placed by ours, the best fit among all machines, or at random among all that fit; first as\n" +
			"they come, without an end, which shows how full the cluster gets, then so many times as fast as recorded, which shows\n" +
			"who waits. Wherever a machine has room for a task it must be placed.\n" +
			"Examples: hypersim nexus --agents 10000 --jobs 1000000 --json\n" +
			"          hypersim nexus --trace ../trace --placement ours --speed 20000",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "`SEED` of everything that is drawn"},
			&cli.IntFlag{Name: "agents", Value: 1_000, Usage: "`N` simulated agents"},
			&cli.IntFlag{Name: "jobs", Value: 20_000, Usage: "`M` jobs in all"},
			&cli.IntFlag{Name: "rate", Usage: "`R` jobs a second (default: so many that agents are half busy)"},
			&cli.BoolFlag{Name: "calm", Usage: "no agent fails"},
			&cli.StringFlag{Name: "trace", Usage: "replay the trace in this `DIR`"},
			&cli.StringFlag{Name: "placement", Value: "all", Usage: "ours, best-fit, random or all, with --trace"},
			&cli.Uint64Flag{Name: "speed", Value: replaySpeed, Usage: "tasks come `K` times as fast as recorded, with --trace; 0: only without an end"},
			&cli.IntFlag{Name: "sample", Usage: "`N` machines that ours looks at for a task, with --trace (default: as servers do)"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON on standard output"},
		},
		Action: runNexus,
	}
}

func runNexus(c *cli.Context) error {
	wrong := func(format string, args ...any) error { return usagef(c.Command.Name+" ", format, args...) }
	agents, jobs, rate, sample := c.Int("agents"), c.Int("jobs"), c.Int("rate"), c.Int("sample")
	if !c.IsSet("rate") {
		rate = max(1, agents*jobsAnAgent/3600)
	}
	replays := c.IsSet("trace")
	for _, name := range []string{"agents", "jobs", "rate", "calm"} {
		if replays && c.IsSet(name) {
			return wrong("%s and trace do not go together", name)
		}
	}
	for _, name := range []string{"placement", "speed", "sample"} {
		if !replays && c.IsSet(name) {
			return wrong("%s is of a trace: give --trace DIR", name)
		}
	}
	switch {
	case c.NArg() > 0:
		return wrong("%q is not expected", c.Args().First())
	case agents < 1 || agents > maxAgents:
		return wrong("agents is %d, want 1 to %d", agents, maxAgents)
	case jobs < 1 || jobs > maxJobs:
		return wrong("jobs is %d, want 1 to %d", jobs, maxJobs)
	case rate < 1 || rate > maxRate:
		return wrong("rate is %d, want 1 to %d", rate, maxRate)
	case c.Uint64("speed") > maxSpeed:
		return wrong("speed is %d, want at most %d", c.Uint64("speed"), maxSpeed)
	case sample < 0 || sample > maxSample || c.IsSet("sample") && sample == 0:
		return wrong("sample is %d, want 1 to %d", sample, maxSample)
	case c.Uint64("seed") > math.MaxUint32:
		return wrong("seed is %d, want at most %d", c.Uint64("seed"), uint32(math.MaxUint32))
	}
	if replays {
		return runReplays(c, wrong)
	}
	return runCluster(c, simulation.ClusterOptions{Agents: agents, Jobs: jobs, Seed: c.Uint64("seed"), Rate: rate, Churn: !c.Bool("calm"), Stop: stopped(c)})
}

// clusterReport is what hypersim nexus --json prints without a trace.
type clusterReport struct {
	simulation.ClusterReport
	ProcessorSeconds float64 `json:"processor_seconds"` // of this process, for all of it
	PlacementsPerS   float64 `json:"placements_per_processor_second"`
	MemoryMiB        int64   `json:"memory_mib"` // the most that was resident
}

func runCluster(c *cli.Context, o simulation.ClusterOptions) error {
	debug.SetGCPercent(gcPercent)
	before, err := processorTime()
	if err != nil {
		return err
	}
	r := clusterReport{ClusterReport: simulation.RunCluster(o)}
	after, err := processorTime()
	if err != nil {
		return err
	}
	r.ProcessorSeconds = (after - before).Seconds()
	r.PlacementsPerS = math.Round(float64(r.Placements) / r.ProcessorSeconds)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return fmt.Errorf("asking for the memory used: %w", err)
	}
	r.MemoryMiB = usage.Maxrss >> 10
	if c.Bool("json") {
		err = printJSON(c, r)
	} else {
		_, err = fmt.Fprint(c.App.Writer, r.text())
	}
	return errors.Join(err, violatedBy(r.Violations))
}

// stopped tells a simulation when the command is interrupted.
func stopped(c *cli.Context) func() bool { return func() bool { return c.Context.Err() != nil } }

// processorTime returns what this process has used so far.
func processorTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("asking for the processor time used: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

func violatedBy(violations []string) error {
	if len(violations) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errViolated, strings.Join(violations, "; "))
}

func (r *clusterReport) text() string {
	return fmt.Sprintf("agents       %d, %d crashes, %d cuts\n", r.Agents, r.Crashes, r.Cuts) +
		fmt.Sprintf("jobs         %d accepted, %d refused, %d settled, %d failed\n", r.Accepted, r.Refused, r.Settled, r.Failed) +
		fmt.Sprintf("placements   %d, of which %d were lost; %d auctions found too few bids\n", r.Placements, r.Lost, r.Declined) +
		fmt.Sprintf("placed       %.1f ms median, %.1f ms p99, %.1f ms at most, simulated\n", r.PlaceP50, r.PlaceP99, r.PlaceMax) +
		fmt.Sprintf("used         %.1f %% of the processors of the agents\n", 100*r.Used) +
		fmt.Sprintf("log          %d commands in %d entries; a snapshot of %d KiB\n", r.Commands, r.Entries, r.StateKiB) +
		fmt.Sprintf("simulated    %.0f s, in %.1f s of one processor: %.0f placements a second\n", r.Seconds, r.ProcessorSeconds, r.PlacementsPerS) +
		fmt.Sprintf("memory       %d MiB\nviolations   %d\n", r.MemoryMiB, len(r.Violations))
}

// runReplays replays a trace.
func runReplays(c *cli.Context, wrong func(string, ...any) error) error {
	placements := simulation.Placements
	if name := simulation.Placement(c.String("placement")); name != "all" {
		if !slices.Contains(placements, name) {
			return wrong("placement is %q, want ours, best-fit, random or all", name)
		}
		placements = []simulation.Placement{name}
	}
	trace, err := openTrace(c.String("trace"))
	if err != nil {
		return err
	}
	speeds := []uint64{0}
	if speed := c.Uint64("speed"); speed > 0 {
		speeds = append(speeds, speed)
	}
	var reports []simulation.ReplayReport
	var violations []string
	for _, speed := range speeds {
		for _, p := range placements {
			r := simulation.Replay(simulation.ReplayOptions{
				Trace: trace, Placement: p, Seed: c.Uint64("seed"), Speed: speed, Sample: c.Int("sample"), Stop: stopped(c),
			})
			reports = append(reports, r)
			violations = append(violations, r.Violations...)
		}
	}
	if c.Bool("json") {
		err = printJSON(c, reports)
	} else {
		_, err = fmt.Fprint(c.App.Writer, replayText(reports))
	}
	return errors.Join(err, violatedBy(violations))
}

// openTrace reads the trace in a directory.
func openTrace(dir string) (trace *simulation.Trace, err error) {
	machines, err := os.Open(filepath.Join(dir, "openb_nodes.csv"))
	if err != nil {
		return nil, fmt.Errorf("opening the trace: %w", err)
	}
	defer func() { err = errors.Join(err, machines.Close()) }()
	tasks, err := os.Open(filepath.Join(dir, "openb_pods.csv"))
	if err != nil {
		return nil, fmt.Errorf("opening the trace: %w", err)
	}
	defer func() { err = errors.Join(err, tasks.Close()) }()
	return simulation.ReadTrace(machines, tasks)
}

func replayText(reports []simulation.ReplayReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d machines, %d tasks\n%-10s %-10s %9s %9s %11s %9s %9s %10s %10s\n", reports[0].Machines, reports[0].Tasks,
		"speed", "placement", "placed", "gpu used", "fragmented", "cpu used", "waited", "mean wait", "p99 wait")
	for _, r := range reports {
		speed := "no end"
		if r.Speed > 0 {
			speed = fmt.Sprint(r.Speed)
		}
		fmt.Fprintf(&b, "%-10s %-10s %9d %7.2f %% %9.2f %% %7.2f %% %9d %8.2f s %8.1f s\n",
			speed, r.Placement, r.Placed, 100*r.GPU, 100*r.Fragmented, 100*r.CPU, r.Waited, r.WaitMean, r.WaitP99)
	}
	return b.String()
}
