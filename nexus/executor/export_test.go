package executor

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// MemoryDigest is memoryDigest.
var MemoryDigest = memoryDigest

// ReadRequest is what a helper reads.
func ReadRequest(in io.Reader) error {
	_, _, err := readRequest(in)
	return err
}

// Left returns what the executor has on the machine: groups, mounts and boxes.
func (c *Containers) Left() (groups, mounts, boxes []string, err error) {
	left, err := c.groups.children(c.groupPath)
	for _, g := range left {
		groups = append(groups, g.path)
	}
	info, readErr := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		if strings.Contains(line, " "+c.dir+"/") {
			mounts = append(mounts, line)
		}
	}
	boxes, globErr := filepath.Glob(filepath.Join(c.dir, "box-*"))
	return groups, mounts, boxes, errors.Join(err, readErr, globErr)
}

// UnpackImage makes dir an image's root file system, owned by whoever calls.
func UnpackImage(in io.ReadSeeker, dir string, limit uint64) error {
	_, _, err := unpackImage(in, dir, limit, os.Getuid())
	return err
}

// IsRefusal reports whether an error is the fault of the work.
func IsRefusal(err error) bool {
	_, ok := errors.AsType[*refusal](err)
	return ok
}

// GroupUsage reads a group below a made-up hierarchy.
func GroupUsage(mountinfo, path string) (cpuMicros, memory, io, ooms, forks uint64, err error) {
	c, err := findCgroups(mountinfo)
	if err != nil {
		return 0, 0, 0, 0, 0, err
	}
	u := (&group{hierarchy: c, path: path}).usage()
	return uint64(u.cpu.Microseconds()), u.peakMemory, u.io, u.oomKills, u.pidsHits, nil
}

// Group is a control group of a hierarchy of version 2.
type Group struct{ group }

// UnifiedGroup returns a group below a mount of version 2, and makes it.
func UnifiedGroup(mount, path string) (Group, error) {
	g := Group{group{hierarchy: &cgroups{unified: mount}, path: path}}
	return g, g.group.make()
}

// Below returns a group of a command, and makes it.
func (g Group) Below(name string) (Group, error) {
	b := Group{g.group.below(name)}
	return b, b.group.make()
}

// CPU is what the group used of processors.
func (g Group) CPU() time.Duration { return g.usage().cpu }

// Processes, Kill and Remove are the group's.
func (g Group) Processes() ([]int, error) { return g.processes() }

// Kill ends the group's processes.
func (g Group) Kill() error { return g.kill() }

// Remove removes the group.
func (g Group) Remove() error { return g.remove() }

// Threads run programs at a lower priority.
type Threads struct{ t *threads }

// NewThreads returns threads that give way by so much.
func NewThreads(nice int) Threads { return Threads{newThreads(nice)} }

// Do runs f on one of them.
func (t Threads) Do(f func()) { t.t.do(f) }

// Close ends them.
func (t Threads) Close() { t.t.close() }

// LimitsOf is what the runtime is told of a task's limits, as it reads it, on a machine
// whose kernel can limit memory and swap together, or cannot.
func LimitsOf(task *ContainerTask, limitsSwap bool) (string, error) {
	b := &box{owner: &Containers{limitsSwap: limitsSwap}, task: task, dir: "/run/x"}
	data, err := json.Marshal(b.spec("/hypermesh/x/y").Linux.Resources)
	return string(data), err
}
