package executor

import (
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

	"golang.org/x/sys/unix"
)

// execution is a command that is run in a container.
type execution struct {
	run     *running
	file    string // of the process, which others beside it are named after
	group   group  // below the container's, of the command and all that it starts
	cmd     *exec.Cmd
	closing []io.Closer // the runtime's ends of the command's streams
	early   *early
	copying sync.WaitGroup
}

// maxEarly bounds what is kept back of a stream.
const maxEarly = 64 << 10

// early is the stream that a command and the runtime both write complaints to: what comes
// before the command is known to have begun is kept back, since the runtime's is told as the
// reason why it has not.
type early struct {
	to io.Writer

	mu    sync.Mutex
	kept  []byte
	begun bool
}

// Write implements io.Writer.
func (e *early) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.begun && len(e.kept)+len(p) <= maxEarly {
		e.kept = append(e.kept, p...)
		return len(p), nil
	}
	if err := e.flush(); err != nil {
		return 0, err
	}
	return e.to.Write(p)
}

// release hands on what was kept, and keeps nothing from now on.
func (e *early) release() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flush()
}

// flush is release. The caller holds e.mu.
func (e *early) flush() error {
	e.begun = true
	if len(e.kept) == 0 {
		return nil
	}
	_, err := e.to.Write(e.kept)
	e.kept = nil
	return err
}

// exec runs a command in the container. The runtime puts it into the
// container's namespaces and filter, and into a group of its own below the
// container's: what it started ends with it. It ends with the container at the
// latest.
func (r *running) exec(ctx context.Context, task ExecTask) (code int, err error) {
	x, err := r.prepareExec(&task)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, x.remove()) }()
	connect := x.connect
	if task.Terminal != nil {
		connect = x.connectTerminal
	}
	read, err := connect(&task)
	if err != nil {
		return 0, err
	}
	err = x.cmd.Start()
	for _, end := range x.closing {
		err = errors.Join(err, end.Close())
	}
	if err != nil {
		for _, f := range read {
			err = errors.Join(err, f.Close())
		}
		return 0, fmt.Errorf("executor: starting the runtime: %w", err)
	}
	x.handOn(read, &task)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		x.end()
		for _, f := range read { // whoever takes the output may wait for ever
			if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				r.box.owner.config.Log.Error("executor: closing the output of a command", "error", err)
			}
		}
	})
	waited := make(chan struct{})
	x.copying.Go(func() { x.follow(waited) })
	err = x.cmd.Wait()
	close(waited)
	x.end()
	x.copying.Wait()
	if !stop() {
		<-ended
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return x.exitCode(err)
}

// prepareExec writes what the runtime needs to know of a command.
func (r *running) prepareExec(task *ExecTask) (*execution, error) {
	how := r.box.process(task.Command)
	if terminal := task.Terminal; terminal != nil {
		how.Terminal, how.Env = true, withTerm(how.Env, terminal.Type)
		how.ConsoleSize = &ociConsoleSize{Height: terminal.Rows, Width: terminal.Columns}
	}
	process, err := json.Marshal(how)
	if err != nil {
		return nil, fmt.Errorf("executor: writing a process: %w", err)
	}
	f, err := os.CreateTemp(r.box.dir, "exec-")
	if err != nil {
		return nil, fmt.Errorf("executor: writing a process: %w", err)
	}
	x := &execution{run: r, file: f.Name(), group: r.group.below(filepath.Base(f.Name()))}
	_, err = f.Write(process)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("executor: writing a process: %w", err), x.remove())
	}
	if err := x.group.make(); err != nil {
		return nil, errors.Join(notRunning(err, r.box.task.Name), x.remove())
	}
	args := []string{"--log", x.file + ".log", "--log-format", "json", "exec", "--process", x.file, "--pid-file", x.file + ".pid", "--cgroup", x.group.runtimeName(), r.id}
	x.cmd = r.box.owner.runtime(args...)
	return x, nil
}

// notRunning makes of a group that is gone what it means.
func notRunning(err error, name string) error {
	if isNotExist(err) {
		return fmt.Errorf("%w: %.80q has not begun, or has ended", ErrNotRunning, name)
	}
	return err
}

