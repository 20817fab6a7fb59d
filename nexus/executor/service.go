package executor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Restart says when a service is begun again.
type Restart uint8

// The policies. A batch job ends when its program does; a service lasts until
// Limits.WallTime, which is its good end.
const (
	RestartNone Restart = iota // a batch job
	RestartNever
	RestartOnFailure
	RestartAlways
)

// Service makes a container a service. Its zero value is a batch job.
type Service struct {
	Restart  Restart
	Restarts uint64 // at most so many
	Health   Health
}

// Health is a service's check: Command, run in the container, exits with 0; or
// a connection to Port of its loopback is taken, and with Path a GET answered
// with 200 to 399. Failures in a row end the container, as a failure.
type Health struct {
	Command  []string
	Port     uint16
	Path     string
	Start    time.Duration // before the first
	Interval time.Duration
	Timeout  time.Duration
	Failures uint64
}

func (h *Health) asks() bool { return len(h.Command) > 0 || h.Port != 0 }

func (s *Service) check() error {
	h := &s.Health
	switch {
	case s.Restart > RestartAlways:
		return fmt.Errorf("executor: restart policy %d is unknown", s.Restart)
	case h.asks() && (h.Interval <= 0 || h.Timeout <= 0 || h.Failures == 0):
		return errors.New("executor: a health check wants an interval, a timeout and a number of failures")
	}
	return nil
}

// The pauses before a service is begun again double from the first to the last.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
)

// again reports whether a service that ended so is begun again. What its limits
// ended, but for memory and processes, would be ended by them again.
func (s *Service) again(status Status, restarts uint64) bool {
	if restarts >= s.Restarts {
		return false
	}
	switch status {
	case StatusOK:
		return s.Restart == RestartAlways
	case StatusExited, StatusOutOfMemory, StatusOutOfProcesses:
		return s.Restart == RestartAlways || s.Restart == RestartOnFailure
	case StatusTrapped, StatusOutOfFuel, StatusTimedOut, StatusOutputLimit, StatusCancelled, StatusRefused:
		return false
	}
	return false
}

// pause waits before a restart, and reports whether there is time left for it.
// The wait is the service's wall time too.
func (b *box) pause(ctx context.Context, restarts uint64) bool {
	wait := min(firstBackoff<<min(restarts, 16), lastBackoff)
	b.usage.WallMillis += millis(wait)
	if time.Duration(b.usage.WallMillis)*time.Millisecond >= b.task.Limits.WallTime {
		b.usage.WallMillis = uint64(b.task.Limits.WallTime / time.Millisecond)
		b.end.Status, b.end.Detail = StatusTimedOut, "its time ended before it was begun again"
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		b.end.Status, b.end.Detail = StatusCancelled, context.Cause(ctx).Error()
		return false
	}
}

// leaseEnds makes the end of a service's time a good one.
func (b *box) leaseEnds(ctx context.Context) {
	if b.task.Service.Restart != RestartNone && b.end.Status == StatusTimedOut && ctx.Err() == nil {
		b.end.Status, b.end.Detail = StatusOK, "the service's time ended"
	}
}

// healthCheck asks a running service whether it is well.
type healthCheck struct {
	health *Health
	failed chan string // one message, of the service that failed
	cancel context.CancelFunc
	done   chan struct{} // closed when it no longer asks; nil: it never did
}

func (b *box) newHealth() *healthCheck {
	return &healthCheck{health: &b.task.Service.Health, failed: make(chan string, 1), cancel: func() {}}
}

// start asks r until stop.
func (h *healthCheck) start(r *running) {
	if !h.health.asks() {
		return
	}
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	h.done = make(chan struct{})
	pid := r.pid
	go func() {
		defer close(h.done)
		h.run(ctx, r, pid)
	}()
}

// stop returns once nothing asks any more.
func (h *healthCheck) stop() {
	h.cancel()
	if h.done != nil {
		<-h.done
	}
}

