package store

import (
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/internal/state"
)

// An index of cells says the same as a map, whatever the hashes have in common, in the
// memory of small ones and of large ones.
func TestCellIndexAgreesWithAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 7))
	for _, bits := range []uint32{0, 0xff, 0xffff0000, 0xfff, 0xffffffff} {
		var x cellIndex
		x.room(rng.IntN(3000))
		model := map[uint32]cell{}
		for i := range int32(120_000) {
			hash := rng.Uint32() & bits
			s := x.claim(hash)
			if s.cell != model[hash] {
				t.Fatalf("hashes of bits %x: the last change of %x is %v, want %v", bits, hash, s.cell, model[hash])
			}
			*s = cellSlot{hash, cell{i + 1, uint32(i), i - 1}}
			model[hash] = s.cell
		}
		for hash, want := range model {
			if got := x.slot(hash); got.cell != want || got.hash != hash {
				t.Fatalf("hashes of bits %x: the last change of %x is %v in the end, want %v", bits, hash, *got, want)
			}
		}
		if x.count != len(model) || len(x.slots)&(len(x.slots)-1) != 0 {
			t.Errorf("hashes of bits %x: %d are in use of %d places, want %d", bits, x.count, len(x.slots), len(model))
		}
	}
}

// Keys whose hashes share the half that the index looks at are told apart, and so are
// the heights of their changes.
func TestPendingTellsKeysApart(t *testing.T) {
	p := newPending(nil)
	p.add(1, state.NewChangeList([]state.Change{{Key: []byte("a"), Value: []byte("1")}}), 0, nil)
	list := state.NewChangeList([]state.Change{{Key: []byte("a"), Value: []byte("3")}, {Key: []byte("b"), Value: []byte("2")}})
	p.add(2, list, 0, nil)
	p.set(pendingHash([]byte("a")), cell{block: 2, place: list.Place(1)}) // as if b's hash were that of a
	for key, want := range map[string]string{"a": "3", "b": "2"} {
		if c, ok := p.get([]byte(key), pendingHash([]byte("a")), 2); !ok || string(c.Value) != want {
			t.Errorf("%s is %q, %v, want %s", key, c.Value, ok, want)
		}
	}
	if c, ok := p.get([]byte("a"), pendingHash([]byte("a")), 1); !ok || string(c.Value) != "1" {
		t.Errorf("a is %q, %v at height 1, want 1", c.Value, ok)
	}
	if _, ok := p.get([]byte("c"), pendingHash([]byte("a")), 2); ok {
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
