package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// formFile is in raft's directory, and says of which form its log and snapshots are.
const formFile = "form"

// checkForm refuses a raft directory that a program of another form has written, before anything in it is read: what that
// logged would be misread, or skipped, and the state be another than that of the other servers. One that is empty is of this form
// from now on.
func checkForm(dir string) error {
	path := filepath.Join(dir, formFile)
	raw, err := os.ReadFile(path)
	switch {
	case err == nil && string(raw) == scheduler.Form+"\n":
		return nil
	case err == nil:
		return fmt.Errorf("the log and the snapshots in %s are of form %.20q, this program reads form %s: see docs/NEXUS.md", dir, strings.TrimSpace(string(raw)), scheduler.Form)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("reading of which form the log is: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading whether there is a log: %w", err)
	}
	if slices.ContainsFunc(files, func(f fs.DirEntry) bool { return !strings.HasPrefix(f.Name(), "."+formFile+"-") }) {
		return fmt.Errorf("the log and the snapshots in %s are of a form before form 2, this program reads form %s: see docs/NEXUS.md", dir, scheduler.Form)
	}
	return writeDurably(path, []byte(scheduler.Form+"\n"))
}

// writeDurably puts a file in the place of one that there may be, so that it is there after a crash, whole.
func writeDurably(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
