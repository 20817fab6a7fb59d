package executor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroups is the machine's hierarchy of control groups: one (version 2), or one
// for each controller (version 1; also in a hybrid layout, in which the unified
// hierarchy has no controllers). The runtime makes groups and sets their limits;
// here they are read, killed and removed.
type cgroups struct {
	unified string            // where version 2 is, if it has the controllers
	mounts  map[string]string // version 1: controller → directory
	hybrid  string            // where version 2 is beside version 1, without controllers: the runtime makes groups there too
}

// wanted are the controllers without which limits do not hold.
var wanted = []string{"cpu", "memory", "pids"}

// group is the control group of a container, or of a command below one.
type group struct {
	hierarchy *cgroups
	path      string // below each root, with a slash first
	command   bool   // it serves to find processes: of version 1 it is in the hierarchy of pids alone
}

// below returns the group of a command in a container's.
func (g *group) below(name string) group {
	return group{g.hierarchy, filepath.Join(g.path, name), true}
}

// dirs returns the group's directories.
func (g *group) dirs() []string {
	if g.command {
		return []string{filepath.Dir(g.file("pids", "cgroup.procs"))}
	}
	return g.hierarchy.dirs(g.path)
}

// make makes the group of a command. It is fs.ErrNotExist if the container's is
// not there.
func (g *group) make() error {
	for _, dir := range g.dirs() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("executor: making a group: %w", err)
		}
	}
	return nil
}

// runtimeName is the group of a command as runc's exec takes it.
func (g *group) runtimeName() string {
	if g.hierarchy.unified != "" {
		return filepath.Base(g.path)
	}
	return "pids:" + filepath.Base(g.path)
}

// groupUsage is what a group used, and how often a limit was hit.
type groupUsage struct {
	cpu        time.Duration
	peakMemory uint64
	io         uint64 // bytes read and written
	oomKills   uint64
	pidsHits   uint64
}

// findCgroups reads the layout from a mount table, as /proc/self/mountinfo has
// it (proc(5)). The error names the controller that is missing.
func findCgroups(mountinfo string) (*cgroups, error) {
	c := &cgroups{mounts: map[string]string{}}
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, super := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(super) < 3 {
			continue
		}
		switch super[0] {
		case "cgroup2":
			if list, err := os.ReadFile(filepath.Join(fields[4], "cgroup.controllers")); err == nil && lacks(strings.Fields(string(list))) == "" {
				c.unified = fields[4]
			} else if err == nil && c.hybrid == "" {
				c.hybrid = fields[4]
			}
		case "cgroup":
			for option := range strings.SplitSeq(super[2], ",") {
				if _, known := c.mounts[option]; !known {
					c.mounts[option] = fields[4]
				}
			}
		}
	}
	if c.unified != "" {
		return c, nil
	}
	have := []string{}
	for name := range c.mounts {
		have = append(have, name)
	}
	if missing := lacks(have); missing != "" {
		return nil, fmt.Errorf("executor: no control group controller %s", missing)
	}
	if c.mounts["cpuacct"] == "" {
		return nil, errors.New("executor: no control group controller cpuacct")
	}
	return c, nil
}

// lacks returns the first wanted controller that is not in a list.
func lacks(have []string) string {
	for _, name := range wanted {
		if !slices.Contains(have, name) {
			return name
		}
	}
	return ""
}

// dirs returns the directories of a path, one in each hierarchy.
func (c *cgroups) dirs(path string) []string {
	if c.unified != "" {
		return []string{filepath.Join(c.unified, path)}
	}
	var out []string
	if c.hybrid != "" {
		out = append(out, filepath.Join(c.hybrid, path))
	}
	for _, root := range c.mounts {
		if dir := filepath.Join(root, path); !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return out
}

// file returns where a controller has a file of the group.
func (g *group) file(controller, name string) string {
	if g.hierarchy.unified != "" {
		return filepath.Join(g.hierarchy.unified, g.path, name)
	}
	return filepath.Join(g.hierarchy.mounts[controller], g.path, name)
}

// number reads a file that holds one number, or 0 if there is none: a kernel
// may lack what is only reported.
func (g *group) number(controller, name string) uint64 {
	data, err := os.ReadFile(g.file(controller, name))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64) // "max" counts as none
	return n
}

// keyed reads the number after a key in a file of lines.
func (g *group) keyed(controller, name, key string) uint64 {
	data, err := os.ReadFile(g.file(controller, name))
	if err != nil {
		return 0
	}
	total := uint64(0)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		for i, f := range fields {
			if f == key && i+1 < len(fields) {
				n, _ := strconv.ParseUint(fields[i+1], 10, 64)
				total += n
			} else if rest, ok := strings.CutPrefix(f, key+"="); ok {
				n, _ := strconv.ParseUint(rest, 10, 64)
				total += n
			}
		}
	}
	return total
}

