package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/term"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// eventually waits for a condition of other processes.
func eventually(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(limit); !ok(); {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// started is a run of the program that a test talks to.
type started struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *lineLog
	stderr *lineLog
}

// lineLog keeps what a process writes.
type lineLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func startHypermesh(t *testing.T, args ...string) *started {
	t.Helper()
	program, _ := programs(t)
	c := &started{cmd: exec.Command(program, args...), stdout: &lineLog{}, stderr: &lineLog{}}
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, c.stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			if err := errors.Join(c.cmd.Process.Kill(), ignoreExit(c.cmd.Wait())); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// wait returns the exit code.
func (c *started) wait(t *testing.T) int {
	t.Helper()
	if err := ignoreExit(c.cmd.Wait()); err != nil {
		t.Error(err)
	}
	return c.cmd.ProcessState.ExitCode()
}

// execNet is a network with containers and a service that runs in it.
type execNet struct {
	*network
	target *target
	image  string
}

func (n *execNet) exec(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := startHypermesh(t, append([]string{"job", "exec", "--config", n.path}, args...)...)
	if _, err := io.WriteString(c.stdin, stdin); err != nil {
		t.Error(err)
	}
	if err := c.stdin.Close(); err != nil {
		t.Error(err)
	}
	code = c.wait(t)
	return c.stdout.String(), c.stderr.String(), code
}

// live returns the run of the job that a node has now.
func (n *execNet) live(t *testing.T, id crypto.Digest) (run api.JobRun, number int) {
	t.Helper()
	j, err := n.target.client.Job(t.Context(), id)
	if err != nil {
		return api.JobRun{}, -1 // servers come and go
	}
	for i, r := range j.Runs {
		if r.Stage == "live" {
			return r, i
		}
	}
	return api.JobRun{}, -1
}

// begin starts a job and returns once a program of it has been heard.
func (n *execNet) begin(t *testing.T, args ...string) crypto.Digest {
	t.Helper()
	known := map[crypto.Digest]bool{}
	for j, err := range n.target.client.Jobs(t.Context(), n.target.account.Address()) {
		if err != nil {
			t.Fatal(err)
		}
		known[j.ID] = true
	}
	startHypermesh(t, append([]string{"job", "run", "--config", n.path}, args...)...)
	var id crypto.Digest
	eventually(t, "a job that runs", 30*time.Second, func() bool {
		for j, err := range n.target.client.Jobs(t.Context(), n.target.account.Address()) {
			if err == nil && !known[j.ID] {
				id = j.ID
			}
		}
		_, number := n.live(t, id)
		return number >= 0
	})
	return id
}

// TestExecAndLogs has consumers run commands in containers and follow their
// logs, while servers and the agent of the container are killed.
func TestExecAndLogs(t *testing.T) {
	endToEnd(t)
	if os.Geteuid() != 0 {
		t.Skip("containers are set up by root")
	}
	t.Setenv("HYPERMESH_AGENT_CONTAINERS", "true")
	n := &execNet{network: startDevnet(t, "--servers", "3", "--agents", "2", "--no-explorer"), image: imageFile(t)}
	var err error
	if n.target, err = newTarget(n.describe(t), "alice"); err != nil {
		t.Fatal(err)
	}
	service := n.begin(t, "--container", "--service", "always", "--time-limit", "5m", "--memory-mib", "64", "--processes", "512", n.image, "--", "/inmate", "tick")
	id := service.String()
	eventually(t, "a container that takes commands", 30*time.Second, func() bool {
		_, _, code := n.exec(t, "", id, "--", "/inmate", "exit", "0")
		return code == 0
	})
	t.Run("exec", func(t *testing.T) { n.checkExec(t, id) })
	t.Run("refused", func(t *testing.T) { n.checkRefusals(t, id) })
	t.Run("interrupted", func(t *testing.T) { n.checkInterrupt(t, id) })
	t.Run("terminal", func(t *testing.T) { n.checkTerminal(t, id) })
	follower := startHypermesh(t, "job", "logs", "--follow", "--config", n.path, id)
	t.Run("server killed", func(t *testing.T) { n.checkServersKilled(t, follower, id) })
	t.Run("agent killed", func(t *testing.T) { n.checkAgentKilled(t, follower, service) })
	if out, err := hypermesh(t, "job", "cancel", id, "--config", n.path); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if code := follower.wait(t); code != 0 {
		t.Errorf("following a job that was cancelled ended with %d\n%s", code, follower.stderr)
	}
	t.Run("ended", func(t *testing.T) {
		if _, said, code := n.exec(t, "", id, "--", "/inmate", "exit", "0"); code != 1 || !strings.Contains(said, "the job has ended: it is cancelled") {
			t.Errorf("exit code %d, %s", code, said)
		}
	})
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Errorf("left of containers: %v", left)
		}
	}()
	eventually(t, "nothing left of containers", 20*time.Second, func() bool {
		left = n.leftOfContainers(t)
		return len(left) == 0
	})
}

