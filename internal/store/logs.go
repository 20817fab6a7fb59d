package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/consensus"
)

// Logs are a node's write-ahead logs of consensus: one file for each epoch, named
// consensus-<epoch>.log, in one directory. They belong to one goroutine.
type Logs struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
	open map[consensus.Epoch]*Log
}

const (
	logPrefix = "consensus-"
	logSuffix = ".log"
)

// OpenLogs takes the logs in a directory, which is made if it is not there. What
// a crash left of a log that was being written anew is removed.
func OpenLogs(dir string) (*Logs, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: opening the logs in %s: %w", dir, err)
	}
	return openLogs(vfs.Default, abs)
}

func openLogs(fs vfs.FS, dir string) (*Logs, error) {
	if err := makeDir(fs, dir); err != nil {
		return nil, fmt.Errorf("store: opening the logs: %w", diskError("making", dir, err))
	}
	lock, err := fs.Lock(fs.PathJoin(dir, "consensus.lock"))
	if err != nil {
		return nil, fmt.Errorf("%w: logs in %s: %w", ErrLocked, dir, err)
	}
	l := &Logs{fs: fs, dir: dir, lock: lock, open: map[consensus.Epoch]*Log{}}
	names, err := fs.List(dir)
	for _, name := range names {
		if strings.HasPrefix(name, logPrefix) && strings.HasSuffix(name, logSuffix+logTemporary) {
			err = errors.Join(err, fs.Remove(fs.PathJoin(dir, name)))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: opening the logs in %s: %w", dir, err), l.Close())
	}
	return l, nil
}

func (l *Logs) path(epoch consensus.Epoch) string {
	return l.fs.PathJoin(l.dir, logPrefix+strconv.FormatUint(uint64(epoch), 10)+logSuffix)
}

// Epochs lists the epochs that have a log, ascending.
func (l *Logs) Epochs() ([]consensus.Epoch, error) {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return nil, fmt.Errorf("store: listing the logs: %w", err)
	}
	var epochs []consensus.Epoch
	for _, name := range names {
		text, ok := strings.CutPrefix(name, logPrefix)
		text, ok2 := strings.CutSuffix(text, logSuffix)
		epoch, err := strconv.ParseUint(text, 10, 64)
		if ok && ok2 && err == nil && strconv.FormatUint(epoch, 10) == text {
			epochs = append(epochs, consensus.Epoch(epoch))
		}
	}
	slices.Sort(epochs)
	return epochs, nil
}

// Open returns the log of an epoch, which is made if it is not there. A torn tail
// is cut off; damage before it is ErrLogCorrupt, and the file is left as it is.
func (l *Logs) Open(epoch consensus.Epoch) (*Log, error) {
	if log := l.open[epoch]; log != nil {
		return log, nil
	}
	log, err := openLog(l.fs, l.path(epoch))
	if err != nil {
		return nil, err
	}
	l.open[epoch] = log
	return log, nil
}

// Append adds records to the log of an epoch, which is made if it is not there.
// See Log.Append.
func (l *Logs) Append(epoch consensus.Epoch, records [][]byte) error {
	log, err := l.Open(epoch)
	if err != nil {
		return err
	}
	return log.Append(records)
}

// Replay calls visit with every record of the log of an epoch. See Log.Replay.
func (l *Logs) Replay(epoch consensus.Epoch, visit func(record []byte) error) error {
	log, err := l.Open(epoch)
	if err != nil {
		return err
	}
	return log.Replay(visit)
}

// Rewrite replaces the log of an epoch. See Log.Rewrite.
func (l *Logs) Rewrite(epoch consensus.Epoch, records [][]byte) error {
	log, err := l.Open(epoch)
	if err != nil {
		return err
	}
	return log.Rewrite(records)
}

// Delete removes the log of an epoch for good; it need not be there.
func (l *Logs) Delete(epoch consensus.Epoch) error {
	path := l.path(epoch)
	if log := l.open[epoch]; log != nil {
		delete(l.open, epoch)
		if err := log.Close(); err != nil {
			return diskError("closing", path, err)
		}
	}
	if err := l.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return diskError("removing", path, err)
	}
	if err := syncDir(l.fs, l.dir); err != nil {
		return diskError("syncing", l.dir, err)
	}
	return nil
}

// Close releases the logs. Every later call of one fails.
func (l *Logs) Close() error {
	var errs []error
	for _, log := range l.open { // order-free: the errors are joined for people
		errs = append(errs, log.Close())
	}
	clear(l.open)
	return errors.Join(append(errs, l.lock.Close())...)
}
