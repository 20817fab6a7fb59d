package executor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
)

// inputDisk reads the files of /in from where they are.
type inputDisk struct{ root *os.Root }

func (d inputDisk) open(n *node) error {
	f, err := d.root.Open(n.source)
	if err != nil {
		return fmt.Errorf("executor: opening an input: %w", err)
	}
	n.file = f
	return nil
}

// discard has nothing to do: nothing in /in is ever unlinked.
func (inputDisk) discard(*node) error { return nil }

func (d inputDisk) close() error { return d.root.Close() }

// emptyDisk is under a /in without files.
type emptyDisk struct{}

func (emptyDisk) open(*node) error    { return nil }
func (emptyDisk) discard(*node) error { return nil }
func (emptyDisk) close() error        { return nil }

// openInput builds /in from a directory. The error is a *refusal when the
// directory holds what a program cannot be given.
func openInput(dir string, now uint64) (*mount, error) {
	m := newMount(1, now)
	m.readOnly = true
	if dir == "" {
		m.disk = emptyDisk{}
		return m, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("executor: opening the input directory: %w", err)
	}
	m.disk = inputDisk{root}
	if err := m.index(root, m.root, "."); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return m, nil
}

// index enters everything under a directory. fs.ReadDir sorts, so inode
// numbers follow from the names alone.
func (m *mount) index(root *os.Root, dir *node, name string) error {
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return fmt.Errorf("executor: listing the input directory: %w", err)
	}
	for _, entry := range entries {
		if m.lastIno > maxInputEntries {
			return refusef("input has more than %d files and directories", maxInputEntries)
		}
		source := path.Join(name, entry.Name())
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return refusef("input %q is neither a file nor a directory", source)
		}
		n := m.newNode(entry.IsDir(), dir.times.modify)
		n.parent, n.source = dir, source
		dir.children[entry.Name()] = n
		if n.depth() > maxDepth {
			return refusef("input is nested deeper than %d directories", maxDepth)
		}
		if entry.IsDir() {
			if err := m.index(root, n, source); err != nil {
				return err
			}
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("executor: listing the input directory: %w", err)
		}
		n.size = uint64(info.Size())
	}
	return nil
}

// outputDisk keeps the bytes of /out in files of its own naming, in a staging
// directory inside the output directory, until publish gives them their names.
type outputDisk struct {
	root    *os.Root // the output directory
	dir     string   // its path
	staging string   // a name in root; empty: there is no file yet
}

// openOutput makes /out over an existing empty directory.
func openOutput(dir string, limits Limits, now uint64) (*mount, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("executor: opening the output directory: %w", err)
	}
	if err := wantEmpty(root, dir); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	m := newMount(2, now)
	m.maxBytes, m.maxFiles = limits.OutputBytes, limits.OutputFiles
	m.disk = &outputDisk{root: root, dir: dir}
	return m, nil
}

func wantEmpty(root *os.Root, dir string) error {
	f, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("executor: opening the output directory: %w", err)
	}
	names, err := f.Readdirnames(1)
	if err := errors.Join(ignoreEOF(err), f.Close()); err != nil {
		return fmt.Errorf("executor: listing the output directory: %w", err)
	}
	if len(names) > 0 {
		return fmt.Errorf("executor: output directory %s is not empty", dir)
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (d *outputDisk) staged(n *node) string {
	return path.Join(d.staging, strconv.FormatUint(n.ino, 10))
}

func (d *outputDisk) open(n *node) error {
	if d.staging == "" {
		staging, err := os.MkdirTemp(d.dir, ".staging-")
		if err != nil {
			return fmt.Errorf("executor: making the staging directory: %w", err)
		}
		d.staging = path.Base(staging)
	}
	f, err := d.root.OpenFile(d.staged(n), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("executor: opening an output: %w", err)
	}
	n.file = f
	return nil
}

func (d *outputDisk) discard(n *node) error {
	if err := d.root.Remove(d.staged(n)); err != nil {
		return fmt.Errorf("executor: removing an output: %w", err)
	}
	return nil
}

// publish gives every file under dir its name in the output directory, where
// dir is at, and appends it to files.
func (d *outputDisk) publish(dir *node, at string, files []File) ([]File, error) {
	for _, name := range dir.names() {
		n, target := dir.children[name], path.Join(at, name)
		if n.isDir() {
			if err := d.root.Mkdir(target, 0o755); err != nil {
				return nil, fmt.Errorf("executor: publishing the output: %w", err)
			}
			var err error
			if files, err = d.publish(n, target, files); err != nil {
				return nil, err
			}
			continue
		}
		if err := d.root.Rename(d.staged(n), target); err != nil {
			return nil, fmt.Errorf("executor: publishing the output: %w", err)
		}
		files = append(files, File{Path: target, Bytes: n.size})
	}
	return files, nil
}

// close removes what was not published.
func (d *outputDisk) close() error {
	if d.staging == "" {
		return d.root.Close()
	}
	return errors.Join(d.root.RemoveAll(d.staging), d.root.Close())
}
