package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
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

// strayFlags refuses a flag of containers that would change nothing.
func strayFlags(c *cli.Context) error {
	needs := map[string]string{"restarts": "service", "health-interval": "health-port or --health-cmd", "health-path": "health-port"}
	set := map[string]bool{
		"container": c.Bool("container") && c.String("kernel") == "", "service": c.String("service") != job.RestartNone.String(),
		"health-port or --health-cmd": c.IsSet("health-port") || c.IsSet("health-cmd"), "health-port": c.IsSet("health-port"),
	}
	for _, f := range containerFlags() {
		name := f.Names()[0]
		switch need := needs[name]; {
		case !c.IsSet(name) || name == "container" && set[name]:
		case name == "container":
			return usagef(c, "--container and --kernel: want one")
		case !set["container"]:
			return usagef(c, "--%s is for containers: give --container too", name)
		case need != "" && !set[need]:
			return usagef(c, "--%s changes nothing without --%s", name, need)
		}
	}
	return nil
}

// checkImage refuses what is no image, or not the whole of one.
func checkImage(c *cli.Context, image *os.File) error {
	archive := tar.NewReader(image)
	for found, n := false, 0; ; n++ {
		head, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && !found:
			return usagef(c, "%s is an archive, and no image: it has neither manifest.json nor index.json, as docker save and OCI layouts do", image.Name())
		case errors.Is(err, io.EOF) || n > maxMembers:
			_, err := image.Seek(0, io.SeekStart)
			return err
		case err != nil:
			return usagef(c, "%s is no whole tar archive: %v", image.Name(), err)
		}
		name := path.Clean(head.Name)
		found = found || name == "manifest.json" || name == "index.json"
	}
}

// maxMembers is how many members of an image are looked at: agents take no more.
const maxMembers = 1_024

// checkProgram refuses a file that is plainly not what the flags say, before it is uploaded:
// an agent would refuse it once it was paid for.
func checkProgram(c *cli.Context, program *os.File) error {
	info, err := program.Stat()
	if err != nil {
		return fmt.Errorf("opening the program: %w", err)
	}
	if info.IsDir() {
		return usagef(c, "%s is a directory: want a program or an image", program.Name())
	}
	head := make([]byte, 512) // of a tar archive the first header
	n, err := program.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the program: %w", err)
	}
	head = head[:n]
	wasm, packed := bytes.HasPrefix(head, []byte("\x00asm")), bytes.HasPrefix(head, []byte{0x1f, 0x8b})
	archive := n == cap(head) && string(head[257:262]) == "ustar"
	container := c.Bool("container")
	switch {
	case n == 0:
		return usagef(c, "%s is empty: want a program or an image", program.Name())
	case container && wasm:
		return usagef(c, "%s is a WebAssembly program, no image: leave --container out", program.Name())
	case container && packed:
		return usagef(c, "%s is compressed: an image is the tarball of docker save as it is, so gunzip it first", program.Name())
	case container && bytes.HasPrefix(head, []byte("\x7fELF")):
		return usagef(c, "%s is a program of Linux: --container wants the image that it is in, as a tarball of docker save", program.Name())
	case !container && (archive || packed):
		return usagef(c, "%s is an archive, no WebAssembly program: --container runs an image", program.Name())
	case container:
		return checkImage(c, program)
	}
	return nil
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
	if run.Spec.Limits.MemoryBytes < executor.MinContainerMemory {
		return usagef(c, "--memory-mib is %d, a container needs %d", c.Uint64("memory-mib"), executor.MinContainerMemory>>20)
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