func (n *execNet) checkExec(t *testing.T, id string) {
	stdout, stderr, code := n.exec(t, "typed", id, "--", "/inmate", "cat", "said")
	if stdout != "said\ntyped" || stderr != "done\n" || code != 5 {
		t.Errorf("%q, %q, exit code %d", stdout, stderr, code)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16) // more than buffers hold, both ways at once
	if stdout, stderr, code = n.exec(t, big, id, "--", "/inmate", "cat"); stdout != "\n"+big || code != 5 {
		t.Errorf("%d bytes came back of %d, exit code %d, %q", len(stdout), len(big)+1, code, stderr)
	}
	// In the sandbox, as what the job runs, and with none of the agent's environment.
	for _, args := range []string{"mounts", "calls", "kernel", "env"} {
		stdout, stderr, code := n.exec(t, "", id, "--", "/inmate", args)
		if code != 0 || strings.Contains(stdout, "could") || strings.Contains(stdout, "HYPERMESH") {
			t.Errorf("%s: exit code %d, %s%s", args, code, stdout, stderr)
		}
	}
	if _, stderr, code := n.exec(t, "", id, "--", "/none"); code != 1 || !strings.Contains(stderr, "the command cannot be run") || strings.Count(stderr, "exec failed") != 1 {
		t.Errorf("no such command: exit code %d, %s", code, stderr)
	}
}

func (n *execNet) checkRefusals(t *testing.T, id string) {
	_, fractal := programs(t)
	params := t.TempDir()
	if err := writeFile(params, "params.txt", []byte("width = 4000\nheight = 4000\n")); err != nil {
		t.Fatal(err)
	}
	wasm := n.begin(t, fractal, "--in", params, "--fuel", "1000000000000000", "--time-limit", "20s")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"a wasm job has no processes to run a command beside", []string{wasm.String(), "--", "/bin/sh"}},
		{"only the job's consumer may run commands in it", []string{"--account", "bob", id, "--", "/inmate", "exit", "0"}},
		{"the command has 16385 bytes, limit 16384", []string{id, "--", strings.Repeat("x", 16_385)}},
		{"the command has 300 words, limit 256", append([]string{id, "--"}, strings.Fields(strings.Repeat("w ", 300))...)},
		{"is not known", []string{strings.Repeat("0", 64), "--", "/inmate"}},
	} {
		if stdout, said, code := n.exec(t, "", c.args...); code != 1 || !strings.Contains(said, c.want) || stdout != "" {
			t.Errorf("want %q: exit code %d, %q, %s", c.want, code, stdout, said)
		}
	}
	if _, _, code := n.exec(t, "", id); code != exitUsage {
		t.Errorf("no command: exit code %d", code)
	}
	if out, err := hypermesh(t, "job", "cancel", wasm.String(), "--config", n.path); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkInterrupt ends commands by Ctrl-C and by SIGKILL of their consumer: they
// are gone from the container, with what they started, and the job runs on.
func (n *execNet) checkInterrupt(t *testing.T, id string) {
	beside := func() string {
		stdout, stderr, code := n.exec(t, "", id, "--", "/inmate", "procs")
		if code != 0 {
			t.Errorf("exit code %d, %s", code, stderr)
		}
		return stdout
	}
	before := beside()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		c := startHypermesh(t, "job", "exec", "--config", n.path, id, "--", "/inmate", "family")
		eventually(t, "a family", 20*time.Second, func() bool { return strings.Contains(c.stdout.String(), "founded") })
		if beside() == before {
			t.Errorf("a family of ten is not there: %s processes", before)
		}
		if err := c.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if code := c.wait(t); signal == syscall.SIGINT && (code != exitInterrupted || c.stderr.String() != "") {
			t.Errorf("after Ctrl-C: exit code %d, %s", code, c.stderr)
		}
		eventually(t, "a command that is gone", 20*time.Second, func() bool { return beside() == before })
	}
	logs := startHypermesh(t, "job", "logs", "-f", "--config", n.path, id)
	eventually(t, "lines", 20*time.Second, func() bool { return strings.Count(logs.stdout.String(), "\n") > 5 })
	if err := logs.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := logs.wait(t); code != exitInterrupted || strings.Contains(logs.stderr.String(), "hypermesh:") {
		t.Errorf("logs after Ctrl-C: exit code %d, %s", code, logs.stderr)
	}
	if out, err := hypermesh(t, "job", "logs", "--config", n.path, id); err != nil || !bytes.Contains(out, []byte("tick 0\n")) {
		t.Errorf("without --follow: %v, %d bytes", err, len(out))
	}
}

