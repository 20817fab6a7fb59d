package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ContainerConfig says where containers are run. Zero fields take the value in
// brackets.
type ContainerConfig struct {
	Runtime    string // command of an OCI runtime with runc's flags [runc]
	Dir        string // of this executor alone: unpacked images
	RunDir     string // of bundles and mounts; every user of the machine may pass through it [/run/hypermesh]
	CacheBytes uint64 // unpacked images that are kept while no container uses them [8 GiB]
	ImageBytes uint64 // one unpacked image [4 GiB]
	FirstID    int    // the host's user and group that are a container's 0; 65,536 follow, which nothing else should have [1,879,048,192]
	Log        *slog.Logger
}

func (c ContainerConfig) withDefaults() ContainerConfig {
	if c.Runtime == "" {
		c.Runtime = "runc"
	}
	if c.RunDir == "" {
		c.RunDir = "/run/hypermesh"
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 8 << 30
	}
	if c.ImageBytes == 0 {
		c.ImageBytes = 4 << 30
	}
	if c.FirstID == 0 {
		c.FirstID = 0x70000000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// groupRoot is where the groups of all executors are, one below for each.
const groupRoot = "/hypermesh"

// MinContainerMemory is the least Limits.MemoryBytes of a container: the
// runtime itself, which sets it up from inside, needs about that.
const MinContainerMemory = 16 << 20

// Bounds of ContainerTask.Processes. The runtime's threads need the least.
const (
	MinProcesses = 16 // as job.MinProcesses
	MaxProcesses = 4_096
)

// ContainerTask is one container to run.
type ContainerTask struct {
	Name  string        // of this run, by which Exec finds it; unique among those that run
	Image crypto.Digest // of the tarball
	// OpenImage opens the tarball, if it is not kept unpacked. Its error is one
	// of Run.
	OpenImage  func() (io.ReadSeekCloser, error)
	Command    []string // in the place of the image's entrypoint and command
	Env        []string // NAME=value, over the image's
	InputDir   string   // seen as /in; its files are made readable to all. Empty: /in is empty
	OutputDir  string   // existing, empty: receives /out
	Millicores uint64
	Processes  uint64 // threads included
	Limits     Limits // without Fuel
	Service    Service
	Stdout     io.Writer // called by one goroutine at a time, not the same for both
	Stderr     io.Writer
}

// Containers runs containers, each in namespaces, control groups and a filter of
// system calls of its own. When Run returns, no process, mount or group of the
// container is left; what a process that died left, the next OpenContainers ends.
// Safe for concurrent use.
type Containers struct {
	config     ContainerConfig
	images     *images
	groups     *cgroups
	limitsSwap bool
	dir        string // below RunDir, this executor's own
	groupPath  string // below each hierarchy's root, likewise

	mu      sync.Mutex
	running map[string]*box
}

// ErrNoContainers is matched by the errors of OpenContainers that say that this
// machine runs none.
var ErrNoContainers = errors.New("executor: no containers")

// CheckContainers says what this machine lacks to run containers, for people,
// or nil.
func CheckContainers(runtime string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: the agent does not run as root, which sets their limits (they themselves run as nobody)", ErrNoContainers)
	}
	if _, err := exec.LookPath(runtime); err != nil {
		return fmt.Errorf("%w: no runtime %q (Debian's package runc has one): %w", ErrNoContainers, runtime, err)
	}
	if data, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err != nil || strings.TrimSpace(string(data)) == "0" {
		return fmt.Errorf("%w: no user namespaces (user.max_user_namespaces is 0)", ErrNoContainers)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		_, err = findCgroups(string(info))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoContainers, err)
	}
	return nil
}

// OpenContainers returns an executor of containers, after it has ended and
// removed those that an earlier process with the same Dir left: nobody gets
// their output any more. Errors: ErrNoContainers, the disk's.
func OpenContainers(config ContainerConfig) (*Containers, error) {
	config = config.withDefaults()
	if err := CheckContainers(config.Runtime); err != nil {
		return nil, err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("executor: finding the control groups: %w", err)
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, fmt.Errorf("executor: opening the containers: %w", err)
	}
	own := crypto.DomainBlob.Hash([]byte(dir)).Short()
	c := &Containers{config: config, dir: filepath.Join(config.RunDir, own), groupPath: filepath.Join(groupRoot, own), running: map[string]*box{}}
	if c.groups, err = findCgroups(string(info)); err != nil {
		return nil, err
	}
	swap := group{hierarchy: c.groups}
	_, err = os.Stat(swap.file("memory", "memory.memsw.limit_in_bytes"))
	c.limitsSwap = c.groups.unified != "" || err == nil
	if err := c.sweep(); err != nil {
		return nil, err
	}
	for _, path := range []string{config.RunDir, c.dir} {
		if err := errors.Join(os.MkdirAll(path, 0o711), os.Chmod(path, 0o711)); err != nil {
			return nil, fmt.Errorf("executor: opening the containers: %w", err)
		}
	}
	c.images, err = openImages(filepath.Join(dir, "images"), config.CacheBytes, config.ImageBytes, config.FirstID)
	return c, err
}

