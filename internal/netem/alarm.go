package netem

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm is a timerfd(2). The runtime's own timers wait in whole milliseconds when
// nothing else happens, which is too coarse for a relay whose delay is measured
// against: an alarm is late by some ten microseconds.
type alarm struct {
	fd   int
	file *os.File // the same, for the runtime's poller
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("netem: making a timer: %w", err)
	}
	return &alarm{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// set has the alarm go off after d, at once if that is not positive, and at no
// time that was set before. It must not run beside close.
func (a *alarm) set(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d, 1).Nanoseconds())}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		panic(fmt.Sprintf("netem: setting a timer: %v", err)) // only for a bad descriptor or time
	}
}

// wait returns true when the alarm has gone off, and false when it is closed.
func (a *alarm) wait() bool {
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return err == nil
}

func (a *alarm) close() error { return a.file.Close() }
