package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

// containerFlags are those of job run that are about containers.
func containerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "container", Usage: "the program is an OCI image: a tarball of docker save, or of an OCI layout"},
		&cli.StringSliceFlag{Name: "env", Usage: "`NAME=VALUE` in the container's environment; may be given several times"},
		&cli.Uint64Flag{Name: "cpu", Value: 1_000, Usage: "thousandths of a core for the container"},
		&cli.Uint64Flag{Name: "processes", Value: job.DefaultProcesses, Usage: "processes and threads of the container at most"},
		&cli.StringFlag{Name: "service", Value: job.RestartNone.String(), Usage: "`POLICY`: never, on-failure or always make the container a service, which runs for --time-limit; none: a batch job"},
		&cli.Uint64Flag{Name: "restarts", Value: 10, Usage: "how often a service is begun again at most"},
		&cli.Uint64Flag{Name: "health-port", Usage: "`PORT` of the service's loopback that takes connections while it is well"},
		&cli.StringFlag{Name: "health-path", Usage: "`PATH` at --health-port that answers GET with 200 to 399"},
		&cli.StringSliceFlag{Name: "health-cmd", Usage: "`WORD` of a command in the container that exits with 0 while the service is well; once for each word"},
		&cli.DurationFlag{Name: "health-interval", Value: 10 * time.Second, Usage: "time between two health checks, and until the first"},
	}
}

// Of a health check that the command line has no flags for.
const (
	healthTimeoutMs = 5_000
	healthFailures  = 3
)

// containerFromFlags makes the job one of a container. Its image is the first
// blob, its input, if it has one, the second.
func containerFromFlags(c *cli.Context, run *sdk.JobRun) error {
	if !isNone(run.Policy) {
		return usagef(c, "--container is for --verify none: its runs differ, and nobody can compare them")
	}
	work := job.Container{Command: c.Args().Tail(), Env: c.StringSlice("env"), Processes: c.Uint64("processes")}
	if err := work.Service.Restart.UnmarshalText([]byte(c.String("service"))); err != nil {
		return usagef(c, "--service: %v", err)
	}
	if work.Service.Restart > job.RestartNever {
		work.Service.Restarts = c.Uint64("restarts")
	}
	health := job.HealthCheck{Command: c.StringSlice("health-cmd"), Port: c.Uint64("health-port"), Path: c.String("health-path")}
	if health.Asks() {
		interval := uint64(max(c.Duration("health-interval").Milliseconds(), 0))
		health.StartMs, health.IntervalMs, health.TimeoutMs, health.Failures = interval, interval, healthTimeoutMs, healthFailures
	}
	work.Service.Health = health
	run.Spec.Resources.Millicores = c.Uint64("cpu")
	run.Bind = func(ids []crypto.Digest) job.Work {
		bound := work
		bound.Image = ids[0]
		if len(ids) > 1 {
			bound.Input = ids[1]
		}
		return bound
	}
	// What is wrong with the flags is said before anything is uploaded.
	spec := run.Spec
	spec.InputBytes, spec.Work = 1, job.WorkField{Work: run.Bind([]crypto.Digest{{1}})}
	if err := spec.Check(); err != nil {
		return usagef(c, "%v", fmt.Errorf("the container: %w", err))
	}
	return nil
}
