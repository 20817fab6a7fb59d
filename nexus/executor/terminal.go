package executor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command in a terminal has two: one of the container's, which the runtime
// makes there and the command sees, and one of this machine's, which the runtime
// has for its own and copies to and from. What either shows or is told goes
// through the runtime as bytes: no descriptor of this machine's terminal gets
// into the container.

// connectTerminal gives the runtime a terminal, and returns the end at which it
// is typed and looked at.
func (x *execution) connectTerminal(task *ExecTask) (read []*os.File, err error) {
	master, slave, err := openTerminal()
	if err != nil {
		return nil, err
	}
	if err := resize(master, task.Terminal.Columns, task.Terminal.Rows); err != nil {
		return nil, errors.Join(err, master.Close(), slave.Close())
	}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	// A leader of a session whose terminal it is, so that it hears of new sizes.
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	x.closing = append(x.closing, slave)
	stdin := task.Stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	log := x.run.box.owner.config.Log
	go func() { // whoever is asked for input may never answer
		_, err := io.Copy(struct{ io.Writer }{master}, stdin)
		if err == nil {
			_, err = master.Write([]byte{endOfTyping})
		}
		if err != nil {
			log.Debug("executor: the input of a command ended", "error", err)
		}
	}()
	go func() {
		for size := range task.Terminal.Resized {
			if err := resize(master, size[0], size[1]); err != nil {
				log.Debug("executor: a command's terminal keeps its size", "error", err)
			}
		}
	}()
	return []*os.File{master}, nil
}

// endOfTyping is Ctrl-D.
const endOfTyping = 4

// openTerminal returns both ends of a new pseudo-terminal (pty(7)). Reads and
// writes of the master end when it is closed.
func openTerminal() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("executor: opening a terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "terminal") // not blocking, so that it can be closed under a read
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		slave, err = peerOf(fd)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("executor: opening a terminal: %w", err), master.Close())
	}
	return master, slave, nil
}

// peerOf opens the other end of a terminal. Not by its path: /dev/pts may be
// another's. Nothing that is typed is echoed, or waits for the end of a line: that
// is the container's terminal's to do.
func peerOf(master int) (*os.File, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, errno
	}
	slave := os.NewFile(fd, "terminal of the runtime")
	t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
	if err == nil {
		t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		err = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	}
	if err != nil {
		return nil, errors.Join(err, slave.Close())
	}
	return slave, nil
}

func resize(master *os.File, columns, rows uint16) error {
	raw, err := master.SyscallConn()
	if err == nil {
		var set error
		err = errors.Join(raw.Control(func(fd uintptr) {
			set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
		}), set)
	}
	if err != nil {
		return fmt.Errorf("executor: the size of a terminal: %w", err)
	}
	return nil
}

// withTerm is an environment with TERM set.
func withTerm(env []string, term string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "TERM=") })
	return append(env, "TERM="+term)
}
