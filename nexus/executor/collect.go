package executor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// collect copies /out to the task's output directory. No process of the
// container is left that could change it meanwhile. A program that left what is
// neither a file nor a directory, or files whose lengths are beyond the limit,
// has broken its output limit.
func (b *box) collect() error {
	if !b.end.Status.Ended() {
		return nil
	}
	from, err := os.OpenRoot(b.path("out"))
	if err != nil {
		return fmt.Errorf("executor: collecting the output: %w", err)
	}
	to, err := os.OpenRoot(b.task.OutputDir)
	if err != nil {
		return errors.Join(fmt.Errorf("executor: collecting the output: %w", err), from.Close())
	}
	left := b.task.Limits.OutputBytes
	err = fs.WalkDir(from.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return b.collectEntry(from, to, name, &left)
	})
	err = errors.Join(err, from.Close(), to.Close())
	if r, ok := errors.AsType[*refusal](err); ok {
		b.end.Status, b.end.ExitCode, b.end.Detail, b.end.Files = StatusOutputLimit, 0, clip(r.reason), nil
		return b.discard()
	}
	if err != nil {
		return fmt.Errorf("executor: collecting the output: %w", err)
	}
	slices.SortFunc(b.end.Files, func(a, c File) int { return strings.Compare(a.Path, c.Path) })
	return nil
}

func (b *box) collectEntry(from, to *os.Root, name string, left *uint64) error {
	info, err := from.Lstat(name)
	switch {
	case err != nil:
		return err
	case strings.Count(name, "/") >= maxDepth:
		return refusef("output %.256q is nested deeper than %d directories", name, maxDepth)
	case info.IsDir():
		return to.Mkdir(name, 0o755)
	case !info.Mode().IsRegular():
		return refusef("output %.256q is neither a file nor a directory", name)
	case uint64(info.Size()) > *left:
		return refusef("limit output_bytes of %d reached", b.task.Limits.OutputBytes)
	}
	*left -= uint64(info.Size())
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	n, err := io.Copy(out, io.LimitReader(in, info.Size()))
	if err := errors.Join(err, in.Close(), out.Close()); err != nil {
		return err
	}
	if n != info.Size() {
		return fmt.Errorf("%s changed while it was collected", name)
	}
	b.end.Files = append(b.end.Files, File{Path: path.Clean(name), Bytes: uint64(n)})
	return nil
}

// discard empties the task's output directory again.
func (b *box) discard() error {
	to, err := os.OpenRoot(b.task.OutputDir)
	if err != nil {
		return fmt.Errorf("executor: discarding the output: %w", err)
	}
	entries, err := fs.ReadDir(to.FS(), ".")
	for _, e := range entries {
		err = errors.Join(err, to.RemoveAll(e.Name()))
	}
	return errors.Join(err, to.Close())
}

// outcome is what became of the task.
func (b *box) outcome() (Outcome, error) {
	b.end.Usage = b.usage
	l := &b.task.Limits
	if u := &b.usage; u.OutputBytes > l.OutputBytes || u.OutputFiles > l.OutputFiles || u.LogBytes > l.LogBytes || u.PeakMemoryBytes > l.MemoryBytes {
		panic(fmt.Sprintf("executor: usage %+v beyond limits %+v", *u, *l))
	}
	return b.end, nil
}