// usage reads what the group used.
func (g *group) usage() groupUsage {
	if g.hierarchy.unified != "" {
		return groupUsage{
			cpu:        time.Duration(g.keyed("cpu", "cpu.stat", "usage_usec")) * time.Microsecond,
			peakMemory: g.number("memory", "memory.peak"),
			io:         g.keyed("io", "io.stat", "rbytes") + g.keyed("io", "io.stat", "wbytes"),
			oomKills:   g.keyed("memory", "memory.events", "oom_kill"),
			pidsHits:   g.keyed("pids", "pids.events", "max"),
		}
	}
	io := uint64(0)
	if g.hierarchy.mounts["blkio"] != "" {
		io = g.keyed("blkio", "blkio.throttle.io_service_bytes", "Read") + g.keyed("blkio", "blkio.throttle.io_service_bytes", "Write")
	}
	return groupUsage{
		cpu:        time.Duration(g.number("cpuacct", "cpuacct.usage")),
		peakMemory: g.number("memory", "memory.max_usage_in_bytes"),
		io:         io,
		oomKills:   g.keyed("memory", "memory.oom_control", "oom_kill"),
		pidsHits:   g.keyed("pids", "pids.events", "max"),
	}
}

// killPatience is how long the processes of a group may take to be gone.
const killPatience = 10 * time.Second

// kill ends every process of the group, and returns once they are gone. It
// forbids new ones first, so that none is forked faster than they end.
func (g *group) kill() error {
	for _, forbid := range []struct{ file, value string }{{"cgroup.kill", "1"}, {"pids.max", "0"}} {
		// Of version 2 the first does it all, in kernels from 5.14 on, and a
		// command's group lacks the second, which then is its container's.
		if err := setFile(g.file("pids", forbid.file), forbid.value); err != nil {
			return fmt.Errorf("executor: ending a container: %w", err)
		}
	}
	for until := time.Now().Add(killPatience); ; {
		pids, err := g.processes()
		if err != nil {
			return fmt.Errorf("executor: ending a container: %w", err)
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("executor: ending process %d: %w", pid, err)
			}
		}
		if time.Now().After(until) {
			return fmt.Errorf("executor: %d processes of group %s live %v after they were killed", len(pids), g.path, killPatience)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// setFile writes a value into a file, if it is there.
func setFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if errors.Is(err, syscall.ENODEV) { // the group was removed meanwhile
		err = nil
	}
	return errors.Join(err, f.Close())
}

// subgroups lists the directories of the groups of commands below one of the
// container's. It is empty if there is none.
func subgroups(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if isNotExist(err) || errors.Is(err, syscall.ENODEV) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, err
}

// processes lists the processes of the group and those below it, but for those
// that are dead and not waited for.
func (g *group) processes() ([]int, error) {
	dir := filepath.Dir(g.file("pids", "cgroup.procs"))
	below, err := subgroups(dir)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range append(below, dir) {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if isNotExist(err) || errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for text := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(text)
			if err != nil {
				return nil, fmt.Errorf("cgroup.procs has %q", text)
			}
			if pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// refusedForks counts how often the limit of processes was hit in the group and
// below it: kernels count where the fork was.
func (g *group) refusedForks() (uint64, error) {
	hits := g.keyed("pids", "pids.events", "max")
	below, err := subgroups(filepath.Dir(g.file("pids", "cgroup.procs")))
	for _, dir := range below {
		hits += (&group{g.hierarchy, filepath.Join(g.path, filepath.Base(dir)), true}).keyed("pids", "pids.events", "max")
	}
	return hits, err
}

// remove removes the group's directories, which have no processes any more.
func (g *group) remove() error {
	var failures []error
	var dirs []string
	for _, dir := range g.dirs() {
		below, err := subgroups(dir)
		if err != nil {
			failures = append(failures, fmt.Errorf("executor: listing groups: %w", err))
		}
		dirs = append(append(dirs, below...), dir)
	}
	for _, dir := range dirs {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			failures = append(failures, fmt.Errorf("executor: removing group %s: %w", dir, err))
		}
	}
	return errors.Join(failures...)
}

// children returns the groups directly below a path, which may not exist.
func (c *cgroups) children(path string) ([]group, error) {
	var out []group
	for _, dir := range c.dirs(path) {
		entries, err := os.ReadDir(dir)
		if isNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("executor: listing control groups: %w", err)
		}
		for _, e := range entries {
			g := group{hierarchy: c, path: filepath.Join(path, e.Name())}
			if e.IsDir() && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out, nil
}
