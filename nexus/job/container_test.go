package job_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

func TestContainersAreRefusedByName(t *testing.T) {
	for want, change := range map[string]func(*job.Container){
		"work.image is zero":             func(c *job.Container) { c.Image = crypto.Digest{} },
		"work.command has 257 entries":   func(c *job.Container) { c.Command = make([]string, 257) },
		"work.env[1] is not NAME":        func(c *job.Container) { c.Env = []string{"A=1", "=2"} },
		"work.processes is 15":           func(c *job.Container) { c.Processes = 15 },
		"work.processes is 4097":         func(c *job.Container) { c.Processes = 4_097 },
		"restart 4 is unknown":           func(c *job.Container) { c.Service.Restart = 4 },
		"restarts is 5 with restart":     func(c *job.Container) { c.Service.Restart = job.RestartNever },
		"restarts is 1001":               func(c *job.Container) { c.Service.Restarts = 1_001 },
		"health is for services":         func(c *job.Container) { c.Service.Restart, c.Service.Restarts = job.RestartNone, 0 },
		"health has neither":             func(c *job.Container) { c.Service.Health.Port = 0 },
		"health has both":                func(c *job.Container) { c.Service.Health.Command = []string{"x"} },
		"health.path wants":              func(c *job.Container) { c.Service.Health.Path = "/a b" },
		"health.port is 65536":           func(c *job.Container) { c.Service.Health.Port = 65_536 },
		"health.interval_ms is 99":       func(c *job.Container) { c.Service.Health.IntervalMs = 99 },
		"health.timeout_ms is 0":         func(c *job.Container) { c.Service.Health.TimeoutMs = 0 },
		"health.failures is 0":           func(c *job.Container) { c.Service.Health.Failures = 0 },
		"health.command has a zero byte": func(c *job.Container) { c.Service.Health = job.HealthCheck{Command: []string{"\x00"}} },
		"health.start_ms is 3600001":     func(c *job.Container) { c.Service.Health.StartMs = 3_600_001 },
	} {
		s := containerSpec()
		c := s.Work.Work.(job.Container)
		change(&c)
		s.Work.Work = c
		if err := s.Check(); !errors.Is(err, job.ErrSpec) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrSpec with %q", err, want)
		}
	}
}

// Replicas of a container cannot be compared: it has the machine's clock.
func TestContainersAreNotReplicated(t *testing.T) {
	spec := containerSpec()
	for policy, good := range map[chain.Policy]bool{chain.PolicyNone{}: true, replicate: false} {
		order := orderFor(spec, policy)
		if err := job.CheckOrder(&order, &spec); (err == nil) != good {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

func TestContainersAreBilledByProcessorTime(t *testing.T) {
	spec := containerSpec()
	spec.Resources.Millicores = 1_500
	for cpu, want := range map[uint64]uint64{0: 0, 40: 40, 1_400: 1_400, 1_501: 1_500, 1 << 60: 1_500} {
		usage := job.Meter(&spec, &job.Outcome{WallMs: 1_000, CPUMs: cpu})
		if usage[0].DurationMs != want || usage[1].DurationMs != 1_000 {
			t.Errorf("%d ms of processor time are billed as %+v, want %d ms", cpu, usage, want)
		}
	}
	worst, err := job.WorstCost(&spec, meteredPrices())
	if err != nil {
		t.Fatal(err)
	}
	all := job.Outcome{WallMs: 1 << 60, CPUMs: 1 << 60, PeakMemoryBytes: 1 << 60, OutputBytes: 1 << 60}
	if cost, err := chain.Cost(job.Meter(&spec, &all), meteredPrices()); err != nil || worst.Less(cost) {
		t.Errorf("all that a container can use costs %s (%v), the worst is %s", cost, err, worst)
	}
}

func TestAssignmentsFillInContainersInputs(t *testing.T) {
	spec := containerSpec()
	c := spec.Work.Work.(job.Container)
	c.Input = crypto.Digest{}
	spec.Work.Work = c
	spec.Scheduling.After, spec.Scheduling.InputOf = []crypto.Digest{{9}}, crypto.Digest{9}
	if err := spec.Check(); err != nil {
		t.Fatal(err)
	}
	a := job.Assignment{Spec: spec, Input: crypto.Digest{4}}
	if got := a.Work().Work.Work.(job.Container).Input; got != (crypto.Digest{4}) {
		t.Errorf("the input is %s", got)
	}
}
