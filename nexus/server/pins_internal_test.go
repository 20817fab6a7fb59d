package server

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/blob"
)

// TestLentBlobsTakeHalf lends blobs until they are too many bytes: the oldest gives way.
func TestLentBlobsTakeHalf(t *testing.T) {
	store, err := blob.Open(blob.Config{Dir: t.TempDir(), MaxBytes: 8 << 20, MaxBlobBytes: 4 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	p := newPins(store, 2<<20)
	for i, size := range []int{1 << 20, 1 << 20, 100, 3 << 20, 100} {
		id, _, err := store.Put(t.Context(), bytes.NewReader(bytes.Repeat([]byte{byte(i)}, size)), 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		p.lend(id)
		p.lend(id) // again, which counts once
		if _, kept := p.lent[id]; !kept {
			t.Errorf("the newest, of %d bytes, is not lent", size)
		}
		if p.bytes > p.most && len(p.lent) > 1 {
			t.Errorf("%d blobs of %d bytes are lent, limit %d", len(p.lent), p.bytes, p.most)
		}
	}
	if len(p.lent) != 1 || p.bytes != 100 {
		t.Errorf("%d blobs of %d bytes are lent, want the last", len(p.lent), p.bytes)
	}
}

// TestSharesOfOneClient gives a client its share and no more, and others theirs.
func TestSharesOfOneClient(t *testing.T) {
	s := newShares(2)
	first, ok := s.take("a")
	if !ok {
		t.Fatal("a has nothing yet")
	}
	if _, ok := s.take("a"); !ok {
		t.Error("a has one of two")
	}
	if _, ok := s.take("a"); ok {
		t.Error("a has three of two")
	}
	if done, ok := s.take("b"); !ok {
		t.Error("b has nothing yet")
	} else {
		done()
	}
	first()
	if _, ok := s.take("a"); !ok {
		t.Error("a gave one back")
	}
	if len(s.of) != 1 {
		t.Errorf("%d clients are remembered, want one", len(s.of))
	}
}
