package store

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// refusingFS has files that refuse to be written around the page cache when it
// comes to it, as some file systems do.
type refusingFS struct {
	vfs.FS
	after   int // writes
	refused int
}

func (fs *refusingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return &refusingFile{File: f, fs: fs}, err
}

type refusingFile struct {
	vfs.File
	fs *refusingFS
}

func (f *refusingFile) Write(p []byte) (int, error) {
	if f.fs.after--; f.fs.after < 0 && f.fs.refused == 0 {
		f.fs.refused++
		return 0, &os.PathError{Op: "write", Path: "table", Err: syscall.EINVAL}
	}
	return f.File.Write(p)
}

func TestTableFileHoldsWhatWasWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		cold    bool
		refuse  int // after so many writes; negative: never
		written int
	}{
		"through the page cache":     {false, -1, 3<<20 + 17},
		"around it":                  {true, -1, 3<<20 + 17},
		"around it, whole pages":     {true, -1, 4 << 20},
		"around it, less than one":   {true, -1, 17},
		"refused at the first write": {true, 0, 3<<20 + 17},
		"refused later":              {true, 2, 3<<20 + 17},
	} {
		refusing := &refusingFS{FS: vfs.Default, after: c.refuse}
		if c.refuse < 0 {
			refusing.after = 1 << 30
		}
		fs := newFailStop(refusing)
		path := filepath.Join(t.TempDir(), "table")
		file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		f := newTableFile(file, c.cold)
		if c.cold && f.direct == nil {
			t.Skip("this file system cannot be written around the page cache")
		}
		want := make([]byte, c.written)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(200_000))
			if err := f.Write(rest[:n]); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			rest = rest[n:]
		}
		if err := f.Finish(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes are there, %d were written: %v", name, len(got), len(want), err)
		}
		if (refusing.refused > 0) != (c.refuse >= 0) {
			t.Errorf("%s: refused %d times", name, refusing.refused)
		}
		select {
		case <-fs.failed:
			t.Errorf("%s: the disk is said to have failed: %v", name, fs.err)
		default:
		}
	}
}