// checkTerminal runs commands in a terminal: it is as large as the consumer's,
// Ctrl-C is the command's, and the consumer's own is as before at every end.
func (n *execNet) checkTerminal(t *testing.T, id string) {
	if _, said, code := n.exec(t, "", "--tty", id, "--", "/inmate", "terminal"); code != exitUsage || !strings.Contains(said, "--tty: standard input is no terminal") {
		t.Errorf("without a terminal: exit code %d, %s", code, said)
	}
	program, _ := programs(t)
	for name, end := range map[string]func(p *terminal, cmd *exec.Cmd) int{
		"Ctrl-C": func(p *terminal, _ *exec.Cmd) int { p.press("\x03"); return 7 },
		"Ctrl-D": func(p *terminal, _ *exec.Cmd) int { p.press("\x04"); return 8 },
		"SIGTERM": func(_ *terminal, cmd *exec.Cmd) int {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			return exitInterrupted
		},
	} {
		p := openTerminal(t, 91, 33)
		cmd, stderr := p.start(program, "job", "exec", "-t", "--config", n.path, id, "--", "/inmate", "terminal")
		p.await(0, "xterm-256color 91 x 33 true")
		p.await(0, "to both")
		p.resize(100, 40)
		p.await(0, "window changed 100 x 40\r\n")
		p.press("hi\r")
		p.await(0, "hi\r\ntyped \"hi\"\r\n")
		want := end(p, cmd)
		if err := ignoreExit(cmd.Wait()); err != nil {
			t.Error(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d, %s", name, code, want, stderr)
		}
		if after, err := term.GetState(int(p.slave.Fd())); err != nil || *after != *p.before {
			t.Errorf("%s: the terminal is %+v, was %+v, %v", name, after, p.before, err)
		}
	}
}

// ticks checks that lines are numbered without gap or repetition, and returns
// the last number.
func ticks(t *testing.T, text string) int {
	t.Helper()
	lines, last := bufio.NewScanner(strings.NewReader(text)), -1
	for lines.Scan() {
		number := -1
		if _, err := fmt.Sscanf(lines.Text(), "tick %d", &number); err != nil {
			break // the last line may be cut off
		}
		if number != last+1 {
			t.Fatalf("line %q after tick %d", lines.Text(), last)
		}
		last = number
	}
	return last
}

// checkServersKilled kills one server after the other; a follower goes on with
// every line once.
func (n *execNet) checkServersKilled(t *testing.T, follower *started, id string) {
	for i := range 3 {
		eventually(t, "a line", 30*time.Second, func() bool { return strings.Contains(follower.stdout.String(), "tick") })
		killed := n.kill(t, "nexus", i)
		eventually(t, "the server again", 30*time.Second, func() bool {
			for _, p := range n.describe(t).Processes {
				if p.Role == "nexus" && p.Index == i {
					return p.PID != 0 && p.PID != killed
				}
			}
			return false
		})
		at := ticks(t, follower.stdout.String())
		eventually(t, fmt.Sprintf("lines after tick %d", at), 30*time.Second, func() bool { return ticks(t, follower.stdout.String()) > at+50 })
	}
	if strings.Contains(follower.stderr.String(), "not kept any more") {
		t.Errorf("lines were lost: %s", follower.stderr)
	}
	eventually(t, "a command again", 30*time.Second, func() bool {
		_, _, code := n.exec(t, "", id, "--", "/inmate", "exit", "0")
		return code == 0
	})
}

// leftOfContainers lists the groups, mounts and processes of containers of this
// network's agents.
func (n *execNet) leftOfContainers(t *testing.T) (left []string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		name := n.containersOf(i)
		groups, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*/hypermesh", name, "box-*"))
		boxes, boxErr := filepath.Glob(filepath.Join("/run/hypermesh", name, "box-*"))
		if err := errors.Join(err, boxErr); err != nil {
			t.Fatal(err)
		}
		left = append(append(left, groups...), boxes...)
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, " /run/hypermesh/"+name+"/") {
				left = append(left, line)
			}
		}
	}
	return left
}

// containersOf is how an agent's containers are named on the machine.
func (n *execNet) containersOf(agent int) string {
	dir := filepath.Join(n.dir, fmt.Sprintf("agent-%d", agent), "work", "containers")
	return crypto.DomainBlob.Hash([]byte(dir)).Short()
}

// checkAgentKilled kills the agent that runs the container. Its next life ends
// the container, removes what is left of it, and the job is run again.
func (n *execNet) checkAgentKilled(t *testing.T, follower *started, id crypto.Digest) {
	run, number := n.live(t, id)
	agent := n.indexOf(t, "agent", run.Node)
	groups, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/pids/hypermesh", n.containersOf(agent), "box-*"))
	if err != nil || len(groups) != 1 {
		t.Fatalf("groups %v, %v", groups, err)
	}
	n.kill(t, "agent", agent)
	eventually(t, "the container's end", 30*time.Second, func() bool {
		_, err := os.Stat(groups[0])
		return errors.Is(err, os.ErrNotExist)
	})
	// Whoever is given it, perhaps the same node, begins anew.
	eventually(t, "the work begun again", 60*time.Second, func() bool {
		return strings.Count(follower.stdout.String(), "tick 0\n") == 2
	})
	j, err := n.target.client.Job(context.Background(), id)
	if err != nil || j.Runs[number].Receipt != nil {
		t.Errorf("%+v, %v", j.Runs, err)
	}
	// One container runs, in all hierarchies, and nothing else is left.
	for _, g := range n.leftOfContainers(t) {
		if strings.Contains(g, filepath.Base(groups[0])) {
			t.Errorf("left of the killed agent: %s", g)
		}
	}
}
