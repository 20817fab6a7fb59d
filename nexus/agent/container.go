package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// openContainers opens the executor of containers, if the config asks for it.
// It ends those that an earlier process left: their logs and output are lost
// with that process, the servers learn from Hello that the work is not here,
// and whoever does it again must not meet the first at the same time. A machine
// that cannot run containers runs the other work.
func (a *Agent) openContainers(dir string) (err error) {
	if !a.config.Containers {
		return nil
	}
	unpacked := a.config.DiskMiB << 20 / 4
	a.containers, err = executor.OpenContainers(executor.ContainerConfig{
		Runtime: a.config.ContainerRuntime, Dir: filepath.Join(dir, "containers"), CacheBytes: unpacked, ImageBytes: unpacked, Log: a.log,
	})
	if errors.Is(err, executor.ErrNoContainers) {
		a.log.Error("agent: containers are not run here", "error", err)
		return nil
	}
	return err
}

// runContainer runs a container or a service.
func (a *Agent) runContainer(ctx context.Context, t *task, w *job.Container, dir string) (result, error) {
	if a.containers == nil {
		return result{}, errors.New("containers are not run here")
	}
	spec := t.assignment.Work()
	if spec.Limits.MemoryBytes < executor.MinContainerMemory {
		return invalid("limits.memory_bytes is %d, a container needs %d", spec.Limits.MemoryBytes, executor.MinContainerMemory), nil
	}
	input, why, err := a.unpackInput(w.Input, spec, dir)
	if err != nil || why != "" {
		return invalid("%s", why), err
	}
	stdout, stderr, end := a.logPipes(t.order)
	o, err := a.containers.Run(ctx, executor.ContainerTask{
		Name: t.order.String(), Image: w.Image, OpenImage: func() (io.ReadSeekCloser, error) { return a.blobs.Open(w.Image) },
		Command: w.Command, Env: w.Env, InputDir: input, OutputDir: filepath.Join(dir, "out"),
		Millicores: spec.Resources.Millicores, Processes: w.Processes, Service: serviceOf(&w.Service), Stdout: stdout, Stderr: stderr,
		Limits: executor.Limits{
			MemoryBytes: spec.Limits.MemoryBytes, WallTime: time.Duration(spec.Limits.WallMs) * time.Millisecond,
			OutputBytes: spec.Limits.OutputBytes, OutputFiles: spec.Limits.OutputFiles, LogBytes: spec.Limits.LogBytes,
		},
	})
	end()
	if err != nil {
		return result{}, fmt.Errorf("executor fault: %w", err)
	}
	return result{
		Outcome: job.Outcome{
			Exit: exitOf(o.Status), ExitCode: o.ExitCode, PeakMemoryBytes: o.Usage.PeakMemoryBytes, WallMs: o.Usage.WallMillis, CPUMs: o.Usage.CPUMillis,
		},
		detail: o.Detail,
	}, nil
}

// serviceOf is a specification's service in the executor's words.
func serviceOf(s *job.Service) executor.Service {
	policies := map[job.Restart]executor.Restart{
		job.RestartNone: executor.RestartNone, job.RestartNever: executor.RestartNever,
		job.RestartOnFailure: executor.RestartOnFailure, job.RestartAlways: executor.RestartAlways,
	}
	ms := func(n uint64) time.Duration { return time.Duration(n) * time.Millisecond }
	h := &s.Health
	return executor.Service{
		Restart: policies[s.Restart], Restarts: s.Restarts,
		Health: executor.Health{
			Command: h.Command, Port: uint16(h.Port), Path: h.Path, Start: ms(h.StartMs), Interval: ms(h.IntervalMs), Timeout: ms(h.TimeoutMs), Failures: h.Failures,
		},
	}
}
