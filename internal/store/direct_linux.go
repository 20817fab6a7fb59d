package store

import (
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// setDirect has the writes of a file go around the page cache, or through it again,
// and reports whether they do (open(2), O_DIRECT).
func setDirect(file vfs.File, on bool) bool {
	if file.Fd() == vfs.InvalidFd {
		return false
	}
	flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if flags &^= unix.O_DIRECT; on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETFL, flags)
	return err == nil
}
