package blob_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

const chunk = blob.ChunkBytes

// content returns the same bytes for the same size.
func content(size int) []byte {
	out := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(out); err != nil {
		panic(err)
	}
	return out
}

func config(dir string) blob.Config {
	return blob.Config{Dir: dir, MaxBytes: 64 << 20, MaxBlobBytes: 32 << 20, Log: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, cfg blob.Config) *blob.Store {
	t.Helper()
	s, err := blob.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func fresh(t testing.TB) *blob.Store { return open(t, config(t.TempDir())) }

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func put(t testing.TB, s *blob.Store, data []byte) crypto.Digest {
	t.Helper()
	id, size, err := s.Put(deadline(t), bytes.NewReader(data), int64(len(data)))
	if err != nil || size != int64(len(data)) {
		t.Fatalf("%d of %d bytes: %v", size, len(data), err)
	}
	return id
}

func read(t testing.TB, s *blob.Store, id crypto.Digest) []byte {
	t.Helper()
	b, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

var sizes = []int{0, 1, chunk - 1, chunk, chunk + 1, 3*chunk + 7}

func TestIDsAreFrozen(t *testing.T) {
	var got strings.Builder
	for _, size := range sizes {
		fmt.Fprintf(&got, "%d %s\n", size, blob.Sum(content(size)))
	}
	golden.Check(t, "testdata/ids.txt", got.String())
}

func TestPutAndRead(t *testing.T) {
	s := fresh(t)
	for _, size := range sizes {
		data := content(size)
		id, n, err := s.Put(deadline(t), iotest.HalfReader(bytes.NewReader(data)), 1<<20)
		if err != nil || n != int64(size) || id != blob.Sum(data) {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
		if length, err := s.Length(id); err != nil || length != int64(size) || !s.Has(id) {
			t.Fatalf("%d bytes: length %d, %v", size, length, err)
		}
		if !bytes.Equal(read(t, s, id), data) {
			t.Fatalf("%d bytes changed", size)
		}
		b, err := s.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(b, data); err != nil { // reads and seeks in every way
			t.Fatalf("%d bytes: %v", size, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Open(crypto.Digest{1}); !errors.Is(err, blob.ErrNotFound) {
		t.Fatalf("a blob that is not there: %v", err)
	}
}

func TestPutRefuses(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBlobBytes = 4 * chunk
	s := open(t, cfg)
	broken := errors.New("broken pipe")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	data := content(2 * chunk)
	cases := map[string]func() error{
		"above the caller's limit": func() error { return failed(s.Put(deadline(t), bytes.NewReader(data), 2*chunk-1)) },
		"above the store's limit":  func() error { return failed(s.Put(deadline(t), bytes.NewReader(content(5*chunk)), 1<<30)) },
		"a reader that fails": func() error {
			return failed(s.Put(deadline(t), io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), 1<<30))
		},
		"a caller that leaves": func() error { return failed(s.Put(cancelled, bytes.NewReader(data), 1<<30)) },
		"another blob": func() error {
			_, err := s.PutVerified(deadline(t), bytes.NewReader(data), blob.Sum(data[1:]), 1<<30)
			return err
		},
	}
	for name, do := range cases {
		err := do()
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
		_, tooLarge := errors.AsType[*blob.TooLargeError](err)
		_, corrupt := errors.AsType[*blob.CorruptError](err)
		if !tooLarge && !corrupt && !errors.Is(err, broken) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if blobs, used := s.Usage(); blobs != 0 || used != 0 {
		t.Fatalf("%d blobs, %d bytes after failures", blobs, used)
	}
	noFiles(t, cfg.Dir, "tmp", "blobs")
	if n, err := s.PutVerified(deadline(t), bytes.NewReader(data), blob.Sum(data), 1<<30); err != nil || n != int64(len(data)) {
		t.Fatal(err)
	}
}

func failed(_ crypto.Digest, _ int64, err error) error { return err }

func noFiles(t *testing.T, dir string, rooms ...string) {
	t.Helper()
	for _, room := range rooms {
		files, err := os.ReadDir(filepath.Join(dir, room))
		if err != nil || len(files) > 0 {
			t.Fatalf("%d files in %s, %v", len(files), room, err)
		}
	}
}

func TestConcurrentPutsOfOneBlob(t *testing.T) {
	s := fresh(t)
	data := content(3 * chunk)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if id, _, err := s.Put(context.Background(), bytes.NewReader(data), 1<<30); err != nil || id != blob.Sum(data) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if blobs, used := s.Usage(); blobs != 1 || used != 3*chunk+8+3*32 {
		t.Fatalf("%d blobs, %d bytes", blobs, used)
	}
	if !bytes.Equal(read(t, s, blob.Sum(data)), data) {
		t.Fatal("the blob changed")
	}
}

// diskBytes adds up the files of a store.
func diskBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var total int64
	for _, room := range []string{"blobs", "partial", "tmp"} {
		files, err := os.ReadDir(filepath.Join(dir, room))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				t.Fatal(err)
			}
			total += info.Size()
		}
	}
	return total
}

func TestEviction(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes = 4 * (chunk + 40)
	s := open(t, cfg)
	ids := make([]crypto.Digest, 5)
	for i := range 4 {
		ids[i] = put(t, s, content(chunk-i))
	}
	if err := s.Pin(ids[0]); err != nil {
		t.Fatal(err)
	}
	reading, err := s.Open(ids[1])
	if err != nil {
		t.Fatal(err)
	}
	read(t, s, ids[2]) // used after ids[3]
	ids[4] = put(t, s, content(chunk-4))
	for i, want := range []bool{true, true, true, false, true} {
		if s.Has(ids[i]) != want {
			t.Errorf("blob %d: %v, want %v", i, !want, want)
		}
	}
	if used := diskBytes(t, cfg.Dir); used > cfg.MaxBytes {
		t.Fatalf("%d bytes on disk, limit %d", used, cfg.MaxBytes)
	}
	for _, id := range []crypto.Digest{ids[2], ids[4]} {
		if err := s.Pin(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := failed(s.Put(deadline(t), bytes.NewReader(content(chunk-5)), chunk)); !errors.Is(err, blob.ErrFull) {
		t.Fatalf("no room: %v", err)
	}
	if err := errors.Join(reading.Close(), s.Unpin(ids[2])); err != nil {
		t.Fatal(err)
	}
	put(t, s, content(chunk-5))
	if s.Has(ids[1]) || !s.Has(ids[2]) {
		t.Fatal("the blob used longest ago is still there, or another is gone")
	}
	if err := s.Remove(ids[0]); err == nil {
		t.Fatal("a pinned blob is removed")
	}
	if err := errors.Join(s.Unpin(ids[0]), s.Remove(ids[0]), s.Remove(ids[0])); err != nil || s.Has(ids[0]) {
		t.Fatal(err)
	}
}

func TestRestart(t *testing.T) {
	cfg := config(t.TempDir())
	s := open(t, cfg)
	pinned, oldest, newest := content(chunk), content(2*chunk), content(3*chunk)
	for _, data := range [][]byte{pinned, oldest, newest} {
		put(t, s, data)
	}
	if err := s.Pin(blob.Sum(pinned)); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(cfg); !errors.Is(err, blob.ErrInUse) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(room, name string) string { return filepath.Join(cfg.Dir, room, name) }
	torn, orphan := blob.Sum(content(5)).String(), blob.Sum(content(6)).String()
	for path, data := range map[string][]byte{
		at("tmp", "1"):                 content(10),
		at("blobs", orphan+".outline"): make([]byte, 8),
		at("blobs", torn):              content(4),
		at("blobs", torn+".outline"):   make([]byte, 8),
		at("partial", orphan):          content(4),
		at("partial", torn+".outline"): make([]byte, 3),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(at("blobs", blob.Sum(oldest).String()), past, past); err != nil {
		t.Fatal(err)
	}
	cfg.MaxBytes = 5 * chunk // one has to go
	s = open(t, cfg)
	if blobs, _ := s.Usage(); blobs != 2 || s.Has(blob.Sum(oldest)) {
		t.Fatalf("%d blobs", blobs)
	}
	for _, data := range [][]byte{pinned, newest} {
		if !bytes.Equal(read(t, s, blob.Sum(data)), data) {
			t.Fatal("a blob changed")
		}
	}
	if _, used := s.Usage(); used != diskBytes(t, cfg.Dir) {
		t.Fatalf("%d bytes counted, %d on disk", used, diskBytes(t, cfg.Dir))
	}
	noFiles(t, cfg.Dir, "tmp", "partial")
	put(t, s, content(4*chunk-1000)) // newest has to go, pinned must not
	if !s.Has(blob.Sum(pinned)) || s.Has(blob.Sum(newest)) {
		t.Fatal("a pin did not survive the restart")
	}
}

func TestDiskCorruptionIsNamedByItsChunk(t *testing.T) {
	cfg := config(t.TempDir())
	s := open(t, cfg)
	data := content(3 * chunk)
	id := put(t, s, data)
	flip(t, filepath.Join(cfg.Dir, "blobs", id.String()), chunk+5)
	b, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	corrupt, ok := errors.AsType[*blob.CorruptError](err)
	if !ok || corrupt.Chunk != 1 || !bytes.Equal(got, data[:chunk]) {
		t.Fatalf("%d bytes, then %v", len(got), err)
	}
	if err := b.Close(); err != nil || s.Has(id) {
		t.Fatalf("the corrupt blob is still there, %v", err)
	}
	put(t, s, data)
	if !bytes.Equal(read(t, s, id), data) {
		t.Fatal("the blob cannot be had anew")
	}
	flip(t, filepath.Join(cfg.Dir, "blobs", id.String()+".outline"), 9)
	if _, err := s.Open(id); !isCorrupt(err, -1) || s.Has(id) {
		t.Fatalf("a corrupt outline: %v", err)
	}
}

func isCorrupt(err error, chunk int) bool {
	corrupt, ok := errors.AsType[*blob.CorruptError](err)
	return ok && corrupt.Chunk == chunk
}

func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err1 := f.ReadAt(b[:], offset)
	b[0] ^= 1
	_, err2 := f.WriteAt(b[:], offset)
	if err := errors.Join(err1, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := config(t.TempDir())
	for name, spoil := range map[string]func(*blob.Config){
		"Dir":          func(c *blob.Config) { c.Dir = "" },
		"MaxBytes":     func(c *blob.Config) { c.MaxBytes = 0 },
		"MaxBlobBytes": func(c *blob.Config) { c.MaxBlobBytes = blob.MaxBytes + 1 },
		"MaxServing":   func(c *blob.Config) { c.MaxServing = -1 },
		"Log":          func(c *blob.Config) { c.Log = nil },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := blob.Open(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := filepath.Join(good.Dir, "blobs", hex.EncodeToString([]byte("no digest")))
	if err := errors.Join(os.MkdirAll(filepath.Dir(stranger), 0o700), os.WriteFile(stranger, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(good); err == nil {
		t.Error("a file that is no blob is ignored")
	}
}

// Small blobs take files and memory that their bytes do not show.
func TestBlobsAreCounted(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes = 16 << 20 // room for 1,024 blobs
	s := open(t, cfg)
	var ids []crypto.Digest
	for i := range 1_030 {
		id := put(t, s, fmt.Appendf(nil, "blob %d", i))
		ids = append(ids, id)
		if i == 2 {
			if err := s.Pin(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if blobs, _ := s.Usage(); blobs != 1_024 || s.Has(ids[0]) || !s.Has(ids[2]) || s.Has(ids[6]) || !s.Has(ids[7]) {
		t.Errorf("%d blobs are left", blobs)
	}
}
