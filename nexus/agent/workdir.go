package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// maxIdleDirs bounds the directories that are kept for the next work.
const maxIdleDirs = 64

// workDirs are the directories that work runs in. To make and remove one takes a
// file system longer than a small program runs, so one in which a program left
// nothing is given to the next.
type workDirs struct {
	root string

	mu   sync.Mutex
	made uint64
	idle []string
}

// take returns a directory that holds nothing but an empty directory "out".
func (w *workDirs) take() (string, error) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		dir := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		return dir, nil
	}
	w.made++
	dir := filepath.Join(w.root, strconv.FormatUint(w.made, 10))
	w.mu.Unlock()
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o700); err != nil {
		return "", fmt.Errorf("agent: making a directory for the work: %w", err)
	}
	return dir, nil
}

// give takes a directory back. Unless it is as take gave it, and wanted says that
// nobody but a sandboxed program had it, it is removed.
func (w *workDirs) give(dir string, wanted bool) error {
	if wanted && untouched(dir) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.idle) < maxIdleDirs {
			w.idle = append(w.idle, dir)
			return nil
		}
	}
	return os.RemoveAll(dir)
}

// untouched reports whether a directory holds "out", which is empty, and nothing
// else.
func untouched(dir string) bool {
	inside, err := os.ReadDir(dir)
	out, outErr := os.ReadDir(filepath.Join(dir, "out"))
	return errors.Join(err, outErr) == nil && len(inside) == 1 && inside[0].Name() == "out" && inside[0].IsDir() && len(out) == 0
}
