package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// nodeSlack is how much later than asked the kernel may wake a node's threads that sleep,
// in ns, and usualSlack what it is unless somebody sets it (prctl(2), PR_SET_TIMERSLACK).
//
// The Go runtime's monitor asks to sleep 20 µs at a time while goroutines come and go, as
// they do in a loaded node: with the usual slack it wakes up to 14,000 times a second, and
// gives the processor of whoever syncs a file to another thread, which the first has to
// wait for afterwards. All of that took a tenth of the node's time. The price is that
// timers are late by so much, and that a goroutine in a system call keeps its processor
// for twice as long.
const (
	nodeSlack  = 2_000_000
	usualSlack = 50_000
)

var errNotFirst = errors.New("not in the first thread")

// slacken has this program begin again with nodeSlack, unless the slack was set: threads
// have it of the one that made them, and the monitor's is made before anything else
// runs. It returns if there is nothing to do, or an error if that was not possible. The
// first thread alone may do it: it knows what the parent asked for, its end with the
// parent's (PR_SET_PDEATHSIG). Whoever calls it before all else is there.
func slacken() error {
	runtime.LockOSThread() // until the program is another
	defer runtime.UnlockOSThread()
	if unix.Gettid() != unix.Getpid() {
		return wrapSlack(errNotFirst)
	}
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack != usualSlack {
		return wrapSlack(err)
	}
	path, err := os.Executable()
	if err != nil {
		return wrapSlack(err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, nodeSlack, 0, 0, 0); err != nil {
		return wrapSlack(err)
	}
	return wrapSlack(syscall.Exec(path, os.Args, os.Environ()))
}

func wrapSlack(err error) error {
	if err != nil {
		return fmt.Errorf("setting the timers' slack: %w", err)
	}
	return nil
}
