package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

// connected returns a connection whose peer answers every stream with serve.
func connected(t testing.TB, serve func(context.Context, *transport.Stream)) *transport.Conn {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := transport.Open(transport.Config{Key: crypto.GenerateKey(), ListenAddr: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	client, err := transport.Open(transport.Config{Key: crypto.GenerateKey(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen(transport.Protocol{Name: "blob", Admit: func(crypto.PublicKey) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := client.Dial(deadline(t), server.NodeAddr(), "blob")
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			stream, err := accepted.AcceptStream(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() { serve(context.Background(), stream) })
		}
	})
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return conn
}

// from returns a connection to a node that serves a store.
func from(t testing.TB, s *blob.Store) *transport.Conn {
	return connected(t, func(ctx context.Context, stream *transport.Stream) {
		_ = s.Serve(ctx, stream) // what it met, the asker says as well
	})
}

func TestFetch(t *testing.T) {
	there := fresh(t)
	conn := from(t, there)
	for _, size := range sizes {
		here := fresh(t)
		data := content(size)
		id := put(t, there, data)
		for range 2 { // the second time it is there already
			if n, err := here.Fetch(deadline(t), id, int64(size), conn); err != nil || n != int64(size) {
				t.Fatalf("%d bytes: %d, %v", size, n, err)
			}
		}
		if !bytes.Equal(read(t, here, id), data) {
			t.Fatalf("%d bytes changed", size)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	there := fresh(t)
	conn := from(t, there)
	cfg := config(t.TempDir())
	cfg.MaxBytes = 8 * chunk
	here := open(t, cfg)
	big := put(t, there, content(20*chunk))
	_, err := here.Fetch(deadline(t), big, 20*chunk-1, conn)
	if _, ok := errors.AsType[*blob.TooLargeError](err); !ok {
		t.Errorf("above the limit by one byte: %v", err)
	}
	_, err = here.Fetch(deadline(t), big, 1, conn)
	if _, ok := errors.AsType[*blob.TooLargeError](err); !ok {
		t.Errorf("far above the limit: %v", err)
	}
	if _, err = here.Fetch(deadline(t), big, 1<<30, conn); !errors.Is(err, blob.ErrFull) {
		t.Errorf("no room: %v", err)
	}
	if _, err = here.Fetch(deadline(t), crypto.Digest{1}, 1<<30, conn, conn); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("nobody has it: %v", err)
	}
	if _, err = here.Fetch(deadline(t), crypto.Digest{1}, 1<<30); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("nobody is asked: %v", err)
	}
	if _, used := here.Usage(); used > cfg.MaxBytes || used != diskBytes(t, cfg.Dir) {
		t.Errorf("%d bytes counted, %d on disk", used, diskBytes(t, cfg.Dir))
	}
	put(t, here, content(6*chunk)) // what the failed fetch left gives way
}

// tampering serves a store, but for what alter does to the bytes on the wire.
func tampering(t testing.TB, s *blob.Store, alter func(wire []byte) []byte) *transport.Conn {
	honest := from(t, s)
	return connected(t, func(ctx context.Context, stream *transport.Stream) {
		wire, err := answerOf(ctx, honest, stream)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = stream.Write(alter(wire)) // the asker may have left
		_ = stream.Close()
	})
}

// answerOf returns what an honest source answers to the request on a stream.
func answerOf(ctx context.Context, honest *transport.Conn, stream *transport.Stream) ([]byte, error) {
	up, err := honest.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	request, err := io.ReadAll(stream)
	if err == nil {
		_, err = up.Write(request)
	}
	if err := errors.Join(err, up.CloseWrite()); err != nil {
		return nil, err
	}
	return io.ReadAll(up)
}

// TestFetchGoesOnElsewhere meets a source that corrupts chunk 3, one that cuts
// the stream in chunk 5, one that corrupts the last, one that lacks the blob, and
// at last an honest one, which is asked only for what is missing.
func TestFetchGoesOnElsewhere(t *testing.T) {
	there, here := fresh(t), fresh(t)
	data := content(8*chunk + 100)
	id := put(t, there, data)
	corrupting := tampering(t, there, func(wire []byte) []byte {
		at := 5*chunk + 50 // from the end: in chunk 3
		if len(wire) < 5*chunk {
			at = 50 // in the last one, when it is asked for the rest
		}
		wire[len(wire)-at] ^= 1
		return wire
	})
	_, err := here.Fetch(deadline(t), id, 1<<30, corrupting)
	if !isCorrupt(err, 3) || here.Has(id) {
		t.Fatalf("corrupt chunk 3: %v", err)
	}
	var asked atomic.Int64
	cutting := tampering(t, there, func(wire []byte) []byte {
		asked.Store(int64(len(wire)))
		return wire[:2*chunk+chunk/2]
	})
	_, err = here.Fetch(deadline(t), id, 1<<30, cutting)
	if !errors.Is(err, io.ErrUnexpectedEOF) || asked.Load() > 5*chunk+200 || asked.Load() < 5*chunk {
		t.Fatalf("resumed with %d bytes: %v", asked.Load(), err)
	}
	honest := tampering(t, there, func(wire []byte) []byte {
		asked.Store(int64(len(wire)))
		return wire
	})
	n, err := here.Fetch(deadline(t), id, 1<<30, corrupting, from(t, fresh(t)), honest)
	if err != nil || n != int64(len(data)) || asked.Load() > 200 {
		t.Fatalf("resumed with %d bytes: %v", asked.Load(), err)
	}
	if !bytes.Equal(read(t, here, id), data) {
		t.Fatal("the blob changed")
	}
}

// TestASourceLearnsThatItsDiskChanged has it changed in a chunk that no answer
// begins with: what came of it is refused and not kept, the source is asked from
// there on and drops the blob, and another source gives the rest.
func TestASourceLearnsThatItsDiskChanged(t *testing.T) {
	cfg := config(t.TempDir())
	there, other, here := open(t, cfg), fresh(t), fresh(t)
	data := content(5*chunk + 100)
	id := put(t, there, data)
	put(t, other, data)
	flip(t, filepath.Join(cfg.Dir, "blobs", id.String()), 3*chunk+7)
	conn := from(t, there)
	_, err := here.Fetch(deadline(t), id, 1<<30, conn)
	if !isCorrupt(err, 3) || here.Has(id) {
		t.Fatalf("a chunk that the disk changed: %v", err)
	}
	if have, _ := here.Verified(id); have != 3*chunk {
		t.Errorf("%d bytes are kept, want the three chunks before it", have)
	}
	if there.Has(id) {
		t.Error("the source still has the blob")
	}
	if n, err := here.Fetch(deadline(t), id, 1<<30, conn, from(t, other)); err != nil || n != int64(len(data)) || !bytes.Equal(read(t, here, id), data) {
		t.Errorf("from another: %d bytes, %v", n, err)
	}
}

// TestResumeAfterRestart cuts a fetch, restarts the store, spoils one chunk on
// disk, and sees that only what follows is fetched again.
func TestResumeAfterRestart(t *testing.T) {
	there := fresh(t)
	data := content(8 * chunk)
	id := put(t, there, data)
	cfg := config(t.TempDir())
	here := open(t, cfg)
	cutting := tampering(t, there, func(wire []byte) []byte { return wire[:6*chunk+chunk/2] })
	if _, err := here.Fetch(deadline(t), id, 1<<30, cutting); err == nil {
		t.Fatal("the fetch was not cut")
	}
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(cfg.Dir, "partial", id.String()), 4*chunk+1)
	here = open(t, cfg)
	if _, used := here.Usage(); used != diskBytes(t, cfg.Dir) {
		t.Fatalf("%d bytes counted, %d on disk", used, diskBytes(t, cfg.Dir))
	}
	var asked int
	rest := tampering(t, there, func(wire []byte) []byte { asked = len(wire); return wire })
	if _, err := here.Fetch(deadline(t), id, 1<<30, rest); err != nil {
		t.Fatal(err)
	}
	if asked < 4*chunk || asked > 4*chunk+100 {
		t.Fatalf("fetched %d bytes, want 4 chunks", asked)
	}
	if !bytes.Equal(read(t, here, id), data) {
		t.Fatal("the blob changed")
	}
	noFiles(t, cfg.Dir, "partial", "tmp")
	if _, used := here.Usage(); used != diskBytes(t, cfg.Dir) {
		t.Fatalf("%d bytes counted, %d on disk", used, diskBytes(t, cfg.Dir))
	}
}

// TestHostileAnswers gives answers that no store gives.
func TestHostileAnswers(t *testing.T) {
	type answer struct {
		_       struct{} `cbor:",toarray"`
		Refusal string
		Outline []byte
	}
	say := func(a answer) []byte {
		var out bytes.Buffer
		if err := transport.WriteMessage(&out, codec.Marshal(a)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for name, wire := range map[string][]byte{
		"nothing":                     nil,
		"a huge length":               {0xff, 0xff, 0xff, 0xff},
		"no CBOR":                     {0, 0, 0, 1, 0xff},
		"no outline":                  say(answer{}),
		"another outline":             say(answer{Outline: make([]byte, 8)}),
		"an outline of 2^63 bytes":    say(answer{Outline: bytes.Repeat([]byte{0x80}, 8)}),
		"an outline cut short":        say(answer{Outline: []byte{0, 0, 0, 0, 0, 0, 0, 1}}),
		"a refusal":                   say(answer{Refusal: "no"}),
		"a refusal without an end":    say(answer{Refusal: string(bytes.Repeat([]byte("x"), 200))}),
		"an outline in three-quarter": say(answer{Outline: make([]byte, 24)}),
	} {
		cfg := config(t.TempDir())
		s := open(t, cfg)
		conn := connected(t, func(_ context.Context, stream *transport.Stream) {
			_, _ = stream.Write(wire) // the asker may have left
			_ = stream.Close()
		})
		if _, err := s.Fetch(deadline(t), crypto.Digest{7}, 1<<30, conn); err == nil || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if _, used := s.Usage(); used != 0 {
			t.Errorf("%s: %d bytes are kept", name, used)
		}
		noFiles(t, cfg.Dir, "partial", "tmp", "blobs")
	}
}

func TestHostileRequests(t *testing.T) {
	s := fresh(t)
	errs := make(chan error, 1)
	conn := connected(t, func(ctx context.Context, stream *transport.Stream) { errs <- s.Serve(ctx, stream) })
	for name, wire := range map[string][]byte{
		"nothing":  {},
		"too long": {0, 0, 1, 0},
		"no CBOR":  {0, 0, 0, 1, 0xff},
		"short":    {0, 0, 0, 9, 1},
	} {
		stream, err := conn.OpenStream(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Write(wire); err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-errs; err == nil {
			t.Errorf("%s is served", name)
		}
	}
}

// A peer that takes nothing of what it asked for leaves room for others.
func TestOnePeerTakesHalf(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxServing = 4
	there := open(t, cfg)
	id := put(t, there, content(30<<20))
	greedy := from(t, there)
	for range 2 {
		stall(t, greedy, id)
	}
	if _, err := fresh(t).Fetch(deadline(t), id, 1<<30, greedy); err == nil || !bytes.Contains([]byte(err.Error()), []byte("busy")) {
		t.Fatalf("a third transfer: %v", err)
	}
	if _, err := fresh(t).Fetch(deadline(t), id, 1<<30, from(t, there)); err != nil {
		t.Fatal(err)
	}
}

func TestServingIsBounded(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxServing = 1
	there := open(t, cfg)
	id := put(t, there, content(30<<20))
	conn := from(t, there)
	stalled := stall(t, conn, id)
	if _, err := fresh(t).Fetch(deadline(t), id, 1<<30, conn); err == nil || !bytes.Contains([]byte(err.Error()), []byte("busy")) {
		t.Fatalf("a second transfer: %v", err)
	}
	stalled.Reset()
}

func TestConcurrentFetchesAreOne(t *testing.T) {
	there, here := fresh(t), fresh(t)
	data := content(5 * chunk)
	id := put(t, there, data)
	var served atomic.Int32
	conn := connected(t, func(ctx context.Context, stream *transport.Stream) {
		served.Add(1)
		_ = there.Serve(ctx, stream) // the askers check
	})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := here.Fetch(context.Background(), id, 1<<30, conn); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if served.Load() != 1 || !bytes.Equal(read(t, here, id), data) {
		t.Fatalf("%d transfers", served.Load())
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{})
	silent := connected(t, func(ctx context.Context, stream *transport.Stream) {
		if _, err := io.ReadAll(stream); err != nil {
			t.Error(err)
		}
		close(asked) // and says nothing
	})
	here := fresh(t)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := here.Fetch(ctx, crypto.Digest{1}, 1<<30, silent)
		failed <- err
	}()
	<-asked
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestServeOrFinds asks a store that lacks a blob and knows who has it.
func TestServeOrFinds(t *testing.T) {
	far, near := fresh(t), fresh(t)
	id := put(t, far, content(2*chunk))
	farther := from(t, far)
	conn := connected(t, func(ctx context.Context, stream *transport.Stream) {
		_ = near.ServeOr(ctx, stream, func(ctx context.Context, id crypto.Digest) error { // the asker says what went wrong
			_, err := near.Fetch(ctx, id, 1<<30, farther)
			return err
		})
	})
	here := fresh(t)
	if n, err := here.Fetch(deadline(t), id, 1<<30, conn); err != nil || n != 2*chunk {
		t.Fatalf("%d bytes: %v", n, err)
	}
	if _, err := here.Fetch(deadline(t), crypto.Digest{9}, 1<<30, conn); !errors.Is(err, blob.ErrNotFound) {
		t.Fatalf("a blob that nobody has: %v", err)
	}
}

func TestPinned(t *testing.T) {
	cfg := config(t.TempDir())
	s := open(t, cfg)
	for _, id := range []crypto.Digest{{3}, {1}, {2}} {
		if err := s.Pin(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Unpin(crypto.Digest{2}), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got := open(t, cfg).Pinned(); len(got) != 2 || got[0] != (crypto.Digest{1}) || got[1] != (crypto.Digest{3}) {
		t.Fatalf("pinned: %v", got)
	}
}

// TestPinnedBytes: what pinned blobs take is counted, whichever comes first, once for each, and over a restart.
func TestPinnedBytes(t *testing.T) {
	cfg := config(t.TempDir())
	s := open(t, cfg)
	content := make([]byte, 3*chunk+5)
	want := func(what string, n int64) {
		t.Helper()
		if got := s.PinnedBytes(); got != n {
			t.Errorf("%s: %d bytes are pinned, want %d", what, got, n)
		}
	}
	id, other := blob.Sum(content), put(t, s, content[:7])
	all := blob.StoredBytes(int64(len(content)))
	if err := errors.Join(s.Pin(id), s.Pin(id)); err != nil {
		t.Fatal(err)
	}
	want("pinned before it is there", 0)
	put(t, s, content)
	put(t, s, content)
	want("there", all)
	if err := errors.Join(s.Pin(other), s.Pin(other)); err != nil {
		t.Fatal(err)
	}
	want("another", all+blob.StoredBytes(7))
	if err := errors.Join(s.Unpin(other), s.Unpin(other)); err != nil {
		t.Fatal(err)
	}
	want("without that", all)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	want("after a restart", all)
	if err := s.Unpin(id); err != nil {
		t.Fatal(err)
	}
	want("nothing", 0)
}

// stall asks for a blob and reads no chunk of it.
func stall(t *testing.T, conn *transport.Conn, id crypto.Digest) *transport.Stream {
	t.Helper()
	stream, err := conn.OpenStream(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		_       struct{} `cbor:",toarray"`
		ID      crypto.Digest
		From    uint32
		Outline bool
	}
	if err := transport.WriteMessage(stream, codec.Marshal(request{ID: id, Outline: true})); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.ReadMessage(stream, 1<<20); err != nil {
		t.Fatal(err)
	}
	return stream
}