func (h *healthCheck) run(ctx context.Context, r *running, pid int) {
	failures := uint64(0)
	for wait := h.health.Start; ; wait = h.health.Interval {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		err := h.ask(ctx, r, pid)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			continue
		}
		if failures++; failures == h.health.Failures {
			h.failed <- fmt.Sprintf("its health check failed %d times in a row, the last time: %v", failures, err)
			return
		}
	}
}

func (h *healthCheck) ask(ctx context.Context, r *running, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, h.health.Timeout)
	defer cancel()
	if len(h.health.Command) > 0 {
		code, err := r.exec(ctx, ExecTask{Command: h.health.Command})
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d", code)
		}
		return err
	}
	answer := make(chan error, 1)
	deadline := time.Now().Add(h.health.Timeout)
	go func() { answer <- probe(pid, h.health, deadline) }()
	return <-answer // it keeps to the deadline
}

// probe connects to a port of the container's loopback. Its goroutine enters
// the container's network and ends with its thread.
func probe(pid int, h *Health, deadline time.Time) (err error) {
	runtime.LockOSThread() // never unlocked: the thread is of no use to others
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("entering its network: %w", err)
	}
	err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	if err := errors.Join(err, ns.Close()); err != nil {
		return fmt.Errorf("entering its network: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	conn := os.NewFile(uintptr(fd), "health")
	defer func() { err = errors.Join(err, conn.Close()) }()
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(h.Port), Addr: [4]byte{127, 0, 0, 1}})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connecting to port %d: %w", h.Port, err)
	}
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(ready, int(max(time.Until(deadline).Milliseconds(), 0))); err != nil || n == 0 {
		return fmt.Errorf("connecting to port %d took too long", h.Port)
	}
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		return fmt.Errorf("connecting to port %d: %w", h.Port, unix.Errno(code))
	}
	if h.Path == "" {
		return nil
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	return get(conn, h.Path)
}

// maxHeader bounds the answer to a health check that is read.
const maxHeader = 64 << 10

func get(conn io.ReadWriter, path string) error {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: hypermesh\r\nConnection: close\r\n\r\n", path); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHeader)), nil)
	if err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	if err := answer.Body.Close(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("its answer: %w", err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return fmt.Errorf("it answered %s", clip(answer.Status))
	}
	return nil
}

// ExecTask is a command to run in a container that runs.
type ExecTask struct {
	Command []string
	Stdin   io.Reader // nil: empty
	Stdout  io.Writer // nil: discarded
	Stderr  io.Writer
	// Terminal, if there is one, is what the command's three streams are together:
	// Stdin is typed into it, Stdout gets what it shows, and Stderr nothing.
	Terminal *Terminal
}

// Terminal is one that a command is run in.
type Terminal struct {
	Type          string // the command's TERM
	Columns, Rows uint16
	Resized       <-chan [2]uint16 // columns and rows, whenever they change; closed by the caller after Exec, or nil
}

// ErrNotRunning says that no container of that name runs now.
var ErrNotRunning = errors.New("executor: no such container runs")

// Exec runs a command in the container of a Run with that name, within its
// limits and its sandbox, and returns the exit code. It is killed when ctx ends
// or the container does.
func (c *Containers) Exec(ctx context.Context, name string, task ExecTask) (code int, err error) {
	if len(task.Command) == 0 {
		return 0, errors.New("executor: no command")
	}
	if err := checkVector("command", task.Command, 0); err != nil {
		return 0, err
	}
	b := c.found(name)
	if b == nil {
		return 0, fmt.Errorf("%w: %.80q has not begun, or has ended", ErrNotRunning, name)
	}
	c.mu.Lock()
	r := b.run
	c.mu.Unlock()
	if r == nil {
		return 0, fmt.Errorf("%w: %.80q is between two runs", ErrNotRunning, name)
	}
	task.Command = slices.Clone(task.Command)
	return r.exec(ctx, task)
}
