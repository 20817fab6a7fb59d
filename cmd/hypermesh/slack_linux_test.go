package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const slackHelper = "HYPERMESH_TEST_SLACK"

// helpWithSlack is the program of the test below, if it is that: it slackens as main does,
// before all else, and prints the slack of every thread, and the signal that comes with
// its parent's end.
func helpWithSlack() {
	if os.Getenv(slackHelper) == "" {
		return
	}
	err := slacken()
	paths, globErr := filepath.Glob("/proc/self/task/*")
	err = errors.Join(err, globErr)
	for _, path := range paths {
		slack, readErr := os.ReadFile(filepath.Join("/proc", filepath.Base(path), "timerslack_ns"))
		err = errors.Join(err, readErr)
		fmt.Printf("slack %s", slack)
	}
	var signal int32
	err = errors.Join(err, unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0))
	fmt.Println("signal", signal, err)
	os.Exit(0)
}

// TestANodeHasItsSlackInEveryThread runs this program as a helper. A slack that somebody
// has set stays, and so does what the parent asked for.
func TestANodeHasItsSlackInEveryThread(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	done := map[int]bool{}
	for _, c := range slices.Repeat([]struct{ set, want int }{{usualSlack, nodeSlack}, {80_000, 80_000}}, 4) {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), slackHelper+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := outputWithSlack(cmd, c.set)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(out, errNotFirst.Error()) { // it was interrupted before it began
			continue
		}
		done[c.want] = true
		all, right := strings.Count(out, "slack "), strings.Count(out, fmt.Sprintf("slack %d\n", c.want))
		if all < 2 || right != all || !strings.HasSuffix(out, "signal 9 <nil>\n") {
			t.Errorf("beginning with %d, %d of %d threads have a slack of %d ns:\n%s", c.set, right, all, c.want, out)
		}
	}
	if len(done) != 2 {
		t.Errorf("in four runs of each only %v came to slacken", done)
	}
}

// outputWithSlack runs a command from a thread with a slack, which it inherits.
func outputWithSlack(cmd *exec.Cmd, slack int) (string, error) {
	runtime.LockOSThread() // and never unlocks: the thread ends with the test
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0); err != nil {
		return "", err
	}
	err := cmd.Run()
	return out.String(), err
}

// TestOnlyANodeIsSlackened: whoever asks for the slack of another command changes it.
func TestOnlyANodeIsSlackened(t *testing.T) {
	for line, want := range map[string]bool{
		"hypermesh node run --home /x": true, "hypermesh node run": true, "hypermesh node init": false, "hypermesh node": false, "hypermesh": false,
		"hypermesh agent run": false,
	} {
		if got := isNodeRun(strings.Fields(line)); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}
