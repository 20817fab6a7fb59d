package store_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/store"
)

// alike returns ids of which many begin alike, in no order.
func alike(rng *rand.Rand, n int) []crypto.Digest {
	out := make([]crypto.Digest, n)
	for i := range out {
		out[i][7], out[i][20] = byte(rng.IntN(4)), byte(rng.Uint32())
		binary.BigEndian.PutUint32(out[i][28:], rng.Uint32())
	}
	return out
}

// Every transaction is where its block says, whether its block waits, is being
// flushed, was flushed, or was read again after a restart; and one that comes twice is
// where it came last.
func TestTransactionsAreFoundBeforeAndAfterFlushes(t *testing.T) {
	bounded(t)
	fs := vfs.NewMem()
	options := store.Options{TreeInterval: 4, PendingBytes: 1 << 20}
	s := must(store.OpenOn(fs, "db", options))(t)
	h := newHistory(s)
	rng := rand.New(rand.NewPCG(8, 8))
	where := map[crypto.Digest]store.Position{}
	var first []crypto.Digest
	for round := range 5 {
		for range 3 {
			f := h.next(t)
			f.Txs = alike(rng, 700) // enough for a flush that makes tables
			if first == nil {
				first = f.Txs
			} else {
				f.Txs = append(f.Txs, first[round])
			}
			for i, tx := range f.Txs {
				where[tx] = store.Position{Height: f.Height, Index: uint32(i)}
			}
			check(t, s.Commit(f))
			findAll(t, s, where)
		}
		if round%2 == 0 {
			check(t, s.Rest())
			findAll(t, s, where)
		}
		check(t, s.Close())
		s = must(store.OpenOn(fs, "db", options))(t)
		tip, _ := s.Latest()
		h.tree = must(s.OpenTree(tip.Height))(t)
		findAll(t, s, where)
	}
	if mark, ok := s.TreeMark(); !ok || mark.Version == 0 {
		t.Error("nothing was flushed")
	}
	check(t, s.Close())
}

func findAll(t *testing.T, s *store.Store, where map[crypto.Digest]store.Position) {
	t.Helper()
	for id, want := range where {
		if at, ok, err := s.TxPosition(id); err != nil || !ok || at != want {
			t.Fatalf("a transaction is at %v (%v, %v), want %v", at, ok, err, want)
		}
		id[31]++
		if _, known := where[id]; known {
			continue
		}
		if at, ok, err := s.TxPosition(id); err != nil || ok {
			t.Fatalf("a transaction that never was is at %v (%v)", at, err)
		}
	}
}

// A database of the format before has its latest transactions in the table: they are
// found, and it is marked, unless it is only read.
func TestTransactionsOfTheFormatBefore(t *testing.T) {
	fs := vfs.NewMem()
	s := must(store.OpenOn(fs, "db", store.Options{}))(t)
	h := newHistory(s)
	for range 3 {
		f := h.next(t)
		check(t, s.Commit(f))
		check(t, s.SetRaw(binary.BigEndian.AppendUint64([]byte{'i'}, uint64(f.Height)), nil))
		for i, tx := range f.Txs {
			at := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(f.Height)), uint32(i))
			check(t, s.SetRaw(append([]byte{'t'}, tx[:]...), at))
		}
	}
	check(t, s.SetFormat(4))
	check(t, s.Close())
	for _, readOnly := range []bool{true, false, false} {
		s := must(store.OpenOn(fs, "db", store.Options{ReadOnly: readOnly}))(t)
		for height := range chain.Height(3) {
			for i := range uint32(2) {
				if at, ok, err := s.TxPosition(id("tx %d/%d", height, i)); err != nil || !ok || at != (store.Position{Height: height, Index: i}) {
					t.Errorf("transaction %d of block %d is at %v (%v, %v)", i, height, at, ok, err)
				}
			}
		}
		format := must(s.Raw([]byte("mformat")))(t)
		if want := map[bool]byte{true: 4, false: 5}[readOnly]; len(format) != 1 || format[0] != want {
			t.Errorf("read only %v: the format is %x, want %d", readOnly, format, want)
		}
		check(t, s.Close())
	}
}

func TestDamagedListOfTransactionsIsNamed(t *testing.T) {
	fs := vfs.NewMem()
	s := must(store.OpenOn(fs, "db", store.Options{}))(t)
	h := newHistory(s)
	for range 3 {
		check(t, s.Commit(h.next(t)))
	}
	check(t, s.SetRaw(binary.BigEndian.AppendUint64([]byte{'i'}, 2), make([]byte, 33)))
	check(t, s.Close())
	if _, err := store.OpenOn(fs, "db", store.Options{}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}
