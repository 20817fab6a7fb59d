package executor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// running is one life of a container: the process that the runtime started and
// the group that holds everything it makes.
type running struct {
	box   *box
	id    string
	group group
	cmd   *exec.Cmd
	pid   int       // of the container's first process, as this machine sees it; 0: not yet
	begun time.Time // once pid is set

	// The first of these to be set ends it.
	status Status
	detail string
}

// setupTime is how long the runtime may take until a program begins.
const setupTime = time.Minute

// excessiveForks is how many refused forks and threads end a container: a
// program that counts on them gives up long before.
const excessiveForks = 1_000

// logMeter counts what a container writes, both streams together.
type logMeter struct {
	mu   sync.Mutex
	used uint64
	over bool
}

// take counts n bytes and returns how many of them are within the limit.
func (l *logMeter) take(n int, limit uint64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := min(uint64(n), limit-l.used)
	l.used += most
	l.over = l.over || most < uint64(n)
	return int(most)
}

func (l *logMeter) state() (used uint64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used, l.over
}

// live runs the container, again and again if it is a service, and collects
// /out. The error is a *refusal of what could not begin, the context's cause if
// it ended before, or the machine's.
func (b *box) live(ctx context.Context) error {
	wall, cancel := context.WithTimeoutCause(ctx, setupTime+b.task.Limits.WallTime, errWallTime)
	defer cancel()
	s := &b.task.Service
	for restarts := uint64(0); ; restarts++ {
		r, err := b.once(wall)
		if err != nil {
			return err
		}
		b.end.Status, b.end.Detail = r.status, r.detail
		if !s.again(r.status, restarts) {
			break
		}
		b.owner.config.Log.Info("executor: a service is begun again", "name", b.task.Name, "status", r.status.String(), "restarts", restarts+1)
		if !b.pause(wall, restarts) {
			break
		}
	}
	b.leaseEnds(ctx)
	return b.collect()
}

// once runs the container once.
func (b *box) once(ctx context.Context) (r *running, err error) {
	id := fmt.Sprintf("%s-%d", filepath.Base(b.dir), time.Now().UnixNano())
	r = &running{box: b, id: id, group: group{hierarchy: b.owner.groups, path: filepath.Join(b.owner.groupPath, id)}}
	config, err := json.Marshal(b.spec(r.group.path))
	if err == nil {
		err = os.WriteFile(b.path("config.json"), config, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("executor: writing a bundle: %w", err)
	}
	begun := r // the result is nil after an error
	defer func() { err = errors.Join(err, begun.remove()) }()
	r.cmd = b.owner.runtime("--log", b.path("runtime.log"), "--log-format", "json", "run", "--keep", "--bundle", b.dir, "--pid-file", b.path("pid"), id)
	r.cmd.WaitDelay = killPatience
	var logs sync.WaitGroup
	ends, err := r.pipes(&logs)
	if err != nil {
		return nil, err
	}
	err = r.cmd.Start()
	for _, f := range ends {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		logs.Wait()
		return nil, fmt.Errorf("executor: starting the runtime: %w", err)
	}
	b.setRun(r)
	err = r.watch(ctx)
	b.setRun(nil)
	logs.Wait()
	if err != nil {
		return nil, err
	}
	return r, r.conclude(ctx)
}

func (b *box) setRun(r *running) {
	b.owner.mu.Lock()
	defer b.owner.mu.Unlock()
	b.run = r
}

// pipes connects the container's output, and returns the ends that belong to
// it.
func (r *running) pipes(logs *sync.WaitGroup) (ends []*os.File, err error) {
	for _, stream := range []struct {
		at *io.Writer
		to io.Writer
	}{{&r.cmd.Stdout, r.box.task.Stdout}, {&r.cmd.Stderr, r.box.task.Stderr}} {
		read, write, err := os.Pipe()
		if err != nil {
			for _, f := range ends {
				err = errors.Join(err, f.Close())
			}
			return nil, fmt.Errorf("executor: making a pipe: %w", err)
		}
		*stream.at = write
		ends = append(ends, write)
		logs.Go(func() { r.follow(read, stream.to) })
	}
	return ends, nil
}

// follow hands on what the container writes, up to its limit, and reads on
// beyond it, so that it is the limit that ends it and not a full pipe.
func (r *running) follow(from *os.File, to io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if keep := r.box.log.take(n, r.box.task.Limits.LogBytes); keep > 0 && to != nil {
			if _, err := to.Write(buf[:keep]); err != nil {
				r.box.owner.config.Log.Error("executor: handing on a log", "error", err)
				to = nil
			}
		}
		if err != nil {
			break
		}
	}
	if err := from.Close(); err != nil {
		r.box.owner.config.Log.Error("executor: closing a log", "error", err)
	}
}

