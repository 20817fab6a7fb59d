package devnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process says how one member of the network is started.
type Process struct {
	Role  string   // validator, nexus, agent, relay or explorer
	Index int      // within the role, from 0
	Home  string   // its directory; its output goes to process.log there
	Args  []string // of this same binary
}

// Running is a process as it stands now. PID is 0 while it is down.
type Running struct {
	Role  string `json:"role"`
	Index int    `json:"index"`
	PID   int    `json:"pid"`
	Home  string `json:"home"`
}

// Restarts of a process that keeps dying wait twice as long each time.
const (
	firstBackoff  = 100 * time.Millisecond
	longestWait   = 5 * time.Second
	healthyAfter  = 20 * time.Second // a life this long resets the backoff
	stopGrace     = 10 * time.Second // from SIGTERM to SIGKILL
	processLog    = "process.log"
	maxProcessLog = 64 << 20 // a longer log is cut when its process starts
)

// Supervisor runs processes, restarts those that die unless told not to, and
// ends all of them when its context ends. A child also dies with its
// supervisor, however that ends.
type Supervisor struct {
	binary    string
	noRestart bool
	log       *slog.Logger
	onChange  func()

	mu      sync.Mutex
	running []*Running
	spawn   chan spawnRequest
	spawned chan struct{} // closed when the spawner has ended
	wg      sync.WaitGroup
}

type spawnRequest struct {
	cmd  *exec.Cmd
	done chan error
}

// NewSupervisor returns a supervisor of processes of binary. onChange is called
// after a process came up or went down.
func NewSupervisor(binary string, noRestart bool, log *slog.Logger, onChange func()) *Supervisor {
	s := &Supervisor{
		binary: binary, noRestart: noRestart, log: log, onChange: onChange, spawn: make(chan spawnRequest), spawned: make(chan struct{}),
	}
	go s.spawner()
	return s
}

// Start runs a process until ctx ends.
func (s *Supervisor) Start(ctx context.Context, p Process) {
	state := &Running{Role: p.Role, Index: p.Index, Home: p.Home}
	s.mu.Lock()
	s.running = append(s.running, state)
	s.mu.Unlock()
	s.wg.Add(1)
	go s.keep(ctx, p, state)
}

// Wait returns when every process is gone, after which none can be started.
func (s *Supervisor) Wait() {
	s.wg.Wait()
	close(s.spawn)
	<-s.spawned
}

// Running returns the processes as they stand now.
func (s *Supervisor) Running() []Running {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Running, len(s.running))
	for i, r := range s.running {
		out[i] = *r
	}
	return out
}

// spawner starts every child from one thread that lives as long as the
// supervisor: the kernel sends a child its parent-death signal when the thread
// that made it ends (prctl(2), PR_SET_PDEATHSIG).
func (s *Supervisor) spawner() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.spawned)
	for req := range s.spawn {
		req.done <- req.cmd.Start()
	}
}

// keep runs one process until ctx ends, or until it dies if restarts are off.
func (s *Supervisor) keep(ctx context.Context, p Process, state *Running) {
	defer s.wg.Done()
	wait := firstBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := s.once(ctx, p, state)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("process ended", "role", p.Role, "index", p.Index, "error", err, "log", filepath.Join(p.Home, processLog))
		if s.noRestart {
			return
		}
		if time.Since(began) > healthyAfter {
			wait = firstBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, longestWait)
	}
}

// once starts the process and waits for its end.
func (s *Supervisor) once(ctx context.Context, p Process, state *Running) (err error) {
	out, err := openLog(filepath.Join(p.Home, processLog))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cmd := exec.Command(s.binary, p.Args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	req := spawnRequest{cmd: cmd, done: make(chan error, 1)}
	s.spawn <- req
	if err := <-req.done; err != nil {
		return fmt.Errorf("starting %s %d: %w", p.Role, p.Index, err)
	}
	s.setPID(state, cmd.Process.Pid)
	defer s.setPID(state, 0)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return s.stop(cmd, p, ended)
	}
}

// stop asks the process to end, and insists after a grace.
func (s *Supervisor) stop(cmd *exec.Cmd, p Process, ended <-chan error) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("cannot signal", "role", p.Role, "index", p.Index, "error", err)
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(stopGrace):
		s.log.Warn("process does not end; killing it", "role", p.Role, "index", p.Index)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("killing %s %d: %w", p.Role, p.Index, err)
		}
		return <-ended
	}
}

func (s *Supervisor) setPID(state *Running, pid int) {
	s.mu.Lock()
	state.PID = pid
	s.mu.Unlock()
	s.onChange()
}

func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxProcessLog {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the process's log: %w", err)
	}
	return f, nil
}
