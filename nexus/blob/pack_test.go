package blob_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

var limits = blob.Limits{MaxEntries: 100, MaxFileBytes: 1 << 20, MaxBytes: 4 << 20}

// tree is a directory: contents by path, directories with a slash at the end.
type tree map[string]string

var sample = tree{
	"a-b": "dash", "a/": "", "a/b": "below", "a/empty/": "", "a.txt": "dot",
	"z": "", "big": string(bytes.Repeat([]byte("0123456789"), 60_000)), "ü/": "", "ü/ß": "umlauts",
}

// grow makes the directory on disk, its parts in the given order.
func grow(t testing.TB, order []string, parts tree) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range order {
		at := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(at, 0o700))
		} else {
			err = errors.Join(err, os.WriteFile(at, []byte(parts[name]), 0o640))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pack(t testing.TB, dir string) []byte {
	t.Helper()
	r, size, err := blob.Pack(dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || int64(len(data)) != size {
		t.Fatalf("%d bytes, %d were foretold, %v", len(data), size, err)
	}
	return data
}

// look reads a directory back.
func look(t testing.TB, dir string) tree {
	t.Helper()
	out := tree{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case d.IsDir():
			out[name+"/"] = ""
			return nil
		}
		data, err := fs.ReadFile(root, name)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPackRoundTrip(t *testing.T) {
	names := slices.Sorted(maps.Keys(sample))
	archive := pack(t, grow(t, names, sample))
	slices.Reverse(names)
	if !bytes.Equal(archive, pack(t, grow(t, names, sample))) {
		t.Fatal("the archive depends on the order in which files were made")
	}
	to := filepath.Join(t.TempDir(), "out")
	if err := blob.Unpack(bytes.NewReader(archive), to, limits); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(look(t, to), sample) {
		t.Fatal("the directory changed")
	}
	if !bytes.Equal(archive, pack(t, to)) {
		t.Fatal("the archive changed")
	}
	golden.Check(t, "testdata/sample.id", blob.Sum(archive).String()+"\n")
	if err := blob.Unpack(bytes.NewReader(archive), to, limits); err == nil {
		t.Fatal("unpacked over a directory that is not empty")
	}
}

func TestPackRefuses(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"link":        func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "x")) },
		"pipe":        func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "x"), 0o600) },
		"backslash":   func(dir string) error { return os.WriteFile(filepath.Join(dir, `a\b`), nil, 0o600) },
		"control":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "a\nb"), nil, 0o600) },
		"not UTF-8":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "a\xff"), nil, 0o600) },
		"large file":  func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), make([]byte, 1<<20+1), 0o600) },
		"deep":        func(dir string) error { return os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", 33)), 0o700) },
		"many":        func(dir string) error { return many(dir, 101, 0) },
		"large whole": func(dir string) error { return many(dir, 5, 1<<20) },
	} {
		dir := t.TempDir()
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		_, _, err := blob.Pack(dir, limits)
		_, archive := errors.AsType[*blob.ArchiveError](err)
		_, tooLarge := errors.AsType[*blob.TooLargeError](err)
		if !archive && !tooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := blob.Pack(filepath.Join(t.TempDir(), "absent"), limits); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func many(dir string, files, size int) error {
	var failures []error
	for i := range files {
		failures = append(failures, os.WriteFile(filepath.Join(dir, string(rune('A'+i))), make([]byte, size), 0o600))
	}
	return errors.Join(failures...)
}

func TestPackNoticesChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"grown":         func(path string) error { return os.WriteFile(path, []byte("longer than before"), 0o600) },
		"gone":          os.Remove,
		"become a link": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("b", path)) },
		"become a pipe": func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
	} {
		dir := grow(t, []string{"a", "b"}, tree{"a": "first", "b": "other"})
		r, _, err := blob.Pack(dir, limits)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err == nil {
			t.Errorf("a file that has %s is packed", name)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

const magic = "hypermesh pack 1\n"

// entry builds an archive's entry as no Pack would have to.
func entry(kind byte, path, data string) string {
	out := append([]byte{kind}, binary.BigEndian.AppendUint16(nil, uint16(len(path)))...)
	out = append(out, path...)
	if kind == 2 {
		out = binary.BigEndian.AppendUint64(out, uint64(len(data)))
		out = append(out, data...)
	}
	return string(out)
}

const end = "\x00"

var hostile = map[string]string{
	"nothing":              "",
	"another magic":        "hypermesh pack 2\n" + end,
	"no end":               magic,
	"no end after entries": magic + entry(2, "a", "x"),
	"bytes after the end":  magic + end + "x",
	"unknown kind":         magic + entry(3, "a", "") + end,
	"parent":               magic + entry(2, "../a", "x") + end,
	"parent within":        magic + entry(1, "a", "") + entry(2, "a/../../b", "x") + end,
	"absolute":             magic + entry(2, "/etc/x", "x") + end,
	"empty path":           magic + entry(2, "", "x") + end,
	"dot":                  magic + entry(1, ".", "") + end,
	"trailing slash":       magic + entry(1, "a/", "") + end,
	"double slash":         magic + entry(1, "a", "") + entry(2, "a//b", "x") + end,
	"backslash":            magic + entry(2, `a\b`, "x") + end,
	"NUL":                  magic + entry(2, "a\x00b", "x") + end,
	"not UTF-8":            magic + entry(2, "a\xff", "x") + end,
	"twice":                magic + entry(2, "a", "x") + entry(2, "a", "y") + end,
	"file and directory":   magic + entry(2, "a", "x") + entry(1, "a", "") + end,
	"out of order":         magic + entry(2, "b", "x") + entry(2, "a", "x") + end,
	"no directory":         magic + entry(2, "a/b", "x") + end,
	"below a file":         magic + entry(2, "a", "x") + entry(2, "a/b", "x") + end,
	"long name":            magic + entry(2, strings.Repeat("a", 256), "x") + end,
	"long path":            magic + entry(2, strings.Repeat("a/", 600)+"a", "x") + end,
	"deep path":            magic + entry(2, strings.Repeat("a/", 32)+"a", "x") + end,
	"path cut short":       magic + "\x01\x00\x09abc",
	"size cut short":       magic + "\x02\x00\x01a\x00\x00",
	"content cut short":    magic + entry(2, "a", "12345")[:14],
	"huge file":            magic + "\x02\x00\x01a\xff\xff\xff\xff\xff\xff\xff\xff" + end,
	"large file":           magic + entry(2, "a", strings.Repeat("x", 1<<20+1)) + end,
}

func TestUnpackRefuses(t *testing.T) {
	cases := maps.Clone(hostile)
	cases["many"], cases["large whole"] = magic, magic
	for i := range 101 {
		cases["many"] += entry(1, string(rune('A'+i)), "")
	}
	for i := range 5 {
		cases["large whole"] += entry(2, string(rune('A'+i)), strings.Repeat("x", 1<<20))
	}
	for name, archive := range cases {
		parent := t.TempDir()
		err := blob.Unpack(strings.NewReader(archive), filepath.Join(parent, "out"), limits)
		_, form := errors.AsType[*blob.ArchiveError](err)
		_, tooLarge := errors.AsType[*blob.TooLargeError](err)
		if !form && !tooLarge {
			t.Errorf("%s: %v", name, err)
		}
		if files, err := os.ReadDir(parent); err != nil || len(files) > 0 {
			t.Errorf("%s: %d files are left, %v", name, len(files), err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(magic + entry(1, "a", "") + entry(2, "a/b", "xyz") + entry(2, "a-b", "") + end))
	for _, archive := range hostile {
		if len(archive) < 1000 {
			f.Add([]byte(archive))
		}
	}
	small := blob.Limits{MaxEntries: 20, MaxFileBytes: 1 << 10, MaxBytes: 4 << 10}
	f.Fuzz(func(t *testing.T, archive []byte) {
		parent := t.TempDir()
		out := filepath.Join(parent, "out")
		if err := blob.Unpack(bytes.NewReader(archive), out, small); err != nil {
			if files, err := os.ReadDir(parent); err != nil || len(files) > 0 {
				t.Fatalf("%d files are left, %v", len(files), err)
			}
			return
		}
		if again := pack(t, out); !bytes.Equal(again, archive) {
			t.Fatalf("%q unpacks, and packs as %q", archive, again)
		}
	})
}