// sweep ends and removes what an earlier process left: processes first, then
// mounts, then files. It goes by the kernel's own lists, not by notes.
func (c *Containers) sweep() error {
	left, err := c.groups.children(c.groupPath)
	if err != nil {
		return err
	}
	for _, g := range left {
		c.config.Log.Warn("executor: ending a container that an earlier process left", "group", g.path)
		if err := errors.Join(g.kill(), g.remove()); err != nil {
			return err
		}
	}
	if err := unmountBelow(c.dir); err != nil {
		return err
	}
	// A runtime whose container was just ended writes a last time.
	for until := time.Now().Add(killPatience); ; {
		err := os.RemoveAll(c.dir)
		if err == nil {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("executor: removing what a container left: %w", err)
		}
		<-time.After(pollEvery)
	}
}

// Run runs one container, or a service, to its end, its limits, or the end of
// ctx, as Wasm.Run does.
func (c *Containers) Run(ctx context.Context, task ContainerTask) (outcome Outcome, err error) {
	if err := task.check(); err != nil {
		return Outcome{}, err
	}
	img, err := c.images.get(ctx, task.Image, task.OpenImage)
	if err != nil {
		return c.unstarted(ctx, err)
	}
	defer func() { err = errors.Join(err, c.images.put(img)) }()
	b, err := c.newBox(&task, img)
	if err != nil {
		return c.unstarted(ctx, err)
	}
	defer func() { err = errors.Join(err, c.closeBox(b)) }()
	if err := b.live(ctx); err != nil {
		return c.unstarted(ctx, err)
	}
	return b.outcome()
}

// unstarted is the outcome of a container that never began.
func (c *Containers) unstarted(ctx context.Context, err error) (Outcome, error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return Outcome{Status: StatusRefused, Detail: clip(r.reason)}, nil
	}
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return Outcome{Status: StatusCancelled, Detail: clip(context.Cause(ctx).Error())}, nil
	}
	return Outcome{}, err
}

func (t *ContainerTask) check() error {
	if t.OutputDir == "" || t.Name == "" {
		return errors.New("executor: a container wants a name and an output directory")
	}
	l := t.Limits
	for _, limit := range []struct {
		name  string
		value uint64
		least uint64
		most  uint64
	}{
		{"memory_bytes", l.MemoryBytes, MinContainerMemory, 1 << 48},
		{"wall_time", uint64(max(l.WallTime, 0)), 1, 1 << 62},
		{"output_bytes", l.OutputBytes, 1, 1 << 48},
		{"output_files", l.OutputFiles, 1, 1 << 20},
		{"log_bytes", l.LogBytes, 1, 1 << 40},
		{"processes", t.Processes, MinProcesses, MaxProcesses},
		{"millicores", t.Millicores, 1, 1 << 20},
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return fmt.Errorf("executor: limit %s is %d, want %d to %d", limit.name, limit.value, limit.least, limit.most)
		}
	}
	return t.Service.check()
}

// enter notes a box by its name.
func (c *Containers) enter(b *box) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[b.task.Name] != nil {
		return fmt.Errorf("executor: a container named %.80q runs already", b.task.Name)
	}
	c.running[b.task.Name] = b
	return nil
}

func (c *Containers) leave(b *box) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, b.task.Name)
}

// found returns the box of a running container.
func (c *Containers) found(name string) *box {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[name]
}

// runtime returns a command of the OCI runtime, with its own state below this
// executor's directory.
func (c *Containers) runtime(args ...string) *exec.Cmd {
	cmd := exec.Command(c.config.Runtime, append([]string{"--root", filepath.Join(c.dir, "state")}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")} // the agent's own environment may have secrets
	return cmd
}

// pollEvery is how often a container's limits are looked at that the kernel
// does not end it for.
const pollEvery = 20 * time.Millisecond

// Close removes what the executor keeps outside of Dir. Runs must have ended.
func (c *Containers) Close() error {
	all := group{hierarchy: c.groups, path: c.groupPath}
	if err := errors.Join(all.remove(), os.RemoveAll(c.dir)); err != nil {
		return fmt.Errorf("executor: closing the containers: %w", err)
	}
	return nil
}
