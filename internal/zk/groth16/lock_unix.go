//go:build unix

package groth16

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile takes the exclusive lock of a file, creating it, and returns what
// releases it. The system releases it too when the process dies, so the file
// may stay. If somebody else has the lock, it calls wait once and waits.
func lockFile(path string, wait func()) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644) // holds nothing
	if err != nil {
		return nil, err
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		wait()
		err = flock(f, syscall.LOCK_EX)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) { // a descriptor is an int
			return err
		}
	}
}
