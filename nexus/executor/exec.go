package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// exec runs a command in the container. The runtime puts it into the
// container's group, namespaces and filter; it ends with them at the latest.
func (r *running) exec(ctx context.Context, task ExecTask) (code int, err error) {
	process, err := json.Marshal(r.box.process(task.Command))
	if err != nil {
		return 0, fmt.Errorf("executor: writing a process: %w", err)
	}
	f, err := os.CreateTemp(r.box.dir, "exec-")
	if err != nil {
		return 0, fmt.Errorf("executor: writing a process: %w", err)
	}
	pidFile, logFile := f.Name()+".pid", f.Name()+".log"
	defer func() {
		for _, name := range []string{f.Name(), pidFile, logFile} {
			if rm := os.Remove(name); rm != nil && !isNotExist(rm) {
				err = errors.Join(err, rm)
			}
		}
	}()
	_, err = f.Write(process)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("executor: writing a process: %w", err)
	}
	cmd := r.box.owner.runtime("--log", logFile, "--log-format", "json", "exec", "--process", f.Name(), "--pid-file", pidFile, r.id)
	cmd.Stdout, cmd.Stderr = task.Stdout, task.Stderr
	cmd.WaitDelay = killPatience
	stdin := task.Stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("executor: making a pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("executor: starting the runtime: %w", err)
	}
	// Wait closes the pipe; whoever is asked for input may never answer.
	go func() {
		_, copied := io.Copy(in, stdin)
		if err := errors.Join(copied, in.Close()); err != nil {
			r.box.owner.config.Log.Debug("executor: the input of a command ended", "error", err)
		}
	}()
	stop := context.AfterFunc(ctx, func() { killFrom(pidFile, cmd) })
	err = cmd.Wait()
	stop()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return 0, nil
	case !ok:
		return 0, fmt.Errorf("executor: running a command: %w", err)
	}
	if said := complaintIn(logFile); said != "" {
		return 0, refusef("the command cannot be run: %s", said)
	}
	return exit.ExitCode(), nil
}

// killFrom kills the process that a runtime noted in a file, and the runtime.
// The process is not waited for before the runtime has ended, so its number is
// its own.
func killFrom(pidFile string, cmd *exec.Cmd) {
	if data, err := os.ReadFile(pidFile); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && pid > 1 {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				return // the runtime ends after it
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("executor: killing the runtime: %v", err))
	}
}