// watch looks after the container until the runtime has ended, and ends it at
// the limits that the kernel does not hold. On return no process of it is left.
func (r *running) watch(ctx context.Context) error {
	// How it ended is in cmd.ProcessState; that it ended badly is no error here.
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		if err := r.cmd.Wait(); err != nil {
			r.box.owner.config.Log.Debug("executor: the runtime ended", "error", err)
		}
	}()
	health := r.box.newHealth()
	defer health.stop()
	tick := time.NewTicker(pollEvery / 4)
	defer tick.Stop()
	var wall <-chan time.Time
	for {
		select {
		case <-waited:
			r.noticeStart()
			r.finishTime()
			return r.settle()
		case <-wall:
			r.stop(StatusTimedOut, fmt.Sprintf("limit wall_time of %v reached", r.box.task.Limits.WallTime))
		case <-ctx.Done():
			r.interrupted(ctx)
		case ill := <-health.failed:
			r.stop(StatusExited, ill)
		case <-tick.C:
			if r.noticeStart() {
				tick.Reset(pollEvery)
				timer := time.NewTimer(r.wallLeft())
				defer timer.Stop()
				wall = timer.C
				health.start(r)
			}
			if err := r.inspect(); err != nil {
				r.stop(StatusCancelled, err.Error())
				return errors.Join(err, r.drain(waited))
			}
		}
		if r.status != 0 {
			r.finishTime()
			return errors.Join(r.drain(waited), r.settle())
		}
	}
}

// drain ends every process of the container and waits for the runtime.
func (r *running) drain(waited <-chan struct{}) error {
	if err := r.group.kill(); err != nil {
		return err
	}
	select {
	case <-waited:
		return nil
	case <-time.After(killPatience):
	}
	// It has not put a process into the group yet, or hangs.
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("executor: ending the runtime: %w", err)
	}
	<-waited
	return r.group.kill()
}

// stop notes how the container ends. The first reason stands.
func (r *running) stop(status Status, detail string) {
	if r.status == 0 {
		r.status, r.detail = status, clip(detail)
	}
}

func (r *running) interrupted(ctx context.Context) {
	if errors.Is(context.Cause(ctx), errWallTime) {
		r.stop(StatusTimedOut, fmt.Sprintf("limit wall_time of %v reached", r.box.task.Limits.WallTime))
		return
	}
	r.stop(StatusCancelled, context.Cause(ctx).Error())
}

// noticeStart reports whether the program has begun since the last call: the
// runtime has then noted the number of its first process.
func (r *running) noticeStart() bool {
	if r.pid != 0 {
		return false
	}
	path := r.box.path("pid")
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return false // half written
	}
	r.pid, r.begun = pid, info.ModTime()
	return true
}

// wallLeft is what is left of the container's time.
func (r *running) wallLeft() time.Duration {
	return max(r.box.task.Limits.WallTime-time.Duration(r.box.usage.WallMillis)*time.Millisecond-time.Since(r.begun), 0)
}

func (r *running) finishTime() {
	if r.pid != 0 {
		r.box.usage.WallMillis += max(millis(time.Since(r.begun)), 1)
	}
}

// inspect compares what the container did with its limits.
func (r *running) inspect() error {
	b := r.box
	if err := b.measure(); err != nil {
		return err
	}
	if what := b.exceeded(); what != "" {
		r.stop(StatusOutputLimit, what)
	}
	if _, over := b.log.state(); over {
		r.stop(StatusOutputLimit, fmt.Sprintf("limit log_bytes of %d reached", b.task.Limits.LogBytes))
	}
	hits, err := r.group.refusedForks()
	if err != nil {
		return fmt.Errorf("executor: reading a group: %w", err)
	}
	if hits >= excessiveForks {
		r.stop(StatusOutOfProcesses, fmt.Sprintf("limit processes of %d reached, %d times", b.task.Processes, hits))
	}
	return nil
}

