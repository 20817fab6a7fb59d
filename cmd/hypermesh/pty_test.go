package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a pseudo-terminal whose other end a test holds: what is written to
// it, and what shows.
type terminal struct {
	t      testing.TB
	master *os.File
	slave  *os.File
	before *term.State

	mu   sync.Mutex
	all  bytes.Buffer
	more chan struct{} // has a token when there is more
}

func openTerminal(t testing.TB, width, height int) *terminal {
	t.Helper()
	// In blocking mode, so that what is set of it stays.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{t: t, master: os.NewFile(uintptr(fd), "ptmx"), slave: slave, more: make(chan struct{}, 1)}
	p.resize(width, height)
	if p.before, err = term.GetState(int(slave.Fd())); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.read()
	}()
	t.Cleanup(func() {
		if err := p.slave.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		p.press("\n") // ends a read that is under way; the slave is closed then, and the master reads EIO
		<-ended
		if err := p.master.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *terminal) read() {
	buf := make([]byte, 16<<10)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.all.Write(buf[:n])
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (p *terminal) resize(width, height int) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// mark returns how much has come so far.
func (p *terminal) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.Len()
}

// since returns what has come from a mark on.
func (p *terminal) since(mark int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.all.Bytes()[mark:])
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

// await waits until a text shows that came after a mark.
func (p *terminal) await(mark int, text string) {
	p.t.Helper()
	limit := time.After(60 * time.Second)
	for !bytes.Contains(escapes.ReplaceAll([]byte(p.since(mark)), nil), []byte(text)) {
		select {
		case <-p.more:
		case <-limit:
			shown := p.since(mark)
			p.t.Fatalf("%q does not show; the end is %q", text, shown[max(0, len(shown)-4_000):])
		}
	}
}

// restored checks that the terminal is as it was, and the first screen shown.
func (p *terminal) restored() {
	p.t.Helper()
	after, err := term.GetState(int(p.slave.Fd()))
	if err != nil {
		p.t.Fatal(err)
	}
	if *after != *p.before {
		p.t.Errorf("the terminal's state is %+v, was %+v", after, p.before)
	}
	limit := time.After(10 * time.Second)
	for !strings.HasSuffix(p.since(0), leaveScreen) {
		select {
		case <-p.more:
		case <-limit:
			shown := p.since(0)
			p.t.Fatalf("the screen is not the first one; the end is %q", shown[max(0, len(shown)-200):])
		}
	}
	if shown := p.since(0); strings.Count(shown, "\x1b[?1049h") != strings.Count(shown, "\x1b[?1049l") {
		p.t.Error("another screen was left on top of the first one")
	}
}

// start runs a program in the terminal, as the leader of a session of its own.
func (p *terminal) start(program string, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	p.t.Helper()
	cmd, stderr = exec.Command(program, args...), &bytes.Buffer{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, stderr
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd, stderr
}

// echoes reports whether the terminal shows what is typed.
func (p *terminal) echoes() bool {
	p.t.Helper()
	state, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}
