package store

import (
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/internal/state"
)

// An index of cells says the same as a map, whatever the hashes have in common.
func TestCellIndexAgreesWithAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 7))
	for _, bits := range []uint32{0, 0xff, 0xffff0000, 0xfff, 0xffffffff} {
		x, model := newCellIndex(rng.IntN(3000)), map[uint32]int32{}
		last := func(hash uint32) int32 {
			if at, ok := model[hash]; ok {
				return at
			}
			return -1
		}
		for cell := range int32(20_000) {
			hash := rng.Uint32() & bits
			if got := x.get(hash); got != last(hash) {
				t.Fatalf("hashes of bits %x: the last cell of %x is %d, want %d", bits, hash, got, last(hash))
			}
			if got := x.set(hash, cell); got != last(hash) {
				t.Fatalf("hashes of bits %x: the cell of %x before %d is %d, want %d", bits, hash, cell, got, last(hash))
			}
			model[hash] = cell
		}
		for hash, want := range model {
			if got := x.get(hash); got != want {
				t.Fatalf("hashes of bits %x: the last cell of %x is %d in the end, want %d", bits, hash, got, want)
			}
		}
		if x.count != len(model) || len(x.slots)&(len(x.slots)-1) != 0 {
			t.Errorf("hashes of bits %x: %d are in use of %d places, want %d", bits, x.count, len(x.slots), len(model))
		}
	}
}

// Keys whose hashes share the half that the index looks at are told apart.
func TestPendingTellsKeysApart(t *testing.T) {
	p := newPending(nil)
	p.add(1, state.NewChangeList([]state.Change{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2")}}), nil)
	p.cells[1].before = p.newest.set(pendingHash([]byte("a")), 1) // as if b's hash were that of a
	for key, want := range map[string]string{"a": "1", "b": "2"} {
		if c, ok := p.get([]byte(key), pendingHash([]byte("a")), 1); !ok || string(c.Value) != want {
			t.Errorf("%s is %q, %v, want %s", key, c.Value, ok, want)
		}
	}
	if _, ok := p.get([]byte("c"), pendingHash([]byte("a")), 1); ok {
		t.Error("a key that nobody changed has the change of another")
	}
}

// Beside a large tree more changes may wait, unless a number was asked for.
func TestMoreChangesWaitBesideALargeTree(t *testing.T) {
	for nodes, want := range map[int]int{0: 32 << 20, 128 << 20: 32 << 20, 200 << 20: 50 << 20, 1 << 30: 128 << 20} {
		if got := pendingBeside(nodes); got != want {
			t.Errorf("beside %d bytes of nodes %d may wait, want %d", nodes, got, want)
		}
	}
	for asked, want := range map[int64]int{0: pendingBeside(0), 8 << 20: 8 << 20} {
		s, err := OpenMemory(Options{PendingBytes: asked})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.mostPending(); got != want {
			t.Errorf("asked for %d, %d may wait, want %d", asked, got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
