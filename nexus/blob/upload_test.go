package blob_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

// outlineOf is a blob's outline, by the format that the package comment gives.
func outlineOf(data []byte) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(len(data)))
	for len(data) > 0 {
		n := min(len(data), blob.ChunkBytes)
		digest := crypto.DomainBlobChunk.Hash(data[:n])
		out, data = append(out, digest[:]...), data[n:]
	}
	return out
}

var errBroken = errors.New("the line is cut")

// upload is an outline, and data from an offset on that breaks off after so many
// bytes.
func upload(data []byte, from, broken int) io.Reader {
	return io.MultiReader(bytes.NewReader(outlineOf(data)), bytes.NewReader(data[from:broken]), failing{})
}

func bring(from int64, body io.Reader, limit int64) blob.Upload {
	return blob.Upload{From: from, Body: body, Limit: limit, Abort: func() {}}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

func openUploads(t *testing.T, dir string) *blob.Store {
	t.Helper()
	return openStalling(t, dir, 20*time.Millisecond)
}

func openStalling(t *testing.T, dir string, stall time.Duration) *blob.Store {
	t.Helper()
	s, err := blob.Open(blob.Config{Dir: dir, MaxBytes: 8 << 20, MaxBlobBytes: 4 << 20, Stall: stall, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestUploadsGoOn breaks uploads off at many places, closes the store in between,
// damages what it kept, and goes on.
func TestUploadsGoOn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 5*blob.ChunkBytes+777)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	id, dir := blob.Sum(data), filepath.Join(t.TempDir(), "store")
	s := openUploads(t, dir)
	for _, cut := range []int{0, 100, blob.ChunkBytes + 5, 3*blob.ChunkBytes - 1, 4 * blob.ChunkBytes} {
		have, _ := s.Verified(id)
		if _, err := s.Receive(t.Context(), id, bring(have, upload(data, int(have), max(int(have), cut)), 4<<20)); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		have, whole := s.Verified(id)
		if want := int64(cut / blob.ChunkBytes * blob.ChunkBytes); have != want || whole {
			t.Errorf("after %d bytes %d are verified, %v, want %d", cut, have, whole, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openUploads(t, dir)
	}
	_, err := s.Receive(t.Context(), id, bring(5*blob.ChunkBytes, upload(data, 5*blob.ChunkBytes, len(data)), 4<<20))
	if offset, ok := errors.AsType[*blob.OffsetError](err); !ok || offset.Have != 4*blob.ChunkBytes {
		t.Errorf("behind what is there: %v", err)
	}
	kept := filepath.Join(dir, "partial", id.String())
	damaged, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	damaged[2*blob.ChunkBytes+1] ^= 1
	if err := os.WriteFile(kept, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Receive(t.Context(), id, bring(4*blob.ChunkBytes, upload(data, 4*blob.ChunkBytes, len(data)), 4<<20))
	if offset, ok := errors.AsType[*blob.OffsetError](err); !ok || offset.Have != 2*blob.ChunkBytes {
		t.Errorf("on a damaged beginning: %v", err)
	}
	if n, err := s.Receive(t.Context(), id, bring(blob.ChunkBytes, upload(data, blob.ChunkBytes, len(data)), 4<<20)); err != nil || n != int64(len(data)) {
		t.Fatalf("%d, %v", n, err)
	}
	b, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n, whole := s.Verified(id); n != int64(len(data)) || !whole {
		t.Errorf("%d, %v", n, whole)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// asking asks the store how much it has before it gives the first byte.
type asking struct {
	io.Reader
	ask func()
}

func (a *asking) Read(p []byte) (int, error) {
	if a.ask != nil {
		a.ask()
		a.ask = nil
	}
	return a.Reader.Read(p)
}

// TestUploadsTellWhatIsThere asks how much there is while an upload that goes on has
// brought nothing yet: who asks then would begin anew if the answer were nothing.
func TestUploadsTellWhatIsThere(t *testing.T) {
	data := bytes.Repeat([]byte("hypermesh"), blob.ChunkBytes/2)
	id := blob.Sum(data)
	s := openUploads(t, filepath.Join(t.TempDir(), "store"))
	if _, err := s.Receive(t.Context(), id, bring(0, upload(data, 0, 3*blob.ChunkBytes+1), 4<<20)); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	asked := false
	body := &asking{upload(data, 3*blob.ChunkBytes, len(data)), func() {
		asked = true
		if have, whole := s.Verified(id); have != 3*blob.ChunkBytes || whole {
			t.Errorf("while nothing has come yet, %d bytes are verified, %v", have, whole)
		}
	}}
	if _, err := s.Receive(t.Context(), id, bring(3*blob.ChunkBytes, body, 4<<20)); !errors.Is(err, errBroken) && err != nil || !asked {
		t.Fatal(err, asked)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestUploadsAreVerifiedOnTheWay refuses what is not the blob at the chunk where
// it is not, and keeps nothing of it.
func TestUploadsAreVerifiedOnTheWay(t *testing.T) {
	data := bytes.Repeat([]byte("true and tested "), 3*blob.ChunkBytes/16)
	id := blob.Sum(data)
	s := openUploads(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	bad := bytes.Clone(data)
	bad[blob.ChunkBytes+1] ^= 1
	_, err := s.Receive(t.Context(), id, bring(0, io.MultiReader(bytes.NewReader(outlineOf(data)), bytes.NewReader(bad)), 4<<20))
	if corrupt, ok := errors.AsType[*blob.CorruptError](err); !ok || corrupt.Chunk != 1 {
		t.Errorf("a changed chunk: %v", err)
	}
	if have, whole := s.Verified(id); have != blob.ChunkBytes || whole {
		t.Errorf("%d bytes are kept, %v", have, whole)
	}
	if _, err := s.Receive(t.Context(), id, bring(0, upload(bad, 0, len(bad)), 4<<20)); err == nil {
		t.Error("another blob's outline was taken")
	}
	if _, err := s.Receive(t.Context(), id, bring(0, upload(data, 0, len(data)), 1<<10)); err == nil {
		t.Error("a blob above the limit was taken")
	}
	if _, err := s.Receive(t.Context(), id, bring(5, upload(data, 5, len(data)), 4<<20)); err == nil {
		t.Error("an offset within a chunk was taken")
	}
	s.Forget(id)
	if have, _ := s.Verified(id); have != 0 {
		t.Errorf("%d bytes of what was forgotten", have)
	}
	if _, bytes := s.Usage(); bytes != 0 {
		t.Errorf("%d bytes are in use", bytes)
	}
	huge := binary.BigEndian.AppendUint64(nil, 1<<62)
	if _, err := s.Receive(t.Context(), id, bring(0, bytes.NewReader(huge), 4<<20)); err == nil {
		t.Error("an outline of 2⁶² bytes was taken")
	}
	if n, err := s.Receive(t.Context(), blob.Sum(nil), bring(0, upload(nil, 0, 0), 4<<20)); err != nil || n != 0 {
		t.Errorf("the empty blob: %d, %v", n, err)
	}
}

// TestSlowUploadsKeepNobody has somebody upload a blob and give nothing more, and
// others bring and fetch the same.
func TestSlowUploadsKeepNobody(t *testing.T) {
	data := bytes.Repeat([]byte("true and tested "), 3*blob.ChunkBytes/16)
	id := blob.Sum(data)
	for name, overtake := range map[string]func(s *blob.Store) error{
		"upload": func(s *blob.Store) error {
			_, err := s.Receive(t.Context(), id, bring(blob.ChunkBytes, upload(data, blob.ChunkBytes, len(data)), 4<<20))
			return err
		},
		"fetch": func(s *blob.Store) error {
			if _, err := s.Fetch(t.Context(), id, 4<<20); !errors.Is(err, blob.ErrNotFound) {
				return err
			}
			_, err := s.Receive(t.Context(), id, bring(blob.ChunkBytes, upload(data, blob.ChunkBytes, len(data)), 4<<20))
			return err
		},
	} {
		s := openUploads(t, t.TempDir())
		r, w := io.Pipe()
		slow := make(chan error, 1)
		go func() {
			_, err := s.Receive(t.Context(), id, blob.Upload{Body: r, Limit: 4 << 20, Abort: func() { _ = r.CloseWithError(errBroken) }}) // never fails
			slow <- err
		}()
		if _, err := w.Write(outlineOf(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data[:blob.ChunkBytes+1]); err != nil { // returns once the next chunk is being read
			t.Fatal(err)
		}
		for have := int64(0); have < blob.ChunkBytes; have, _ = s.Verified(id) { // shows while it comes
		}
		if err := overtake(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-slow; err == nil {
			t.Errorf("%s: the slow upload ended well", name)
		}
		if _, whole := s.Verified(id); !whole {
			t.Errorf("%s: the blob is not here", name)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUploadsAreNotInterrupted has strangers who know no more than a blob's id, and
// others who have the blob, bring and fetch what somebody is bringing.
func TestUploadsAreNotInterrupted(t *testing.T) { synctest.Test(t, uploadsAreNotInterrupted) }

func uploadsAreNotInterrupted(t *testing.T) {
	data := bytes.Repeat([]byte("true and tested "), 3*blob.ChunkBytes/16)
	id := blob.Sum(data)
	s := openStalling(t, t.TempDir(), time.Hour)
	by := func(name string, u blob.Upload) blob.Upload { u.By = name; return u }
	begin := func(name string, from int64) (io.Writer, chan error) {
		r, w := io.Pipe()
		end := make(chan error, 1)
		go func() {
			_, err := s.Receive(t.Context(), id, by(name, blob.Upload{Body: r, From: from, Limit: 4 << 20, Abort: func() { _ = r.CloseWithError(errBroken) }})) // never fails
			end <- err
		}()
		if _, err := w.Write(outlineOf(data)); err != nil {
			t.Fatal(err)
		}
		return w, end
	}
	first, firstEnd := begin("a", 0)
	if _, err := first.Write(data[:blob.ChunkBytes+1]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(t.Context(), id, by("b", bring(0, failing{}, 4<<20))); !errors.Is(err, errBroken) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := s.Receive(t.Context(), id, by("b", bring(0, upload(data[1:], 0, 0), 4<<20))); err == nil {
		t.Error("another's outline was taken")
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Receive(short, id, by("b", bring(0, upload(data, 0, len(data)), 4<<20))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who has the blob, too: %v", err)
	}
	if _, err := s.Fetch(short, id, 4<<20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fetching: %v", err)
	}
	if _, err := first.Write(data[blob.ChunkBytes+1 : 2*blob.ChunkBytes+1]); err != nil {
		t.Errorf("the upload was interrupted: %v", err)
	}
	second, secondEnd := begin("a", blob.ChunkBytes)
	if err := <-firstEnd; err == nil {
		t.Error("the first upload ended well")
	}
	if _, err := second.Write(data[blob.ChunkBytes:]); err != nil {
		t.Errorf("the same uploader again: %v", err)
	}
	if err := <-secondEnd; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestUploadsThatComeLate has the beginning of an upload come, of the same uploader,
// while the one that goes on already brings the blob: it does not take over, and ends
// well once the blob is here.
func TestUploadsThatComeLate(t *testing.T) { synctest.Test(t, uploadsThatComeLate) }

func uploadsThatComeLate(t *testing.T) {
	data := bytes.Repeat([]byte("true and tested "), 3*blob.ChunkBytes/16)
	id := blob.Sum(data)
	s := openStalling(t, t.TempDir(), time.Hour)
	r, w := io.Pipe()
	end := make(chan error, 2)
	go func() {
		_, err := s.Receive(t.Context(), id, blob.Upload{By: "a", Body: r, Limit: 4 << 20, Abort: func() { _ = r.CloseWithError(errBroken) }}) // never fails
		end <- err
	}()
	if _, err := w.Write(append(outlineOf(data), data[:blob.ChunkBytes+1]...)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	go func() {
		_, err := s.Receive(t.Context(), id, blob.Upload{By: "a", Body: upload(data, 0, blob.ChunkBytes), Limit: 4 << 20, Abort: func() {}})
		end <- err
	}()
	synctest.Wait()
	for at := blob.ChunkBytes + 1; at < len(data); at += blob.ChunkBytes / 2 {
		time.Sleep(400 * time.Millisecond)
		if _, err := w.Write(data[at:min(len(data), at+blob.ChunkBytes/2)]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := <-end; err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestBeginningsStay has others ask for less than there is of a blob, and checks who
// is said to have brought it.
func TestBeginningsStay(t *testing.T) {
	data := bytes.Repeat([]byte("true and tested "), 3*blob.ChunkBytes/16)
	id := blob.Sum(data)
	s := openUploads(t, t.TempDir())
	if kept, err := s.Receive(t.Context(), id, bring(0, upload(data, 0, 2*blob.ChunkBytes+9), 4<<20)); err == nil || kept != 2*blob.ChunkBytes {
		t.Errorf("%d bytes kept, %v", kept, err)
	}
	if kept, err := s.Receive(t.Context(), id, bring(0, upload(data, 0, 2*blob.ChunkBytes+9), 4<<20)); err == nil || kept != 0 {
		t.Errorf("%d bytes kept of what was there, %v", kept, err)
	}
	_, err := s.Fetch(t.Context(), id, 1<<10)
	if _, ok := errors.AsType[*blob.TooLargeError](err); !ok {
		t.Errorf("fetching with a small limit: %v", err)
	}
	if have, _ := s.Verified(id); have != 2*blob.ChunkBytes {
		t.Errorf("%d bytes are left", have)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