// connect gives the runtime pipes, and returns this side's ends of the output.
func (x *execution) connect(task *ExecTask) (read []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range read {
				err = errors.Join(err, f.Close())
			}
			for _, f := range x.closing {
				err = errors.Join(err, f.Close())
			}
			err = fmt.Errorf("executor: making a pipe: %w", err)
		}
	}()
	for _, to := range []*io.Writer{&x.cmd.Stdout, &x.cmd.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return read, err
		}
		read, x.closing, *to = append(read, r), append(x.closing, w), w
	}
	stdin := task.Stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	in, err := x.cmd.StdinPipe()
	if err != nil {
		return read, err
	}
	// Wait closes the pipe; whoever is asked for input may never answer.
	log := x.run.box.owner.config.Log
	go func() {
		_, copied := io.Copy(in, stdin)
		if err := errors.Join(copied, in.Close()); err != nil {
			log.Debug("executor: the input of a command ended", "error", err)
		}
	}()
	return read, nil
}

// handOn begins to hand on what comes from the command's streams, to the last of which the
// runtime writes as well.
func (x *execution) handOn(read []*os.File, task *ExecTask) {
	for i, from := range read {
		to := []io.Writer{task.Stdout, task.Stderr}[i]
		if to == nil {
			to = io.Discard
		}
		if i == len(read)-1 {
			x.early = &early{to: to}
			to = x.early
		}
		x.copying.Go(func() { x.copy(to, from) })
	}
}

// copy hands on what the command writes, for as long as somebody takes it.
func (x *execution) copy(to io.Writer, from *os.File) {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
	if closeErr := from.Close(); closeErr != nil && !errors.Is(closeErr, os.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, unix.EIO) { // EIO: everybody has left the terminal
		x.run.box.owner.config.Log.Debug("executor: the output of a command ended", "error", err)
	}
}

// end ends the command, if it runs, and all that it started. The runtime ends
// after its command; one that has not come so far is ended too.
func (x *execution) end() {
	err := x.group.kill()
	if killErr := x.cmd.Process.Kill(); !errors.Is(killErr, os.ErrProcessDone) {
		err = errors.Join(err, killErr)
	}
	// Between the two it may have put a command into the group.
	if err := errors.Join(err, x.group.kill()); err != nil {
		x.run.box.owner.config.Log.Error("executor: ending a command", "error", err)
	}
}

// follow ends what the command has left behind once it has ended itself: the
// runtime waits for whoever holds its streams.
func (x *execution) follow(waited <-chan struct{}) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	fd := -1
	for {
		select {
		case <-waited:
		case <-tick.C:
			var gone bool
			if fd < 0 {
				if fd, gone = x.openProcess(); fd >= 0 || gone {
					x.copying.Go(x.hasBegun)
				}
			}
			if !gone && !hasEnded(fd) {
				continue
			}
			if err := x.group.kill(); err != nil {
				x.run.box.owner.config.Log.Error("executor: ending what a command left", "error", err)
			}
		}
		if fd >= 0 {
			if err := unix.Close(fd); err != nil {
				panic(fmt.Sprintf("executor: closing a process's descriptor: %v", err))
			}
		}
		return
	}
}

// hasBegun hands on what the command wrote until it was known to have begun, which its
// consumer may not take for long.
func (x *execution) hasBegun() {
	if err := x.early.release(); err != nil {
		x.run.box.owner.config.Log.Debug("executor: the output of a command ended", "error", err)
	}
}

// openProcess returns a descriptor of the command's process, or -1 if it has not
// begun or is gone.
func (x *execution) openProcess() (fd int, gone bool) {
	data, err := os.ReadFile(x.file + ".pid")
	if err != nil {
		return -1, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return -1, false // half written
	}
	fd, err = unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, errors.Is(err, unix.ESRCH)
	}
	return fd, false
}

// hasEnded reports whether the process of a descriptor has.
func hasEnded(fd int) bool {
	if fd < 0 {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// exitCode is what the end of the runtime means.
func (x *execution) exitCode(err error) (int, error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		x.hasBegun()
		return 0, nil
	case !ok:
		return 0, fmt.Errorf("executor: running a command: %w", err)
	}
	if said := complaintIn(x.file + ".log"); said != "" {
		if strings.Contains(said, "does not exist") || strings.Contains(said, "stopped container") {
			return 0, fmt.Errorf("%w: %.80q has not begun, or has ended", ErrNotRunning, x.run.box.task.Name)
		}
		return 0, refusef("the command cannot be run: %s", said)
	}
	x.hasBegun() // and ended before that was seen
	if code := exit.ExitCode(); code >= 0 {
		return code, nil
	}
	return 128 + int(unix.SIGKILL), nil // the runtime was ended with the container
}

// remove removes the command's group and files. No process of it is left.
func (x *execution) remove() error {
	failures := []error{x.group.remove()}
	for _, name := range []string{x.file, x.file + ".log", x.file + ".pid"} {
		if err := os.Remove(name); err != nil && !isNotExist(err) {
			failures = append(failures, fmt.Errorf("executor: removing a command: %w", err))
		}
	}
	return errors.Join(failures...)
}