// settle ends what is left of the container, and reads what it used.
func (r *running) settle() error {
	if err := r.group.kill(); err != nil {
		return err
	}
	b := r.box
	used := r.group.usage()
	b.usage.CPUMillis += millis(used.cpu)
	b.usage.PeakMemoryBytes = max(b.usage.PeakMemoryBytes, min(used.peakMemory, b.task.Limits.MemoryBytes))
	b.usage.IOBytes += used.io
	if err := b.measure(); err != nil {
		return err
	}
	if what := b.exceeded(); what != "" {
		r.stop(StatusOutputLimit, what)
	}
	logged, over := b.log.state()
	b.usage.LogBytes = logged
	if over {
		r.stop(StatusOutputLimit, fmt.Sprintf("limit log_bytes of %d reached", b.task.Limits.LogBytes))
	}
	return nil
}

// conclude works out the status of a container that ended, from the code of its
// first process and the counters of the group.
func (r *running) conclude(ctx context.Context) error {
	used := r.group.usage()
	code := r.cmd.ProcessState.ExitCode()
	said := r.complaint()
	switch {
	case r.status != 0:
	case used.oomKills > 0 && code != 0:
		r.stop(StatusOutOfMemory, fmt.Sprintf("limit memory_bytes of %d reached, then: %s", r.box.task.Limits.MemoryBytes, ending(code)))
	case said != "":
		return r.failedToStart(ctx, said)
	case code != 0 && used.pidsHits > 0:
		r.stop(StatusOutOfProcesses, fmt.Sprintf("limit processes of %d reached, then: %s", r.box.task.Processes, ending(code)))
	case code == 0:
		r.stop(StatusOK, "")
	case code == 128+cpuSignal:
		r.stop(StatusTimedOut, fmt.Sprintf("a process used %d s of processor time", r.box.cpuSeconds()))
	default:
		r.stop(StatusExited, "")
		if code > 128 {
			r.detail = ending(code)
		}
	}
	if code > 0 && r.status == StatusExited {
		r.box.end.ExitCode = uint32(code)
	} else {
		r.box.end.ExitCode = 0
	}
	return nil
}

// cpuSignal is SIGXCPU.
const cpuSignal = 24

func ending(code int) string {
	if code > 128 {
		return fmt.Sprintf("exit code %d, as of signal %d", code, code-128)
	}
	return fmt.Sprintf("exit code %d", code)
}

// failedToStart tells an image's fault from the machine's.
func (r *running) failedToStart(ctx context.Context, said string) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case strings.Contains(said, "memory limit too low"):
		r.stop(StatusOutOfMemory, fmt.Sprintf("limit memory_bytes of %d reached before the program began", r.box.task.Limits.MemoryBytes))
		return nil
	case strings.Contains(said, "exec: ") || strings.Contains(said, "exec "+r.box.args[0]) || strings.Contains(said, "chdir to cwd"):
		return refusef("image cannot run %.64q: %s", r.box.args[0], said)
	}
	return fmt.Errorf("executor: the runtime failed: %s", said)
}

// complaint returns the last error that the runtime wrote into its log.
func (r *running) complaint() string { return complaintIn(r.box.path("runtime.log")) }

func complaintIn(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	last := ""
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	if err := errors.Join(lines.Err(), f.Close()); err != nil {
		return "its log cannot be read: " + err.Error()
	}
	return last
}

// remove has the runtime forget the container, and removes its group.
func (r *running) remove() error {
	if err := r.group.kill(); err != nil {
		return err
	}
	said, err := r.box.owner.runtime("delete", "--force", r.id).CombinedOutput()
	if err != nil && !strings.Contains(string(said), "does not exist") {
		return fmt.Errorf("executor: removing a container: %w: %s", err, said)
	}
	for _, name := range []string{"pid", "runtime.log"} {
		if err := os.Remove(r.box.path(name)); err != nil && !isNotExist(err) {
			return fmt.Errorf("executor: removing a container: %w", err)
		}
	}
	return r.group.remove()
}
