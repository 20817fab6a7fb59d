package store

import (
	"math/rand/v2"
	"testing"
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
